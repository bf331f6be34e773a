"""Compares a scored catalog with its labels, and writes corrections as a labels file for training."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.batch.output import read_state
from rakuten_models.batch.scorer import last_prefix
from rakuten_models.batch.settings import CHUNK_ROWS
from rakuten_models.catalog.columns import INDEX_NAMES, recognise_columns
from rakuten_models.catalog.csv_writer import cell_text, csv_cell, spreadsheet_safe_cell
from rakuten_models.catalog.products import code_of, text_of
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.errors import BatchError, CatalogError
from rakuten_models.files import write_atomically

LABEL_COLUMN = "prdtypecode"

_MAX_NAMED = 100


@dataclass(frozen=True, eq=False)
class BatchMetrics:
    """How a scored catalog agrees with its labels.

    Attributes:
        accuracy: Share of the labelled rows whose category is right, 0 to 1. A row that could not be scored,
            or whose code the bundle does not know, is wrong.
        weighted_f1: F1 of every category, weighted with its rows, 0 to 1.
        confusion_matrix: int64 (codes, codes), counts of scored rows; row the label, column the prediction.
        prdtypecodes: What rows and columns stand for, ascending: all codes of the bundle and of the labels.
        rows: Rows with a label.
        unscored: Of these, rows that could not be scored; they are in no column of the matrix.
        unlabelled: Rows without a label.
        unknown: By code, labelled rows whose code the bundle does not know.
        unreadable: By text, labels that are no whole number, the first 100; they count as no label.
    """

    accuracy: float
    weighted_f1: float
    confusion_matrix: np.ndarray
    prdtypecodes: tuple[int, ...]
    rows: int
    unscored: int = 0
    unlabelled: int = 0
    unknown: Mapping[int, int] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)


def evaluate_scored(output: str | os.PathLike[str], label_column: str | None = None) -> BatchMetrics:
    """Compare the predictions of a scored catalog with the labels it has.

    Args:
        output: What `score_catalog` wrote: a CSV file or a folder of parts.
        label_column: The column with the true codes; None: the one that was named when it was scored, else
            prdtypecode.

    Raises:
        BatchError: There is no such output, it has no such column, or no label in it is a whole number.
    """
    path = Path(output)
    identity = (read_state(path) or {}).get("identity", {})
    try:
        catalog = CatalogSource(path)
    except CatalogError as error:
        raise BatchError("batch.not_scored", output=path) from error
    names, prefix = catalog.names, last_prefix(catalog.names)
    if prefix is None:
        raise BatchError("batch.not_scored", output=path)
    label = label_column or identity.get("label_column") or recognise_columns(names).label
    if label is None or label not in names:
        column = repr(label) if label else "prdtypecode"
        raise BatchError("batch.no_label_column", output=path, column=column)
    pairs: Counter[tuple[int, int | None]] = Counter()
    unlabelled = 0
    unreadable: Counter[str] = Counter()
    chosen = [label, f"{prefix}prdtypecode"]
    tables = catalog.chunks(CHUNK_ROWS, columns=chosen)
    values = (zip(*(table.column(name).to_pylist() for name in chosen), strict=True) for table in tables)
    for truth, predicted in itertools.chain.from_iterable(values):
        code, text = code_of(truth), text_of(truth).strip()
        if code is not None:
            pairs[code, int(predicted) if predicted not in (None, "") else None] += 1
        elif not text:
            unlabelled += 1
        elif text in unreadable or len(unreadable) < _MAX_NAMED:
            unreadable[text] += 1
    if not pairs:
        if unreadable:
            raise BatchError("batch.labels_no_numbers", name=label, file=path, value=next(iter(unreadable)))
        raise BatchError("batch.labels_empty", name=label, file=path)
    return _metrics(pairs, set(identity.get("prdtypecodes", ())), unlabelled, unreadable)


def _metrics(
    pairs: Mapping[tuple[int, int | None], int], known: set[int], unlabelled: int, unreadable: Mapping[str, int]
) -> BatchMetrics:
    labels = {truth for truth, _ in pairs}
    predictions = {predicted for _, predicted in pairs if predicted is not None}
    # Without the state file the bundle's codes are those that it has predicted.
    known = known or predictions
    codes = tuple(sorted(known | labels | predictions))
    index = {code: number for number, code in enumerate(codes)}
    matrix = np.zeros((len(codes), len(codes)), np.int64)
    support = np.zeros(len(codes), np.int64)
    for (truth, predicted), count in pairs.items():
        support[index[truth]] += count
        if predicted is not None:
            matrix[index[truth], index[predicted]] += count
    rows = int(support.sum())
    hits = np.diag(matrix)
    # 2 hits / (rows of the category + rows that were given it) is the harmonic mean of recall and precision.
    f1 = 2 * hits / np.maximum(1, support + matrix.sum(axis=0))
    return BatchMetrics(
        accuracy=float(hits.sum() / rows),
        weighted_f1=float((f1 * support).sum() / rows),
        confusion_matrix=matrix,
        prdtypecodes=codes,
        rows=rows,
        unscored=rows - int(matrix.sum()),
        unlabelled=unlabelled,
        unknown={code: int(support[index[code]]) for code in sorted(labels - known)},
        unreadable=dict(unreadable),
    )


def write_corrections(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]], *, spreadsheet_safe: bool = True
) -> Path:
    """Write labels for rows of a catalog as a CSV file that `python -m training.train` reads.

    With an index and prdtypecode alone it has the form of the challenge's Y file (which needs a line for every row
    of its X file; an empty code is no label). With designation, description and image it is a catalog of its own.

    Args:
        path: The file; replaced as a whole.
        rows: One mapping a row, all with the keys of the first: prdtypecode (a whole number; None or "" for a
            row without a label), and what identifies or describes the product: index, productid, designation ...
        spreadsheet_safe: Put an apostrophe before texts that a spreadsheet would take for formulas. Codes and
            other numbers never change.

    Returns:
        The path.

    Raises:
        BatchError: There are no rows, they differ in their keys, or a code is no whole number. Nothing is written.
    """
    rows = list(rows)
    if not rows:
        raise BatchError("batch.no_corrections")
    names = list(rows[0])
    if LABEL_COLUMN not in names:
        raise BatchError("batch.corrections_without_code", label=LABEL_COLUMN, columns=", ".join(names) or "nothing")
    # The index goes first: that is where training looks for it.
    index = next((name for name in INDEX_NAMES if name in names), None)
    ordered = [*([] if index is None else [index]), *(name for name in names if name != index)]
    header = ["index" if name == index else name for name in ordered]
    safe = spreadsheet_safe_cell if spreadsheet_safe else str
    lines = [",".join(csv_cell(safe(name)) for name in header)]
    for number, row in enumerate(rows, start=1):
        if row.keys() != rows[0].keys():
            raise BatchError("batch.correction_other_columns", number=number)
        cells = {name: cell_text(value) for name, value in row.items()}
        code, text = code_of(row[LABEL_COLUMN]), text_of(row[LABEL_COLUMN]).strip()
        if text and code is None:
            raise BatchError("batch.correction_no_number", number=number, label=LABEL_COLUMN, value=text)
        cells[LABEL_COLUMN] = cell_text(code)
        lines.append(",".join(csv_cell(safe(cells[name])) for name in ordered))
    write_atomically(path, "\n".join(lines) + "\n")
    return Path(path)
