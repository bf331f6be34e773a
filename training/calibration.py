"""Calibration, offsets and review thresholds, all fitted on rows that no model was trained on."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binomtest

from rakuten_models.inference.calibration import Calibration, calibration_features

# The wanted precisions that a bundle carries a threshold for.
PRECISIONS = (0.90, 0.95, 0.98, 0.99)

# Below this many accepted rows a measured precision says next to nothing.
MIN_ACCEPTED_ROWS = 20

# How far temperature, powers and the categories' temperatures may go; the first and the last in logarithms.
_TEMPERATURE_LIMITS, _POWER_LIMITS, _CATEGORY_LIMITS = (-3.0, 3.0), (-1.5, 1.5), (-1.0, 1.0)

# Widths of the Gaussian priors that hold powers and categories' log temperatures near 0 where rows are few.
_POWER_WIDTH, _CATEGORY_WIDTH = 0.3, 0.2

# Precision of the Gaussian prior on the categories' offsets, for each row.
_OFFSET_PENALTY = 1e-4


def fit_calibration(logits: np.ndarray, category_index: np.ndarray) -> Calibration:
    """The calibration that makes the true categories most likely; `Calibration()` without rows.

    Args:
        logits: float32 (n, categories), of rows the model was not trained on.
        category_index: int (n,), the true output columns.

    Returns:
        A temperature of 0.05 to 20, powers of -1.5 to 1.5 and category temperatures of 0.37 to 2.7.
    """
    count, categories = logits.shape
    if count == 0:
        return Calibration()
    rows, top = np.arange(count), logits.argmax(axis=1)
    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    features = calibration_features(centred)
    precision = np.repeat([0.0, _POWER_WIDTH**-2, _CATEGORY_WIDTH**-2], [1, 2, categories])

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        log_temperature = numbers[0] + features @ numbers[1:3] + numbers[3:][top]
        scaled = centred * np.exp(-log_temperature)[:, np.newaxis]
        logarithms = log_softmax(scaled, axis=1)
        error = np.exp(logarithms)
        error[rows, category_index] -= 1
        by_row = -(error * scaled).sum(axis=1)
        gradient = np.concatenate([[by_row.sum()], by_row @ features, np.bincount(top, by_row, categories)])
        value = 0.5 * (precision * numbers**2).sum() - logarithms[rows, category_index].sum()
        return float(value), gradient + precision * numbers

    limits = [_TEMPERATURE_LIMITS, _POWER_LIMITS, _POWER_LIMITS, *[_CATEGORY_LIMITS] * categories]
    found = minimize(loss, np.zeros(len(limits)), jac=True, bounds=limits, method="L-BFGS-B").x
    temperatures = tuple(float(value) for value in np.exp(found[3:]))
    return Calibration(float(np.exp(found[0])), float(found[1]), float(found[2]), temperatures)


def fit_offsets(logits: np.ndarray, category_index: np.ndarray) -> np.ndarray:
    """Offsets of the logits, float32 (categories,), mean 0, that correct the shares of the categories; 0 without rows.

    Training rows have labels of several origins and may have other shares than rows with gold labels. (The bias part of
    vector scaling, Guo et al. 2017, section 4.2.)

    Args:
        logits: float32 (n, categories), of rows the model was not trained on.
        category_index: int (n,), the true output columns.
    """
    count, categories = logits.shape
    if count == 0:
        return np.zeros(categories, np.float32)
    logits = logits.astype(np.float64)
    true = np.eye(categories)[category_index]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        scale, offsets = np.exp(numbers[0]), numbers[1:]
        logarithms = log_softmax(scale * logits + offsets, axis=1)
        error = (np.exp(logarithms) - true) / count
        penalty = _OFFSET_PENALTY * (offsets**2).sum()
        gradient = np.append((error * logits).sum() * scale, error.sum(axis=0) + 2 * _OFFSET_PENALTY * offsets)
        return float(-(true * logarithms).sum() / count + penalty), gradient

    found = minimize(loss, np.zeros(categories + 1), jac=True, method="L-BFGS-B").x
    offsets = found[1:] / np.exp(found[0])
    centred: np.ndarray = offsets - offsets.mean()
    return centred.astype(np.float32)


def fit_temperature(logits: np.ndarray, category_index: np.ndarray) -> float:
    """The temperature, 0.05 to 20, that makes the true categories most likely; 1.0 without rows.

    Args:
        logits: float32 (n, categories), of rows the model was not trained on.
        category_index: int (n,), the true output columns.
    """
    if len(logits) == 0:
        return 1.0
    logits = logits.astype(np.float64)
    true = logits[np.arange(len(logits)), category_index]

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        highest = scaled.max(axis=1)
        log_sum = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((log_sum - true / np.exp(log_temperature)).mean())

    limits = (np.log(0.05), np.log(20.0))
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=limits, method="bounded").x))


def find_thresholds(probabilities: np.ndarray, category_index: np.ndarray) -> dict[str, dict[str, float | None]]:
    """For each wanted precision, the lowest probability from which on predictions reach it.

    Args:
        probabilities: float32 (n, categories), calibrated, of rows no model was trained on.
        category_index: int (n,), the true output columns.

    Returns:
        By precision ("0.90", ...): {"probability": the threshold, None if none with at least 20 accepted rows reaches
        the precision; "share_accepted": of the n rows, 0 to 1; "precision_low": the lower end of the 95 % interval
        (Wilson 1927) of the accepted rows' precision, None without a threshold}.
    """
    confidence = probabilities.max(axis=1) if len(probabilities) else np.zeros(0)
    correct = probabilities.argmax(axis=1) == category_index if len(probabilities) else np.zeros(0, bool)
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    # Rows with equal confidence are accepted together, so only the last of them can be the last accepted.
    can_be_last = np.append(np.diff(confidence[order]) != 0, True)[: len(order)]
    can_be_last[: MIN_ACCEPTED_ROWS - 1] = False
    thresholds: dict[str, dict[str, float | None]] = {}
    for wanted in PRECISIONS:
        reached = np.flatnonzero(can_be_last & (precision >= wanted))
        found: dict[str, float | None] = {"probability": None, "share_accepted": 0.0, "precision_low": None}
        if len(reached):
            accepted = int(reached[-1]) + 1
            right = binomtest(int(correct[order][:accepted].sum()), accepted)
            found = {
                "probability": float(confidence[order][accepted - 1]),
                "share_accepted": accepted / len(order),
                "precision_low": float(right.proportion_ci(0.95, method="wilson").low),
            }
        thresholds[f"{wanted:.2f}"] = found
    return thresholds
