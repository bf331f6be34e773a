"""Honest answers for every row with an own label: each from a text model that was fitted without it.

Calibration, thresholds and fusion then rest on all such rows instead of one validation part, and the model that is
kept may learn from all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import joblib
import numpy as np

from rakuten_models.inference.runtime import usable_cores
from training.block_cache import array_in_blocks
from training.text.trainer import TextFitter


def fold_numbers(groups: np.ndarray, judged: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deal whole groups of near-duplicates to folds, so that every fold judges about as many rows.

    Args:
        groups: int (n,), the group of each row.
        judged: bool (n,), rows that will be answered; the others only train.
        folds: At least 2.
        seed: Of the order in which groups of equal size are dealt.

    Returns:
        int (n,), 0 to folds - 1.
    """
    names, positions = np.unique(groups, return_inverse=True)
    sizes = np.bincount(positions, weights=judged, minlength=len(names))
    shuffled = np.random.default_rng([seed, 2]).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    fold_of_group = np.empty(len(names), np.int64)
    # There and back again (0 1 2 2 1 0 ...), so that the first fold does not get all the larger groups.
    turn = np.arange(len(names))
    place = turn % folds
    fold_of_group[order] = np.where(turn // folds % 2, folds - 1 - place, place)
    return fold_of_group[positions]


def cross_fitted_logits(
    fitter: TextFitter,
    fold: np.ndarray,
    judged: np.ndarray,
    done: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Fit one network a fold on the rows of all others, several at a time, one a core.

    Args:
        fitter: Holds n rows.
        fold: int (n,), from `fold_numbers`.
        judged: bool (n,), the rows to answer.
        done: Called with how many folds are finished, and of how many.

    Returns:
        float32 (judged.sum(), categories), logits in the order of the rows.
    """
    numbers = np.unique(fold[judged])
    tasks = (
        joblib.delayed(predict_fold)(
            fitter, np.flatnonzero(fold != n), np.flatnonzero(judged & (fold == n)), f"fold_{n}"
        )
        for n in numbers
    )
    workers = joblib.Parallel(n_jobs=min(usable_cores(), len(numbers)), return_as="generator_unordered")
    logits = np.empty((int(judged.sum()), fitter.categories), np.float32)
    place = np.cumsum(judged) - 1
    for finished, (rows, answers) in enumerate(workers(tasks), 1):
        logits[place[rows]] = answers
        if done:
            done(finished, len(numbers))
    return logits


def predict_fold(
    fitter: TextFitter, train: np.ndarray, judged: np.ndarray, name: str = "fold"
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a network on some rows and let it answer others.

    Args:
        fitter: Holds the rows.
        train: int, which to fit on.
        judged: int (m,), which to answer.
        name: Of the fit, which a later run of a fitter with a folder goes on with.

    Returns:
        judged, and float32 (m, categories), the logits.
    """
    no_rows = np.zeros(0, np.int64)

    def answer(start: int, stop: int) -> np.ndarray:
        return fitter.fit(train, no_rows, name=name).logits(fitter.rows[judged])

    shape = (len(judged), fitter.categories)
    answers = array_in_blocks(fitter.folder, f"{name}_answers", shape, np.float32, answer, len(judged))
    if fitter.folder is not None:
        # What the fit kept on its way is of no more use.
        shutil.rmtree(fitter.folder / name, ignore_errors=True)
    return judged, np.array(answers)
