"""The benchmark's tables and sentences in Markdown, from each method's answers on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.calibration import find_thresholds
from training.metrics import (
    Metrics,
    accepted_at,
    compute_metrics,
    paired_difference,
    predicted_category_index,
    relative_to_band,
)

DRAWS = 2000

PRECISION = "0.95"

COLUMNS = (
    "method",
    "weighted F1",
    "macro F1",
    "lowest category (30 rows or more)",
    "ECE (band of perfect calibration)",
    "accepted at 95 %, cut chosen here",
    "accepted at the stored threshold (precision)",
    "MB",
    "training s",
    "products/s",
    "our lead in weighted F1 (95 % interval)",
)


@dataclass(frozen=True)
class MethodResult:
    """What one method said of the rows.

    Attributes:
        probabilities: float (rows, categories).
        megabytes: how large it is when stored.
        training_seconds: None where that is not known.
        products_a_second: how fast it answered.
        threshold: the probability from which it accepts without review; None where it carries none or never accepts.
    """

    probabilities: np.ndarray
    megabytes: float
    training_seconds: float | None
    products_a_second: float
    threshold: float | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The most probable columns, int (rows,)."""
        return predicted_category_index(self.probabilities)


def section_metrics(
    answers: Mapping[str, MethodResult], ours: str, truth: np.ndarray, codes: Sequence[int]
) -> dict[str, Metrics]:
    """Measures every method on the same rows.

    Args:
        answers: by method.
        ours: the method that the others are compared with.
        truth: int (rows,), the true columns.
        codes: the code of each column.

    Returns:
        By method the headline figures; "lead" is by how much `ours` is above it in weighted F1.
    """
    found = {}
    for name, answer in answers.items():
        values = compute_metrics(answer.probabilities, truth, codes)
        confidence = answer.probabilities.max(axis=1)
        correct = answer.predicted == truth
        figures = ("rows", "weighted_f1", "macro_f1", "lowest_category_f1_30_rows", "lowest_category_30_rows")
        found[name] = {key: values[key] for key in (*figures, "ece", "ece_calibrated")} | {
            # The cut is chosen on the very rows: kind to every method, and alike.
            "accepted_cut_chosen_here": find_thresholds(answer.probabilities, truth)[PRECISION][
                "share_accepted"
            ],
            "accepted_at_stored_threshold": None
            if answer.threshold is None
            else accepted_at(confidence, correct, len(truth), answer.threshold),
            "megabytes": answer.megabytes,
            "training_seconds": answer.training_seconds,
            "products_a_second": answer.products_a_second,
            "lead": None
            if name == ours
            else paired_difference(truth, answers[ours].predicted, answer.predicted, len(codes), draws=DRAWS),
        }
    return found


def format_section(title: str, found: Mapping[str, Metrics]) -> list[str]:
    """Returns the lines of a heading and a table with one line for each method."""
    rows = next(iter(found.values()))["rows"]
    lines = [f"### {title}: {rows:,} rows", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for name, values in found.items():
        stored = values["accepted_at_stored_threshold"]
        seconds = values["training_seconds"]
        lines.append(
            _line(
                (
                    name,
                    f"{values['weighted_f1']:.3f}",
                    f"{values['macro_f1']:.3f}",
                    _lowest(values),
                    _ece(values),
                    f"{values['accepted_cut_chosen_here']:.1%}",
                    "" if stored is None else f"{stored['share_accepted']:.1%} ({_precision(stored)})",
                    f"{values['megabytes']:.1f}",
                    "" if seconds is None else f"{seconds:,.0f}",
                    f"{values['products_a_second']:,.0f}",
                    "" if values["lead"] is None else _interval(values["lead"]),
                )
            )
        )
    return [*lines, ""]


def format_lead(kind: str, others: Mapping[str, Metrics]) -> str:
    """Returns one sentence: how far ours is above the best of these others, and whether that can be chance."""
    best = max(others, key=lambda name: others[name]["weighted_f1"])
    lead = others[best]["lead"]
    place = "above" if lead["difference"] > 0 else "not above"
    zero = "holds" if lead["low"] <= 0 <= lead["high"] else "leaves out"
    return (
        f"Ours is {place} the best {kind} of this run ({best}): {_interval(lead)} weighted F1 on the same "
        f"{others[best]['rows']:,} rows; the interval {zero} zero."
    )


def format_confusions(found: Mapping[str, Sequence[Metrics]]) -> list[str]:
    """Returns the lines of a table of known confusions by method; none without groups."""
    groups = next(iter(found.values()))
    if not groups:
        return []
    head = [cell for name in found for cell in (f"confused, {name}", f"F1, {name}")]
    lines = [
        "### Known confusions",
        "",
        "Confused: the share of a group's rows that is answered by another category of the group.",
        "",
        _line(["categories", "rows", *head]),
        _line(["---"] * (len(head) + 2)),
    ]
    for number, group in enumerate(groups):
        cells = [", ".join(map(str, group["prdtypecodes"])), f"{group['rows']:,}"]
        for of_method in found.values():
            share = of_method[number]["confused_share"]
            cells.append("" if share is None else f"{share:.1%}")
            cells.append(", ".join(f"{f1:.3f}" for f1 in of_method[number]["f1"].values()))
        lines.append(_line(cells))
    return [*lines, ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lowest(values: Metrics) -> str:
    if values["lowest_category_30_rows"] is None:
        return ""
    return f"{values['lowest_category_30_rows']}: {values['lowest_category_f1_30_rows']:.2f}"


def _ece(values: Metrics) -> str:
    band = values["ece_calibrated"]
    place = relative_to_band(values["ece"], band)
    return f"{values['ece']:.3f} ({place} {band['low']:.3f} to {band['high']:.3f})"


def _precision(stored: Metrics) -> str:
    return "nothing accepted" if stored["precision"] is None else f"{stored['precision']:.1%}"


def _interval(lead: Metrics) -> str:
    return f"{lead['difference']:+.3f} ({lead['low']:+.3f} to {lead['high']:+.3f})"
