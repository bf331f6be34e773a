"""One contestant of `benchmarks.speed.worker_pool`: gets ready, then reads tasks from standard input and times them.

    python -m benchmarks.speed.worker ours|keras|fasttext BUNDLE [--cores 0] [--quick]

For every line with a task's name it writes one line: {"wall": seconds, "processor": seconds} for one piece of work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rakuten_models.product import Product

# What a task does, and how many pieces of work (products, mostly) one call is.
Tasks = Mapping[str, tuple[Callable[[], object], int]]

# A task that is over sooner is done again, so that the clock's grain does not matter.
_MIN_SECONDS = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve tasks until the input ends; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.worker", description=__doc__.splitlines()[0]
    )
    parser.add_argument("kind", choices=sorted(_KINDS))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cores", type=int, nargs="+")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    # Before anything makes a thread: threads take over what their maker may use.
    if options.cores is not None:
        os.sched_setaffinity(0, options.cores)
    # Libraries print as they please; only answers may go where they are read.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tasks = _KINDS[options.kind](options.bundle, options.quick)
    for line in sys.stdin:
        print(
            json.dumps(timed(*tasks[line.strip()], 0.0 if options.quick else _MIN_SECONDS)),
            file=answers,
            flush=True,
        )
    return 0


def timed(work: Callable[[], object], pieces: int, least_seconds: float) -> dict[str, float]:
    """Do some work until `least_seconds` are over; seconds a piece on the clock and of processor time."""
    done = 0
    wall, processor = time.perf_counter(), time.process_time()
    while not done or time.perf_counter() - wall < least_seconds:
        work()
        done += pieces
    return {
        "wall": (time.perf_counter() - wall) / done,
        "processor": (time.process_time() - processor) / done,
    }


def _ours(bundle: Path, quick: bool) -> Tasks:
    """The classifier as anybody uses it, and its parts."""
    from benchmarks import synthetic_data
    from rakuten_models import ProductClassifier
    from rakuten_models.preprocessing.image import read_image

    classifier = ProductClassifier.from_pretrained(bundle)
    one, pairs, titles, mixed = _inputs(quick)
    settings = classifier.config.image
    pixels = read_image(one.image, settings)[None]
    photo = synthetic_data.photo(synthetic_data.PHOTO_SIDE, synthetic_data.PHOTO_SIDE)

    def decode() -> None:
        read_image(photo, settings)

    return {
        "one": (lambda: classifier.predict(one), 1),
        "explain": (lambda: classifier.explain(one), 1),
        "image model": (lambda: classifier._models.image.model(pixels=pixels), 1),
        "decode": (decode, 1),
        "pairs": (lambda: classifier.predict(pairs), len(pairs)),
        "titles": (lambda: classifier.predict(titles), len(titles)),
        "mixed": (lambda: classifier.predict(mixed), len(mixed)),
    }


def _keras(bundle: Path, quick: bool) -> Tasks:
    """The same models as Keras runs them."""
    from benchmarks.speed.keras_baseline import KerasBaseline

    route = KerasBaseline(bundle)
    one, pairs, titles, mixed = _inputs(quick)
    return {
        "one": (lambda: route([one], batch_size=1), 1),
        "pairs": (lambda: route(pairs, batch_size=32), len(pairs)),
        "titles": (lambda: route.texts(titles, batch_size=256), len(titles)),
        "titles, cut": (lambda: route.texts(titles, batch_size=256, cut=True), len(titles)),
        "mixed": (lambda: route.texts(mixed, batch_size=256), len(mixed)),
    }


def _fasttext(bundle: Path, quick: bool) -> Tasks:
    """FastText with words, pairs of words and character n-grams, trained on texts of the same kind."""
    import tempfile

    import fasttext

    from benchmarks import synthetic_data
    from rakuten_models.preprocessing.cleaning import clean_text

    _, _, titles, mixed = _inputs(quick)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.txt"
        rows = synthetic_data.texts(200 if quick else 4000, 22, seed=7)
        path.write_text(
            "".join(f"__label__{row % 27} {text.lower()}\n" for row, text in enumerate(rows)), "utf-8"
        )
        model = fasttext.train_supervised(
            str(path), dim=64, epoch=1, wordNgrams=2, minn=3, maxn=5, bucket=100_000, thread=1, verbose=0
        )

    def lines(products: Sequence[Product]) -> list[str]:
        return [
            f"{clean_text(product.designation)} {clean_text(product.description)}".lower()
            for product in products
        ]

    return {
        "titles": (lambda: model.predict(lines(titles), k=1), len(titles)),
        "mixed": (lambda: model.predict(lines(mixed), k=1), len(mixed)),
    }


def _inputs(quick: bool) -> tuple[Product, list[Product], list[Product], list[Product]]:
    """One product with both sides, a catalog with pictures, one of titles alone, one of texts of all lengths."""
    from benchmarks import synthetic_data

    pairs = synthetic_data.catalog(4 if quick else 64, pictures=2 if quick else 16)
    title = synthetic_data.texts(1, synthetic_data.TITLE_WORDS, seed=5)[0]
    one = Product(title, synthetic_data.texts(1, 60, seed=6)[0], pairs[0].image)
    count = 40 if quick else 4096
    return one, pairs, synthetic_data.titles(count), synthetic_data.catalog(count)


_KINDS = {"ours": _ours, "keras": _keras, "fasttext": _fasttext}

if __name__ == "__main__":
    sys.exit(main())
