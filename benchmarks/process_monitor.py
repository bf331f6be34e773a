"""Runs a command, follows what it is doing by its own words, and measures the memory of its whole process tree."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# How often memory is read, in seconds.
_EVERY = 0.5

# A bar as tqdm draws it: its name, how many are done, and of how many.
_BAR = re.compile(r"^(.*?):\s+\d+%.*?\|\s*(\d+)/(\d+)")

_FIELDS = {"Rss": "resident", "Anonymous": "anonymous"}

_PAUSE_SECONDS = 0.25


@dataclass
class Stage:
    """What a part of a run took.

    Attributes:
        seconds: Wall time.
        resident: Most bytes resident in the process tree at once, pages of mapped files included.
        anonymous: Most bytes of these that are no file's pages: what the system cannot drop.
    """

    seconds: float = 0.0
    resident: int = 0
    anonymous: int = 0


@dataclass
class Watched:
    """What a command did.

    Attributes:
        status: Its exit status; negative: the signal that ended it.
        stages: By name, in order.
        output: The lines on its standard output.
        last: The last bar that was seen: name, done, of how many.
        seen: By name of a bar, the first number that was seen to be done and when, in seconds from the start.
        longest: By name of a bar, the most seconds between two moves of it: what is kept moves with it, so that a kill
            costs no more.
        errors: The last lines on its standard error that are no bars.
    """

    status: int = 0
    stages: dict[str, Stage] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    last: tuple[str, int, int] = ("", 0, 0)
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    longest: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def run_watched(
    command: Sequence[str],
    stage_after: Sequence[tuple[str, str]],
    first_stage: str,
    kill: tuple[str, float] | None = None,
) -> Watched:
    """Run a command to its end, or kill it.

    Args:
        command: Program and arguments.
        stage_after: In order, (beginning of a line on standard output, name of the stage that begins with it). Bars
            are stages by their own names.
        first_stage: The name of the stage before the first of these.
        kill: Stage and share of its bar from which on the whole tree is killed (kill -9); in a stage without a bar, a
            share above 1 counts as seconds.
    """
    found = Watched()
    now = {"stage": first_stage, "since": time.monotonic()}
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True, bufsize=1
    )

    def enter(stage: str) -> None:
        if stage != now["stage"]:
            moment = time.monotonic()
            found.stages.setdefault(now["stage"], Stage()).seconds += moment - now["since"]
            now.update(stage=stage, since=moment)

    def read_output() -> None:
        expected = list(stage_after)
        for line in process.stdout:
            found.output.append(line.rstrip("\n"))
            for place, (beginning, stage) in enumerate(expected):
                if line.startswith(beginning):
                    enter(stage)
                    del expected[: place + 1]
                    break

    def read_errors() -> None:
        buffer, moved = "", [started]
        while text := os.read(process.stderr.fileno(), 65536).decode("utf-8", "replace"):
            *lines, buffer = re.split(r"[\r\n]", buffer + text)
            for line in lines:
                if match := _BAR.match(line):
                    name, done, of = match.group(1).strip(), int(match.group(2)), int(match.group(3))
                    moment = time.monotonic()
                    if done:
                        found.seen.setdefault(name, (done, moment - started))
                    if name == found.last[0] and done != found.last[1]:
                        gap = moment - moved[0]
                        found.longest[name] = max(found.longest.get(name, 0.0), gap)
                    if (name, done) != found.last[:2]:
                        moved[0] = moment
                    found.last = (name, done, of)
                    enter(name)
                elif line.strip():
                    found.errors = [*found.errors[-19:], line]

    readers = [threading.Thread(target=each, daemon=True) for each in (read_output, read_errors)]
    for reader in readers:
        reader.start()
    while process.poll() is None:
        memory = tree_memory(process.pid)
        stage = found.stages.setdefault(now["stage"], Stage())
        for name, value in memory.items():
            setattr(stage, name, max(getattr(stage, name), value))
        if kill and kill[0] == now["stage"]:
            name, done, of = found.last
            reached = (
                done / of if name == kill[0] and of and kill[1] <= 1 else time.monotonic() - now["since"]
            )
            if (name == kill[0] or kill[1] > 1) and reached >= kill[1]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                break
        time.sleep(_EVERY)
    found.status = process.wait()
    for reader in readers:
        reader.join()
    enter("")
    return found


def tree_memory(root: int) -> dict[str, int]:
    """Bytes of a process and all its descendants now: {"resident", "anonymous"}; shared pages count once each."""
    total = dict.fromkeys(_FIELDS.values(), 0)
    for process in _tree(root):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                name = line.split(":")[0]
                if name in _FIELDS:
                    total[_FIELDS[name]] += int(line.split()[1]) * 1024
    return total


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process, [])
    return found


def run_measured(command: Sequence[str], **options: object) -> tuple[int, str, str, int]:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        options: For subprocess.Popen.

    Returns:
        Its exit status, what it printed, what it said on standard error, and the most bytes that it and its descendants
        held at once, memory that they share counted once (0 where the system does not say).
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(_PAUSE_SECONDS)
        # What these runs print fits into a pipe.
        return process.returncode, process.stdout.read(), process.stderr.read(), peak


def tree_bytes(root: int) -> int:
    """The proportional memory (PSS) of a process and its descendants: the sum is what all of them take."""
    total = 0
    for process in _tree(root):
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
