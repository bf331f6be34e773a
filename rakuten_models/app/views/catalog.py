"""The Catalog page's HTML: progress, what a scored catalog holds, its measures and its first rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rakuten_models.app.catalog_summary import CatalogSummary, ScoredRow
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, card_html, problem_html
from rakuten_models.batch.evaluation import BatchMetrics
from rakuten_models.formatting import shortened
from rakuten_models.product import ACCEPT, Category

_MAX_LISTED = 5


def message_html(sentence: str) -> str:
    """A remark in the progress bar's place, as plain text."""
    return f'<p class="sentence" role="status">{as_html(sentence)}</p>' if sentence else ""


def progress_html(
    done: int, total: int | None, rate: float, seconds_left: float | None, words: Translator
) -> str:
    """The progress bar with rate and time left.

    Args:
        done: Rows scored.
        total: Rows to score; None if that is not known yet.
        rate: Rows a second.
        seconds_left: Until the end; None if that is not known yet.
        words: In the visitor's language.
    """
    share = min(1.0, done / total) if total else 0.0
    values = {"done": words.number(done), "rate": words.number(rate)}
    if not done:
        sentence = words("starting")
    elif total and seconds_left is not None:
        left = words.duration(seconds_left)
        sentence = words("progress", total=words.number(total), left=left, **values)
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
    """How many were accepted, left to a person or failed; a bar for each category; what was wrong, row by row.

    Args:
        summary: Of the scored catalog.
        categories: The bundle's.
        seconds: How long it took.
        rate: Rows a second.
        words: In the visitor's language.
    """
    tiles = "".join(
        f'<div class="tile {kind}"><strong>{words.number(count)}</strong><span>{as_html(words(key))}</span></div>'
        for key, count, kind in (
            ("accepted", summary.accepted, "accept"),
            ("to_review", summary.to_review, "review"),
            ("failed", summary.failed, ""),
        )
    )
    took = words("scored_time", seconds=words.duration(seconds), rate=words.number(rate))
    title = words("scored_title", count=words.number(summary.rows - summary.failed))
    return (
        f'<div class="answer"><section><h2 class="scored-title">{as_html(title)}</h2>'
        f'<p class="hint">{as_html(took)}</p><div class="tiles">{tiles}</div></section>'
        f"{_per_category(summary, categories, words)}{_problems(summary, words)}</div>"
    )


def preview_html(rows: Sequence[ScoredRow], categories: Sequence[Category], words: Translator) -> str:
    """The first rows as a table: number, product, category, probability, decision."""
    names = {category.prdtypecode: category for category in categories}
    body = []
    for row in rows:
        category = names.get(row.top[0][0]) if row.top else None
        name = "-" if category is None else f"{category.name(words.language)} ({category.prdtypecode})"
        probability = words.percent(row.probability) if row.top else "-"
        decision = words("accept" if row.decision == ACCEPT else "review") if row.top else words("not_scored")
        body.append(
            f'<tr><td>{words.number(row.number)}</td><td class="left">{as_html(row.text)}</td>'
            f'<td class="left">{as_html(name)}</td><td>{as_html(probability)}</td>'
            f"<td>{as_html(decision)}</td></tr>"
        )
    return _table_card(
        words("preview"),
        (
            ("row", ""),
            ("product", "left"),
            ("category", "left"),
            ("probability", ""),
            ("decision", ""),
        ),
        body,
        words,
    )


def metrics_html(measures: BatchMetrics, words: Translator) -> str:
    """Accuracy and weighted F1 against the file's own labels, and which labels say nothing or name no category."""
    tiles = "".join(
        f'<div class="tile"><strong>{as_html(value)}</strong><span>{as_html(words(key))}</span></div>'
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
        f'<p class="hint">{as_html(words(key, count=words.number(count), examples=_listed(examples)))}</p>'
        for key, count, examples in counts
        if count
    )
    return card_html(words("measured"), f'<div class="tiles">{tiles}</div>{notes}')


def _listed(values: Iterable[object]) -> str:
    """The first few values, shortened: "7, 8, …"."""
    texts = [shortened(str(value)) for value in values]
    return ", ".join([*texts[:_MAX_LISTED], *["…"] * (len(texts) > _MAX_LISTED)])


def failure_html(sentence: str) -> str:
    """In the progress bar's place: why a catalog was not scored, as plain text."""
    return problem_html(sentence)


def _per_category(summary: CatalogSummary, categories: Sequence[Category], words: Translator) -> str:
    counts = summary.per_category
    most = max(counts.values(), default=0)
    bars = []
    for category in sorted(categories, key=lambda each: (-counts.get(each.prdtypecode, 0), each.index)):
        count = counts.get(category.prdtypecode)
        if count:
            bars.append(
                f'<li><span class="bar-row"><span class="bar-name">{as_html(category.name(words.language))} '
                f'<span class="code">{category.prdtypecode}</span></span>'
                f'<span class="bar-value">{words.number(count)}</span><span class="bar" aria-hidden="true">'
                f'<i style="width:{100 * count / most:.1f}%"></i></span></span></li>'
            )
    if not bars:
        return ""
    title = as_html(words("per_category"))
    return f'<section><h3>{title}</h3><ol class="bars two-columns">{"".join(bars)}</ol></section>'


def _problems(summary: CatalogSummary, words: Translator) -> str:
    if not summary.problems:
        return ""

    def item(row: ScoredRow) -> str:
        sentence = translate_error(row.problem, words)
        return f"<li>{as_html(words('problem_row', place=_place(row, words), sentence=sentence))}</li>"

    items = "".join(item(row) for row in summary.problems)
    more = summary.noted - len(summary.problems)
    rest = f'<p class="hint">{as_html(words("and_more", count=words.number(more)))}</p>' if more > 0 else ""
    return (
        f'<section><h3>{as_html(words("problem_rows"))}</h3><ul class="problems">{items}</ul>{rest}</section>'
    )


def _place(row: ScoredRow, words: Translator) -> str:
    number = words.number(row.number)
    if row.line is None:
        return f"{words('row')} {number}"
    return words("row_line", row=number, line=words.number(row.line))


def _table_card(
    title: str, columns: Sequence[tuple[str, str]], rows: Sequence[str], words: Translator
) -> str:
    head = "".join(f'<th scope="col" class="{kind}">{as_html(words(key))}</th>' for key, kind in columns)
    return card_html(
        title,
        f'<div class="scroll" tabindex="0" role="region" aria-label="{as_html(title)}"><table class="plain"><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
    )
