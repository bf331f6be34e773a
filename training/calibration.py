"""Temperatures and review thresholds, both fitted on validation rows that no model was trained on."""

from __future__ import annotations

import numpy
from scipy.optimize import minimize_scalar

# The wanted precisions that a bundle carries a threshold for.
PRECISIONS = (0.90, 0.95, 0.98, 0.99)
# Below this many accepted rows a measured precision says next to nothing.
LEAST_ACCEPTED_ROWS = 20


def fit_temperature(logits: numpy.ndarray, category_index: numpy.ndarray) -> float:
    """The temperature that makes the true categories most likely.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2.

    Args:
        logits: float32 (n, categories), of rows the model was not trained on.
        category_index: int (n,), the true output columns.

    Returns:
        0.05 to 20; 1.0 if there are no rows.
    """
    if len(logits) == 0:
        return 1.0
    logits = logits.astype(numpy.float64)
    true = logits[numpy.arange(len(logits)), category_index]

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / numpy.exp(log_temperature)
        highest = scaled.max(axis=1)
        log_sum = highest + numpy.log(numpy.exp(scaled - highest[:, None]).sum(axis=1))
        return float((log_sum - true / numpy.exp(log_temperature)).mean())

    limits = (numpy.log(0.05), numpy.log(20.0))
    return float(numpy.exp(minimize_scalar(negative_log_likelihood, bounds=limits, method="bounded").x))


def find_thresholds(
    probabilities: numpy.ndarray, category_index: numpy.ndarray
) -> dict[str, dict[str, float | None]]:
    """For each wanted precision, the lowest probability from which on answers reach it.

    Args:
        probabilities: float32 (n, categories), calibrated, of rows no model was trained on.
        category_index: int (n,), the true output columns.

    Returns:
        By precision ("0.90", ...): {"probability": the threshold, or None if no threshold with at least 20 accepted
        rows reaches the precision; "share_accepted": of the n rows, 0 to 1}.
    """
    confidence = probabilities.max(axis=1) if len(probabilities) else numpy.zeros(0)
    correct = probabilities.argmax(axis=1) == category_index if len(probabilities) else numpy.zeros(0, bool)
    order = numpy.argsort(-confidence, kind="stable")
    precision = numpy.cumsum(correct[order]) / numpy.arange(1, len(order) + 1)
    # Rows with equal confidence are accepted together, so only the last of them is a possible cut.
    cut = numpy.append(numpy.diff(confidence[order]) != 0, True)[: len(order)]
    cut[: LEAST_ACCEPTED_ROWS - 1] = False
    thresholds: dict[str, dict[str, float | None]] = {}
    for wanted in PRECISIONS:
        reached = numpy.flatnonzero(cut & (precision >= wanted))
        if len(reached):
            last = int(reached[-1])
            values = {
                "probability": float(confidence[order][last]),
                "share_accepted": (last + 1) / len(order),
            }
        else:
            values = {"probability": None, "share_accepted": 0.0}
        thresholds[f"{wanted:.2f}"] = values
    return thresholds
