"""The linear head on frozen features, and the weights that make doubtful rows count as they should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.special import log_softmax

from training.image.feature_cache import PooledRows

# Rows whose features are in memory at a time.
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits = features @ kernel + bias.

    Attributes:
        kernel: float32 (channels, categories).
        bias: float32 (categories,).
        penalty: The L2 penalty that was chosen.
        log_loss: On the validation rows, in nats; NaN without any.
    """

    kernel: np.ndarray
    bias: np.ndarray
    penalty: float = float("nan")
    log_loss: float = float("nan")


def balanced_weights(
    category_index: np.ndarray,
    weights: np.ndarray,
    gold_category_index: np.ndarray,
    categories: int,
    pseudo_rows: float,
) -> np.ndarray:
    """Weights float32 (n,) under which the training rows have the category shares of rows with gold labels.

    Their mean is 1, and no category's factor is under 1/5 or over 5.

    Args:
        category_index: int (n,) of the training rows.
        weights: float (n,), at least 0.
        gold_category_index: int (m,) of the validation rows; with few of them the training shares prevail.
        categories: Number of categories.
        pseudo_rows: The prior weight of the training shares, in rows.
    """
    mass = np.bincount(category_index, weights, minlength=categories)
    share = mass / max(mass.sum(), 1e-12)
    gold = np.bincount(gold_category_index, minlength=categories)
    target = (gold + pseudo_rows * share) / (gold.sum() + pseudo_rows)
    factor = np.clip(target / np.maximum(share, 1e-12), 0.2, 5.0)
    balanced = weights * factor[category_index]
    scaled: np.ndarray = balanced / max(balanced.mean(), 1e-12)
    return scaled.astype(np.float32)


def fit_linear_head(
    features: np.ndarray | PooledRows,
    category_index: np.ndarray,
    weights: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    categories: int,
    penalties: Sequence[float],
    start: LinearHead | None = None,
    frozen_categories: Sequence[int] | np.ndarray = (),
) -> LinearHead:
    """Multinomial logistic regression by L-BFGS, on features divided by their standard deviation.

    Unlike scikit-learn's it gives categories without a training row a low but finite logit, reads the features a block
    at a time (they may lie on disk), and can start from another head, from which the penalty then measures.

    Args:
        features: float32 (n, channels), the pooled features: an array, or what gives one for a slice.
        category_index: int (n,).
        weights: float32 (n,).
        validation: float32 (m, channels) and int (m,), features and categories; m may be 0, the last penalty is then
            taken.
        categories: Number of categories.
        penalties: L2 penalties from strong to weak, each fit starting from the one before.
        start: The head to start from.
        frozen_categories: int, categories that stay as the start has them.
    """
    frozen = np.asarray(frozen_categories, np.int64)
    centre, spread = _mean_and_spread(features)
    # The small constant keeps a feature that hardly ever fires from being blown up.
    spread += 0.1
    share = (weights / weights.sum()).astype(np.float32)
    shape = (features.shape[1] + 1, categories)
    prior = np.zeros(shape)
    if start is not None:
        prior[:-1] = start.kernel * spread[:, None]
        prior[-1] = start.bias + centre @ start.kernel

    def unscaled(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias over the features as they are."""
        both = flat.reshape(shape)
        kernel = both[:-1] / spread[:, None]
        return kernel, both[-1] - centre @ kernel

    def objective(flat: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        kernel, bias = (values.astype(np.float32) for values in unscaled(flat))
        loss, slope, total = 0.0, np.zeros((shape[0] - 1, categories)), np.zeros(categories)
        for begin in range(0, len(features), _BLOCK):
            block = np.asarray(features[begin : begin + _BLOCK])
            truth, counts = category_index[begin : begin + _BLOCK], share[begin : begin + _BLOCK]
            logarithms = log_softmax(block @ kernel + bias, axis=1)
            rows = np.arange(len(block))
            loss -= float(counts @ logarithms[rows, truth])
            difference = np.exp(logarithms)
            difference[rows, truth] -= 1.0
            difference *= counts[:, None]
            difference[:, frozen] = 0.0
            slope += block.T @ difference
            total += difference.sum(axis=0)
        gradient = np.concatenate([(slope - np.outer(centre, total)) / spread[:, None], total[None]])
        # A trace of penalty on the bias keeps categories without a row finite.
        strength = np.full((shape[0], 1), penalty)
        strength[-1] = 1e-4
        moved = flat.reshape(shape) - prior
        return loss + 0.5 * float((strength * moved**2).sum()), (gradient + strength * moved).ravel()

    flat = prior.ravel()
    best: LinearHead | None = None
    for penalty in penalties:
        flat = scipy.optimize.minimize(
            objective, flat, (penalty,), method="L-BFGS-B", jac=True, options={"maxiter": 60, "maxcor": 10}
        ).x
        kernel, bias = unscaled(flat)
        loss = float("nan")
        if len(validation[0]):
            logarithms = log_softmax(validation[0] @ kernel + bias, axis=1)
            loss = -float(logarithms[np.arange(len(logarithms)), validation[1]].mean())
        if best is None or not loss >= best.log_loss:
            best = LinearHead(kernel.astype(np.float32), bias.astype(np.float32), penalty, loss)
    assert best is not None, "there is at least one penalty"
    return best


def _mean_and_spread(features: np.ndarray | PooledRows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64 (channels,), in two passes over the blocks."""
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(features), _BLOCK)]
    count = max(len(features), 1)
    mean = sum(features[block].sum(axis=0, dtype=np.float64) for block in blocks) / count
    squares = sum(((features[block] - mean) ** 2).sum(axis=0, dtype=np.float64) for block in blocks)
    return mean, np.sqrt(squares / count)
