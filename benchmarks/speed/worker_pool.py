"""Processes that do the same work in different ways, side by side, and are asked in turn.

Each contestant is a process of its own (`python -m benchmarks.speed.worker NAME ...`), so that one's threads,
caches and memory are not the other's. It gets ready, and then does a task whenever it is told to; in the meantime
it sleeps.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rakuten_models.errors import RakutenModelsError

ROOT = Path(__file__).resolve().parents[2]


class WorkerError(RakutenModelsError):
    """A contestant's process ended before its time."""


@dataclass(frozen=True)
class Timing:
    """What some rounds of one task took, in seconds for one piece of work.

    Attributes:
        wall: By round, on the clock.
        processor: By round, of all of the process's threads together.
    """

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
        """How many times as long as this the other took: the median over the rounds, each with its own pair."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.wall, other.wall, strict=True))

    def processor_ratio(self, other: Timing) -> float:
        """The same of processor time, which other work on the machine hardly changes."""
        return statistics.median(
            theirs / ours for ours, theirs in zip(self.processor, other.processor, strict=True)
        )

    def spread(self, other: Timing) -> tuple[float, float]:
        """The least and the largest of these ratios."""
        ratios = [theirs / ours for ours, theirs in zip(self.wall, other.wall, strict=True)]
        return min(ratios), max(ratios)


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
        if cores is not None:
            command += ["--cores", *map(str, cores)]
        if quick:
            command.append("--quick")
        self._name = " ".join(command[3:])
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Worker:
        """The contestant, stopped at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let it end."""
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def begin(self, task: str) -> None:
        """Start a task; `finish` waits for its end."""
        try:
            self._process.stdin.write(task + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(f"The contestant {self._name} has ended; its message is above.") from error

    def finish(self) -> tuple[float, float]:
        """Wall and processor seconds that one piece of the task begun last took."""
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"The contestant {self._name} has ended; its message is above.")
        answer = json.loads(line)
        return answer["wall"], answer["processor"]

    def run(self, task: str) -> tuple[float, float]:
        """`begin` and `finish`."""
        self.begin(task)
        return self.finish()


def alternate(runs: Mapping[str, tuple[Worker, str]], rounds: int) -> dict[str, Timing]:
    """Let contestants do their tasks in turn, A B A B.

    Args:
        runs: By name, who does which task.
        rounds: How many turns count, after one that does not; 0: there is that one only, and it counts.

    Returns:
        By name, its timing.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (worker, task) in runs.items():
            found = worker.run(task)
            if number or not rounds:
                taken[name].append(found)
    return {name: Timing(*map(tuple, zip(*found, strict=True))) for name, found in taken.items()}
