"""Whole catalogs: rows a second and memory by size, local and through Ray, beside a plain loop with `predict`.

    python -m benchmarks.scale                                        about an hour on two cores
    python -m benchmarks.scale --texts 10000 --pictures 100           smaller

Needs requirements-scale.txt for Ray and training/requirements.txt for Keras; a way whose library is absent is left out
and named. Writes benchmarks/scale.md. Texts and photos are made up.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import pandas

from benchmarks import machine, synthetic_data
from benchmarks.process_monitor import run_monitored
from benchmarks.report import ROOT, BenchmarkError, command_parser, publish, table
from benchmarks.speed.worker_pool import QUIET
from rakuten_models import ProductClassifier
from rakuten_models.batch.output import OutputFormat, ScoredOutput, encoded
from rakuten_models.batch.scorer import ScoreSettings, TableScorer
from rakuten_models.catalog.columns import recognise_columns
from rakuten_models.catalog.source import CatalogSource
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

# The plain loops are run up to these sizes, since their rate stays the same.
_MAX_PLAIN_ROWS = {"Texts": 100_000, "Pictures": 1000}

# For 100 million products on paper: of a core for an hour.
_PRICE = 0.04
_PRODUCTS = 100_000_000
_CHUNK_ROWS = 2048

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
    files = [folder / f"{row}.jpg" for row in range(rows)]
    for row, file in enumerate(files[:_DIFFERENT_PHOTOS]):
        file.write_bytes(synthetic_data.photo(row))
    for original, file in zip(cycle(files[:_DIFFERENT_PHOTOS]), files[_DIFFERENT_PHOTOS:], strict=False):
        os.link(original, file)
    names = [file.name for file in files]
    pandas.read_csv(path, keep_default_na=False).assign(image=names).to_csv(path, index=False)
    return statistics.fmean(file.stat().st_size for file in files[:_DIFFERENT_PHOTOS])


def measure_engines(way: str, bundle: Path, source: Path, output: Path, images: Path | None = None) -> Measured:
    """Score a catalog in a process of its own; BenchmarkError if that fails."""
    command = [sys.executable, "-m", "benchmarks.scale.worker", way, bundle, source, output]
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    run = run_monitored([*map(str, command), *([str(images)] if images else [])], cwd=ROOT, env=environment)
    if run.status:
        error = run.errors[-1].removeprefix("error: ") if run.errors else f"status {run.status}"
        raise BenchmarkError("benchmark.way_failed", way=WAYS[way], catalog=source.name, error=error)
    found = json.loads(run.output[-1])
    return Measured(found["rows"], found["seconds"], *found["first"], run.peak)


def format_sizes(title: str, found: dict[str, list[Measured | None]], sizes: Sequence[int]) -> list[str]:
    """A table: what each way did at each size, and what it costs over local."""
    rates, times = [], []
    for way, runs in found.items():
        rates.append([WAYS[way]])
        times.append([f"time of {WAYS[way]} over local"])
        for run, local in zip(runs, found["local"], strict=True):
            rate, time = "not run", ""
            if run:
                after = f"{run.steady_rate:,.0f} after the first rows"
                rate = f"{run.rate:,.0f} a second ({after}); {run.peak / 1e6:,.0f} MB"
                without_start = local.steady_rate / run.steady_rate - 1
                time = f"{run.seconds / local.seconds - 1:+.0%} ({without_start:+.0%})"
            rates[-1].append(rate)
            times[-1].append(time)
    # The first way is local.
    rows = [*rates, *times[1:]]
    return [f"### {title}", "", *table(["way", *(f"{size:,}" for size in sizes)], rows), ""]


class Writer(NamedTuple):
    """What the one process that plans and writes can do.

    Attributes:
        plan_rate: CSV rows a second that it finds the chunks of.
        write_rate: Scored rows a second that it writes, each part and the state synced to the disk.
        row_bytes: Of a scored row as Parquet.
    """

    plan_rate: float
    write_rate: float
    row_bytes: float


def measure_writer(bundle: Path, source: Path, rounds: int) -> Writer:
    """Time planning over a catalog, and writing one of its chunks so many times."""
    catalog = CatalogSource(source)
    started = time.perf_counter()
    plan = catalog.plan(_CHUNK_ROWS)
    plan_rate = sum(chunk.rows for chunk in plan) / (time.perf_counter() - started)
    rows = next(catalog.chunks(_CHUNK_ROWS))
    settings = ScoreSettings(recognise_columns(catalog.names))
    with TableScorer(ProductClassifier.from_pretrained(bundle), settings) as scorer:
        part = encoded(scorer(rows).table, OutputFormat(csv=False), first=True)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        output = ScoredOutput(Path(folder) / "out", {})
        with output.open(overwrite=False):
            started = time.perf_counter()
            for _ in range(rounds):
                output.append(part, len(rows), {})
            write_rate = rounds * len(rows) / (time.perf_counter() - started)
    return Writer(plan_rate, write_rate, len(part) / len(rows))


def cost_per_million(rate: float, cores: int, price: float) -> float:
    """What a million products cost, at `rate` a second on a machine of so many cores, each at `price` an hour."""
    return 1e6 / rate / 3600 * cores * price


def format_paper(rates: Sequence[tuple[str, float, float]], writer: Writer, cores: int, price: float) -> list[str]:
    """Cost, and time on 10 and 100 nodes like this machine, at `price` for a core and an hour, as lines of Markdown.

    `rates`: what was scored, products a second of one node, and picture bytes of a product.
    """

    def on_nodes(nodes: int, rate: float) -> str:
        reached, share = min(nodes * rate, writer.write_rate), nodes * rate / writer.write_rate
        return f"{_PRODUCTS / reached / 3600:.1f} h, {reached:,.0f} a second, writer {min(share, 1):.0%} busy"

    rows = [
        (
            name,
            f"{cost_per_million(rate, cores, price):.3f}",
            on_nodes(10, rate),
            on_nodes(100, rate),
            f"{writer.write_rate / rate:,.0f} nodes",
            f"{100 * rate * size * 8 / 1e9:.2f} Gbit/s from the store" if size else "none",
        )
        for name, rate, size in rates
    ]
    head = (
        "what", "cost of a million", "10 nodes", "100 nodes", "the writer is saturated at", "pictures, 100 nodes",
    )  # fmt: skip
    return [
        "### Cost, and 100 million products on paper",
        "",
        f"From the rates above (Ray, one worker, without the start), nodes like this machine with {cores} cores, "
        f"{price:g} an hour for a core. Linear in the nodes as long as nothing is saturated; not run on a cluster.",
        "",
        *table(head, rows),
        "",
        f"Saturated first: the one process that writes. Here it writes {writer.write_rate:,.0f} scored rows a second "
        f"({writer.row_bytes:,.0f} bytes each, {writer.write_rate * writer.row_bytes / 1e6:,.0f} MB a second, each "
        "part and the state synced). Beyond that, split the catalog by globs into runs of their own. Before it begins "
        f"it finds the chunks of a CSV at {writer.plan_rate:,.0f} rows a second "
        f"({_PRODUCTS / writer.plan_rate / 60:,.0f} min for 100 million), and reads all local files once for their "
        "fingerprint; of Parquet it reads the footers. Not measured: Ray's own scheduling on so many nodes, and what a "
        "picture store allows.",
        "",
    ]


def measure_catalogs(options: argparse.Namespace, folder: Path) -> tuple[list[str], list[str]]:
    """The lines of all tables, and notes about what was left out."""
    absent = [library for library in ("ray", "keras") if importlib.util.find_spec(library) is None]
    if options.without_keras and "keras" not in absent:
        absent.append("keras")
    ways = [way for way in WAYS if way.partition("-")[0] not in absent]
    notes = [f"- Not run here: {library}" for library in absent]
    bundles = dict.fromkeys(ways, options.bundle)
    if "keras" in ways:
        from benchmarks.random_bundle import with_keras_files

        bundles["keras"], random_weights = with_keras_files(options.bundle, folder / "keras")
        notes += ["- Keras: models of the same shape with random weights"] * random_weights
    lines: list[str] = []
    rates = []
    for title, sizes in (("Texts", options.texts), ("Pictures", options.pictures)):
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
                if way not in ("predict", "keras") or size <= _MAX_PLAIN_ROWS[title]:
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
    return [*lines, *format_paper(rates, writer, usable_cores(), _PRICE)], notes


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write; see the module's text."""
    parser = command_parser("benchmarks.scale", __doc__, bundle=True)
    parser.set_defaults(output=RESULTS)
    sizes = {"type": int, "nargs": "*", "metavar": "ROWS", "help": "sizes to measure"}
    parser.add_argument("--texts", default=(10_000, 100_000, 1_000_000), **sizes)
    parser.add_argument("--pictures", default=(100, 1000, 10_000), **sizes)
    parser.add_argument("--without-keras", action="store_true", help="leave the Keras loop out")
    options = parser.parse_args(arguments)
    if options.quick:
        options.texts, options.pictures = [60], [6]
    facts = machine.facts()
    with tempfile.TemporaryDirectory() as folder:
        lines, notes = measure_catalogs(options, Path(folder))
    publish("\n".join(["## Whole catalogs", "", *facts, *notes, "", EXPLANATION, "", *lines]), options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
