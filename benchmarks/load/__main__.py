"""The app under load: one client, fifty for ten minutes, a crowd of five hundred, and one client again.

    python -m benchmarks.load --output benchmarks/load.md
    python -m benchmarks.load --seconds 20 --clients 5 --crowd 20 --crowd-seconds 5 --alone-seconds 5     a smoke test

Starts the app on 127.0.0.1 with the starter bundle and asks it with Locust's clients (benchmarks/load/clients.py),
which share the machine's cores with it. Ends by itself, with status 1 if a target was missed. A latency is that of a
whole answer: upload, call and event stream. Install benchmarks/requirements.txt first.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gevent
import psutil
from locust.env import Environment

from benchmarks import machine
from benchmarks.load.clients import CrowdVisitor, Visitor
from benchmarks.speed.serving import Line, format_lines
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from tests.support.app_server import REPOSITORY_ROOT, app_process

_KINDS = ("text", "picture", "both", "explain")

_SAMPLE_SECONDS = 1.0

_MEGABYTE = 1e6

# Memory may grow by so much from the second minute to the last.
_GROWTH = 0.05

# Clients are added at this rate a second.
_SPAWNED = 50


@dataclass
class Phase:
    """What some clients saw, and what the app took meanwhile.

    Attributes:
        clients: At a time.
        seconds: That they asked.
        counts: Answers by kind.
        latencies: By kind, percentiles of the answers in milliseconds: (50th, 95th, 99th, longest).
        failures: What went wrong, with how often.
        refused: Polite refusals.
        memory: Of the app, one a second: (seconds since the start, bytes resident).
        processor: Seconds of processor time that the app took.
    """

    clients: int
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    memory: list[tuple[float, int]] = field(default_factory=list)
    processor: float = 0.0

    @property
    def answers(self) -> int:
        """Of all kinds."""
        return sum(self.counts.values())

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    def mean_memory(self, first: float, last: float) -> float:
        """Bytes resident, the mean between two moments in seconds."""
        found = [size for moment, size in self.memory if first <= moment < last]
        return statistics.fmean(found) if found else float("nan")

    @property
    def growth(self) -> tuple[float, float, float]:
        """Mean bytes resident in the second and in the last minute (of a short phase: fifths), and the ratio."""
        part = min(60.0, self.seconds / 5)
        early = self.mean_memory(part, 2 * part)
        late = self.mean_memory(self.seconds - part, self.seconds)
        return early, late, late / early


def run_clients(
    kind: type[Visitor], clients: int, seconds: float, address: str, process: psutil.Process
) -> Phase:
    """Let clients ask for a while.

    Args:
        kind: Of client.
        clients: At a time.
        seconds: Until they are stopped; what they have asked by then is still answered.
        address: Of the app.
        process: The app's.
    """
    visitor = type(
        kind.__name__, (kind,), {"host": address, "abstract": False, "refused": type(kind.refused)()}
    )
    environment = Environment(user_classes=[visitor], stop_timeout=60)
    runner = environment.create_local_runner()
    phase = Phase(clients)
    before, started = process.cpu_times(), time.monotonic()
    runner.start(clients, spawn_rate=_SPAWNED)
    while (moment := time.monotonic() - started) < seconds:
        phase.memory.append((moment, process.memory_info().rss))
        if len(phase.memory) % 60 == 1:
            size = phase.memory[-1][1] / _MEGABYTE
            print(f"{clients} clients, {moment:.0f} s: {size:.0f} MB resident", file=sys.stderr, flush=True)
        gevent.sleep(_SAMPLE_SECONDS)
    phase.seconds = time.monotonic() - started
    for name in _KINDS:
        entry = environment.stats.get(name, "product")
        phase.counts[name] = entry.num_requests - entry.num_failures
        if entry.num_requests:
            percentiles = (entry.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
            phase.latencies[name] = (*percentiles, entry.max_response_time)
    runner.stop()
    after = process.cpu_times()
    phase.processor = after.user + after.system - before.user - before.system
    phase.failures = {
        f"{each.name}: {each.error}": each.occurrences for each in environment.stats.errors.values()
    }
    phase.refused = visitor.refused.total()
    runner.quit()
    return phase


def measure_load(options: argparse.Namespace, folder: Path) -> tuple[list[Line], list[str]]:
    """All phases: the lines of the table, and a table of latencies."""
    command = [sys.executable, str(REPOSITORY_ROOT / "app.py")]
    with app_process(command, folder) as (address, started):
        process = psutil.Process(started.pid)
        idle = process.memory_info().rss
        run_clients(Visitor, 1, options.alone_seconds / 4, address, process)
        print("one client, then many, then a crowd, then one again ...", file=sys.stderr, flush=True)
        alone = run_clients(Visitor, 1, options.alone_seconds, address, process)
        many = run_clients(Visitor, options.clients, options.seconds, address, process)
        crowd = run_clients(CrowdVisitor, options.crowd, options.crowd_seconds, address, process)
        again = run_clients(Visitor, 1, options.alone_seconds, address, process)
        alive = started.poll() is None
        files = [path for path in (folder / "uploads").rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    log = (folder / "app.log").read_text(encoding="utf-8", errors="replace")
    early, late, growth = many.growth
    peak = max(size_ for _, size_ in crowd.memory)
    lines = [
        Line("one client", "", _figures(alone)),
        Line(
            f"{many.clients} clients for {many.seconds:.0f} s",
            "no failed request",
            f"{_figures(many)}; {many.rate / alone.rate:.2f}x the rate of one client; the app took "
            f"{many.processor / many.seconds:.2f} processors",
            not many.failures and many.answers > 0,
        ),
        Line(
            "memory of the app in the last minute against the second",
            f"within {_GROWTH:.0%}",
            f"{_megabytes(late)} against {_megabytes(early)}: {growth - 1:+.1%} ({_megabytes(idle)} before the first)",
            abs(growth - 1) <= _GROWTH,
        ),
        Line(
            f"a crowd of {crowd.clients} clients for {crowd.seconds:.0f} s",
            "answers or polite refusals, nothing else",
            f"{_figures(crowd)}; {crowd.refused:,} times told to come back (status 503)",
            not crowd.failures and crowd.answers > 0 and alive,
        ),
        Line("memory of the app in the crowd, at most", "", _megabytes(peak)),
        Line(
            "one client after the crowd",
            "no failed request",
            f"{_figures(again)}; {again.rate / alone.rate:.2f}x the rate before",
            not again.failures and again.answers > 0,
        ),
        Line("uploads on the disk in the end", "", f"{len(files):,} files, {size / _MEGABYTE:,.0f} MB"),
        Line("tracebacks in the app's log", "none", str(log.count("Traceback")), "Traceback" not in log),
    ]
    for phase in (alone, many, crowd, again):
        for failure, count in list(phase.failures.items())[:20]:
            print(f"{phase.clients} clients, {count} times: {failure}", file=sys.stderr)
    if "Traceback" in log:
        print(log[log.index("Traceback") :][:3000], file=sys.stderr)
    return lines, _latencies(
        {"one client": alone, f"{many.clients} clients": many, f"{crowd.clients} clients": crowd}
    )


def _figures(phase: Phase) -> str:
    failures = sum(phase.failures.values())
    return f"{phase.answers:,} answers, {phase.rate:.1f} a second, {failures} failed"


def _megabytes(size: float) -> str:
    return f"{size / _MEGABYTE:,.0f} MB"


def _latencies(phases: dict[str, Phase]) -> list[str]:
    rows = [
        "| clients | asked | answers | median | 95 % | 99 % | longest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, phase in phases.items():
        for kind, found in phase.latencies.items():
            values = " | ".join(f"{value:,.0f} ms" for value in found)
            rows.append(f"| {name} | {kind} | {phase.counts[kind]:,} | {values} |")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50, metavar="N", help="at a time (default 50)")
    parser.add_argument("--seconds", type=float, default=600, metavar="S", help="that they ask (default 600)")
    parser.add_argument(
        "--crowd", type=int, default=500, metavar="N", help="clients of the crowd (default 500)"
    )
    parser.add_argument("--crowd-seconds", type=float, default=60, metavar="S", help="default 60")
    parser.add_argument(
        "--alone-seconds",
        type=float,
        default=60,
        metavar="S",
        help="of the one client, each time (default 60)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the table as well")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    with tempfile.TemporaryDirectory() as folder:
        lines, latencies = measure_load(options, Path(folder))
    notes.append(f"- Load when it ended: {machine.load()}")
    notes.append(f"- Clients: Locust {importlib.metadata.version('locust')}, on the same cores")
    text = format_lines("Load", notes, lines) + "\n" + "\n".join(latencies) + "\n"
    print(text)
    if options.output:
        write_atomically(options.output, text)
    return int(any(line.met is False for line in lines))


if __name__ == "__main__":
    sys.exit(run_command(main))
