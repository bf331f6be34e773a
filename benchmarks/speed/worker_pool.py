"""Does the same work in different ways in turn, each in a process of its own that sleeps while another works."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, BenchmarkError

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Timing:
    """What some rounds of one task took: seconds for one piece of work, on the clock and of processor time."""

    wall: tuple[float, ...]
    processor: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median on the clock."""
        return statistics.median(self.wall)

    @property
    def processor_seconds(self) -> float:
        """The median of processor time."""
        return statistics.median(self.processor)

    def ratios(self, other: Timing) -> list[float]:
        """How many times as long as this the other took, by round, on the clock."""
        return [theirs / ours for ours, theirs in zip(self.wall, other.wall, strict=True)]

    def ratio(self, other: Timing) -> float:
        """Their median."""
        return statistics.median(self.ratios(other))

    def spread(self, other: Timing) -> tuple[float, float]:
        """The least and the largest of them."""
        return min(self.ratios(other)), max(self.ratios(other))

    def processor_ratio(self, other: Timing) -> float:
        """The median ratio of processor time, which other work on the machine hardly changes."""
        return Timing(self.processor, ()).ratio(Timing(other.processor, ()))


class Worker:
    """One process that waits for tasks.

    Args:
        kind: "ours", "keras" or "fasttext"; see benchmarks/speed/worker.py.
        bundle: The bundle's folder, with `.keras` files for "keras".
        cores: Processors it may use; None: all.
        quick: Whether its tasks are tiny.
    """

    def __init__(
        self, kind: str, bundle: Path, *, cores: Sequence[int] | None = None, quick: bool = False
    ) -> None:
        """Start it; it gets ready while others do."""
        command = [sys.executable, "-m", "benchmarks.speed.worker", kind, str(bundle)]
        command += [*(["--cores", *map(str, cores)] if cores is not None else []), *["--quick"] * quick]
        self._name = " ".join(command[3:])
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **QUIET}, **pipes)

    def __enter__(self) -> Worker:
        """The worker, stopped at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end."""
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def run(self, task: str) -> tuple[float, float]:
        """Wall and processor seconds that one piece of a task takes; BenchmarkError if the process has ended."""
        try:
            print(task, file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise BenchmarkError("benchmark.worker_ended", name=self._name)
        return tuple(json.loads(line))


def alternate(tasks: Mapping[str, Callable[[], tuple[float, float]]], rounds: int) -> dict[str, Timing]:
    """Do tasks, each of which gives its wall and processor seconds, in turn, A B A B; their timings by name.

    `rounds` turns count, after one that does not; 0: there is that one only, and it counts.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(rounds + 1):
        for name, task in tasks.items():
            taken[name].append(task())
    return {
        name: Timing(*map(tuple, zip(*found[1 if rounds else 0 :], strict=True)))
        for name, found in taken.items()
    }


def timed(work: Callable[[], object], pieces: int = 1, min_seconds: float = 0.0) -> tuple[float, float]:
    """Do some work until `min_seconds` are over; wall and processor seconds a piece."""
    done = 0
    wall, processor = time.perf_counter(), time.process_time()
    while not done or time.perf_counter() - wall < min_seconds:
        work()
        done += pieces
    return (time.perf_counter() - wall) / done, (time.process_time() - processor) / done


def run_python(*arguments: object) -> Any:
    """What a Python process prints on its last line, as JSON; BenchmarkError if it fails."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        name, error = " ".join(command[1:3])[:60], done.stderr.strip()[-2000:]
        raise BenchmarkError("benchmark.process_failed", command=name, error=error)
    return json.loads(done.stdout.splitlines()[-1])
