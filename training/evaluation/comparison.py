"""Two bundles compared on the same rows: which is better, by how much, and which categories got worse.

The two may know different categories. Columns are then those of both; a row whose category one of them does not know
counts as wrong for it. Differences are the first minus the second, with 95 % intervals by paired bootstrap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rakuten_models.product import Category, Prediction
from training.metrics import (
    Metrics,
    category_metrics,
    compute_metrics,
    paired_category_differences,
    paired_difference,
    predicted_category_index,
)

# What each section is measured on: the predictions' attribute, and the modalities a row must have.
_SECTIONS = {
    "text": ("text_probabilities", ("text",)),
    "image": ("image_probabilities", ("image",)),
    "fusion": ("probabilities", ("text", "image")),
    "served": ("probabilities", ()),
}

_FIGURES = ("accuracy", "weighted_f1", "macro_f1", "log_loss", "ece", "top3_accuracy")
_TABLE_FIGURES = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "ece": "ECE"}


def joined_categories(first: Sequence[Category], second: Sequence[Category]) -> tuple[Category, ...]:
    """The first's categories in their columns, then those that only the second knows."""
    known = {category.prdtypecode for category in first}
    columns = [*first, *(category for category in second if category.prdtypecode not in known)]
    return tuple(dataclasses.replace(category, index=index) for index, category in enumerate(columns))


def compare_predictions(
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    category_index: np.ndarray,
    categories: Sequence[Category],
) -> dict[str, Metrics]:
    """Compare two bundles' predictions of the same rows.

    Args:
        first: One a row.
        second: The same rows.
        category_index: int (rows,), the true columns.
        categories: From `joined_categories`.

    Returns:
        By section ("text", "image", "fusion", "served"), on the rows that have what it needs for both: "rows";
        "first" and "second", each with accuracy, weighted_f1, macro_f1, log_loss, ece and top3_accuracy;
        "difference" of the weighted F1 with its interval (None without rows). And "categories": for every category
        that occurs, of the served predictions, its rows, both F1 and their difference with interval; "worse": the codes
        of those whose F1 fell, the largest fall first; "surely_worse": those whose whole interval is below zero.
    """
    category_index = np.asarray(category_index, np.int64)
    codes = [category.prdtypecode for category in categories]
    present = [_present(each) for each in (first, second)]
    found: dict[str, Metrics] = {}
    predicted: list[np.ndarray] = []
    for name, (attribute, needed) in _SECTIONS.items():
        has = np.ones(len(category_index), bool)
        for each in present:
            for modality in needed:
                has &= each[modality]
        rows, truth = np.flatnonzero(has), category_index[has]
        section: Metrics = {"rows": len(rows)}
        predicted = []
        for label, predictions in (("first", first), ("second", second)):
            probabilities, answered = _probabilities(predictions, rows, attribute, codes)
            figures = compute_metrics(probabilities, truth, codes, answered=answered)
            section[label] = {figure: figures[figure] for figure in _FIGURES}
            predicted.append(predicted_category_index(probabilities, answered))
        one, other = predicted
        section["difference"] = paired_difference(truth, one, other, len(codes)) if len(rows) else None
        found[name] = section
    # Of the last section, which is the served one.
    return found | _by_category(category_index, predicted, codes)


def _by_category(truth: np.ndarray, predicted: Sequence[np.ndarray], codes: Sequence[int]) -> Metrics:
    """The served predictions, category by category; see `compare_predictions`."""
    support = np.bincount(truth, minlength=len(codes))
    first, second = (category_metrics(truth, each, codes)[0] for each in predicted)
    one, other = predicted
    differences = paired_category_differences(truth, one, other, len(codes)) if len(truth) else []
    table: dict[str, Metrics] = {
        str(code): {
            "rows": int(support[column]),
            "first_f1": first[str(code)]["f1"],
            "second_f1": second[str(code)]["f1"],
            **differences[column],
        }
        for column, code in enumerate(codes)
        if support[column]
    }
    fallen = sorted(
        (code for code, values in table.items() if values["difference"] < 0), key=lambda code: table[code]["difference"]
    )
    return {
        "categories": table,
        "worse": [int(code) for code in fallen],
        "surely_worse": [int(code) for code in fallen if table[code]["high"] < 0],
    }


def comparison_text(found: Mapping[str, Any], categories: Sequence[Category]) -> str:
    """The comparison as tables for a terminal."""
    lines = [f"first: {found['bundle']}", f"second: {found['compared_with']}", ""]
    head = f"{'':8}{'rows':>8}" + "".join(f"{title:>22}" for title in _TABLE_FIGURES.values())
    lines += [head, "-" * len(head)]
    for name in _SECTIONS:
        section = found[name]
        cells = [
            f"{_figure(section['first'][figure])} / {_figure(section['second'][figure])}" for figure in _TABLE_FIGURES
        ]
        lines.append(f"{name:8}{section['rows']:>8,}" + "".join(f"{cell:>22}" for cell in cells))
    lines.append("")
    for name in _SECTIONS:
        difference = found[name]["difference"]
        if difference:
            lines.append(
                f"{name}: first minus second {difference['difference']:+.3f} weighted F1, 95 % interval "
                f"{difference['low']:+.3f} to {difference['high']:+.3f} ({_verdict(difference)})"
            )
    names = {category.prdtypecode: category.name("en") for category in categories}
    lines.append("")
    if not found["worse"]:
        lines.append("No category is worse by the first than by the second (F1 of the served answers).")
    else:
        lines.append("Worse by the first (F1 of the served answers; * the whole 95 % interval is below zero):")
    for code in found["worse"]:
        values = found["categories"][str(code)]
        mark = "*" if code in found["surely_worse"] else " "
        lines.append(
            f"{mark} {code:>5}  {values['second_f1']:.3f} -> {values['first_f1']:.3f}  {values['difference']:+.3f} "
            f"({values['low']:+.3f} to {values['high']:+.3f})  {values['rows']:,} rows  {names[code]}"
        )
    return "\n".join(lines)


def _present(predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    return {
        name: np.array([getattr(each, f"{name}_probabilities") is not None for each in predictions], bool)
        for name in ("text", "image")
    }


def _probabilities(
    predictions: Sequence[Prediction], rows: np.ndarray, attribute: str, codes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (rows, codes), 0 for categories that the bundle does not know; bool (rows,): there is a prediction."""
    column = {code: index for index, code in enumerate(codes)}
    probabilities = np.zeros((len(rows), len(codes)))
    answered = np.zeros(len(rows), bool)
    for number, row in enumerate(rows):
        values = getattr(predictions[row], attribute)
        if values is not None:
            known = [column[category.prdtypecode] for category in predictions[row].categories]
            probabilities[number, known] = values
            answered[number] = True
    return probabilities, answered


def _verdict(difference: Mapping[str, float]) -> str:
    if difference["low"] > 0:
        return "the first is better"
    return "the second is better" if difference["high"] < 0 else "no difference that these rows could show"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
