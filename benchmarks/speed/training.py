"""How fast the two slow parts of training are: the text model's optimizer and the frozen network over pictures.

    python -m benchmarks.speed.training --output training.md
    python -m benchmarks.speed.training --quick                 a smoke test; its figures mean nothing

Prints Markdown. Texts: one pass over 80,000 made-up texts of 120 words, against Keras's Adam on the same model, whose
pass is extrapolated from some of its steps (all steps cost the same); and what both reach on validation rows after
equally many passes over fewer rows, at the same learning rates. Pictures: drawn ones, read by the same function on both
sides. About fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks import machine, synthetic_data
from benchmarks.speed.serving import Line, format_lines
from benchmarks.speed.worker_pool import Timing
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.image import ImageSettings, read_image
from rakuten_models.preprocessing.text import TextSettings, encode_texts
from rakuten_models.product import Product
from training.image.feature_cache import FrozenBackbone, extract_features
from training.image.model import build_image_model
from training.metrics import weighted_f1
from training.settings import TextTrainingSettings
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextFitter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROWS, WORDS, CATEGORIES = 80_000, 120, 27

ROUNDS = 3

# What two fits of one optimizer differ by from chance alone is more than what two optimizers do.
SEEDS = (0, 1, 2)

# Of a text's words, so many come from its category's own list, and as many from another's: not to be too easy.
_OWN_WORDS, _OTHER_WORDS, _LIST_LENGTH = 12, 6, 60

# The network alone and the plain loss, which both optimizers can fit: nothing that only ours would have to do, and
# nothing that makes for better answers on other grounds (dropout, smoothing, decay).
_SETTINGS = replace(
    TextTrainingSettings(),
    teachers=0,
    folds=0,
    pretrained_words=False,
    linear_share=0.0,
    feature_dropout=0.0,
    unit_dropout=0.0,
    label_smoothing=0.0,
    decay=0.0,
)


def labelled_texts(rows: int, words: int, seed: int = 0) -> tuple[list[Product], np.ndarray]:
    """Texts that say what category they are of, if one knows which words to look at.

    Returns:
        Products with a description of so many words, and int64 (rows,), 0 to 26.
    """
    random = np.random.default_rng([seed, 9])
    known = synthetic_data.vocabulary()
    truth = random.integers(0, CATEGORIES, rows)
    others = random.integers(0, CATEGORIES, rows)
    base = synthetic_data.texts(rows, words - _OWN_WORDS - _OTHER_WORDS, seed)
    picks = random.integers(0, _LIST_LENGTH, (rows, _OWN_WORDS + _OTHER_WORDS))
    products = []
    for row, text in enumerate(base):
        lists = [truth[row]] * _OWN_WORDS + [others[row]] * _OTHER_WORDS
        # From the middle of the vocabulary: neither what every text has nor what none has.
        marks = [
            known[500 + number * _LIST_LENGTH + pick] for number, pick in zip(lists, picks[row], strict=True)
        ]
        products.append(Product("", " ".join([text, *marks])))
    return products, truth


class KerasAdam:
    """The same text model, fitted by Keras: dense Adam, the same rates, the same batches.

    Args:
        model: From `TextFitter.untrained_model`.
        steps: How many steps the learning rate falls over.
        settings: Batch size and learning rate are taken from there.
    """

    def __init__(self, model: keras.Model, steps: int, settings: TextTrainingSettings) -> None:
        """Compile."""
        # By name: in a list they would be in the alphabet's order.
        self._model = keras.Model({tensor.name: tensor for tensor in model.inputs}, model.output["logits"])
        rate = keras.optimizers.schedules.PolynomialDecay(settings.learning_rate, max(1, steps), 0.0)
        self._model.compile(
            keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        self._batch_size = settings.batch_size

    def fit(self, encoded: dict[str, np.ndarray], truth: np.ndarray, epochs: int = 1) -> None:
        """Some passes."""
        self._model.fit(encoded, truth, batch_size=self._batch_size, epochs=epochs, verbose=0)

    def predict(self, encoded: dict[str, np.ndarray]) -> np.ndarray:
        """int64 (n,), the best categories."""
        return self._model.predict(encoded, batch_size=self._batch_size, verbose=0).argmax(axis=1)


def text_lines(rows: int, judged_rows: int, epochs: int, steps: int, rounds: int) -> list[Line]:
    """Both optimizers.

    Args:
        rows: Of the pass that is timed.
        judged_rows: Of the passes after which F1 is measured, a quarter of them for validation.
        epochs: How many passes these are.
        steps: Keras's timed steps in a round.
        rounds: At least 1.
    """
    products, truth = labelled_texts(rows, WORDS)
    tokenizer = train_tokenizer([product.description for product in products], _SETTINGS)
    settings = replace(_SETTINGS, epochs=1)

    def fitter(count: int, chosen: TextTrainingSettings, seed: int = 0) -> TextFitter:
        return TextFitter(
            LabelledTexts(products[:count], truth[:count], np.ones(count)),
            tokenizer,
            TextSettings(),
            chosen,
            categories=CATEGORIES,
            seed=seed,
        )

    started = time.perf_counter()
    whole = fitter(rows, settings)
    making = time.perf_counter() - started
    few = min(rows, steps * settings.batch_size)
    encoded = encode_texts(products[:few], tokenizer, TextSettings())
    baseline = KerasAdam(whole.untrained_model(), rounds * steps, settings)
    share = few / rows
    everything, nothing = np.arange(rows), np.arange(0)
    found = _in_turn(
        {
            "ours": lambda: whole.fit(everything, nothing),
            "keras": lambda: baseline.fit(encoded, truth[:few]),
        },
        rounds,
    )
    keras_epoch = found["keras"].seconds / share
    ratio = found["ours"].ratio(found["keras"]) / share
    both = (keras_epoch + making) / (found["ours"].seconds + making)
    judged = [
        _f1(
            fitter(judged_rows, replace(_SETTINGS, epochs=epochs), seed),
            products,
            truth,
            tokenizer,
            judged_rows,
            epochs,
            seed,
        )
        for seed in SEEDS
    ]
    our_f1, keras_f1 = np.mean(judged, axis=0)
    each = ", ".join(f"{ours:.4f} and {baselines:.4f}" for ours, baselines in judged)
    return [
        Line(
            f"text model, one pass over {rows:,} texts of {WORDS} words, against Keras Adam",
            "at least 5x",
            f"{ratio:.1f}x: {found['ours'].seconds:.1f} s against {keras_epoch:.0f} s (from "
            f"{-(-few // settings.batch_size)} steps)",
            ratio >= 5,
        ),
        Line(
            "the same, with finding the texts' table rows, once for all passes, counted on both sides",
            "",
            f"{both:.1f}x: that takes {making:.0f} s",
        ),
        Line(
            f"validation F1 after {epochs} passes over {judged_rows * 3 // 4:,} texts, ours and Keras Adam, mean of "
            f"{len(SEEDS)} seeds",
            "equal or better",
            f"{our_f1:.4f} against {keras_f1:.4f} (by seed {each})",
            bool(our_f1 >= keras_f1),
        ),
    ]


def _f1(
    fitter: TextFitter,
    products: Sequence[Product],
    truth: np.ndarray,
    tokenizer: object,
    rows: int,
    epochs: int,
    seed: int,
) -> tuple[float, float]:
    """Validation F1 of ours and of Keras, fitted on three quarters of the rows."""
    keras.utils.set_random_seed(seed)
    train, validation = np.arange(rows * 3 // 4), np.arange(rows * 3 // 4, rows)
    ours = []
    fitter.fit(train, validation, lambda epoch: ours.append(epoch.validation_f1))
    steps = epochs * -(-len(train) // _SETTINGS.batch_size)
    baseline = KerasAdam(fitter.untrained_model(), steps, _SETTINGS)
    fitted, judged = (
        encode_texts([products[row] for row in part], tokenizer, TextSettings())
        for part in (train, validation)
    )
    baseline.fit(fitted, truth[train], epochs)
    return ours[-1], weighted_f1(truth[validation], baseline.predict(judged), CATEGORIES)


def picture_lines(count: int, size: int, alpha: float, rounds: int) -> list[Line]:
    """The frozen network over pictures, and its cache.

    Args:
        count: Pictures, at least 2.
        size: Side of the network's input in pixels.
        alpha: Width of the network.
        rounds: At least 1.
    """
    settings = ImageSettings(size=size)
    model = build_image_model(2, size=size, alpha=alpha, backbone_weights=None)
    lower = FrozenBackbone(model, with_activations=False)
    frozen = keras.Model(model.inputs[0], model.output["features"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = [str(folder / f"{number}.jpg") for number in range(count)]
        for number, image in enumerate(images):
            Path(image).write_bytes(
                synthetic_data.photo(synthetic_data.PHOTO_SIDE, synthetic_data.PHOTO_SIDE, number)
            )
        caches = iter(range(1_000_000))

        def ours() -> None:
            extract_features(images, lower, settings, folder / f"cache {next(caches)}")

        def baseline() -> None:
            for start in range(0, count, 32):
                pixels = [read_image(image, settings) for image in images[start : start + 32]]
                frozen.predict_on_batch(np.stack(pixels))

        found = _in_turn({"ours": ours, "keras": baseline}, rounds)
        first = folder / "cache 0"
        started = time.perf_counter()
        extract_features(images, lower, settings, first)
        reused, folders = time.perf_counter() - started, len(list(first.iterdir()))
        # The same name and size, other content.
        Path(images[0]).write_bytes(Path(images[1]).read_bytes())
        extract_features(images, lower, settings, first)
        after = len(list(first.iterdir()))
    ratio = found["ours"].ratio(found["keras"])
    return [
        Line(
            f"frozen features of {count} pictures against Keras predict_on_batch at 32",
            "at least 3x",
            f"{ratio:.1f}x: {count / found['ours'].seconds:.0f} against {count / found['keras'].seconds:.0f} a second; "
            f"{found['ours'].processor_ratio(found['keras']):.1f}x in processor time",
            ratio >= 3,
        ),
        Line(
            "their cache: used again, not used after a file's content changed",
            "both",
            f"{'used again' if folders == 1 else 'made again'} in {reused:.2f} s; after a change "
            f"{'made again' if after == 2 else 'used again'}",
            folders == 1 and after == 2,
        ),
    ]


def _in_turn(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Do works in turn in this process, A B A B, after one turn that does not count (it compiles)."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            work()
            if number:
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: Timing(*map(tuple, zip(*found, strict=True))) for name, found in taken.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help=f"turns (default {ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the table as well")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    if options.quick:
        lines = text_lines(400, 200, 1, 1, 1) + picture_lines(4, 96, 0.35, 1)
    else:
        rounds = max(1, options.rounds)
        lines = text_lines(ROWS, 12_000, 4, 20, rounds) + picture_lines(96, 224, 1.0, max(7, rounds))
    text = format_lines("Training", notes, lines)
    print(text)
    if options.output:
        write_atomically(options.output, text)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
