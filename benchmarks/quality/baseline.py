"""What every peer is fitted on, and how its scores become probabilities.

A peer is an object that was fitted on training rows and, called with products, gives float64 (products, categories):
log probabilities. The scores of a `ScoredBaseline` become probabilities by a temperature, which is found inside the
training rows: on rows that the scores were not fitted on, near-duplicates together, whose label is the catalog's own,
for these are what is judged.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import keras
import numpy as np
from scipy.special import log_softmax

from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.product import Product
from training.calibration import fit_temperature
from training.settings import TrainingSettings
from training.text.cross_fitting import fold_numbers

FOLDS = 3


@dataclass(frozen=True)
class TrainingRows:
    """Rows that peers are fitted on.

    Attributes:
        products: n products.
        category_index: int64 (n,), their categories' columns.
        gold_label: bool (n,), False where the label is not the catalog's own.
        groups: int (n,), near-duplicates have the same number.
        categories: number of columns.
        seed: of everything random.
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
    def judged(self) -> np.ndarray:
        """Bool (n,): rows to choose and calibrate on: those with an own label, or all where none has one."""
        return self.gold_label if self.gold_label.any() else ~self.gold_label

    def fold(self, folds: int) -> np.ndarray:
        """int64 (n,): 0 to folds - 1, near-duplicates in one fold."""
        return fold_numbers(self.groups, self.judged, folds, self.seed)

    def at(self, chosen: np.ndarray) -> TrainingRows:
        """The rows at these positions, int (m,)."""
        return replace(
            self,
            products=[self.products[row] for row in chosen],
            category_index=self.category_index[chosen],
            gold_label=self.gold_label[chosen],
            groups=self.groups[chosen],
        )


class Baseline(Protocol):
    """A method after its training.

    Attributes:
        seconds: how long the training took, with all that it needed.
    """

    seconds: float

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        """float64 (n, categories), log probabilities."""

    def megabytes(self) -> float:
        """How large it is when stored."""


class ScoredBaseline:
    """A peer whose scores are calibrated by a temperature.

    Attributes:
        seconds: how long the training took, with all that it needed.
        temperature: what the scores are divided by.
        out_of_fold: float64 (training rows, categories), log probabilities of each training row from a fit without
            it; None where there was no cross-validation.
    """

    def __init__(self) -> None:
        """The clock starts here."""
        self.seconds, self.temperature = 0.0, 1.0
        self.out_of_fold: np.ndarray | None = None
        self._started = time.perf_counter()

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """Scores before calibration, float (n, categories)."""
        raise NotImplementedError

    def finish(self, scores: np.ndarray, category_index: np.ndarray) -> None:
        """Finds the temperature on m rows that the scores were not fitted on, and stops the clock."""
        self.temperature = fit_temperature(scores, category_index)
        self.seconds += time.perf_counter() - self._started

    def finish_cross_validated(self, rows: TrainingRows, scores: np.ndarray) -> None:
        """The same with scores, float (n, categories), of each training row from a fit without it."""
        self.finish(scores[rows.judged], rows.category_index[rows.judged])
        self.out_of_fold = log_softmax(scores / self.temperature, axis=1)

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        """float64 (n, categories), log probabilities."""
        return log_softmax(self.scores(products).astype(np.float64) / self.temperature, axis=1)

    def megabytes(self) -> float:
        """As Python stores it, without what only the training needed."""
        stored = {name: value for name, value in vars(self).items() if name != "out_of_fold"}
        return len(pickle.dumps(stored, pickle.HIGHEST_PROTOCOL)) / 1e6


def cleaned(products: Sequence[Product]) -> list[tuple[str, str]]:
    """Designation and description as all methods get them: without tags and entities, in lower case."""
    return [
        (clean_text(product.designation).lower(), clean_text(product.description).lower())
        for product in products
    ]


def out_of_fold_scores(
    rows: TrainingRows, fit: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
) -> np.ndarray:
    """Scores of each row from a fit without it.

    Args:
        rows: n rows.
        fit: takes positions to fit on, int (m,), and gives what scores positions: (k,) to (k, categories).

    Returns:
        float64 (n, categories).
    """
    scores = np.zeros((len(rows.products), rows.categories))
    fold = rows.fold(FOLDS)
    for number in np.unique(fold):
        held = np.flatnonzero(fold == number)
        scores[held] = fit(np.flatnonzero(fold != number))(held)
    return scores


def in_all_columns(scores: np.ndarray, known: np.ndarray, categories: int) -> np.ndarray:
    """Puts scores into the columns of all categories; one without a training row is the least likely.

    Args:
        scores: float (n, known categories), as scikit-learn gives them: (n,) where there are two.
        known: int (known categories,), their columns, growing.
        categories: number of columns.

    Returns:
        float64 (n, categories).
    """
    if scores.ndim == 1:
        scores = np.stack([-scores, scores], axis=1)
    filled = np.repeat(scores.min(axis=1, keepdims=True) - 1.0, categories, axis=1)
    filled[:, known] = scores
    return filled


def fit_until_it_stops(
    model: keras.Model,
    inputs: np.ndarray,
    category_index: np.ndarray,
    weights: np.ndarray,
    held: np.ndarray,
) -> None:
    """Fits a network that gives logits with Adam, as long as the log loss of the held rows falls.

    Args:
        model: from inputs to logits.
        inputs: (n, width).
        category_index: int (n,).
        weights: float (n,).
        held: bool (n,), the rows that are not fitted on.
    """
    # Compiled, an epoch over the large embedding table takes half the time.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=True)
    model.fit(
        inputs[~held],
        category_index[~held],
        sample_weight=weights[~held],
        validation_data=(inputs[held], category_index[held]),
        batch_size=64,
        epochs=20,
        callbacks=[keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)],
        verbose=0,
    )
