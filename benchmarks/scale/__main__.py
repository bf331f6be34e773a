"""Whole catalogs: rows a second and memory by size, local and through Ray, beside a plain loop with `predict`.

    python -m benchmarks.scale                                        about an hour on two cores
    python -m benchmarks.scale --texts 10000 --pictures 100           smaller
    python -m benchmarks.scale --quick                                a smoke test; its figures mean nothing

Needs requirements-scale.txt for Ray and training/requirements.txt for Keras; a way whose library is absent is left out
and named. Writes benchmarks/scale.md. Texts and photos are made up.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas

from benchmarks import machine, synthetic_data
from benchmarks.process_monitor import run_monitored
from benchmarks.report import ROOT, BenchmarkError, command_parser, publish, table
from benchmarks.scale.extrapolation import format_paper, measure_writer
from benchmarks.speed.worker_pool import QUIET
from rakuten_models.cli import run_command
from rakuten_models.inference.runtime import usable_cores

RESULTS = Path(__file__).parents[1] / "scale.md"

WAYS = {
    "local": "local",
    "ray-1": "Ray, 1 worker",
    "ray-2": "Ray, 2 workers",
    "predict": "pandas + our predict",
    "keras": "pandas + Keras predict",
}

_DIFFERENT = 10_000
_DIFFERENT_PHOTOS = 100
EXPLANATION = (
    "Rows a second with the start (loading the bundle, starting Ray) counted, in brackets without it (the same where "
    "all rows are one chunk of 2,048); memory is the most that all processes of a run held together, the shared "
    "counted once. One run each. With two workers each has half of the cores. Time over local is with the start, in "
    "brackets without."
)


class Measured(NamedTuple):
    """One run: rows and seconds in all and up to the first rows done, and bytes of all processes together."""

    rows: int
    seconds: float
    first_seconds: float
    first_rows: int
    peak: int

    @property
    def rate(self) -> float:
        """Rows a second, the start counted."""
        return self.rows / self.seconds

    @property
    def steady_rate(self) -> float:
        """Rows a second after the first ones; the whole rate where there are no others."""
        if self.rows <= self.first_rows:
            return self.rate
        return (self.rows - self.first_rows) / max(1e-9, self.seconds - self.first_seconds)


def write_texts(path: Path, rows: int) -> None:
    """A CSV catalog; after so many rows that differ its texts come again with other numbers."""
    products = synthetic_data.catalog(min(rows, _DIFFERENT))
    fields = [(each.designation, each.description) for each in products]
    texts = pandas.DataFrame(fields, columns=["designation", "description"])
    for start in range(0, rows, len(texts)):
        part = texts.head(rows - start)
        numbered = part.assign(designation=part["designation"] + f" {start}")
        numbered.to_csv(path, mode="a", header=start == 0, index_label="id")


def write_pictures(path: Path, folder: Path, rows: int) -> float:
    """A CSV catalog with a picture a row, linked under other names after some; their mean size in bytes."""
    write_texts(path, rows)
    folder.mkdir()
    names = [f"{row}.jpg" for row in range(rows)]
    for row, name in enumerate(names):
        if row < _DIFFERENT_PHOTOS:
            (folder / name).write_bytes(synthetic_data.photo(row))
        else:
            os.link(folder / names[row % _DIFFERENT_PHOTOS], folder / name)
    pandas.read_csv(path, keep_default_na=False).assign(image=names).to_csv(path, index=False)
    sizes = [(folder / name).stat().st_size for name in names[:_DIFFERENT_PHOTOS]]
    return sum(sizes) / len(sizes)


def measure_engines(
    way: str, bundle: Path, source: Path, output: Path, images: Path | None = None
) -> Measured:
    """Score a catalog in a process of its own; BenchmarkError if that fails."""
    command = [sys.executable, "-m", "benchmarks.scale.worker", way, bundle, source, output]
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    run = run_monitored([*map(str, command), *([str(images)] if images else [])], cwd=ROOT, env=environment)
    if run.status:
        error = run.errors[-1].removeprefix("error: ") if run.errors else f"status {run.status}"
        raise BenchmarkError("benchmark.way_failed", way=WAYS[way], catalog=source.name, error=error)
    found = json.loads(run.output[-1])
    return Measured(found["rows"], found["seconds"], *found["first"], run.peak)


def ways_here(without_keras: bool) -> tuple[list[str], list[str]]:
    """The ways that can be run here, and notes about the others."""
    absent = [
        library
        for library in ("ray", "keras")
        if importlib.util.find_spec(library) is None or (library == "keras" and without_keras)
    ]
    ways = [way for way in WAYS if way.partition("-")[0] not in absent]
    return ways, [f"- Not run here: {library}" for library in absent]


def format_sizes(title: str, found: dict[str, list[Measured | None]], sizes: Sequence[int]) -> Iterator[str]:
    """A table: what each way did at each size, and what it costs over local."""

    def cell(run: Measured | None) -> str:
        if run is None:
            return "not run"
        after = f"{run.steady_rate:,.0f} after the first rows"
        return f"{run.rate:,.0f} a second ({after}); {run.peak / 1e6:,.0f} MB"

    def over_local(run: Measured | None, local: Measured) -> str:
        if run is None:
            return ""
        return f"{run.seconds / local.seconds - 1:+.0%} ({local.steady_rate / run.steady_rate - 1:+.0%})"

    rows = [[WAYS[way], *map(cell, runs)] for way, runs in found.items()]
    rows += [
        [f"time of {WAYS[way]} over local", *map(over_local, runs, found["local"])]
        for way, runs in found.items()
        if way != "local"
    ]
    yield from (f"### {title}", "", *table(["way", *(f"{size:,}" for size in sizes)], rows), "")


def measure_catalogs(options: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """The lines of all tables, and notes about what was left out."""
    ways, notes = ways_here(options.without_keras)
    bundles = dict.fromkeys(ways, options.bundle)
    if "keras" in ways:
        from benchmarks.random_bundle import with_keras_files

        bundles["keras"], random_weights = with_keras_files(options.bundle, folder / "keras")
        notes += ["- Keras: models of the same shape with random weights"] * random_weights
    lines: list[str] = []
    rates = []
    for title, sizes, most in (
        ("Texts", options.texts, options.keras_rows[0]),
        ("Pictures", options.pictures, options.keras_rows[1]),
    ):
        found: dict[str, list[Measured | None]] = {way: [] for way in ways}
        picture_bytes = 0.0
        for size in sizes:
            source, images = folder / f"{title}-{size}.csv", None
            if title == "Pictures":
                images = folder / f"images-{size}"
                picture_bytes = write_pictures(source, images, size)
            else:
                write_texts(source, size)
            for way in ways:
                run = None
                if way not in ("predict", "keras") or size <= most:
                    print(f"{title} {size:,} {WAYS[way]}", file=sys.stderr, flush=True)
                    run = measure_engines(way, bundles[way], source, folder / f"{title}-{size}-{way}", images)
                found[way].append(run)
        if sizes:
            lines += format_sizes(f"{title}{' with a text' * bool(picture_bytes)}", found, sizes)
            best = found.get("ray-1", found["local"])[-1]
            rates.append((title.lower(), best.steady_rate, picture_bytes))
    source = folder / "writer.csv"
    write_texts(source, 100 if options.quick else 100_000)
    writer = measure_writer(options.bundle, source, 3 if options.quick else 100)
    return [*lines, *format_paper(rates, writer, usable_cores(), options.price)], notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; see the module's text."""
    parser = command_parser("benchmarks.scale", __doc__, bundle=True)
    parser.set_defaults(output=RESULTS)
    sizes = {"type": int, "nargs": "*", "metavar": "ROWS", "help": "sizes to measure"}
    parser.add_argument("--texts", default=(10_000, 100_000, 1_000_000), **sizes)
    parser.add_argument("--pictures", default=(100, 1000, 10_000), **sizes)
    parser.add_argument(
        "--keras-rows", type=int, nargs=2, default=(100_000, 1000), metavar=("TEXTS", "PICTURES"),
        help="the plain loops are run up to these sizes, since their rate stays the same (default: 100000 1000)",
    )  # fmt: skip
    parser.add_argument("--price", type=float, default=0.04, help="of a core hour (default: 0.04)")
    parser.add_argument("--without-keras", action="store_true", help="leave the Keras loop out")
    options = parser.parse_args(arguments)
    if options.quick:
        options.texts, options.pictures = [60], [6]
    facts = machine.facts()
    with tempfile.TemporaryDirectory() as folder:
        lines, notes = measure_catalogs(options, Path(folder))
    publish("\n".join(["## Whole catalogs", "", *facts, *notes, "", EXPLANATION, "", *lines]), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
