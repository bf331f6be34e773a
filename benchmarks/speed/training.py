"""How fast the two slow parts of training are: the text model's optimizer and the frozen network over pictures.

    python -m benchmarks.speed.training --output training.md

Prints Markdown. Texts: one pass over 80,000 made-up texts of 120 words, against Keras's Adam on the same model, whose
pass is extrapolated from some of its steps (all steps cost the same); and what both reach on validation rows after
equally many passes over fewer rows, at the same learning rates. Pictures: drawn ones, read by the same function on both
sides. About fifteen minutes on two cores.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks import machine, synthetic_data
from benchmarks.report import Line, command_parser, format_lines, publish
from benchmarks.speed.worker_pool import alternate, timed
from rakuten_models.cli import run_command
from rakuten_models.preprocessing.image import ImageSettings, read_image
from rakuten_models.preprocessing.text import TextSettings, encode_texts
from rakuten_models.product import Product
from training.image.feature_cache import FrozenBackbone, extract_features
from training.image.model import build_image_model
from training.metrics import weighted_f1
from training.settings import TextTrainingSettings
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextFitter

WORDS, CATEGORIES = 120, 27
ROUNDS = 3

# What two fits of one optimizer differ by from chance alone is more than what two optimizers do.
SEEDS = (0, 1, 2)

# Of a text's words, so many come from its category's own list, and as many from another's: not to be too easy.
_OWN_WORDS, _OTHER_WORDS, _LIST_LENGTH = 12, 6, 60

# The network alone and the plain loss, which both optimizers can fit: nothing that only ours would have to do, and
# nothing that makes for better answers on other grounds (dropout, smoothing, decay).
_SETTINGS = replace(
    TextTrainingSettings(), teachers=0, folds=0, pretrained_words=False, linear_share=0.0, feature_dropout=0.0,
    unit_dropout=0.0, label_smoothing=0.0, decay=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        rows: Texts of the pass that is timed, beside `steps` of Keras's a round.
        evaluation_rows: Texts of the `epochs` passes after which F1 is measured, a quarter of them for validation.
        pictures: At least 2, for a network of width `alpha` with an input of so many pixels a side.
    """

    rows: int = 80_000
    evaluation_rows: int = 12_000
    epochs: int = 4
    steps: int = 20
    pictures: int = 96
    picture_side: int = 224
    alpha: float = 1.0


def labelled_texts(rows: int, words: int, seed: int = 0) -> tuple[list[Product], np.ndarray]:
    """Products with descriptions that say their category, and the categories, int64 (rows,), 0 to 26."""
    random = np.random.default_rng([seed, 9])
    known = synthetic_data.vocabulary()
    truth = random.integers(0, CATEGORIES, rows)
    others = random.integers(0, CATEGORIES, rows)
    base = synthetic_data.texts(rows, words - _OWN_WORDS - _OTHER_WORDS, seed)
    picks = random.integers(0, _LIST_LENGTH, (rows, _OWN_WORDS + _OTHER_WORDS))
    lists = np.repeat(np.stack([truth, others], axis=1), [_OWN_WORDS, _OTHER_WORDS], axis=1)
    # From the middle of the vocabulary: neither what every text has nor what none has.
    words_of = np.array(known, object)[500 + lists * _LIST_LENGTH + picks]
    return [Product("", " ".join([text, *own])) for text, own in zip(base, words_of, strict=True)], truth


def keras_adam(model: keras.Model, steps: int, settings: TextTrainingSettings) -> keras.Model:
    """The same text model (`TextFitter.untrained_model`) for Keras to fit: dense Adam, the same rates over `steps`."""
    # By name: in a list they would be in the alphabet's order.
    model = keras.Model({tensor.name: tensor for tensor in model.inputs}, model.output["logits"])
    rate = keras.optimizers.schedules.PolynomialDecay(settings.learning_rate, max(1, steps), 0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def text_lines(sizes: Sizes, rounds: int) -> list[Line]:
    """Both optimizers, `rounds` (at least 1) times each."""
    rows, batch = sizes.rows, {"batch_size": _SETTINGS.batch_size, "verbose": 0}
    products, truth = labelled_texts(rows, WORDS)
    tokenizer = train_tokenizer([product.description for product in products], _SETTINGS)

    def fitter(count: int, epochs: int, seed: int = 0) -> TextFitter:
        texts = LabelledTexts(products[:count], truth[:count], np.ones(count))
        settings = replace(_SETTINGS, epochs=epochs)
        return TextFitter(texts, tokenizer, TextSettings(), settings, categories=CATEGORIES, seed=seed)

    def encoded(chosen: np.ndarray) -> dict[str, np.ndarray]:
        return encode_texts([products[row] for row in chosen], tokenizer, TextSettings())

    train, validation = np.split(np.arange(sizes.evaluation_rows), [sizes.evaluation_rows * 3 // 4])

    def f1(seed: int) -> tuple[float, float]:
        """Validation F1 of ours and of Keras, fitted on three quarters of the rows."""
        keras.utils.set_random_seed(seed)
        ours: list[float] = []
        fitted = fitter(sizes.evaluation_rows, sizes.epochs, seed)
        fitted.fit(train, validation, lambda epoch: ours.append(epoch.validation_f1))
        steps = sizes.epochs * -(-len(train) // _SETTINGS.batch_size)
        baseline = keras_adam(fitted.untrained_model(), steps, _SETTINGS)
        baseline.fit(encoded(train), truth[train], epochs=sizes.epochs, **batch)
        predicted = baseline.predict(encoded(validation), **batch).argmax(axis=1)
        return ours[-1], weighted_f1(truth[validation], predicted, CATEGORIES)

    started = time.perf_counter()
    whole = fitter(rows, 1)
    making = time.perf_counter() - started
    few = np.arange(min(rows, sizes.steps * _SETTINGS.batch_size))
    inputs = encoded(few)
    baseline = keras_adam(whole.untrained_model(), rounds * sizes.steps, _SETTINGS)
    ours, theirs = alternate(
        rounds,
        partial(timed, lambda: whole.fit(np.arange(rows), np.arange(0))),
        partial(timed, lambda: baseline.fit(inputs, truth[few], **batch)),
    )
    share = len(few) / rows
    keras_epoch, ratio = theirs.seconds / share, ours.ratio(theirs) / share
    both = (keras_epoch + making) / (ours.seconds + making)
    scores = [f1(seed) for seed in SEEDS]
    our_f1, keras_f1 = np.mean(scores, axis=0)
    each = ", ".join(f"{ours:.4f} and {theirs:.4f}" for ours, theirs in scores)
    what = f"text model, one pass over {rows:,} texts of {WORDS} words, against Keras Adam"
    once = "the same, with finding the texts' table rows, once for all passes, counted on both sides"
    f1_what = (
        f"validation F1 after {sizes.epochs} passes over {len(train):,} texts, ours and Keras Adam, "
        f"mean of {len(SEEDS)} seeds"
    )
    steps = -(-len(few) // _SETTINGS.batch_size)
    found = f"{ratio:.1f}x: {ours.seconds:.1f} s against {keras_epoch:.0f} s (from {steps} steps)"
    f1_found = f"{our_f1:.4f} against {keras_f1:.4f} (by seed {each})"
    return [
        Line(what, "at least 5x", found, ratio >= 5),
        Line(once, "", f"{both:.1f}x: that takes {making:.0f} s"),
        Line(f1_what, "equal or better", f1_found, bool(our_f1 >= keras_f1)),
    ]


def picture_lines(sizes: Sizes, rounds: int) -> list[Line]:
    """The frozen network over pictures, `rounds` (at least 1) times, and its cache."""
    count, settings = sizes.pictures, ImageSettings(size=sizes.picture_side)
    model = build_image_model(2, size=settings.size, alpha=sizes.alpha, backbone_weights=None)
    backbone = FrozenBackbone(model, with_activations=False)
    frozen = keras.Model(model.inputs[0], model.output["features"])
    with tempfile.TemporaryDirectory() as name:
        images = [Path(name) / f"{number}.jpg" for number in range(count)]
        for number, image in enumerate(images):
            image.write_bytes(synthetic_data.photo(number))
        caches = (Path(name) / f"cache {number}" for number in itertools.count())

        def extract(folder: Path | None = None) -> None:
            extract_features(list(map(str, images)), backbone, settings, folder or next(caches))

        def baseline() -> None:
            for start in range(0, count, 32):
                pixels = [read_image(str(each), settings) for each in images[start : start + 32]]
                frozen.predict_on_batch(np.stack(pixels))

        ours, theirs = alternate(rounds, partial(timed, extract), partial(timed, baseline))
        first = Path(name) / "cache 0"
        reused, _ = timed(partial(extract, first))
        folders = len(list(first.iterdir()))
        # The same name and size, other content.
        images[0].write_bytes(images[1].read_bytes())
        extract(first)
        after = len(list(first.iterdir()))
    ratio = ours.ratio(theirs)
    what = f"frozen features of {count} pictures against Keras predict_on_batch at 32"
    figures = (
        f"{ratio:.1f}x: {count / ours.seconds:.0f} against {count / theirs.seconds:.0f} a second; "
        f"{ours.processor_ratio(theirs):.1f}x in processor time"
    )
    cache = "their cache: used again, not used after a file's content changed"
    again, anew = "used again", "made again"
    said = f"{again if folders == 1 else anew} in {reused:.2f} s; after a change {anew if after == 2 else again}"
    return [Line(what, "at least 3x", figures, ratio >= 3), Line(cache, "both", said, folders == 1 and after == 2)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's text."""
    parser = command_parser("benchmarks.speed.training", __doc__, rounds=ROUNDS)
    options = parser.parse_args(arguments)
    notes = machine.facts()
    if options.quick:
        sizes = Sizes(400, 200, epochs=1, steps=1, pictures=4, picture_side=96, alpha=0.35)
        lines = text_lines(sizes, 1) + picture_lines(sizes, 1)
    else:
        rounds = max(1, options.rounds)
        lines = text_lines(Sizes(), rounds) + picture_lines(Sizes(), max(7, rounds))
    publish(format_lines("Training", notes, lines), options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
