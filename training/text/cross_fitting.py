"""Out-of-fold predictions for rows with a gold label: each from a text model that was fitted without it.

Calibration, thresholds and fusion then rest on all such rows instead of one validation part, and the model that serves
may learn from all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import joblib
import numpy as np

from rakuten_models.inference.runtime import usable_cores
from training.text.trainer import TextFitter


def fold_numbers(groups: np.ndarray, gold: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Folds int (n,), 0 to folds - 1: whole groups each, with about as many rows with gold labels.

    Args:
        groups: int (n,), the group of near-duplicates of each row.
        gold: bool (n,), rows with a gold label; the others only train.
        folds: At least 2.
        seed: Of the order in which groups of equal size are dealt.
    """
    names, positions = np.unique(groups, return_inverse=True)
    sizes = np.bincount(positions, weights=gold, minlength=len(names))
    shuffled = np.random.default_rng([seed, 2]).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold_of_group = np.empty(len(names), np.int64)
    # There and back again (0 1 2 2 1 0 ...), so that the first fold does not get all the larger groups.
    turn, fold = np.divmod(np.arange(len(names)), folds)
    fold_of_group[order] = np.where(turn % 2, folds - 1 - fold, fold)
    return fold_of_group[positions]


def cross_fitted_logits(
    fitter: TextFitter, fold: np.ndarray, gold: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Out-of-fold logits float32 (gold.sum(), categories), in the order of the rows; one network a fold, one a core.

    Args:
        fitter: Holds n rows.
        fold: int (n,), from `fold_numbers`.
        gold: bool (n,), the rows to predict.
        progress: Called with how many folds are finished, and of how many.
    """
    numbers = np.unique(fold[gold])
    tasks = (
        joblib.delayed(predict_fold)(fitter, np.flatnonzero(fold != n), np.flatnonzero(gold & (fold == n)), f"fold_{n}")
        for n in numbers
    )
    workers = joblib.Parallel(n_jobs=min(usable_cores(), len(numbers)), return_as="generator_unordered")
    logits = np.empty((int(gold.sum()), fitter.categories), np.float32)
    position = np.cumsum(gold) - 1
    for finished, (rows, found) in enumerate(workers(tasks), 1):
        logits[position[rows]] = found
        if progress:
            progress(finished, len(numbers))
    return logits


def predict_fold(
    fitter: TextFitter, train: np.ndarray, held_out: np.ndarray, name: str = "fold"
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a network on the rows `train` (int), named so in the fitter's cache, and predict `held_out` (int (m,)).

    Returns:
        held_out, and float32 (m, categories), the logits.
    """
    saved = fitter.cache.load(f"{name}_logits")
    if saved is not None:
        return held_out, saved[0]["logits"]
    network = fitter.fit(train, np.zeros(0, np.int64), name=name, warm_start=False)
    logits = network.logits(fitter.rows[held_out])
    fitter.cache.save(f"{name}_logits", {"logits": logits})
    # Unfinished networks and teachers' logits are needed no more.
    fitter.cache.within(name).clear()
    return held_out, logits
