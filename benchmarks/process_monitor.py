"""Runs a command, follows its stages by what it prints, and measures the memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.25

# A bar as tqdm draws it: its name, how many are done, and of how many.
_BAR = re.compile(r"^(.*?):\s+\d+%.*?\|\s*(\d+)/(\d+)")


@dataclass
class Stage:
    """Wall time of a part of a run, and the most bytes that its process tree held at once.

    `resident` with pages of mapped files, `anonymous` without: what the system cannot drop.
    """

    seconds: float = 0.0
    resident: int = 0
    anonymous: int = 0

    def add(self, seconds: float, resident: int, anonymous: int) -> None:
        """Count a part of the stage."""
        self.seconds += seconds
        self.resident, self.anonymous = max(self.resident, resident), max(self.anonymous, anonymous)


@dataclass
class MonitoredRun:
    """What a command did.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        peak: Most bytes that all processes held at once, shared memory counted once; 0 if the system does not say.
        stages: By name, in order; `stage` is the one it is in.
        output: The lines on its standard output.
        errors: The last lines on its standard error that are no bars.
        bar: The last bar that was seen: name, done, of how many.
        first_seen: By bar, the first number that was seen to be done and when, in seconds from the start.
        longest: By bar, the most seconds between two moves of it: the most that a kill can cost.
    """

    stage: str = ""
    status: int = 0
    peak: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    bar: tuple[str, int, int] = ("", 0, 0)
    first_seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _entered: float = field(default_factory=time.monotonic)
    _moved: float = field(default_factory=time.monotonic)

    def _enter(self, stage: str) -> None:
        if stage != self.stage:
            moment = time.monotonic()
            self.stages.setdefault(self.stage, Stage()).add(moment - self._entered, 0, 0)
            self.stage, self._entered = stage, moment

    def _read_output(self, lines: Iterable[str], expected: list[tuple[str, str]]) -> None:
        for line in lines:
            self.output.append(line.rstrip("\n"))
            for index, (beginning, stage) in enumerate(expected):
                if line.startswith(beginning):
                    self._enter(stage)
                    del expected[: index + 1]
                    break

    def _read_errors(self, lines: Iterable[str]) -> None:
        for line in lines:
            if match := _BAR.match(line):
                name, done, total = match[1].strip(), int(match[2]), int(match[3])
                moment = time.monotonic()
                if done:
                    self.first_seen.setdefault(name, (done, moment - self._started))
                if (name, done) != self.bar[:2]:
                    if name == self.bar[0]:
                        self.longest[name] = max(self.longest.get(name, 0.0), moment - self._moved)
                    self._moved = moment
                self.bar = (name, done, total)
                self._enter(name)
            elif line.strip():
                self.errors = [*self.errors[-19:], line.rstrip("\n")]

    def _measure(self, process: int) -> None:
        memory = tree_memory(process)
        self.peak = max(self.peak, memory["Pss"])
        self.stages.setdefault(self.stage, Stage()).add(0.0, memory["Rss"], memory["Anonymous"])

    def _has_reached(self, stage: str, share: float) -> bool:
        if stage != self.stage:
            return False
        if share > 1:
            return time.monotonic() - self._entered >= share
        name, done, total = self.bar
        return name == stage and total > 0 and done / total >= share


def run_monitored(
    command: Sequence[str],
    stage_after: Iterable[tuple[str, str]] = (),
    first_stage: str = "run",
    kill: tuple[str, float] | None = None,
    **options: Any,
) -> MonitoredRun:
    """Run a command to its end, or kill it; `options` are for subprocess.Popen.

    After `first_stage` come those of `stage_after`, in order: (beginning of a line on standard output, name of the
    stage that begins with it). Bars are stages by their own names. `kill` is a stage and the share of its bar from
    which on the whole tree is killed (kill -9); a share above 1 counts as seconds in the stage.
    """
    run = MonitoredRun(first_stage)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes, **options) as process:
        readers = [
            threading.Thread(target=run._read_output, args=(process.stdout, list(stage_after)), daemon=True),
            threading.Thread(target=run._read_errors, args=(process.stderr,), daemon=True),
        ]
        for reader in readers:
            reader.start()
        try:
            while process.poll() is None and not (kill and run._has_reached(*kill)):
                run._measure(process.pid)
                time.sleep(_SAMPLE_SECONDS)
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        run.status = process.wait()
        for reader in readers:
            reader.join()
    run._enter("")
    return run


def tree_memory(root: int) -> dict[str, int]:
    """Bytes of a process and all its descendants now: "Rss", "Pss" (shared pages in shares) and "Anonymous"."""
    total = {"Rss": 0, "Pss": 0, "Anonymous": 0}
    tree = [str(root)]
    for process in tree:
        # A process may end at any time.
        with contextlib.suppress(OSError):
            for children in Path("/proc", process, "task").glob("*/children"):
                tree += children.read_text().split()
            for line in Path("/proc", process, "smaps_rollup").read_text().splitlines():
                name, _, size = line.partition(":")
                if name in total:
                    total[name] += int(size.split()[0]) * 1024
    return total
