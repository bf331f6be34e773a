"""The Catalog page's HTML: progress, what a scored catalog holds, its metrics and its first rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rakuten_models.app.catalog_summary import CatalogSummary, ScoredRow
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, bar_html, card_html, hint_html, table_html, tiles_html
from rakuten_models.batch.evaluation import BatchMetrics
from rakuten_models.formatting import shortened
from rakuten_models.product import ACCEPT, Category

_MAX_LISTED = 5


def progress_html(done: int, total: int | None, rate: float, seconds_left: float | None, words: Translator) -> str:
    """The progress bar: rows done of `total`, rows a second and seconds left, None where not known yet."""
    share = min(1.0, done / total) if total else 0.0
    values = {"done": words.number(done), "rate": words.number(rate)}
    if not done:
        sentence = words("starting")
    elif total and seconds_left is not None:
        left = words.duration(seconds_left)
        sentence = words("progress", total=total, left=left, **values)
    else:
        sentence = words("progress_open", **values)
    return (
        f'<div class="progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share:.0f}" aria-label="{as_html(sentence)}"><i style="width:{100 * share:.1f}%"></i>'
        f'</div><p class="sentence">{as_html(sentence)}</p>'
    )


def summary_html(
    summary: CatalogSummary, categories: Sequence[Category], seconds: float, rate: float, words: Translator
) -> str:
    """How many were accepted, left to a person or failed; a bar for each category; what was wrong, row by row."""
    tiles = tiles_html(
        (words.number(count), words(key), kind)
        for key, count, kind in (
            ("accepted", summary.accepted, "accept"),
            ("to_review", summary.to_review, "review"),
            ("failed", summary.failed, ""),
        )
    )
    took = words("scored_time", seconds=words.duration(seconds), rate=words.number(rate))
    title = words("scored_title", count=summary.rows - summary.failed)
    return (
        f'<div class="answer"><section><h2 class="scored-title">{as_html(title)}</h2>'
        f'{hint_html(took)}<div class="tiles">{tiles}</div></section>'
        f"{_per_category(summary, categories, words)}{_problems(summary, words)}</div>"
    )


def preview_html(rows: Sequence[ScoredRow], categories: Sequence[Category], words: Translator) -> str:
    """The first rows as a table: number, product, category, probability, decision."""
    names = {each.prdtypecode: f"{each.name(words.language)} ({each.prdtypecode})" for each in categories}
    body = []
    for row in rows:
        name, probability, decision = "-", "-", words("not_scored")
        if row.top:
            name, probability = names.get(row.top[0][0], "-"), words.percent(row.probability)
            decision = words("accept" if row.decision == ACCEPT else "review")
        body.append(
            f'<td>{words.number(row.number)}</td><td class="left">{as_html(row.text)}</td><td class="left">'
            f"{as_html(name)}</td><td>{as_html(probability)}</td><td>{as_html(decision)}</td>"
        )
    head = "".join(
        f'<th scope="col" class="{"left" if key in ("product", "category") else ""}">{as_html(words(key))}</th>'
        for key in ("row", "product", "category", "probability", "decision")
    )
    return card_html(words("preview"), table_html(words("preview"), head, body))


def metrics_html(measures: BatchMetrics, words: Translator) -> str:
    """Accuracy and weighted F1 against the file's own labels, and which labels say nothing or name no category."""
    tiles = tiles_html(
        (value, words(key), "")
        for key, value in (
            ("measured_rows", words.number(measures.rows)),
            ("accuracy", words.number(measures.accuracy, 3)),
            ("weighted_f1", words.number(measures.weighted_f1, 3)),
        )
    )
    counts = (
        ("measured_unscored", measures.unscored, ()),
        ("measured_unlabelled", measures.unlabelled, ()),
        ("measured_unknown", sum(measures.unknown.values()), measures.unknown),
        ("measured_unreadable", sum(measures.unreadable.values()), measures.unreadable),
    )
    notes = "".join(
        hint_html(words(key, count=count, examples=_listed(examples))) for key, count, examples in counts if count
    )
    return card_html(words("measured"), f'<div class="tiles">{tiles}</div>{notes}')


def _listed(values: Iterable[object]) -> str:
    """The first few values, shortened: "7, 8, …"."""
    texts = [shortened(str(value)) for value in values]
    return ", ".join([*texts[:_MAX_LISTED], *["…"] * (len(texts) > _MAX_LISTED)])


def _per_category(summary: CatalogSummary, categories: Sequence[Category], words: Translator) -> str:
    counts = [(each, summary.per_category.get(each.prdtypecode, 0)) for each in categories]
    most = max(summary.per_category.values(), default=0)
    bars = "".join(
        f'<li><span class="bar-row">{bar_html(each, words.number(count), count / most, words)}</span></li>'
        for each, count in sorted(counts, key=lambda item: (-item[1], item[0].index))
        if count
    )
    title = as_html(words("per_category"))
    return f'<section><h3>{title}</h3><ol class="bars two-columns">{bars}</ol></section>' if bars else ""


def _problems(summary: CatalogSummary, words: Translator) -> str:
    if not summary.problems:
        return ""
    items = ""
    for row in summary.problems:
        number = words.number(row.number)
        place = f"{words('row')} {number}"
        if row.line is not None:
            place = words("row_line", row=number, line=row.line)
        sentence = words("problem_row", place=place, sentence=translate_error(row.problem, words))
        items += f"<li>{as_html(sentence)}</li>"
    more = summary.noted - len(summary.problems)
    rest = hint_html(words("and_more", count=more)) if more > 0 else ""
    return f'<section><h3>{as_html(words("problem_rows"))}</h3><ul class="problems">{items}</ul>{rest}</section>'
