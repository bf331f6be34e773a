"""The linear head on frozen features, and the weights that make doubtful rows count as they should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.optimize
from scipy.special import log_softmax


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
    return (balanced / max(balanced.mean(), 1e-12)).astype(np.float32)


def fit_linear_head(
    features: np.ndarray,
    category_index: np.ndarray,
    weights: np.ndarray,
    validation_features: np.ndarray,
    validation_category_index: np.ndarray,
    categories: int,
    penalties: Sequence[float],
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Multinomial logistic regression by L-BFGS, on features divided by their spread.

    Unlike scikit-learn's it also answers for categories without a training row, with a low but finite logit.

    Args:
        features: float32 (n, channels), the pooled features.
        category_index: int (n,).
        weights: float32 (n,).
        validation_features: float32 (m, channels); m may be 0, the last penalty is then taken.
        validation_category_index: int (m,).
        categories: number of categories.
        penalties: L2 penalties from strong to weak, each fit starting from the one before.

    Returns:
        kernel float32 (channels, categories), bias float32 (categories,), the penalty chosen and its validation log
        loss (NaN without validation rows).
    """
    # The small constant keeps a feature that hardly ever fires from being blown up.
    spread = features.std(axis=0) + 0.1
    scaled = (features / spread).astype(np.float32)
    centre = scaled.mean(axis=0)
    scaled -= centre
    share = (weights / weights.sum()).astype(np.float32)
    rows = np.arange(len(scaled))
    shape = (scaled.shape[1] + 1, categories)

    def objective(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        both = flat.reshape(shape).astype(np.float32)
        logarithms = log_softmax(scaled @ both[:-1] + both[-1], axis=1)
        loss = -float(share @ logarithms[rows, category_index])
        difference = np.exp(logarithms)
        difference[rows, category_index] -= 1.0
        difference *= share[:, None]
        gradient = np.concatenate([scaled.T @ difference, difference.sum(axis=0)[None]])
        # A trace of penalty on the bias keeps categories without a row finite.
        strength = np.full((shape[0], 1), penalty)
        strength[-1] = 1e-4
        total = loss + 0.5 * float((strength * both.astype(np.float64) ** 2).sum())
        return total, (gradient + strength * both).astype(np.float64).ravel()

    flat = np.zeros(shape[0] * shape[1])
    best = None
    for penalty in penalties:
        flat = scipy.optimize.minimize(
            objective, flat, (penalty,), method="L-BFGS-B", jac=True, options={"maxiter": 60, "maxcor": 10}
        ).x
        both = flat.reshape(shape)
        kernel = both[:-1] / spread[:, None]
        bias = both[-1] - centre @ both[:-1]
        loss = float("nan")
        if len(validation_features):
            logarithms = log_softmax(validation_features @ kernel + bias, axis=1)
            loss = -float(logarithms[np.arange(len(logarithms)), validation_category_index].mean())
        if best is None or not loss >= best[3]:
            best = (kernel.astype(np.float32), bias.astype(np.float32), penalty, loss)
    return best
