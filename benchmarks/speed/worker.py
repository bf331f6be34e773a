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
from functools import partial
from pathlib import Path

from benchmarks import synthetic_data
from benchmarks.speed.worker_pool import timed
from rakuten_models.product import Product

# What a task does, and how many pieces of work (products, mostly) one call is.
Tasks = Mapping[str, tuple[Callable[[], object], int]]

# A task that is over sooner is done again, so that the clock's grain does not matter.
_MIN_SECONDS = 0.3


class Inputs:
    """One product with text and picture, a catalog of such, one of titles alone, one of texts of all lengths."""

    def __init__(self, quick: bool) -> None:
        """Make them up."""
        count = 40 if quick else 4096
        self.pairs = synthetic_data.catalog(4 if quick else 64, pictures=2 if quick else 16)
        self.titles, self.mixed = synthetic_data.titles(count), synthetic_data.catalog(count)
        (title,) = synthetic_data.texts(1, synthetic_data.TITLE_WORDS, 5)
        (description,) = synthetic_data.texts(1, 60, 6)
        self.one = Product(title, description, self.pairs[0].image)


def main(arguments: Sequence[str] | None = None) -> None:
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
    tasks = _KINDS[options.kind](options.bundle, Inputs(options.quick))
    for line in sys.stdin:
        found = timed(*tasks[line.strip()], 0.0 if options.quick else _MIN_SECONDS)
        print(json.dumps(found), file=answers, flush=True)


def _ours(bundle: Path, inputs: Inputs) -> Tasks:
    """The classifier as anybody uses it, and its parts."""
    from rakuten_models import ProductClassifier
    from rakuten_models.preprocessing.image import read_image

    classifier = ProductClassifier.from_pretrained(bundle)
    settings, photo = classifier.config.image, synthetic_data.photo()
    pixels = read_image(inputs.one.image, settings)[None]
    return {
        "one": (partial(classifier.predict, inputs.one), 1),
        "explain": (partial(classifier.explain, inputs.one), 1),
        "image model": (partial(classifier._models.image.model, pixels=pixels), 1),
        "decode": (partial(read_image, photo, settings), 1),
        "pairs": (partial(classifier.predict, inputs.pairs), len(inputs.pairs)),
        "titles": (partial(classifier.predict, inputs.titles), len(inputs.titles)),
        "mixed": (partial(classifier.predict, inputs.mixed), len(inputs.mixed)),
    }


def _keras(bundle: Path, inputs: Inputs) -> Tasks:
    """The same models as Keras runs them."""
    from benchmarks.speed.keras_baseline import KerasBaseline

    baseline = KerasBaseline(bundle)
    return {
        "one": (partial(baseline, [inputs.one], 1), 1),
        "pairs": (partial(baseline, inputs.pairs, 32), len(inputs.pairs)),
        "titles": (partial(baseline.texts, inputs.titles, 256), len(inputs.titles)),
        "titles, cut": (partial(baseline.texts, inputs.titles, 256, cut=True), len(inputs.titles)),
        "mixed": (partial(baseline.texts, inputs.mixed, 256), len(inputs.mixed)),
    }


def _fasttext(bundle: Path, inputs: Inputs) -> Tasks:
    """FastText with words, pairs of words and character n-grams, trained on texts of the same kind."""
    import fasttext

    from rakuten_models.preprocessing.cleaning import clean_text

    rows = synthetic_data.texts(min(4000, 5 * len(inputs.titles)), 22, seed=7)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.writelines(f"__label__{row % 27} {text.lower()}\n" for row, text in enumerate(rows))
        file.flush()
        choices = {"dim": 64, "epoch": 1, "wordNgrams": 2, "minn": 3, "maxn": 5, "bucket": 100_000}
        model = fasttext.train_supervised(file.name, thread=1, verbose=0, **choices)

    def predict(products: Sequence[Product]) -> None:
        fields = ((clean_text(each.designation), clean_text(each.description)) for each in products)
        model.predict([" ".join(texts).lower() for texts in fields], k=1)

    return {
        "titles": (partial(predict, inputs.titles), len(inputs.titles)),
        "mixed": (partial(predict, inputs.mixed), len(inputs.mixed)),
    }


_KINDS = {"ours": _ours, "keras": _keras, "fasttext": _fasttext}

if __name__ == "__main__":
    main()
