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
from benchmarks.load.clients import KINDS, CrowdVisitor, Visitor
from benchmarks.report import BenchmarkError, Line, command_parser, format_lines, publish, table
from rakuten_models.cli import run_command
from tests.support.app_server import REPOSITORY_ROOT, AppNotReady, app_process

# Memory may grow by so much from the second minute to the last.
_MAX_GROWTH = 0.05


@dataclass
class Phase:
    """What so many clients at a time saw, and what the app took meanwhile.

    Attributes:
        seconds: That they asked.
        counts: Answers by kind.
        latencies: By kind, percentiles of the answers in milliseconds: (50th, 95th, 99th, longest).
        failures: What went wrong, with how often; without the polite refusals, of which there were `refused`.
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
    def faultless(self) -> bool:
        """Whether there were answers, and no failures."""
        return not self.failures and sum(self.counts.values()) > 0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return sum(self.counts.values()) / self.seconds

    @property
    def found(self) -> str:
        """Answers, rate and failures, for the table."""
        answers, failures = sum(self.counts.values()), sum(self.failures.values())
        return f"{answers:,} answers, {self.rate:.1f} a second, {failures} failed"

    def mean_memory(self, first: float, last: float) -> float:
        """Mean bytes resident between two moments; nan where none was taken."""
        found = [size for moment, size in self.memory if first <= moment < last]
        return statistics.fmean(found) if found else float("nan")


def run_clients(kind: type[Visitor], clients: int, seconds: float, address: str, process: psutil.Process) -> Phase:
    """Let clients of a kind ask for a while; what they have asked by then is still answered."""
    own = {"host": address, "abstract": False, "refused": type(kind.refused)()}
    visitor = type(kind.__name__, (kind,), own)
    environment = Environment(user_classes=[visitor], stop_timeout=60)
    runner = environment.create_local_runner()
    phase = Phase(clients)
    before, started = process.cpu_times(), time.monotonic()
    runner.start(clients, spawn_rate=50)
    while (moment := time.monotonic() - started) < seconds:
        phase.memory.append((moment, process.memory_info().rss))
        if len(phase.memory) % 60 == 1:
            size = _mb(phase.memory[-1][1])
            print(f"{clients} clients, {moment:.0f} s: {size} resident", file=sys.stderr, flush=True)
        gevent.sleep(1.0)
    phase.seconds = time.monotonic() - started
    for name in KINDS:
        entry = environment.stats.get(name, "product")
        phase.counts[name] = entry.num_requests - entry.num_failures
        if entry.num_requests:
            percentiles = (entry.get_response_time_percentile(share) for share in (0.5, 0.95, 0.99))
            phase.latencies[name] = (*percentiles, entry.max_response_time)
    runner.stop()
    after = process.cpu_times()
    phase.processor = after.user + after.system - before.user - before.system
    errors = environment.stats.errors.values()
    phase.failures = {f"{each.name}: {each.error}": each.occurrences for each in errors}
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
        sizes = [path.stat().st_size for path in (folder / "uploads").rglob("*") if path.is_file()]
    log = (folder / "app.log").read_text(encoding="utf-8", errors="replace")
    for phase in (alone, many, crowd, again):
        for failure, count in list(phase.failures.items())[:20]:
            print(f"{phase.clients} clients, {count} times: {failure}", file=sys.stderr)
    if "Traceback" in log:
        print(log[log.index("Traceback") :][:3000], file=sys.stderr)
    # The second and the last minute; of a short phase, fifths.
    part = min(60.0, many.seconds / 5)
    early, late = many.mean_memory(part, 2 * part), many.mean_memory(many.seconds - part, many.seconds)
    growth = late / early - 1
    many_found = (
        f"{many.found}; {many.rate / alone.rate:.2f}x the rate of one client; the app took "
        f"{many.processor / many.seconds:.2f} processors"
    )
    growth_found = f"{_mb(late)} against {_mb(early)}: {growth:+.1%} ({_mb(idle)} before the first)"
    crowd_found = f"{crowd.found}; {crowd.refused:,} times told to come back (status 503)"
    again_found = f"{again.found}; {again.rate / alone.rate:.2f}x the rate before"
    only = "answers or polite refusals, nothing else"
    many_name = f"{many.clients} clients for {many.seconds:.0f} s"
    crowd_name = f"a crowd of {crowd.clients} clients for {crowd.seconds:.0f} s"
    memory = "memory of the app in the last minute against the second"
    lines = [
        Line("one client", "", alone.found),
        Line(many_name, "no failed request", many_found, many.faultless),
        Line(memory, f"within {_MAX_GROWTH:.0%}", growth_found, abs(growth) <= _MAX_GROWTH),
        Line(crowd_name, only, crowd_found, crowd.faultless and alive),
        Line("memory of the app in the crowd, at most", "", _mb(max(size for _, size in crowd.memory))),
        Line("one client after the crowd", "no failed request", again_found, again.faultless),
        Line("uploads on the disk in the end", "", f"{len(sizes):,} files, {_mb(sum(sizes))}"),
        Line("tracebacks in the app's log", "none", str(log.count("Traceback")), "Traceback" not in log),
    ]
    names = ("one client", f"{many.clients} clients", f"{crowd.clients} clients")
    rows = [
        (name, kind, f"{phase.counts[kind]:,}", *(f"{value:,.0f} ms" for value in found))
        for name, phase in zip(names, (alone, many, crowd), strict=True)
        for kind, found in phase.latencies.items()
    ]
    return lines, table(("clients", "asked", "answers", "median", "95 %", "99 %", "longest"), rows)


def _mb(size: float) -> str:
    return f"{size / 1e6:,.0f} MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = command_parser("benchmarks.load", __doc__, quick=False)
    for name, default, text in (
        ("--clients", 50, "at a time"),
        ("--seconds", 600, "that they ask"),
        ("--crowd", 500, "clients of the crowd"),
        ("--crowd-seconds", 60, "that it asks"),
        ("--alone-seconds", 60, "of the one client, each time"),
    ):
        kind = float if name.endswith("seconds") else int
        parser.add_argument(name, type=kind, default=default, metavar="N", help=f"{text} (default {default})")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    with tempfile.TemporaryDirectory() as folder:
        try:
            lines, latencies = measure_load(options, Path(folder))
        except AppNotReady as error:
            raise BenchmarkError("benchmark.no_page", command="python app.py", error=error) from error
    notes.append(f"- Load when it ended: {machine.load()}")
    notes.append(f"- Clients: Locust {importlib.metadata.version('locust')}, on the same cores")
    publish(format_lines("Load", notes, lines) + "\n" + "\n".join(latencies) + "\n", options.output)
    return int(any(line.met is False for line in lines))


if __name__ == "__main__":
    sys.exit(run_command(main))
