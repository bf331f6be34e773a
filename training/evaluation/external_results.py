"""Figures of other runs, read from files and checked, for an evaluation to put into metrics.json and the card.

- what each step brought: a JSON list of rows, `[{"step": "words", "weighted F1": 0.79}, ...]`;
- the same recipe under other splits: the metrics.json of bundles that were measured on their own test part;
- what a plain method did before: the JSON file that `python -m benchmarks.quality --output` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import ExternalResultError
from training.evaluation.plots import SECTIONS
from training.metrics import Metrics

SPLIT_FIGURES = ("rows", "accuracy", "weighted_f1", "macro_f1", "lowest_category_f1_30_rows", "ece")


def read_ablation(path: Path) -> list[dict[str, Any]]:
    """Reads what each step brought: rows with the same keys in the same order; values are texts, numbers or None.

    Raises:
        ExternalResultError: The file holds something else.
    """
    expected = 'expected a list of rows such as [{"step": "words", "weighted F1": 0.79}]'
    rows = _read_json(path, expected)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row for row in rows):
        raise ExternalResultError("evaluation.ablation_no_rows", path=path, expected=expected)
    for number, row in enumerate(rows, 1):
        if list(row) != list(rows[0]):
            columns, first = ", ".join(row), ", ".join(rows[0])
            raise ExternalResultError(
                "evaluation.ablation_columns", path=path, row=number, columns=columns, first=first
            )
        for column, value in row.items():
            if value is not None and not isinstance(value, (str, int, float)):
                kind = type(value).__name__
                raise ExternalResultError("evaluation.ablation_value", path=path, row=number, kind=kind, column=column)
    return rows


def read_split_metrics(paths: Sequence[Path]) -> list[Metrics]:
    """Reads {"split", "catalog", and by section the SPLIT_FIGURES} of the same recipe under other splits.

    Args:
        paths: metrics.json files of bundles that were measured on the test part of their own catalog.

    Raises:
        ExternalResultError: A file is no metrics.json, or was measured on another catalog than the bundle's own.
    """
    found = []
    for path in paths:
        expected = "expected the metrics.json of an evaluated bundle"
        metrics = _read_json(path, expected)
        if not isinstance(metrics, dict) or not all(
            isinstance(metrics.get(name), dict) and all(key in metrics[name] for key in SPLIT_FIGURES)
            for name in SECTIONS
        ):
            raise ExternalResultError("evaluation.no_figures", path=path, expected=expected)
        split = metrics.get("split", "")
        if not split.endswith("split, test part"):
            raise ExternalResultError("evaluation.other_split", path=path, split=split or "an unknown split")
        sections = {name: {key: metrics[name][key] for key in SPLIT_FIGURES} for name in SECTIONS}
        found.append({"split": split, "catalog": metrics.get("catalog"), **sections})
    return found


def read_before(path: Path) -> Metrics:
    """Reads {"method", "known_confusions"} of a plain method; see `known_confusions`.

    Raises:
        ExternalResultError: The file holds something else.
    """
    expected = "expected the JSON file that `python -m benchmarks.quality --output` writes"
    benchmark = _read_json(path, expected)
    before = benchmark.get("before") if isinstance(benchmark, dict) else None
    try:
        if not isinstance(before, dict):
            raise TypeError("no object")
        groups = [
            {key: group[key] for key in ("prdtypecodes", "rows", "confused_share", "f1")}
            for group in before["known_confusions"]
        ]
        return {"method": str(before["method"]), "known_confusions": groups}
    except (KeyError, TypeError) as error:
        raise ExternalResultError("evaluation.no_method_before", path=path, expected=expected) from error


def check_same_rows(before: Mapping[str, Any], measured: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a plain method's known confusions that were measured on other rows than this evaluation's.

    Raises:
        ExternalResultError: The groups or the numbers of their rows differ.
    """
    one, other = (
        [(group["prdtypecodes"], group["rows"]) for group in groups]
        for groups in (before["known_confusions"], measured)
    )
    if one != other:
        raise ExternalResultError("evaluation.other_rows", method=before["method"])


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number that JSON knows")


def _read_json(path: Path, expected: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError as error:
        raise ExternalResultError("evaluation.file_missing", path=path, expected=expected) from error
    except ValueError as error:
        raise ExternalResultError("evaluation.no_json", path=path, reason=str(error), expected=expected) from error
