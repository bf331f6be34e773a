"""The linear head on frozen features, and the weights that make doubtful rows count as they should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.optimize
from scipy.special import log_softmax

from training.image.feature_cache import PooledRows

# Rows whose features are in memory at a time.
_BLOCK = 8192


def balanced_weights(
    category_index: np.ndarray,
    weights: np.ndarray,
    judged_category_index: np.ndarray,
    categories: int,
    pseudo_rows: float,
) -> np.ndarray:
    """Weights under which the training rows have the category shares of the rows that judge.

    Doubtful rows are often gathered in a way that favours some categories; own-label validation rows show the shares
    the catalog really has. Where both agree this changes nothing.

    Args:
        category_index: int (n,) of the training rows.
        weights: float (n,), at least 0.
        judged_category_index: int (m,) of own-label rows; with few of them the training shares prevail.
        categories: number of categories.
        pseudo_rows: how many rows' worth of belief the training shares get.

    Returns:
        float32 (n,) with mean 1; no category's factor is under 1/5 or over 5.
    """
    mass = np.bincount(category_index, weights, minlength=categories)
    share = mass / max(mass.sum(), 1e-12)
    judged = np.bincount(judged_category_index, minlength=categories)
    target = (judged + pseudo_rows * share) / (judged.sum() + pseudo_rows)
    factor = np.clip(target / np.maximum(share, 1e-12), 0.2, 5.0)
    balanced = weights * factor[category_index]
    scaled: np.ndarray = balanced / max(balanced.mean(), 1e-12)
    return scaled.astype(np.float32)


def fit_linear_head(
    features: np.ndarray | PooledRows,
    category_index: np.ndarray,
    weights: np.ndarray,
    validation_features: np.ndarray,
    validation_category_index: np.ndarray,
    categories: int,
    penalties: Sequence[float],
    start: tuple[np.ndarray, np.ndarray] | None = None,
    frozen_categories: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Multinomial logistic regression by L-BFGS, on features divided by their spread.

    Unlike scikit-learn's it also answers for categories without a training row, with a low but finite logit, reads the
    features a block at a time (they may lie on disk), and can go on from another head: the penalty then holds it near
    that one instead of near zero.

    Args:
        features: float32 (n, channels), the pooled features: an array, or what gives one for a slice.
        category_index: int (n,).
        weights: float32 (n,).
        validation_features: float32 (m, channels); m may be 0, the last penalty is then taken.
        validation_category_index: int (m,).
        categories: number of categories.
        penalties: L2 penalties from strong to weak, each fit starting from the one before.
        start: kernel float32 (channels, categories) and bias float32 (categories,) to go on from.
        frozen_categories: int, categories that stay as the start has them; the others learn beside them.

    Returns:
        kernel float32 (channels, categories), bias float32 (categories,), the penalty chosen and its validation log
        loss (NaN without validation rows).
    """
    frozen_categories = np.zeros(0, np.int64) if frozen_categories is None else frozen_categories
    centre, spread = _mean_and_spread(features)
    # The small constant keeps a feature that hardly ever fires from being blown up.
    spread += 0.1
    share = (weights / weights.sum()).astype(np.float32)
    shape = (features.shape[1] + 1, categories)
    prior = np.zeros(shape)
    if start is not None:
        prior[:-1] = start[0] * spread[:, None]
        prior[-1] = start[1] + centre @ start[0]

    def plain(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias over the features as they are."""
        both = flat.reshape(shape)
        kernel = both[:-1] / spread[:, None]
        return kernel, both[-1] - centre @ kernel

    def objective(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        kernel, bias = (values.astype(np.float32) for values in plain(flat))
        loss, slope, total = 0.0, np.zeros((shape[0] - 1, categories)), np.zeros(categories)
        for begin in range(0, len(features), _BLOCK):
            block = np.asarray(features[begin : begin + _BLOCK])
            truth, counts = category_index[begin : begin + _BLOCK], share[begin : begin + _BLOCK]
            logits = block @ kernel + bias
            logarithms = log_softmax(logits, axis=1)
            rows = np.arange(len(block))
            loss -= float(counts @ logarithms[rows, truth])
            difference = np.exp(logarithms)
            difference[rows, truth] -= 1.0
            difference *= counts[:, None]
            difference[:, frozen_categories] = 0.0
            slope += block.T @ difference
            total += difference.sum(axis=0)
        gradient = np.concatenate([(slope - np.outer(centre, total)) / spread[:, None], total[None]])
        # A trace of penalty on the bias keeps categories without a row finite.
        strength = np.full((shape[0], 1), penalty)
        strength[-1] = 1e-4
        moved = flat.reshape(shape) - prior
        return loss + 0.5 * float((strength * moved**2).sum()), (gradient + strength * moved).ravel()

    flat = prior.ravel()
    best = None
    for penalty in penalties:
        flat = scipy.optimize.minimize(
            objective, flat, (penalty,), method="L-BFGS-B", jac=True, options={"maxiter": 60, "maxcor": 10}
        ).x
        kernel, bias = plain(flat)
        loss = float("nan")
        if len(validation_features):
            logits = validation_features @ kernel + bias
            logarithms = log_softmax(logits, axis=1)
            loss = -float(logarithms[np.arange(len(logarithms)), validation_category_index].mean())
        if best is None or not loss >= best[3]:
            best = (kernel.astype(np.float32), bias.astype(np.float32), penalty, loss)
    assert best is not None, "there is at least one penalty"
    return best


def _mean_and_spread(features: np.ndarray | PooledRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64 (channels,), in two passes over the blocks."""
    blocks = range(0, len(features), _BLOCK)
    count = max(len(features), 1)
    mean = sum(features[start : start + _BLOCK].sum(axis=0, dtype=np.float64) for start in blocks) / count
    squares = sum(
        ((features[start : start + _BLOCK] - mean) ** 2).sum(axis=0, dtype=np.float64) for start in blocks
    )
    return mean, np.sqrt(squares / count)
