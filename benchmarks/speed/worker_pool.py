"""Does the same work in different ways in turn, each in a process of its own that sleeps while another works."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import ROOT, BenchmarkError

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}


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

    def ratio(self, other: Timing) -> float:
        """How many times as long as this the other took on the clock: the median of the rounds."""
        return float(np.median(np.divide(other.wall, self.wall)))

    def spread(self, other: Timing) -> tuple[float, float]:
        """The least and the largest ratio of a round."""
        ratios = np.divide(other.wall, self.wall)
        return float(ratios.min()), float(ratios.max())

    def processor_ratio(self, other: Timing) -> float:
        """The median ratio of processor time, which other work on the machine hardly changes."""
        return float(np.median(np.divide(other.processor, self.processor)))


@contextlib.contextmanager
def worker(
    kind: str, bundle: Path, *, cores: Sequence[int] | None = None, quick: bool = False
) -> Iterator[Callable[[str], tuple[float, float]]]:
    """One process of benchmarks/speed/worker.py, which gets ready while others do.

    Yields a function that gives the wall and processor seconds of a piece of a task; BenchmarkError if the process has
    ended. `cores`: the processors that it may use, None: all.
    """
    command = [sys.executable, "-m", "benchmarks.speed.worker", kind, str(bundle)]
    command += [*(["--cores", *map(str, cores)] if cores is not None else []), *["--quick"] * quick]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, **QUIET}, **pipes) as process:

        def run(task: str) -> tuple[float, float]:
            try:
                print(task, file=process.stdin, flush=True)
                line = process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise BenchmarkError("benchmark.worker_ended", name=" ".join(command[3:]))
            return tuple(json.loads(line))

        yield run


def alternate(rounds: int, *tasks: Callable[[], tuple[float, float]]) -> list[Timing]:
    """Do tasks, each of which gives its wall and processor seconds, in turn, A B A B.

    `rounds` turns count, after one that does not; 0: there is that one only, and it counts.
    """
    taken = [[task() for task in tasks] for _ in range(rounds + 1)]
    return [Timing(*zip(*found, strict=True)) for found in zip(*taken[bool(rounds) :], strict=True)]


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
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True)
    if done.returncode:
        name, error = " ".join(command[1:3])[:60], done.stderr.strip()[-2000:]
        raise BenchmarkError("benchmark.process_failed", command=name, error=error)
    return json.loads(done.stdout.splitlines()[-1])
