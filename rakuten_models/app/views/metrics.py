"""The Model page's HTML and SVG: what is loaded, its figures, and the plots drawn from metrics.json.

A bundle may come from anywhere, so nothing in its metrics.json is taken for granted: a figure that is
missing or of another kind is shown as absent, and its plot is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, card_html
from rakuten_models.bundle.config import METRICS_FILE, BundleConfig
from rakuten_models.product import Category

SECTIONS = ("served", "text", "image", "fusion")

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
    config: BundleConfig,
    bundle_name: str,
    revision: str | None,
    figures: Mapping[str, Any],
    words: Translator,
) -> str:
    """What is loaded: repository, revision, date, what it was trained and measured on, and all headline figures."""
    training = config.training if isinstance(config.training, Mapping) else {}
    facts = [
        ("repository", as_html(bundle_name)),
        ("revision", f"<code>{as_html(revision)}</code>" if revision else as_html(words("no_revision"))),
        ("date", as_html(_date(training, words))),
        ("categories", words.number(len(config.categories))),
        ("trained_on", as_html(_products(training.get("rows"), words))),
        ("measured_on", as_html(_products(section_of(figures, "served").get("rows"), words))),
    ]
    rows = "".join(f"<div><dt>{as_html(words(key))}</dt><dd>{value}</dd></div>" for key, value in facts)
    return card_html(words("loaded"), f'<dl class="facts">{rows}</dl>{_table(figures, words)}')


def category_f1_html(section: Mapping[str, Any], categories: Sequence[Category], words: Translator) -> str:
    """Per-category F1 as bars, the best first; precision, recall and rows when pointed at."""
    per_category = section.get("per_category")
    bars = []
    for category in categories:
        values = per_category.get(str(category.prdtypecode)) if isinstance(per_category, Mapping) else None
        f1, support = _number(values, "f1"), _number(values, "support")
        if f1 is None or not support:
            continue
        detail = words(
            "f1_detail",
            precision=_percent(_number(values, "precision"), words),
            recall=_percent(_number(values, "recall"), words),
            support=words.number(support),
        )
        bars.append(
            (
                f1,
                f'<li title="{as_html(detail)}"><span class="bar-row"><span class="bar-name">'
                f'{as_html(category.name(words.language))} <span class="code">{category.prdtypecode}</span></span>'
                f'<span class="bar-value">{words.number(f1, 3)}</span><span class="bar" aria-hidden="true">'
                f'<i style="width:{100 * min(max(f1, 0), 1):.1f}%"></i></span>'
                f'<span class="bar-detail">{as_html(detail)}</span></span></li>',
            )
        )
    bars.sort(key=lambda bar: -bar[0])
    rows = "".join(bar for _, bar in bars)
    return card_html(words("f1_title"), f'<ol class="bars two-columns">{rows}</ol>' if rows else "")


def reliability_html(section: Mapping[str, Any], words: Translator) -> str:
    """Named probability against share right, a dot for each fifteenth of the answers."""
    dots = []
    for part in section.get("reliability") or ():
        confidence, accuracy = _number(part, "confidence"), _number(part, "accuracy")
        if confidence is None or accuracy is None:
            continue
        low, high = _number(part, "calibrated_low"), _number(part, "calibrated_high")
        if low is not None and high is not None:
            dots.append(
                f'<line class="band" x1="{_x(confidence)}" x2="{_x(confidence)}" y1="{_y(low)}" y2="{_y(high)}"/>'
            )
        title = words(
            "dot_title",
            rows=words.number(_number(part, "rows") or 0),
            confidence=words.percent(confidence),
            accuracy=words.percent(accuracy),
        )
        dots.append(
            f'<circle class="dot" cx="{_x(confidence)}" cy="{_y(accuracy)}" r="4.5"><title>{as_html(title)}</title>'
            "</circle>"
        )
    if not dots:
        return ""
    ece = _number(section, "ece")
    label = words("reliability_label", ece="-" if ece is None else words.number(ece, 3))
    diagonal = f'<line class="diagonal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    plot = _plot(
        label, diagonal + "".join(dots), words("named_probability"), words("share_right"), (0.0, 1.0), words
    )
    return card_html(
        words("reliability_title"), plot + f'<p class="hint">{as_html(words("reliability_hint"))}</p>'
    )


def at_threshold(section: Mapping[str, Any], threshold: float) -> tuple[float, float] | None:
    """Share accepted and precision at a threshold, read off the curve, straight between its points.

    Args:
        section: One section of the figures.
        threshold: The least probability that is accepted, 0 to 1.

    Returns:
        (share, precision), 0 to 1 each; None if the curve is missing or nothing of it lies above.
    """
    points = _curve(section)
    above = [point for point in points if point[0] >= threshold]
    if not above:
        return None
    below = [point for point in points if point[0] < threshold]
    probability, share, precision = above[-1]
    if below and probability > threshold:
        next_probability, next_share, next_precision = below[0]
        part = (probability - threshold) / (probability - next_probability)
        share += part * (next_share - share)
        precision += part * (next_precision - precision)
    return share, precision


def precision_html(section: Mapping[str, Any], threshold: float, own: bool, words: Translator) -> str:
    """Precision against share accepted, with the threshold marked on it.

    Args:
        section: One section of the figures.
        threshold: The visitor's, 0 to 1.
        own: The visitor moved it; otherwise it is the bundle's.
        words: In the visitor's language.
    """
    points = _curve(section)
    if not points:
        return card_html(words("precision_title"), f'<p class="hint">{as_html(words("no_curve"))}</p>')
    lowest = min(precision for _, _, precision in points)
    bottom = min(0.9, int(lowest * 10) / 10)
    line = " ".join(f"{_x(share)},{_y(precision, bottom)}" for _, share, precision in points)
    marks = f'<polyline class="curve" points="{line}"/>'
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
        x, y = _x(share), _y(precision, bottom)
        marks += (
            f'<line class="guide" x1="{x}" x2="{x}" y1="{y}" y2="{_y(bottom, bottom)}"/>'
            f'<line class="guide" x1="{_x(0)}" x2="{x}" y1="{y}" y2="{y}"/>'
            f'<circle class="dot chosen" cx="{x}" cy="{y}" r="6"/>'
        )
    plot = _plot(label, marks, words("share_accepted"), words("precision"), (bottom, 1.0), words)
    return card_html(
        words("precision_title"),
        f'{plot}<p class="sentence" role="status">{as_html(sentence)}</p>'
        f'<p class="hint">{as_html(words("precision_hint"))}</p>',
    )


def confusion_html(
    matrix: object, categories: Sequence[Category], words: Translator, title: str | None = None
) -> str:
    """The confusion matrix as a grid of buttons: data-truth and data-answer are the categories' positions.

    Args:
        matrix: Counts, rows the truth, columns the answer; anything else gives an empty string.
        categories: Those of the rows and columns, in their order.
        words: In the visitor's language.
        title: Of the card; by default "Confusion matrix".
    """
    counts = checked_matrix(matrix, len(categories))
    if counts is None:
        return ""
    head = "".join(
        f'<th scope="col"><span title="{as_html(category.name(words.language))}">{category.prdtypecode}</span></th>'
        for category in categories
    )
    rows = []
    for truth, category in enumerate(categories):
        total = sum(counts[truth]) or 1
        cells = []
        for answer, count in enumerate(counts[truth]):
            label = words(
                "confusion_cell",
                truth=category.name(words.language),
                answer=categories[answer].name(words.language),
                count=words.number(count),
            )
            kind = " right" if truth == answer else ""
            cells.append(
                f'<td><button type="button" class="cell{kind}" tabindex="{0 if truth == answer == 0 else -1}" '
                f'data-truth="{truth}" data-answer="{answer}" style="--share:{100 * count / total:.0f}%" '
                f'title="{as_html(label)}" aria-label="{as_html(label)}">{count or ""}</button></td>'
            )
        name = as_html(category.name(words.language))
        rows.append(
            f'<tr><th scope="row"><span class="name">{name}</span> {category.prdtypecode}</th>{"".join(cells)}</tr>'
        )
    caption = words("confusion_title") if title is None else title
    return card_html(
        caption,
        f'<p class="hint above">{as_html(words("confusion_hint"))}</p><div class="scroll">'
        f'<table class="confusion" aria-label="{as_html(caption)}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>",
    )


def confusion_detail_html(
    matrix: object, categories: Sequence[Category], truth: int | None, answer: int | None, words: Translator
) -> str:
    """What one cell of the confusion matrix says, with the names of its two categories.

    Args:
        matrix: As for `confusion_html`.
        categories: As for `confusion_html`.
        truth: The cell's row; None for no cell.
        answer: The cell's column.
        words: In the visitor's language.
    """
    counts = checked_matrix(matrix, len(categories))
    if counts is None:
        return ""
    inside = range(len(categories))
    if truth is None or answer is None or truth not in inside or answer not in inside:
        return f'<p class="detail hint" role="status">{as_html(words("confusion_none"))}</p>'
    names = [
        f"{words.quoted(categories[index].name(words.language))} ({categories[index].prdtypecode})"
        for index in (truth, answer)
    ]
    values = {
        "count": words.number(counts[truth][answer]),
        "support": words.number(sum(counts[truth])),
        "truth": names[0],
        "answer": names[1],
    }
    if truth == answer:
        sentence = words("confusion_right", **values)
    else:
        back = words(
            "confusion_back",
            count=words.number(counts[answer][truth]),
            support=words.number(sum(counts[answer])),
        )
        sentence = f"{words('confusion_detail', **values)} {back}"
    return f'<p class="detail" role="status">{as_html(sentence)}</p>'


def checked_matrix(matrix: object, size: int) -> list[list[int]] | None:
    """A square matrix of that size as lists of counts; None if it is anything else."""
    if not isinstance(matrix, Sequence):
        return None
    try:
        counts = [[int(count) for count in row] for row in matrix]
    except (TypeError, ValueError):
        return None
    return counts if len(counts) == size and all(len(row) == size for row in counts) else None


def _table(figures: Mapping[str, Any], words: Translator) -> str:
    columns = ("rows", "weighted_f1", "macro_f1", "accuracy", "top3_accuracy", "ece")
    titles = ("rows", "weighted_f1", "macro_f1", "accuracy", "top3", "ece")
    rows = []
    for name in SECTIONS:
        section = section_of(figures, name)
        values = [_number(section, column) for column in columns]
        if not values[0]:
            continue
        cells = [words.number(values[0])] + [
            "-" if value is None else words.number(value, 3) for value in values[1:]
        ]
        rows.append(
            f'<tr><th scope="row">{as_html(words(name))}</th>'
            + "".join(f"<td>{as_html(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    if not rows:
        return f'<section><p class="hint">{as_html(words("no_figures"))}</p></section>'
    head = "".join(f'<th scope="col">{as_html(words(title))}</th>' for title in titles)
    return (
        f'<section><div class="scroll" tabindex="0" role="region" aria-label="{as_html(words("measured_on"))}">'
        f'<table class="plain"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        "</section>"
    )


def _plot(
    label: str, content: str, x_title: str, y_title: str, y_range: tuple[float, float], words: Translator
) -> str:
    """A square SVG with grid lines and numbers; x runs from 0 to 1."""
    low, high = y_range
    grid = []
    for step in range(6):
        share = step / 5
        value = low + share * (high - low)
        x, y = _x(share), _y(value, low)
        grid.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{y}" y2="{y}"/>')
        grid.append(f'<text x="{_EDGE - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>')
        grid.append(f'<text x="{x}" y="{_SIZE - _EDGE + 16}" text-anchor="middle">{100 * share:.0f}</text>')
    titles = (
        f'<text class="axis" x="{_x(0.5)}" y="{_SIZE - 8}" text-anchor="middle">{as_html(x_title)} (%)</text>'
        f'<text class="axis" x="12" y="{_SIZE / 2 - 12}" text-anchor="middle" '
        f'transform="rotate(-90 12 {_SIZE / 2 - 12})">{as_html(y_title)} (%)</text>'
    )
    return (
        f'<svg class="plot" viewBox="0 0 {_SIZE} {_SIZE}" role="img" aria-label="{as_html(label)}">'
        f"{''.join(grid)}{content}{titles}</svg>"
    )


def _x(share: float) -> float:
    return round(_EDGE + share * (_SIZE - _EDGE - 12), 1)


def _y(value: float, low: float = 0.0) -> float:
    return round(_SIZE - _EDGE - (value - low) / (1 - low) * (_SIZE - _EDGE - 12), 1)


def _curve(section: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """(probability, share accepted, precision) of each point, the highest probability first."""
    points = []
    for point in section.get("coverage") or ():
        probability, share, precision = (
            _number(point, key) for key in ("probability", "share_accepted", "precision")
        )
        if probability is not None and share is not None and precision is not None:
            points.append((probability, share, precision))
    return sorted(points, reverse=True)


def _number(values: object, key: str) -> float | None:
    value = values.get(key) if isinstance(values, Mapping) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _percent(value: float | None, words: Translator) -> str:
    return "-" if value is None else words.percent(value)


def _products(rows: object, words: Translator) -> str:
    if isinstance(rows, int) and rows > 0:
        return words("products_count", count=words.number(rows))
    return words("unknown")


def _date(training: Mapping[str, Any], words: Translator) -> str:
    """When it was trained, where that is noted: a file's own date is that of the download."""
    noted = training.get("date")
    return noted[:10] if isinstance(noted, str) and noted else words("unknown")
