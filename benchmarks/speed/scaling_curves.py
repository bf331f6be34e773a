"""What work costs as it grows: more products, more categories, longer texts, larger photos, longer catalogs.

    python -m benchmarks.speed.scaling_curves --output growth.md --plot growth.png
    python -m benchmarks.speed.scaling_curves --quick                         a smoke test; its figures mean nothing

Prints Markdown tables and draws the same figures. Texts and photos are made up; bundles of other numbers of categories
have random weights. About ten minutes on two cores, most of it the catalog of a million texts.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import machine, synthetic_data
from benchmarks.speed.scaling_plot import Growth
from benchmarks.speed.worker import timed
from benchmarks.speed.worker_pool import ROOT, WorkerError
from rakuten_models import Product, ProductClassifier
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.image import ImageSettings, read_image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROUNDS = 7

# Where a catalog of a hundred times as many rows may take so much more memory.
MEMORY_TARGET = 1.2


def grow(
    title: str, sizes: Sequence[float], works: dict[str, Callable[[float], Callable[[], object]]], rounds: int
) -> Growth:
    """Time each work at each size, all sizes once in every round.

    Args:
        title: What grows.
        sizes: Ascending.
        works: By name, what makes the work for a size.
        rounds: At least 1; the median counts.

    Returns:
        The growth, in milliseconds.
    """
    ready = {name: [make(size) for size in sizes] for name, make in works.items()}
    for works_of_name in ready.values():
        for work in works_of_name:
            work()
    taken = {name: [[] for _ in sizes] for name in works}
    for _ in range(rounds):
        for name, works_of_name in ready.items():
            for place, work in enumerate(works_of_name):
                taken[name][place].append(1e3 * timed(work, 1, 0.02)["wall"])
    return Growth(
        title,
        "ms",
        sizes,
        {name: [statistics.median(each) for each in found] for name, found in taken.items()},
    )


def measure_scaling(bundle: Path, rounds: int, quick: bool) -> list[Growth]:
    """All growths.

    Args:
        bundle: The bundle's folder.
        rounds: At least 1.
        quick: Whether all work is tiny.
    """
    classifier = ProductClassifier.from_pretrained(bundle)
    titles = synthetic_data.titles(10 if quick else 1000, synthetic_data.TITLE_WORDS)
    pairs = synthetic_data.catalog(10 if quick else 1000, pictures=8)

    def predict(products: Sequence[Product]) -> Callable[[], object]:
        return lambda: classifier.predict(products)

    found = [
        grow(
            "products",
            [1, 10] if quick else [1, 10, 100, 1000],
            {
                "titles": lambda count: predict(titles[:count]),
                "text and picture": lambda count: predict(pairs[:count]),
            },
            rounds,
        ),
        grow(
            "words of one text",
            [10, 100] if quick else [10, 30, 100, 300, 1000, 3000, 10_000],
            {"in the description": lambda words: predict([Product("", synthetic_data.texts(1, words)[0])])},
            rounds,
        ),
        _photos(classifier.config.image, rounds, quick),
        _categories(bundle, rounds, quick),
        _catalog_memory(bundle, [20, 200] if quick else [10_000, 100_000, 1_000_000]),
    ]
    return found


def _photos(settings: ImageSettings, rounds: int, quick: bool) -> Growth:
    """Reading a photo as the models need it, and at its full size as a plain Pillow program does."""
    megapixels = [0.1, 0.5] if quick else [0.1, 0.25, 1, 4, 12, 25]
    files = {
        size: synthetic_data.photo(round((size * 1e6 * 4 / 3) ** 0.5), round((size * 1e6 * 3 / 4) ** 0.5))
        for size in megapixels
    }

    def plainly(file: bytes) -> None:
        square = (settings.size, settings.size)
        Image.open(io.BytesIO(file)).convert("RGB").resize(square, Image.Resampling.BILINEAR)

    return grow(
        "megapixels of a photo",
        megapixels,
        {
            "read for the model": lambda size: lambda: read_image(files[size], settings),
            "plain Pillow": lambda size: lambda: plainly(files[size]),
        },
        rounds,
    )


def _categories(bundle: Path, rounds: int, quick: bool) -> Growth:
    from benchmarks.random_bundle import write_random_bundle

    counts = [27] if quick else [27, 270, 2700]
    (pair,) = synthetic_data.catalog(1, pictures=1)
    titles = synthetic_data.titles(100, synthetic_data.TITLE_WORDS)
    with tempfile.TemporaryDirectory() as name:
        classifiers = {}
        for count in counts:
            folder = Path(name) / str(count)
            folder.mkdir()
            write_random_bundle(bundle, folder, count, alpha=0.35 if quick else 1.0)
            classifiers[count] = ProductClassifier.from_pretrained(folder)
        return grow(
            "categories",
            counts,
            {
                "one product, text and picture": lambda count: lambda: classifiers[count].predict(pair),
                "100 titles": lambda count: lambda: classifiers[count].predict(titles),
            },
            rounds,
        )


def _catalog_memory(bundle: Path, counts: Sequence[int]) -> Growth:
    """The most memory that scoring a CSV file of so many titles takes, each in a process of its own."""
    texts = synthetic_data.texts(10_000, synthetic_data.TITLE_WORDS)
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            source = Path(name) / f"{count}.csv"
            with source.open("w", encoding="utf-8") as file:
                file.write("designation\n")
                file.writelines(f"{texts[row % len(texts)]} {row}\n" for row in range(count))
            command = [
                sys.executable,
                "-m",
                "benchmarks.speed.memory_probe",
                bundle,
                source,
                Path(name) / f"{count}_scored.csv",
            ]
            done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                raise WorkerError(f"Scoring failed: {done.stderr.strip()[-2000:]}")
            peaks.append(json.loads(done.stdout.splitlines()[-1])["peak"] / 1e6)
    return Growth("rows of a catalog of texts", "MB", counts, {"peak memory": peaks})


def memory_ratio(growths: Sequence[Growth]) -> float:
    """The memory for the longest catalog over that for the shortest."""
    peaks = next(each for each in growths if each.unit == "MB").costs["peak memory"]
    return peaks[-1] / peaks[0]


def format_growths(growths: Sequence[Growth], notes: Sequence[str] = ()) -> str:
    """A Markdown table each, and whether memory is flat."""
    lines = ["## As work grows", "", *notes, ""]
    for growth in growths:
        lines += [
            f"| {growth.title} | {' | '.join(f'{size:,}' for size in growth.sizes)} |",
            f"| --- |{' --- |' * len(growth.sizes)}",
            *(
                f"| {name}, {growth.unit} | {' | '.join(f'{cost:,.1f}' for cost in costs)} |"
                for name, costs in growth.costs.items()
            ),
            "",
        ]
    ratio = memory_ratio(growths)
    verdict = "met" if ratio <= MEMORY_TARGET else "missed"
    lines += [
        f"Memory, the longest catalog against the shortest: {ratio:.2f}x (at most {MEMORY_TARGET}x: {verdict}).",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and draw; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.scaling_curves", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--bundle", type=Path, default=STARTER_FOLDER, metavar="FOLDER", help="default: the starter"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"turns (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the tables as well")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where to draw them")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    growths = measure_scaling(options.bundle, 1 if options.quick else max(1, options.rounds), options.quick)
    text = format_growths(growths, notes)
    print(text)
    if options.output:
        write_atomically(options.output, text)
    if options.plot:
        from benchmarks.speed.scaling_plot import draw_growths

        draw_growths(growths, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
