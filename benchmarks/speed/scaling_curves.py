"""What work costs as it grows: more products, more categories, longer texts, larger photos, longer catalogs.

    python -m benchmarks.speed.scaling_curves --output growth.md --plot growth.png

Prints Markdown tables and draws the same figures. Texts and photos are made up; bundles of other numbers of categories
have random weights. About ten minutes on two cores, most of it the catalog of a million texts.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, NullFormatter, NullLocator
from PIL import Image

from benchmarks import machine, synthetic_data
from benchmarks.random_bundle import write_random_bundle
from benchmarks.report import command_parser, publish, table
from benchmarks.speed.worker_pool import alternate, run_python, timed
from rakuten_models import Product, ProductClassifier
from rakuten_models.cli import run_command
from rakuten_models.preprocessing.image import read_image

ROUNDS = 7

# A catalog of a hundred times as many rows may take so much more memory.
MAX_MEMORY_RATIO = 1.2

# Okabe and Ito's colours, which people with any colour vision tell apart; each has its own marker as well.
_LOOKS = (("#0072B2", "o"), ("#D55E00", "s"))
_UNITS = {"ms": "milliseconds", "MB": "megabytes"}
_COLUMNS = 3


@dataclass(frozen=True)
class Growth:
    """How one cost grows: by name of what is done, a figure in "ms" or "MB" (`unit`) for each ascending size."""

    title: str
    unit: str
    sizes: Sequence[float]
    costs: dict[str, list[float]]


def measure_scaling(bundle: Path, rounds: int, quick: bool) -> list[Growth]:
    """All growths: each work at each size is timed once in every round, after one round that does not count."""

    def grow(title: str, sizes: Sequence[float], works: dict[str, Callable[[float], object]]) -> Growth:
        tasks = [partial(timed, partial(work, size), 1, 0.02) for work in works.values() for size in sizes]
        taken = iter([1e3 * timing.seconds for timing in alternate(rounds, *tasks)])
        return Growth(title, "ms", sizes, {name: list(islice(taken, len(sizes))) for name in works})

    classifier = ProductClassifier.from_pretrained(bundle)
    predict, settings = classifier.predict, classifier.config.image
    titles = synthetic_data.titles(10 if quick else 1000, synthetic_data.TITLE_WORDS)
    pairs = synthetic_data.catalog(10 if quick else 1000, pictures=8)
    counts = [1, 10] if quick else [1, 10, 100, 1000]
    lengths = [10, 100] if quick else [10, 30, 100, 300, 1000, 3000, 10_000]
    texts = {words: Product("", synthetic_data.texts(1, words)[0]) for words in lengths}
    megapixels = [0.1, 0.5] if quick else [0.1, 0.25, 1, 4, 12, 25]
    files = {
        size: synthetic_data.photo(0, round((size * 1e6 * 4 / 3) ** 0.5), round((size * 1e6 * 3 / 4) ** 0.5))
        for size in megapixels
    }

    def read_plainly(size: float) -> None:
        """Decode at full size, as a plain Pillow program does."""
        square = (settings.size, settings.size)
        Image.open(io.BytesIO(files[size])).convert("RGB").resize(square, Image.Resampling.BILINEAR)

    growths = [
        grow(
            "products",
            counts,
            {"titles": lambda count: predict(titles[:count]), "text and picture": lambda count: predict(pairs[:count])},
        ),
        grow("words of one text", lengths, {"in the description": lambda words: predict([texts[words]])}),
        grow(
            "megapixels of a photo",
            megapixels,
            {"read for the model": lambda size: read_image(files[size], settings), "plain Pillow": read_plainly},
        ),
    ]
    with tempfile.TemporaryDirectory() as name:
        classifiers = {}
        for count in [27] if quick else [27, 270, 2700]:
            folder = Path(name) / str(count)
            folder.mkdir()
            write_random_bundle(bundle, folder, count, alpha=0.35 if quick else 1.0)
            classifiers[count] = ProductClassifier.from_pretrained(folder)
        pair = synthetic_data.catalog(1, pictures=1)
        works = {
            "one product, text and picture": lambda count: classifiers[count].predict(pair),
            "100 titles": lambda count: classifiers[count].predict(titles[:100]),
        }
        growths.append(grow("categories", list(classifiers), works))
    return [*growths, _catalog_memory(bundle, [20, 200] if quick else [10_000, 100_000, 1_000_000])]


def _catalog_memory(bundle: Path, counts: Sequence[int]) -> Growth:
    """The most memory that scoring a CSV file of so many titles takes, each in a process of its own."""
    texts = synthetic_data.texts(10_000, synthetic_data.TITLE_WORDS)
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            source, output = Path(name) / f"{count}.csv", Path(name) / f"{count}_scored.csv"
            rows = (f"{text} {row}\n" for row, text in enumerate(islice(cycle(texts), count)))
            with source.open("w", encoding="utf-8") as file:
                file.writelines(chain(["designation\n"], rows))
            done = run_python("-m", "benchmarks.scale.worker", "local", bundle, source, output)
            peaks.append(done["peak"] / 1e6)
    return Growth("rows of a catalog of texts", "MB", counts, {"peak memory": peaks})


def format_growths(growths: Sequence[Growth], notes: Sequence[str] = ()) -> str:
    """A Markdown table each, and whether memory is flat."""
    lines = ["## As work grows", "", *notes, ""]
    for growth in growths:
        head = [growth.title, *(f"{size:,}" for size in growth.sizes)]
        rows = [[f"{name}, {growth.unit}", *map("{:,.1f}".format, costs)] for name, costs in growth.costs.items()]
        lines += [*table(head, rows), ""]
    peaks = next(each for each in growths if each.unit == "MB").costs["peak memory"]
    ratio = peaks[-1] / peaks[0]
    target = f"at most {MAX_MEMORY_RATIO}x: {'met' if ratio <= MAX_MEMORY_RATIO else 'missed'}"
    lines.append(f"Memory, the longest catalog against the shortest: {ratio:.2f}x ({target}).\n")
    return "\n".join(lines)


def draw_growths(growths: Sequence[Growth], path: Path) -> None:
    """Write the plot as a PNG file of 1100 x 640 pixels."""
    figure = Figure(figsize=(11.0, 6.4), dpi=100, layout="constrained")
    panels = figure.subplots(-(-len(growths) // _COLUMNS), _COLUMNS, squeeze=False).ravel()
    short = EngFormatter(sep="", places=None)
    for panel, growth in zip(panels, growths, strict=False):
        for (name, costs), (colour, marker) in zip(growth.costs.items(), _LOOKS, strict=False):
            panel.loglog(growth.sizes, costs, color=colour, marker=marker, label=name)
        figures = list(chain(*growth.costs.values()))
        highest, lowest = max(figures), min(figures)
        # A flat line looks flat: never less than a factor of ten from bottom to top.
        panel.set_ylim(min(lowest / 1.5, highest / 5), highest * 2)
        ticks = [f"{size:g}" if size < 1000 else short(size) for size in growth.sizes]
        panel.set_xticks(list(growth.sizes), ticks)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set(xlabel=growth.title, ylabel=_UNITS[growth.unit])
        panel.grid(True, color="#E4E7EB")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize="small")
    for panel in panels[len(growths) :]:
        panel.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and draw; see the module's text."""
    parser = command_parser("benchmarks.speed.scaling_curves", __doc__, bundle=True, rounds=ROUNDS)
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="where to draw them")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    growths = measure_scaling(options.bundle, 1 if options.quick else max(1, options.rounds), options.quick)
    publish(format_growths(growths, notes), options.output)
    if options.plot:
        draw_growths(growths, options.plot)


if __name__ == "__main__":
    sys.exit(run_command(main))
