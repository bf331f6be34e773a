"""How a scored catalog differs from the rows that the bundle was measured on: figures as JSON, and a page of Markdown.

The figures: the share of each category, the mean probability, a histogram of the probabilities, the share to review
and the share of words that the tokenizer does not know. `training.evaluate --update-bundle` puts those of its rows into
the bundle's metrics.json under "reference"; `write_report` compares them with a scored catalog's.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from rakuten_models.batch.output import read_state
from rakuten_models.batch.scorer import last_prefix
from rakuten_models.bundle.config import METRICS_FILE, TOKENIZER_FILE
from rakuten_models.catalog.columns import Columns
from rakuten_models.catalog.products import column_texts
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import BatchError
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.text import TextSettings, encode_texts, load_tokenizer
from rakuten_models.product import REVIEW, Category, Product

REFERENCE = "reference"

PROBABILITY_BINS = 10

# The usual reading of a population stability index: below the first stable, from the second on another population.
PSI_STEPS = (0.1, 0.25)

_UNKNOWN_TOKEN = 1

# Of a long catalog so many texts, evenly spread, say what share of their words is unknown.
_MAX_TEXTS = 100_000

_ROWS_AT_ONCE = 2048

_MAX_BARS = 30


class ScoredFigures:
    """Figures of scored rows, row by row and in constant memory."""

    def __init__(self, tokenizer: Tokenizer, settings: TextSettings) -> None:
        """The tokenizer and the settings are the bundle's."""
        self._tokenizer, self._settings = tokenizer, settings
        self._rows = self._review = self._tokens = self._unknown = 0
        self._probability = 0.0
        self._categories: Counter[int] = Counter()
        self._bins = [0] * PROBABILITY_BINS

    def add(self, prdtypecode: int | None, probability: float | None, decision: str) -> None:
        """One row; None where it could not be scored."""
        self._rows += 1
        if prdtypecode is None or probability is None:
            return
        self._categories[prdtypecode] += 1
        self._probability += probability
        self._bins[min(int(probability * PROBABILITY_BINS), PROBABILITY_BINS - 1)] += 1
        self._review += decision == REVIEW

    def add_texts(self, products: Sequence[Product]) -> None:
        """Texts whose words are looked up, as far as the model reads them; pictures are not looked at."""
        if products:
            ids = encode_texts(products, self._tokenizer, self._settings)["token_ids"]
            self._tokens += int((ids > 0).sum())
            self._unknown += int((ids == _UNKNOWN_TOKEN).sum())

    def to_json(self) -> dict[str, Any]:
        """The figures.

        Returns:
            rows; scored; share_by_category (by prdtypecode as text, of the scored rows); mean_probability;
            probability_bins (shares of the scored rows, ten equal steps from 0 to 1); share_to_review (of the scored
            rows); unknown_token_rate (of the words that were read). None for a figure of no rows.
        """
        scored = sum(self._categories.values())

        def share(part: float, whole: int) -> float | None:
            return part / whole if whole else None

        return {
            "rows": self._rows,
            "scored": scored,
            "share_by_category": {str(code): count / scored for code, count in sorted(self._categories.items())},
            "mean_probability": share(self._probability, scored),
            "probability_bins": [count / scored if scored else 0.0 for count in self._bins],
            "share_to_review": share(self._review, scored),
            "unknown_token_rate": share(self._unknown, self._tokens),
        }


def read_reference(classifier: ProductClassifier) -> dict[str, Any]:
    """The figures that a bundle holds of the rows it was measured on.

    Raises:
        BatchError: It holds none.
    """
    path = classifier.folder / METRICS_FILE
    try:
        reference = json.loads(path.read_text(encoding="utf-8")).get(REFERENCE)
    except (OSError, ValueError, AttributeError):
        reference = None
    if not isinstance(reference, dict) or not reference.get("scored"):
        raise BatchError("batch.no_reference", bundle=classifier.folder)
    return reference


def report_files(target: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The figures and the page: drift.json and drift.md in a folder, or NAME.json and NAME.md."""
    path = Path(target)
    if path.suffix.lower() not in (".json", ".md"):
        path /= "drift.json"
    return path.with_suffix(".json"), path.with_suffix(".md")


def write_report(
    output: str | os.PathLike[str],
    target: str | os.PathLike[str],
    classifier: ProductClassifier,
    reference: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare what `score_catalog` wrote with the figures of the bundle that scored it, and write both `report_files`.

    Returns:
        The content of the JSON file; see `drift`.

    Raises:
        BatchError: There is no scored catalog, or the report cannot be written.
    """
    found = drift(reference, scored_figures(output, classifier))
    figures = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    files = report_files(target)
    try:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for file, text in zip(files, (figures, report_page(found, classifier.categories)), strict=True):
            write_atomically(file, text)
    except OSError as error:
        raise BatchError("batch.report_not_written", folder=files[0].parent, reason=error.strerror) from error
    return found


def scored_figures(output: str | os.PathLike[str], classifier: ProductClassifier) -> dict[str, Any]:
    """The figures of a scored catalog, read in constant memory."""
    source = CatalogSource(output)
    prefix = last_prefix(source.names)
    if prefix is None:
        raise BatchError("batch.not_scored", output=output)
    columns = Columns(**(read_state(output) or {"identity": {"columns": {}}})["identity"]["columns"])
    figures = ScoredFigures(load_tokenizer(classifier.folder / TOKENIZER_FILE), classifier.config.text)
    step = max(1, -(-source.rows // _MAX_TEXTS))
    start = 0
    for table in source.chunks(_ROWS_AT_ONCE):
        answers = (table.column(f"{prefix}{name}").to_pylist() for name in ("prdtypecode", "probability", "decision"))
        for code, probability, decision in zip(*answers, strict=True):
            if code in (None, "") or probability in (None, ""):
                figures.add(None, None, decision)
            else:
                figures.add(int(code), float(probability), decision)
        sampled = table.take(list(range(-start % step, len(table), step)))
        texts = [column_texts(sampled, name) for name in (columns.designation, columns.description)]
        figures.add_texts([Product(*pair) for pair in zip(*texts, strict=True)])
        start += len(table)
    return figures.to_json()


def drift(reference: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """How far two sets of figures lie apart.

    Args:
        reference: Figures of `ScoredFigures.to_json`.
        now: The same of other rows.

    Returns:
        {"reference", "now", "psi_categories", "psi_probabilities"}; each of the last two {"psi": the population
        stability index, "by_chance": what it is on average between two draws of these sizes from one population,
        "reading": "stable" (below 0.1 or what chance explains), "moved" or "changed" (0.25 and above)}.
    """
    codes = sorted({*reference["share_by_category"], *now["share_by_category"]}, key=int)
    shares = [[each["share_by_category"].get(code, 0.0) for code in codes] for each in (reference, now)]
    bins = [each["probability_bins"] for each in (reference, now)]
    sizes = (reference["scored"], now["scored"])
    return {
        "reference": dict(reference),
        "now": dict(now),
        "psi_categories": _stability(shares, sizes),
        "psi_probabilities": _stability(bins, sizes),
    }


def _stability(shares: Sequence[Sequence[float]], rows: tuple[int, int]) -> dict[str, Any]:
    """Sum of (found - expected) ln(found / expected); half a row is added to each share, so that none is 0."""
    if not all(rows):
        return {"psi": None, "by_chance": None, "reading": "no rows"}
    bins = len(shares[0])
    expected, found = (
        (np.array(each, np.float64) * count + 0.5) / (count + bins / 2)
        for each, count in zip(shares, rows, strict=True)
    )
    index = float(((found - expected) * np.log(found / expected)).sum())
    chance = (bins - 1) * (1 / rows[0] + 1 / rows[1])
    low, high = PSI_STEPS
    reading = "stable" if index < max(low, 2 * chance) else "moved" if index < high else "changed"
    return {"psi": index, "by_chance": chance, "reading": reading}


def report_text(found: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """The report in a few lines for a terminal."""
    then, now = found["reference"], found["now"]
    lines = [f"Drift against the {then['rows']:,} rows that the bundle was measured on:"]
    for name, title in (
        ("mean_probability", "mean probability"),
        ("share_to_review", "share to review"),
        ("unknown_token_rate", "unknown words"),
    ):
        lines.append(f"  {title:18} {_figure(then.get(name))} -> {_figure(now.get(name))}")
    for name, title in (("psi_categories", "categories"), ("psi_probabilities", "probabilities")):
        values = found[name]
        lines.append(
            f"  PSI {title:14} {_figure(values['psi'])} ({values['reading']}; by chance {_figure(values['by_chance'])})"
        )
    for code, before, after in _moved(found)[:5]:
        lines.append(f"  {code:>6}  {before:7.2%} -> {after:7.2%}  {names.get(int(code), '')}")
    return "\n".join(lines)


def _moved(found: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Categories with both shares, those that moved most first."""
    then, now = (found[each]["share_by_category"] for each in ("reference", "now"))
    pairs = [(code, then.get(code, 0.0), now.get(code, 0.0)) for code in {*then, *now}]
    return sorted(pairs, key=lambda each: (-abs(each[2] - each[1]), int(each[0])))


def report_page(found: Mapping[str, Any], categories: Sequence[Category]) -> str:
    """The report as Markdown: its figures, the shares by category, and the spread of the probabilities."""
    names = {str(category.prdtypecode): category.name("en") for category in categories}
    moved = sorted(_moved(found)[:_MAX_BARS], key=lambda each: -each[1])
    bins = (found[each]["probability_bins"] for each in ("reference", "now"))
    ranges = [
        f"{step / PROBABILITY_BINS:.1f} to {(step + 1) / PROBABILITY_BINS:.1f}" for step in range(PROBABILITY_BINS)
    ]
    tables = {
        "Share by category, those that moved most": [
            (f"{code} {names.get(code, '')}", *shares) for code, *shares in moved
        ],
        "Rows by the probability of their answer": list(zip(ranges, *bins, strict=True)),
    }
    lines = ["# Drift", "", "```text", *report_text(found, {}).splitlines()[:6], "```"]
    for title, rows in tables.items():
        largest = max([share for _, *shares in rows for share in shares] + [1e-9])
        lines += ["", f"## {title}", "", "| | measured | this catalog | |", "| --- | ---: | ---: | --- |"]
        for label, *shares in rows:
            bars = "<br>".join(
                character * round(30 * share / largest) for character, share in zip("░█", shares, strict=True)
            )
            lines.append(f"| {label.replace('|', '/')} | {shares[0]:.1%} | {shares[1]:.1%} | {bars} |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
