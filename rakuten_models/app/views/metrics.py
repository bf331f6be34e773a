"""The Model page's HTML and SVG: what is loaded, its figures, and the plots drawn from metrics.json.

A bundle may come from anywhere: a figure that is missing or of another kind is shown as absent, its plot left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, bar_html, card_html, hint_html, message_html, table_html
from rakuten_models.bundle.config import METRICS_FILE, BundleConfig
from rakuten_models.product import Category

SECTIONS = ("served", "text", "image", "fusion")

_COLUMNS = ("weighted_f1", "macro_f1", "accuracy", "top3_accuracy", "ece")

_SIZE = 320

_EDGE = 44  # room for the numbers beside an axis


def read_figures(folder: Path) -> dict[str, Any]:
    """The bundle's metrics.json; {} if it is missing or no JSON object."""
    try:
        figures = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}


def section_of(figures: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """One of SECTIONS; {} if the figures have none."""
    section = figures.get(name)
    return section if isinstance(section, Mapping) else {}


def loaded_html(
    config: BundleConfig, bundle_name: str, revision: str | None, figures: Mapping[str, Any], words: Translator
) -> str:
    """What is loaded: repository, revision, date, what it was trained and measured on, and all headline figures."""
    training = config.training if isinstance(config.training, Mapping) else {}
    # The date is noted in the bundle: a file's own would be that of the download.
    date = training.get("date")
    facts = {
        "repository": as_html(bundle_name),
        "revision": f"<code>{as_html(revision)}</code>" if revision else as_html(words("no_revision")),
        "date": as_html(date[:10] if isinstance(date, str) and date else words("unknown")),
        "categories": words.number(len(config.categories)),
        "trained_on": as_html(_products(training.get("rows"), words)),
        "measured_on": as_html(_products(section_of(figures, "served").get("rows"), words)),
    }
    rows = "".join(f"<div><dt>{as_html(words(key))}</dt><dd>{fact}</dd></div>" for key, fact in facts.items())
    table = _table(figures, words) or hint_html(words("no_figures"))
    return card_html(words("loaded"), f'<dl class="facts">{rows}</dl><section>{table}</section>')


def category_f1_html(section: Mapping[str, Any], categories: Sequence[Category], words: Translator) -> str:
    """Per-category F1 as bars, the best first; precision, recall and rows when pointed at."""
    per_category = section.get("per_category")
    bars = []
    for category in categories:
        values = per_category.get(str(category.prdtypecode)) if isinstance(per_category, Mapping) else None
        f1, support = _number(values, "f1"), _number(values, "support")
        if f1 is None or not support:
            continue
        precision, recall = (
            "-" if (share := _number(values, name)) is None else words.percent(share)
            for name in ("precision", "recall")
        )
        detail = as_html(words("f1_detail", precision=precision, recall=recall, support=support))
        bar = bar_html(category, words.number(f1, 3), f1, words)
        item = f'<span class="bar-row">{bar}<span class="bar-detail">{detail}</span></span>'
        bars.append((f1, f'<li title="{detail}">{item}</li>'))
    rows = "".join(bar for _, bar in sorted(bars, key=lambda bar: -bar[0]))
    return card_html(words("f1_title"), f'<ol class="bars two-columns">{rows}</ol>' if rows else "")


def reliability_html(section: Mapping[str, Any], words: Translator) -> str:
    """Named probability against share right, a dot for each fifteenth of the answers."""
    plot = _Plot(0.0)
    plot.line("diagonal", (0, 0), (1, 1))
    for part in section.get("reliability") or ():
        confidence, accuracy, low, high = (
            _number(part, name) for name in ("confidence", "accuracy", "calibrated_low", "calibrated_high")
        )
        if confidence is None or accuracy is None:
            continue
        if low is not None and high is not None:
            plot.line("band", (confidence, low), (confidence, high))
        title = words(
            "dot_title",
            rows=_number(part, "rows") or 0,
            confidence=words.percent(confidence),
            accuracy=words.percent(accuracy),
        )
        plot.dot("dot", (confidence, accuracy), 4.5, title)
    if not plot.dots:
        return ""
    ece = _number(section, "ece")
    label = words("reliability_label", ece="-" if ece is None else words.number(ece, 3))
    drawn = plot.svg(label, words("named_probability"), words("share_right"))
    return card_html(words("reliability_title"), drawn + hint_html(words("reliability_hint")))


def at_threshold(section: Mapping[str, Any], threshold: float) -> tuple[float, float] | None:
    """Share accepted and precision (0 to 1) at a threshold, linear between the curve's points; None beyond them."""
    points = _curve(section)
    if not points or threshold > points[-1][0]:
        return None
    probabilities, shares, precisions = np.transpose(points)
    return (float(np.interp(threshold, probabilities, shares)), float(np.interp(threshold, probabilities, precisions)))


def precision_html(section: Mapping[str, Any], threshold: float, own: bool, words: Translator) -> str:
    """Precision against share accepted, with the threshold (0 to 1) marked on it; `own`: the visitor moved it."""
    points = _curve(section)
    if not points:
        return card_html(words("precision_title"), hint_html(words("no_curve")))
    lowest = min(precision for _, _, precision in points)
    plot = _Plot(min(0.9, int(lowest * 10) / 10))
    plot.curve([(share, precision) for _, share, precision in reversed(points)])
    level, whose = words.percent(threshold), words("threshold_yours" if own else "threshold_default")
    reached = at_threshold(section, threshold)
    if reached is None:
        sentence = words("threshold_none", level=level, whose=whose)
        label = words("precision_label", share=words.percent(0), precision="-")
    else:
        share, precision = reached
        values = {"share": words.percent(share), "precision": words.percent(precision)}
        sentence = words("threshold_sentence", level=level, whose=whose, **values)
        label = words("precision_label", **values)
        plot.line("guide", reached, (share, plot.low))
        plot.line("guide", (0, precision), reached)
        plot.dot("dot chosen", reached, 6)
    drawn = plot.svg(label, words("share_accepted"), words("precision"))
    return card_html(words("precision_title"), drawn + message_html(sentence) + hint_html(words("precision_hint")))


def confusion_html(matrix: object, categories: Sequence[Category], words: Translator) -> str:
    """Counts (rows the truth, columns the answer) as a grid of buttons: data-truth and data-answer are indices.

    Anything else than a square matrix of the categories' number gives an empty string.
    """
    counts = _checked_matrix(matrix, len(categories))
    if counts is None:
        return ""
    names = [category.name(words.language) for category in categories]
    head = "".join(
        f'<th scope="col"><span title="{as_html(name)}">{category.prdtypecode}</span></th>'
        for name, category in zip(names, categories, strict=True)
    )
    rows = []
    for truth, category in enumerate(categories):
        total = sum(counts[truth]) or 1
        cells = []
        for answer, count in enumerate(counts[truth]):
            label = as_html(words("confusion_cell", truth=names[truth], answer=names[answer], count=count))
            cells.append(
                f'<td><button type="button" class="cell{" right" if truth == answer else ""}" '
                f'tabindex="{0 if truth == answer == 0 else -1}" data-truth="{truth}" data-answer="{answer}" '
                f'style="--share:{100 * count / total:.0f}%" title="{label}" aria-label="{label}">'
                f"{count or ''}</button></td>"
            )
        name = f'<span class="name">{as_html(names[truth])}</span> {category.prdtypecode}'
        rows.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
    caption = words("confusion_title")
    return card_html(
        caption,
        f'<p class="hint above">{as_html(words("confusion_hint"))}</p><div class="scroll">'
        f'<table class="confusion" aria-label="{as_html(caption)}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>",
    )


def confusion_detail_html(
    matrix: object, categories: Sequence[Category], truth: int | None, answer: int | None, words: Translator
) -> str:
    """What one cell of `confusion_html` says, with the names of its two categories; None for no cell."""
    counts = _checked_matrix(matrix, len(categories))
    if counts is None:
        return ""
    inside = range(len(categories))
    if truth is None or answer is None or truth not in inside or answer not in inside:
        return f'<p class="detail hint" role="status">{as_html(words("confusion_none"))}</p>'
    names = [
        f"{words.quoted(categories[index].name(words.language))} ({categories[index].prdtypecode})"
        for index in (truth, answer)
    ]

    def said(key: str, row: int, column: int) -> str:
        count, support = counts[row][column], sum(counts[row])
        return words(key, count=count, support=support, truth=names[0], answer=names[1])

    if truth == answer:
        sentence = said("confusion_right", truth, answer)
    else:
        sentence = f"{said('confusion_detail', truth, answer)} {said('confusion_back', answer, truth)}"
    return f'<p class="detail" role="status">{as_html(sentence)}</p>'


def _checked_matrix(matrix: object, size: int) -> list[list[int]] | None:
    """A square matrix of that size as lists of counts; None if it is anything else."""
    if not isinstance(matrix, Sequence):
        return None
    try:
        counts = [[int(count) for count in row] for row in matrix]
    except (TypeError, ValueError):
        return None
    return counts if len(counts) == size and all(len(row) == size for row in counts) else None


def _table(figures: Mapping[str, Any], words: Translator) -> str:
    rows = []
    for name in SECTIONS:
        section = section_of(figures, name)
        count = _number(section, "rows")
        if count:
            values = (_number(section, key) for key in _COLUMNS)
            cells = [words.number(count)]
            cells += ["-" if value is None else words.number(value, 3) for value in values]
            data = "".join(f"<td>{as_html(cell)}</td>" for cell in cells)
            rows.append(f'<th scope="row">{as_html(words(name))}</th>{data}')
    titles = ("rows", *_COLUMNS)
    head = "".join(f'<th scope="col">{as_html(words(title))}</th>' for title in titles)
    return table_html(words("measured_on"), f"<td></td>{head}", rows) if rows else ""


class _Plot:
    """A square SVG: x runs from 0 to 1, y from `low` to 1.

    Attributes:
        low: Where the y axis begins.
        dots: How many were drawn.
    """

    def __init__(self, low: float) -> None:
        self.low = low
        self.dots = 0
        self._content: list[str] = []

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A line of a CSS class."""
        (x1, y1), (x2, y2) = self._at(start), self._at(end)
        self._content.append(f'<line class="{kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>')

    def dot(self, kind: str, point: tuple[float, float], radius: float, title: str = "") -> None:
        """A dot of a CSS class."""
        x, y = self._at(point)
        inside = f"<title>{as_html(title)}</title>" if title else ""
        self._content.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}">{inside}</circle>')
        self.dots += 1

    def curve(self, points: Sequence[tuple[float, float]]) -> None:
        """A line through all points."""
        line = " ".join(f"{x},{y}" for x, y in map(self._at, points))
        self._content.append(f'<polyline class="curve" points="{line}"/>')

    def svg(self, label: str, x_title: str, y_title: str) -> str:
        """All that was drawn, over grid lines, with numbers and titles in percent."""
        grid = []
        for share in np.linspace(0, 1, 6):
            value = self.low + share * (1 - self.low)
            x, y = self._at((share, value))
            grid.append(f'<line class="grid" x1="{self._at((0, 0))[0]}" x2="{_SIZE - 12}" y1="{y}" y2="{y}"/>')
            grid.append(f'<text x="{_EDGE - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>')
            grid.append(f'<text x="{x}" y="{_SIZE - _EDGE + 16}" text-anchor="middle">{100 * share:.0f}</text>')
        middle = _SIZE / 2 - 12
        titles = (
            f'<text class="axis" x="{self._at((0.5, 0))[0]}" y="{_SIZE - 8}" text-anchor="middle">'
            f'{as_html(x_title)} (%)</text><text class="axis" x="12" y="{middle}" text-anchor="middle" '
            f'transform="rotate(-90 12 {middle})">{as_html(y_title)} (%)</text>'
        )
        return (
            f'<svg class="plot" viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{as_html(label)}">'
            f"{''.join(grid + self._content)}{titles}</svg>"
        )

    def _at(self, point: tuple[float, float]) -> tuple[float, float]:
        """The position of a point in the SVG's units."""
        length = _SIZE - _EDGE - 12
        y = (point[1] - self.low) / (1 - self.low)
        return round(_EDGE + float(point[0]) * length, 1), round(_SIZE - _EDGE - float(y) * length, 1)


def _curve(section: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """(probability, share accepted, precision) of each point, the lowest probability first."""
    points = []
    for point in section.get("coverage") or ():
        probability, share, precision = (_number(point, key) for key in ("probability", "share_accepted", "precision"))
        if probability is not None and share is not None and precision is not None:
            points.append((probability, share, precision))
    return sorted(points)


def _number(values: object, key: str) -> float | None:
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _products(rows: object, words: Translator) -> str:
    if isinstance(rows, int) and rows > 0:
        return words("products_count", count=rows)
    return words("unknown")
