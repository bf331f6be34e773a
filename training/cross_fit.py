"""Honest answers for every row with an own label: each from a text model that was fitted without it.

Calibration, thresholds and fusion then rest on all such rows instead of one validation part, and the model that is
kept may learn from all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

import joblib
import numpy

from rakuten_models.runtime import usable_cores
from training.disk_rows import array_in_blocks
from training.fit_text import TextFitter


def fold_numbers(groups: numpy.ndarray, judged: numpy.ndarray, folds: int, seed: int) -> numpy.ndarray:
    """Deal whole groups of near-duplicates to folds, so that every fold judges about as many rows.

    Args:
        groups: int (n,), the group of each row.
        judged: bool (n,), rows that will be answered; the others only train.
        folds: At least 2.
        seed: Of the order in which groups of equal size are dealt.

    Returns:
        int (n,), 0 to folds - 1.
    """
    names, positions = numpy.unique(groups, return_inverse=True)
    sizes = numpy.bincount(positions, weights=judged, minlength=len(names))
    shuffled = numpy.random.default_rng([seed, 2]).permutation(len(names))
    order = shuffled[numpy.argsort(-sizes[shuffled], kind="stable")]
    fold_of_group = numpy.empty(len(names), numpy.int64)
    # There and back again (0 1 2 2 1 0 ...), so that the first fold does not get all the larger groups.
    turn = numpy.arange(len(names))
    place = turn % folds
    fold_of_group[order] = numpy.where(turn // folds % 2, folds - 1 - place, place)
    return fold_of_group[positions]


def cross_fitted_logits(
    fitter: TextFitter,
    fold: numpy.ndarray,
    judged: numpy.ndarray,
    done: Callable[[int, int], None] | None = None,
) -> numpy.ndarray:
    """Fit one network a fold on the rows of all others, several at a time, one a core.

    Args:
        fitter: Holds n rows.
        fold: int (n,), from `fold_numbers`.
        judged: bool (n,), the rows to answer.
        done: Called with how many folds are finished, and of how many.

    Returns:
        float32 (judged.sum(), categories), logits in the order of the rows.
    """
    numbers = numpy.unique(fold[judged])
    tasks = (
        joblib.delayed(answer_fold)(
            fitter, numpy.flatnonzero(fold != n), numpy.flatnonzero(judged & (fold == n)), f"fold_{n}"
        )
        for n in numbers
    )
    workers = joblib.Parallel(n_jobs=min(usable_cores(), len(numbers)), return_as="generator_unordered")
    logits = numpy.empty((int(judged.sum()), fitter.categories), numpy.float32)
    place = numpy.cumsum(judged) - 1
    for finished, (rows, answers) in enumerate(workers(tasks), 1):
        logits[place[rows]] = answers
        if done:
            done(finished, len(numbers))
    return logits


def answer_fold(
    fitter: TextFitter, train: numpy.ndarray, judged: numpy.ndarray, name: str = "fold"
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Fit a network on some rows and let it answer others.

    Args:
        fitter: Holds the rows.
        train: int, which to fit on.
        judged: int (m,), which to answer.
        name: Of the fit, which a later run of a fitter with a folder goes on with.

    Returns:
        judged, and float32 (m, categories), the logits.
    """
    no_rows = numpy.zeros(0, numpy.int64)

    def answer(start: int, stop: int) -> numpy.ndarray:
        return fitter.fit(train, no_rows, name=name).logits(fitter.rows[judged])

    shape = (len(judged), fitter.categories)
    answers = array_in_blocks(fitter.folder, f"{name}_answers", shape, numpy.float32, answer, len(judged))
    if fitter.folder is not None:
        # What the fit kept on its way is of no more use.
        shutil.rmtree(fitter.folder / name, ignore_errors=True)
    return judged, numpy.array(answers)
