"""Metrics as plain functions of predictions and truth.

Everything returned is JSON as it is; None stands for a figure that does not exist (no row, nothing accepted).

A row without a prediction is an error in accuracy, F1, top-3 and top-5, is never accepted, and takes no part in log
loss and calibration.

scikit-learn's F1 is slower in the bootstrap; its log_loss warns of probabilities that sum to 1 in float32 only and
clips elsewhere, and its top_k_accuracy_score prefers the higher column of equals, unlike argmax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

CALIBRATION_BINS = 15
COVERAGE_POINTS = 50
SIMULATIONS = 1000
ENOUGH_ROWS = 30  # the F1 of a category with fewer rows is too noisy to be called the lowest
MIN_PROBABILITY = 1e-15  # keeps the log loss of a confident mistake finite

Metrics = dict[str, Any]


def compute_metrics(
    probabilities: np.ndarray,
    category_index: np.ndarray,
    prdtypecodes: Sequence[int],
    *,
    thresholds: Mapping[str, Mapping[str, float | None]] | None = None,
    answered: np.ndarray | None = None,
    seed: int = 0,
) -> Metrics:
    """Measures one set of probabilities against the truth.

    Args:
        probabilities: float (rows, categories); each answered row is between 0 and 1 and sums to 1.
        category_index: int (rows,), the true column, 0 to categories - 1.
        prdtypecodes: The code of each column.
        thresholds: Wanted precision as text ("0.95") to {"probability": from which a row is accepted, None for never}.
        answered: bool (rows,), whether there is a prediction; None: all.
        seed: Of the simulation behind "ece_calibrated".

    Returns:
        Ready for JSON: rows, unanswered, accuracy, weighted_f1, macro_f1 (over the categories that occur in the truth),
        lowest_category_f1 and lowest_category, the same over categories with at least 30 rows
        (lowest_category_f1_30_rows, lowest_category_30_rows), log_loss, ece, ece_calibrated, top3_accuracy,
        top5_accuracy, per_category, confusion_matrix (counts; row: truth, column: prediction), reliability, coverage,
        thresholds (share accepted and precision at each).

    Raises:
        ValueError: The arrays do not belong together.
    """
    probabilities, category_index, answered = _checked(probabilities, category_index, prdtypecodes, answered)
    rows = len(category_index)
    predicted = predicted_category_index(probabilities, answered)
    per_category, confusion = category_metrics(category_index, predicted, prdtypecodes)
    lowest, lowest_code = lowest_category(per_category)
    lowest_enough, lowest_enough_code = lowest_category(per_category, ENOUGH_ROWS)
    truth_rank = _rank_of_truth(probabilities, category_index, answered)
    confidence = probabilities[answered].max(axis=1, initial=0.0)
    correct = (predicted == category_index)[answered]
    reliability, ece, ece_calibrated = calibration(confidence, correct, seed=seed)
    return {
        "rows": rows,
        "unanswered": int(rows - answered.sum()),
        "accuracy": float(np.mean(predicted == category_index)) if rows else None,
        "weighted_f1": weighted_f1(category_index, predicted, len(prdtypecodes)) if rows else None,
        "macro_f1": _macro_f1(per_category),
        "lowest_category_f1": lowest,
        "lowest_category": lowest_code,
        "lowest_category_f1_30_rows": lowest_enough,
        "lowest_category_30_rows": lowest_enough_code,
        "log_loss": log_loss(probabilities[answered], category_index[answered]),
        "ece": ece,
        "ece_calibrated": ece_calibrated,
        "top3_accuracy": float(np.mean(truth_rank < 3)) if rows else None,
        "top5_accuracy": float(np.mean(truth_rank < 5)) if rows else None,
        "per_category": per_category,
        "confusion_matrix": confusion.tolist(),
        "reliability": reliability,
        "coverage": coverage(confidence, correct, rows),
        "thresholds": {
            wanted: accepted_at(confidence, correct, rows, threshold["probability"])
            for wanted, threshold in (thresholds or {}).items()
        },
    }


def predicted_category_index(probabilities: np.ndarray, answered: np.ndarray | None = None) -> np.ndarray:
    """Int (rows,): the most probable column, the first of equals; -1 where there is no prediction."""
    predicted = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, dtype=np.int64)
    return predicted if answered is None else np.where(answered, predicted, -1)


def category_metrics(
    category_index: np.ndarray, predicted: np.ndarray, prdtypecodes: Sequence[int]
) -> tuple[dict[str, dict[str, float | int]], np.ndarray]:
    """Precision, recall, F1 and support of each category, and the confusion matrix they come from.

    Args:
        category_index: int (rows,), true columns.
        predicted: int (rows,), predicted columns, -1 for none.
        prdtypecodes: The code of each column.

    Returns:
        {prdtypecode as text: {"precision", "recall", "f1", "support"}} with 0.0 where a denominator is empty (as
        scikit-learn does), and int (categories, categories): counts, row the truth, column the prediction.
    """
    confusion = _confusion(category_index, predicted, len(prdtypecodes))
    hits = np.diag(confusion)
    support = np.bincount(category_index, minlength=len(prdtypecodes))
    precision = _divide(hits, confusion.sum(axis=0))
    recall = _divide(hits, support)
    f1 = _divide(2 * hits, support + confusion.sum(axis=0))
    return {
        str(code): {
            "precision": float(precision[column]),
            "recall": float(recall[column]),
            "f1": float(f1[column]),
            "support": int(support[column]),
        }
        for column, code in enumerate(prdtypecodes)
    }, confusion


def weighted_f1(category_index: np.ndarray, predicted: np.ndarray, categories: int) -> float:
    """The mean F1 of the categories, each weighted with its share of the true rows (no rows: 0.0)."""
    support = np.bincount(category_index, minlength=categories)
    f1 = _f1_of_categories(category_index, predicted, categories)
    return float((f1 * support).sum() / max(len(category_index), 1))


def _f1_of_categories(category_index: np.ndarray, predicted: np.ndarray, categories: int) -> np.ndarray:
    confusion = _confusion(category_index, predicted, categories)
    support = np.bincount(category_index, minlength=categories)
    return _divide(2 * np.diag(confusion), support + confusion.sum(axis=0))


def lowest_category(
    per_category: Mapping[str, Mapping[str, float | int]], minimum_rows: int = 1
) -> tuple[float | None, int | None]:
    """The lowest F1 of the categories with at least `minimum_rows` true rows, and its code; None without any."""
    large = {int(code): values for code, values in per_category.items() if values["support"] >= minimum_rows}
    return min(((values["f1"], code) for code, values in large.items()), default=(None, None))


def log_loss(probabilities: np.ndarray, category_index: np.ndarray) -> float | None:
    """The mean of -ln(probability of the truth), in nats; None without rows."""
    if not len(category_index):
        return None
    of_truth = probabilities[np.arange(len(category_index)), category_index].astype(np.float64)
    return float(-np.log(np.clip(of_truth, MIN_PROBABILITY, 1.0)).mean())


def calibration(
    confidence: np.ndarray,
    correct: np.ndarray,
    *,
    bins: int = CALIBRATION_BINS,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> tuple[list[dict[str, float | int]], float | None, dict[str, float] | None]:
    """Expected calibration error over bins of equal mass, and that of a perfectly calibrated model.

    The rows are sorted by their top probability and divided into bins of equal size (Nguyen and O'Connor 2015,
    "Posterior calibration and exploratory analysis for natural language processing models"); the error is the mean over
    rows of |accuracy - mean confidence| of their bin. By chance alone it is above zero even for perfect calibration: so
    correctness is also drawn anew, with exactly the named probabilities, and the same error is taken of every draw.

    Args:
        confidence: float (rows,), the top probability, 0 to 1.
        correct: bool (rows,), whether the top category is the true one.
        bins: How many.
        simulations: How many draws.
        seed: Of the draws.

    Returns:
        A list of {"rows", "confidence" (mean), "accuracy", "calibrated_low", "calibrated_high" (the accuracies between
        which 95 % of the draws lie)}, the error, and {"low", "mean", "high"}: mean and 95 % band of the draws' errors.
        Without rows: an empty list, None, None.
    """
    rows = len(confidence)
    if not rows:
        return [], None, None
    order = np.argsort(confidence, kind="stable")
    confidence = np.asarray(confidence, dtype=np.float64)[order]
    correct = np.asarray(correct, dtype=np.float64)[order]
    sizes = np.array([len(part) for part in np.array_split(confidence, min(bins, rows))])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    mean_confidence = np.add.reduceat(confidence, starts) / sizes
    accuracy = np.add.reduceat(correct, starts) / sizes
    error = float(np.abs(accuracy - mean_confidence) @ sizes / rows)
    generator = np.random.default_rng(seed)
    drawn_accuracy = np.stack(
        [
            np.add.reduceat(generator.random(rows) < confidence, starts, dtype=np.float64) / sizes
            for _ in range(simulations)
        ]
    )
    drawn_errors = np.abs(drawn_accuracy - mean_confidence) @ sizes / rows
    bin_low, bin_high = np.quantile(drawn_accuracy, [0.025, 0.975], axis=0)
    low, high = np.quantile(drawn_errors, [0.025, 0.975])
    reliability = [
        {
            "rows": int(sizes[part]),
            "confidence": float(mean_confidence[part]),
            "accuracy": float(accuracy[part]),
            "calibrated_low": float(bin_low[part]),
            "calibrated_high": float(bin_high[part]),
        }
        for part in range(len(sizes))
    ]
    return reliability, error, {"low": float(low), "mean": float(drawn_errors.mean()), "high": float(high)}


def relative_to_band(value: float | None, band: Mapping[str, float] | None) -> str | None:
    """Whether a value is "within", "above" or "below" the band that perfect calibration would show."""
    if value is None or band is None:
        return None
    return "below" if value < band["low"] else "above" if value > band["high"] else "within"


def coverage(confidence: np.ndarray, correct: np.ndarray, rows: int, points: int = COVERAGE_POINTS) -> list[Metrics]:
    """Precision against share accepted: points as `accepted_at` gives them, by ascending share, equal thresholds once.

    Args:
        confidence: float (answered rows,), top probabilities.
        correct: bool (answered rows,).
        rows: Number of all rows, answered or not.
        points: Most thresholds, spread evenly over the shares.
    """
    if not len(confidence):
        return []
    falling = np.sort(confidence)[::-1]
    last_accepted = np.ceil(np.arange(1, points + 1) * len(falling) / points).astype(int) - 1
    thresholds = np.unique(falling[last_accepted])[::-1]
    return [accepted_at(confidence, correct, rows, float(threshold)) for threshold in thresholds]


def accepted_at(confidence: np.ndarray, correct: np.ndarray, rows: int, probability: float | None) -> Metrics:
    """{"probability", "rows" (accepted), "share_accepted", "precision" (None without any)} at a threshold.

    Args:
        confidence: float (answered rows,), top probabilities.
        correct: bool (answered rows,).
        rows: Number of all rows, answered or not.
        probability: The threshold, 0 to 1; None accepts nothing.
    """
    accepted = confidence >= (np.inf if probability is None else probability)
    count = int(accepted.sum())
    return {
        "probability": probability,
        "rows": count,
        "share_accepted": count / rows if rows else None,
        "precision": float(np.mean(correct[accepted])) if count else None,
    }


def paired_difference(
    category_index: np.ndarray,
    predicted: np.ndarray,
    other_predicted: np.ndarray,
    categories: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """{"difference", "low", "high"} of the weighted F1 of two sets of predictions, 95 % interval by paired bootstrap.

    Above zero means that the first is better.

    Args:
        category_index: int (rows,), true columns.
        predicted: int (rows,), -1 for none.
        other_predicted: int (rows,).
        categories: Number of columns.
        draws: How often the rows are drawn anew, with replacement, the same ones for both.
        seed: Of the draws.
    """

    def difference(chosen: np.ndarray) -> np.ndarray:
        truth = category_index[chosen]
        one, other = (weighted_f1(truth, each[chosen], categories) for each in (predicted, other_predicted))
        return np.array([one - other])

    return _bootstrap(difference, len(category_index), draws, seed)[0]


def paired_category_differences(
    category_index: np.ndarray,
    predicted: np.ndarray,
    other_predicted: np.ndarray,
    categories: int,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, float]]:
    """F1 of each category by one set of predictions minus another's; intervals as `paired_difference`."""

    def difference(chosen: np.ndarray) -> np.ndarray:
        truth = category_index[chosen]
        one, other = (_f1_of_categories(truth, each[chosen], categories) for each in (predicted, other_predicted))
        difference: np.ndarray = one - other
        return difference

    return _bootstrap(difference, len(category_index), draws, seed)


def _bootstrap(figures: Callable[[np.ndarray], np.ndarray], rows: int, draws: int, seed: int) -> list[dict[str, float]]:
    """Figures of all rows, each with its 95 % interval over rows drawn with replacement."""
    generator = np.random.default_rng(seed)
    drawn = np.stack([figures(generator.integers(0, rows, rows)) for _ in range(draws)])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return [
        {"difference": float(value), "low": float(least), "high": float(most)}
        for value, least, most in zip(figures(np.arange(rows)), low, high, strict=True)
    ]


def _checked(
    probabilities: np.ndarray, category_index: np.ndarray, prdtypecodes: Sequence[int], answered: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    category_index = np.asarray(category_index, dtype=np.int64)
    rows, categories = len(category_index), len(prdtypecodes)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    answered = np.ones(rows, dtype=bool) if answered is None else np.asarray(answered, dtype=bool)
    if probabilities.shape != (rows, categories) or answered.shape != (rows,):
        raise ValueError(
            f"probabilities are {probabilities.shape} and answered is {answered.shape} for {rows} true rows "
            f"and {categories} categories: expected ({rows}, {categories}) and ({rows},)"
        )
    if rows and not (category_index.min() >= 0 and category_index.max() < categories):
        raise ValueError(f"category_index must lie between 0 and {categories - 1}")
    if not np.isfinite(probabilities[answered]).all():
        raise ValueError("probabilities hold values that are not finite")
    return np.where(answered[:, None], probabilities, 0.0), category_index, answered


def _confusion(category_index: np.ndarray, predicted: np.ndarray, categories: int) -> np.ndarray:
    seen = predicted >= 0
    cells = category_index[seen] * categories + predicted[seen]
    return np.bincount(cells, minlength=categories * categories).reshape(categories, categories)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)
    return quotient


def _macro_f1(per_category: Mapping[str, Mapping[str, float | int]]) -> float | None:
    occurring = [values["f1"] for values in per_category.values() if values["support"]]
    return float(np.mean(occurring)) if occurring else None


def _rank_of_truth(probabilities: np.ndarray, category_index: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Int (rows,): how many categories rank before the true one; past the last without a prediction."""
    rows, categories = probabilities.shape
    of_truth = probabilities[np.arange(rows), category_index][:, None]
    # Of equal probabilities the lower column ranks first, as argmax has it.
    lower_column = np.arange(categories) < category_index[:, None]
    before = (probabilities > of_truth) | ((probabilities == of_truth) & lower_column)
    ranks: np.ndarray = np.where(answered, before.sum(axis=1), categories + 5)
    return ranks
