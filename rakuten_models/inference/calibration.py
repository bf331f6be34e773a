"""Logits to calibrated probabilities: the one place where calibration is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Standard deviation of logits below which they count as equal.
_MIN_SPREAD = 1e-6


@dataclass(frozen=True)
class Calibration:
    """How one model's logits become probabilities; see `calibrate`.

    Attributes:
        temperature: Of a sure answer whose logits have the standard deviation 1; above 1 softens, below 1 sharpens.
        confidence_power: Above 0, doubtful answers are softened less than sure ones.
        spread_power: Above 0, answers with little behind them are softened less than others; below 0, more.
        category_temperatures: By output column; () if all are 1.
    """

    temperature: float = 1.0
    confidence_power: float = 0.0
    spread_power: float = 0.0
    category_temperatures: tuple[float, ...] = ()


def calibrate(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Softmax of logits / (temperature * p ** confidence_power * s ** spread_power * t).

    p is the row's top probability before calibration; s the standard deviation of its logits, which grows with what
    a model knows of a product; t its top category's own temperature. With both powers 0 and without t it is
    temperature scaling (Guo et al. 2017, "On Calibration of Modern Neural Networks"); otherwise each answer gets a
    temperature of its own, as in Balanya et al. 2022, "Adaptive Temperature Scaling for Robust Calibration of Deep
    Neural Networks". No answer's order of categories changes.

    Args:
        logits: float32 (n, categories), as a model gives them.
        calibration: The model's.

    Returns:
        float32 (n, categories), rows sum to 1.
    """
    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    powers = calibration.confidence_power, calibration.spread_power
    log_temperature = np.log(calibration.temperature) + calibration_features(centred) @ powers
    if calibration.category_temperatures:
        log_temperature += np.log(calibration.category_temperatures)[centred.argmax(axis=1)]
    exponentials = np.exp(centred * np.exp(-log_temperature)[:, np.newaxis])
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32)


def calibration_features(centred: np.ndarray) -> np.ndarray:
    """What a temperature may follow: float64 (n, 2), the logarithms of top probability and of standard deviation.

    Args:
        centred: float64 (n, categories), logits less the highest of their row.
    """
    # The top category's own exponential is 1, so its probability is 1 / sum.
    confidence = -np.log(np.exp(centred).sum(axis=1))
    # Logits that are all equal have no spread, and no temperature changes what they say.
    spread = np.log(np.maximum(centred.std(axis=1), _MIN_SPREAD))
    return np.stack([confidence, spread], axis=1)
