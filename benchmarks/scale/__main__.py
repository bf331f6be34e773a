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
from benchmarks.process_monitor import run_measured
from benchmarks.scale.extrapolation import format_paper, measure_writer
from benchmarks.scale.worker import WAYS
from benchmarks.speed.worker_pool import ROOT, WorkerError
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.inference.runtime import usable_cores

RESULTS = Path(__file__).parents[1] / "scale.md"

_TEXTS, _PICTURES = (10_000, 100_000, 1_000_000), (100, 1000, 10_000)

_NAMES = {
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
    """One run.

    Attributes:
        rows: Of the catalog.
        seconds: In all, from the start of loading.
        first_seconds: When the first rows were done.
        first_rows: How many these were.
        peak: Bytes of memory, all processes together.
    """

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
    table = pandas.DataFrame(
        {
            "designation": [each.designation for each in products],
            "description": [each.description for each in products],
        }
    )
    for start in range(0, rows, len(table)):
        part = table.head(rows - start)
        numbered = part.assign(designation=part["designation"] + f" {start}")
        numbered.to_csv(path, mode="a", header=start == 0, index_label="id")


def write_pictures(path: Path, folder: Path, rows: int) -> float:
    """A CSV catalog with a picture of 500 x 500 pixels for each row, linked under other names after some.

    Returns:
        Bytes of a picture, the mean.
    """
    write_texts(path, rows)
    folder.mkdir()
    size = 0
    for row in range(rows):
        picture = folder / f"{row}.jpg"
        if row < _DIFFERENT_PHOTOS:
            picture.write_bytes(
                synthetic_data.photo(synthetic_data.PHOTO_SIDE, synthetic_data.PHOTO_SIDE, row)
            )
            size += picture.stat().st_size
        else:
            os.link(folder / f"{row % _DIFFERENT_PHOTOS}.jpg", picture)
    table = pandas.read_csv(path, keep_default_na=False)
    table.assign(image=[f"{row}.jpg" for row in range(rows)]).to_csv(path, index=False)
    return size / min(rows, _DIFFERENT_PHOTOS)


def measure_engines(
    way: str, bundle: Path, source: Path, output: Path, images: Path | None = None
) -> Measured:
    """Score a catalog in a process of its own.

    Raises:
        WorkerError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.scale.worker", way, bundle, source, output]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    status, printed, said, peak = run_measured(
        list(map(str, command + ([images] if images else []))), cwd=ROOT, env=environment
    )
    if status:
        raise WorkerError(
            f"{_NAMES[way]} failed on {source.name}: {said.strip().splitlines()[-1].removeprefix('error: ')}"
        )
    found = json.loads(printed.splitlines()[-1])
    return Measured(found["rows"], found["seconds"], *found["first"], peak)


def ways_here(without_keras: bool) -> tuple[list[str], list[str]]:
    """The ways that can be run here, and notes about the others."""
    ways, notes = list(WAYS), []
    for library, prefix in (("ray", "ray"), ("keras", "keras")):
        if importlib.util.find_spec(library) is None or (prefix == "keras" and without_keras):
            ways = [way for way in ways if not way.startswith(prefix)]
            notes.append(f"- Not run here: {library}")
    return ways, notes


def format_sizes(title: str, found: dict[str, list[Measured | None]], sizes: Sequence[int]) -> Iterator[str]:
    """A table: what each way did at each size, and what it costs over local."""
    yield from (f"### {title}", "")
    yield f"| way | {' | '.join(f'{size:,}' for size in sizes)} |"
    yield f"| --- |{' --- |' * len(sizes)}"
    for way, runs in found.items():
        cells = [
            f"{run.rate:,.0f} a second ({run.steady_rate:,.0f} after the first rows); {run.peak / 1e6:,.0f} MB"
            if run
            else "not run"
            for run in runs
        ]
        yield f"| {_NAMES[way]} | {' | '.join(cells)} |"
    for way in found:
        if way == "local":
            continue
        cells = [
            f"{run.seconds / local.seconds - 1:+.0%} ({local.steady_rate / run.steady_rate - 1:+.0%})"
            if run
            else ""
            for run, local in zip(found[way], found["local"], strict=True)
        ]
        yield f"| time of {_NAMES[way]} over local | {' | '.join(cells)} |"
    yield ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, default=STARTER_FOLDER, metavar="FOLDER", help="default: the starter"
    )
    parser.add_argument(
        "--texts", type=int, nargs="*", default=_TEXTS, metavar="ROWS", help="sizes to measure"
    )
    parser.add_argument(
        "--pictures", type=int, nargs="*", default=_PICTURES, metavar="ROWS", help="sizes to measure"
    )
    parser.add_argument(
        "--keras-rows", type=int, nargs=2, default=(100_000, 1000), metavar=("TEXTS", "PICTURES"),
        help="the plain loops are run up to these sizes, since their rate stays the same (default: 100000 1000)",
    )  # fmt: skip
    parser.add_argument(
        "--price", type=float, default=0.04, metavar="MONEY", help="of a core hour (default: 0.04)"
    )
    parser.add_argument("--without-keras", action="store_true", help="leave the Keras loop out")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FILE.md", help="default: benchmarks/scale.md"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.texts, options.pictures = [60], [6]
    ways, notes = ways_here(options.without_keras)
    notes = [*machine.facts(), *notes]
    lines: list[str] = []
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder, bundle = Path(name), options.bundle
        if "keras" in ways:
            from benchmarks.speed.keras_baseline import with_keras_files

            bundle, random_weights = with_keras_files(options.bundle, folder / "keras")
            if random_weights:
                notes.append("- Keras: models of the same shape with random weights")
        kinds = (
            ("Texts", options.texts, options.keras_rows[0]),
            ("Pictures", options.pictures, options.keras_rows[1]),
        )
        for title, sizes, most in kinds:
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
                    if way in ("predict", "keras") and size > most:
                        found[way].append(None)
                        continue
                    print(f"{title} {size:,} {_NAMES[way]}", file=sys.stderr, flush=True)
                    place = bundle if way == "keras" else options.bundle
                    found[way].append(
                        measure_engines(way, place, source, folder / f"{title}-{size}-{way}", images)
                    )
            if sizes:
                lines += format_sizes(f"{title}{' with a text' * bool(picture_bytes)}", found, sizes)
                best = found.get("ray-1", found["local"])[-1]
                rates.append((title.lower(), best.steady_rate, picture_bytes))
        source = folder / "writer.csv"
        write_texts(source, 100 if options.quick else 100_000)
        writer = measure_writer(options.bundle, source, 3 if options.quick else 100)
        lines += format_paper(rates, writer, usable_cores(), options.price)
    text = "\n".join(["## Whole catalogs", "", *notes, "", EXPLANATION, "", *lines])
    print(text)
    write_atomically(options.output, text)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
