"""One process of `benchmarks.speed.worker_pool`: gets ready, then reads tasks from standard input and times them.

    python -m benchmarks.speed.worker ours|keras|fasttext BUNDLE [--cores 0] [--quick]

For every line with a task's name it writes one line: [wall, processor] seconds for one piece of work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.speed.worker_pool import timed
from rakuten_models.product import Product

# What a task does, and how many pieces of work (products, mostly) one call is.
Tasks = Mapping[str, tuple[Callable[[], object], int]]

# A task that is over sooner is done again, so that the clock's grain does not matter.
_MIN_SECONDS = 0.3


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve tasks until the input ends; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.worker")
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
        found = timed(*tasks[line.strip()], 0.0 if options.quick else _MIN_SECONDS)
        print(json.dumps(found), file=answers, flush=True)
    return 0


def _ours(bundle: Path, quick: bool) -> Tasks:
    """The classifier as anybody uses it, and its parts."""
    from benchmarks import synthetic_data
    from rakuten_models import ProductClassifier
    from rakuten_models.preprocessing.image import read_image

    classifier = ProductClassifier.from_pretrained(bundle)
    one, *catalogs = _inputs(quick)
    settings = classifier.config.image
    pixels = read_image(one.image, settings)[None]
    photo = synthetic_data.photo()
    return {
        "one": (lambda: classifier.predict(one), 1),
        "explain": (lambda: classifier.explain(one), 1),
        "image model": (lambda: classifier._models.image.model(pixels=pixels), 1),
        "decode": (lambda: read_image(photo, settings), 1),
        **{
            name: (lambda products=products: classifier.predict(products), len(products))
            for name, products in zip(("pairs", "titles", "mixed"), catalogs, strict=True)
        },
    }


def _keras(bundle: Path, quick: bool) -> Tasks:
    """The same models as Keras runs them."""
    from benchmarks.speed.keras_baseline import KerasBaseline

    baseline = KerasBaseline(bundle)
    one, pairs, titles, mixed = _inputs(quick)
    return {
        "one": (lambda: baseline([one], batch_size=1), 1),
        "pairs": (lambda: baseline(pairs, batch_size=32), len(pairs)),
        "titles": (lambda: baseline.texts(titles, batch_size=256), len(titles)),
        "titles, cut": (lambda: baseline.texts(titles, batch_size=256, cut=True), len(titles)),
        "mixed": (lambda: baseline.texts(mixed, batch_size=256), len(mixed)),
    }


def _fasttext(bundle: Path, quick: bool) -> Tasks:
    """FastText with words, pairs of words and character n-grams, trained on texts of the same kind."""
    import fasttext

    from benchmarks import synthetic_data
    from rakuten_models.preprocessing.cleaning import clean_text

    _, _, titles, mixed = _inputs(quick)
    rows = synthetic_data.texts(200 if quick else 4000, 22, seed=7)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.writelines(f"__label__{row % 27} {text.lower()}\n" for row, text in enumerate(rows))
        file.flush()
        choices = {"dim": 64, "epoch": 1, "wordNgrams": 2, "minn": 3, "maxn": 5, "bucket": 100_000}
        model = fasttext.train_supervised(file.name, thread=1, verbose=0, **choices)

    def predict(products: Sequence[Product]) -> None:
        fields = ((clean_text(each.designation), clean_text(each.description)) for each in products)
        model.predict([" ".join(texts).lower() for texts in fields], k=1)

    return {
        "titles": (lambda: predict(titles), len(titles)),
        "mixed": (lambda: predict(mixed), len(mixed)),
    }


def _inputs(quick: bool) -> tuple[Product, list[Product], list[Product], list[Product]]:
    """One product with text and picture, a catalog of such, one of titles alone, one of texts of all lengths."""
    from benchmarks import synthetic_data

    pairs = synthetic_data.catalog(4 if quick else 64, pictures=2 if quick else 16)
    (title,), (description,) = (
        synthetic_data.texts(1, synthetic_data.TITLE_WORDS, 5),
        synthetic_data.texts(1, 60, 6),
    )
    count = 40 if quick else 4096
    one = Product(title, description, pairs[0].image)
    return one, pairs, synthetic_data.titles(count), synthetic_data.catalog(count)


_KINDS = {"ours": _ours, "keras": _keras, "fasttext": _fasttext}

if __name__ == "__main__":
    sys.exit(main())
