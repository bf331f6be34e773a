"""The benchmark's tables and sentences in Markdown, from each method's answers on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.report import table
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
_COPIED = (
    "rows", "weighted_f1", "macro_f1", "lowest_category_f1_30_rows", "lowest_category_30_rows", "ece",
    "ece_calibrated",
)  # fmt: skip


@dataclass(frozen=True)
class MethodResult:
    """What one method said of the rows, how large it is when stored, and how fast.

    Attributes:
        probabilities: float (rows, categories).
        training_seconds: None where that is not known.
        threshold: The probability from which it accepts without review; None where it carries none or never accepts.
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
    """By method the headline figures, all on the same rows; "lead" is by how much `ours` is above it in weighted F1.

    `truth`: int (rows,), the true columns; `codes`: the code of each column.
    """
    found = {}
    for name, answer in answers.items():
        values = compute_metrics(answer.probabilities, truth, codes)
        # The cut is chosen on the very rows: kind to every method, and alike.
        chosen_here = find_thresholds(answer.probabilities, truth)[PRECISION]["share_accepted"]
        stored = lead = None
        if answer.threshold is not None:
            confidence, correct = answer.probabilities.max(axis=1), answer.predicted == truth
            stored = accepted_at(confidence, correct, len(truth), answer.threshold)
        if name != ours:
            ours_predicted = answers[ours].predicted
            lead = paired_difference(truth, ours_predicted, answer.predicted, len(codes), draws=DRAWS)
        found[name] = {key: values[key] for key in _COPIED} | {
            "accepted_cut_chosen_here": chosen_here,
            "accepted_at_stored_threshold": stored,
            "megabytes": answer.megabytes,
            "training_seconds": answer.training_seconds,
            "products_a_second": answer.products_a_second,
            "lead": lead,
        }
    return found


def format_section(title: str, found: Mapping[str, Metrics]) -> list[str]:
    """The lines of a heading and a table with one line for each method."""
    rows = next(iter(found.values()))["rows"]
    cells = [_cells(name, values) for name, values in found.items()]
    return [f"### {title}: {rows:,} rows", "", *table(cells[0], (line.values() for line in cells)), ""]


def _cells(name: str, values: Metrics) -> dict[str, str]:
    """A method's line, by column."""
    lowest, ece, band = values["lowest_category_30_rows"], values["ece"], values["ece_calibrated"]
    stored, seconds, lead = (values[key] for key in ("accepted_at_stored_threshold", "training_seconds", "lead"))
    accepted = ""
    if stored is not None:
        precision = "nothing accepted" if stored["precision"] is None else f"{stored['precision']:.1%}"
        accepted = f"{stored['share_accepted']:.1%} ({precision})"
    return {
        "method": name,
        "weighted F1": f"{values['weighted_f1']:.3f}",
        "macro F1": f"{values['macro_f1']:.3f}",
        "lowest category (30 rows or more)": (
            "" if lowest is None else f"{lowest}: {values['lowest_category_f1_30_rows']:.2f}"
        ),
        "ECE (band of perfect calibration)": (
            f"{ece:.3f} ({relative_to_band(ece, band)} {band['low']:.3f} to {band['high']:.3f})"
        ),
        "accepted at 95 %, cut chosen here": f"{values['accepted_cut_chosen_here']:.1%}",
        "accepted at the stored threshold (precision)": accepted,
        "MB": f"{values['megabytes']:.1f}",
        "training s": "" if seconds is None else f"{seconds:,.0f}",
        "products/s": f"{values['products_a_second']:,.0f}",
        "our lead in weighted F1 (95 % interval)": "" if lead is None else format_interval(lead),
    }


def format_lead(kind: str, others: Mapping[str, Metrics]) -> str:
    """One sentence: how far ours is above the best of these others, and whether that can be chance."""
    best = max(others, key=lambda name: others[name]["weighted_f1"])
    lead = others[best]["lead"]
    above = "above" if lead["difference"] > 0 else "not above"
    zero = "holds" if lead["low"] <= 0 <= lead["high"] else "leaves out"
    return (
        f"Ours is {above} the best {kind} of this run ({best}): {format_interval(lead)} weighted F1 on the same "
        f"{others[best]['rows']:,} rows; the interval {zero} zero."
    )


def format_confusions(found: Mapping[str, Sequence[Metrics]]) -> list[str]:
    """The lines of a table of known confusions by method; none without groups."""
    groups = next(iter(found.values()))
    if not groups:
        return []
    head = [cell for name in found for cell in (f"confused, {name}", f"F1, {name}")]
    rows = []
    for number, group in enumerate(groups):
        row = [", ".join(map(str, group["prdtypecodes"])), f"{group['rows']:,}"]
        for of_method in found.values():
            share, f1 = of_method[number]["confused_share"], of_method[number]["f1"].values()
            row += ["" if share is None else f"{share:.1%}", ", ".join(map("{:.3f}".format, f1))]
        rows.append(row)
    return [
        "### Known confusions",
        "",
        "Confused: the share of a group's rows that is answered by another category of the group.",
        "",
        *table(["categories", "rows", *head], rows),
        "",
    ]


def format_interval(lead: Metrics, digits: int = 3) -> str:
    """As in "+0.003 (-0.006 to +0.011)"."""
    difference, low, high = (f"{lead[name]:+.{digits}f}" for name in ("difference", "low", "high"))
    return f"{difference} ({low} to {high})"
