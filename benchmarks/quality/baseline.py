"""What every baseline is fitted on, and how its scores become probabilities.

A baseline is fitted when it is made; called with products it gives log probabilities, float64 (products, categories).
Its scores become probabilities by a temperature that is found inside the training rows: on rows that the scores were
not fitted on, near-duplicates together, with a gold label, as the rows have on which it is evaluated.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from scipy.special import log_softmax

from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.product import Product
from training.calibration import fit_temperature
from training.settings import TrainingSettings
from training.text.cross_fitting import fold_numbers

FOLDS = 3

# From row numbers, int (k,), to scores (k, categories).
Scores = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TrainingRows:
    """Rows that baselines are fitted on.

    Attributes:
        products: n products.
        category_index: int64 (n,), their categories' columns, of `categories`.
        gold_label: bool (n,), False where the label is not the catalog's own.
        groups: int (n,), near-duplicates have the same number.
    """

    products: Sequence[Product]
    category_index: np.ndarray
    gold_label: np.ndarray
    groups: np.ndarray
    categories: int
    seed: int

    @property
    def weights(self) -> np.ndarray:
        """float64 (n,): how much each row counts."""
        return np.where(self.gold_label, 1.0, TrainingSettings.other_label_weight)

    @property
    def evaluated(self) -> np.ndarray:
        """Bool (n,): rows to choose and calibrate on: those with a gold label, or all where none has one."""
        return self.gold_label if self.gold_label.any() else ~self.gold_label

    def fold(self, folds: int) -> np.ndarray:
        """int64 (n,): 0 to folds - 1, near-duplicates in one fold."""
        return fold_numbers(self.groups, self.evaluated, folds, self.seed)

    def at(self, rows: np.ndarray) -> TrainingRows:
        """Some of the rows, by number, int (m,)."""
        arrays = {name: getattr(self, name)[rows] for name in ("category_index", "gold_label", "groups")}
        return replace(self, products=[self.products[row] for row in rows], **arrays)


class Baseline:
    """A method that is fitted when it is made, calibrated by a temperature, which the scores are divided by.

    Attributes:
        seconds: How long the training took, with all that it needed.
        out_of_fold: float64 (training rows, categories), log probabilities of each training row from a fit without
            it; None where there was no cross-validation.
    """

    temperature = 1.0
    out_of_fold: np.ndarray | None = None

    def __init__(self, seconds: float = 0.0) -> None:
        """Start the clock, at what others took for it."""
        self.seconds, self._started = seconds, time.perf_counter()

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """Scores before calibration, float (n, categories)."""
        raise NotImplementedError

    def finish(self, scores: np.ndarray, category_index: np.ndarray) -> None:
        """Find the temperature on m rows that the scores were not fitted on, and stop the clock."""
        self.temperature = fit_temperature(scores, category_index)
        self.seconds += time.perf_counter() - self._started

    def finish_cross_validated(self, rows: TrainingRows, scores: np.ndarray) -> None:
        """The same with scores, float (n, categories), of each training row from a fit without it."""
        self.finish(scores[rows.evaluated], rows.category_index[rows.evaluated])
        self.out_of_fold = log_softmax(scores / self.temperature, axis=1)

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        """float64 (n, categories), log probabilities."""
        return log_softmax(self.scores(products).astype(np.float64) / self.temperature, axis=1)

    def megabytes(self) -> float:
        """How large it is as Python stores it, without what only the training needed."""
        return pickled_megabytes({name: each for name, each in vars(self).items() if name != "out_of_fold"})


def pickled_megabytes(stored: object) -> float:
    """The size of anything as Python stores it."""
    return len(pickle.dumps(stored, pickle.HIGHEST_PROTOCOL)) / 1e6


def cleaned(products: Sequence[Product]) -> list[tuple[str, str]]:
    """Designation and description as all methods get them: without tags and entities, in lower case."""
    return [(clean_text(each.designation).lower(), clean_text(each.description).lower()) for each in products]


def out_of_fold_scores(rows: TrainingRows, fit: Callable[[np.ndarray], Scores]) -> np.ndarray:
    """Scores of each row, float64 (n, categories), from what `fit` makes of the numbers of rows in other folds."""
    scores, fold = np.zeros((len(rows.products), rows.categories)), rows.fold(FOLDS)
    for number in np.unique(fold):
        held_out = np.flatnonzero(fold == number)
        scores[held_out] = fit(np.flatnonzero(fold != number))(held_out)
    return scores


def in_all_columns(scores: np.ndarray, known: np.ndarray, categories: int) -> np.ndarray:
    """Put scores of the known categories, int columns, into those of all; one without a training row is least likely.

    `scores`: float (n, known categories), as scikit-learn gives them: (n,) where there are two.
    """
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    filled = np.repeat(scores.min(axis=1, keepdims=True) - 1.0, categories, axis=1)
    filled[:, known] = scores
    return filled


def fit_until_it_stops(model: keras.Model, inputs: np.ndarray, rows: TrainingRows, held_out: np.ndarray) -> None:
    """Fit a network that gives logits with Adam, as long as the log loss of the held-out rows, bool (n,), falls."""
    # Compiled, an epoch over the large embedding table takes half the time.
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=True)
    train, weights = (inputs[~held_out], rows.category_index[~held_out]), rows.weights[~held_out]
    validation = (inputs[held_out], rows.category_index[held_out])
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    options = {"validation_data": validation, "batch_size": 64, "epochs": 20, "callbacks": [stop]}
    model.fit(*train, sample_weight=weights, verbose=0, **options)
