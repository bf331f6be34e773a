"""The small pieces of HTML that every view is made of; text is plain unless a name ends in `_html`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from rakuten_models.app.i18n.messages import Translator
from rakuten_models.product import Category


def as_html(text: object) -> str:
    """Plain text as HTML; "$" and braces too, which Gradio's HTML component takes for its own templates."""
    return escape(str(text)).replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def problem_html(sentence: str) -> str:
    """Instead of an answer: what is wrong and what to do."""
    return f'<div class="answer problem" role="alert"><p>{as_html(sentence)}</p></div>'


def message_html(sentence: str) -> str:
    """A remark; "" for none."""
    return f'<p class="sentence" role="status">{as_html(sentence)}</p>' if sentence else ""


def hint_html(sentence: str) -> str:
    """A remark in small letters."""
    return f'<p class="hint">{as_html(sentence)}</p>'


def card_html(title: str, content_html: str) -> str:
    """A card with a title; "" around nothing."""
    heading = f'<h2 class="card-title">{as_html(title)}</h2>'
    return f'<div class="answer">{heading}{content_html}</div>' if content_html else ""


def code_html(category: Category) -> str:
    """A category's prdtypecode."""
    return f'<span class="code">{category.prdtypecode}</span>'


def bar_html(category: Category, value: str, share: float, words: Translator) -> str:
    """A category's name, code and value, and a bar of the given share (0 to 1) of the width."""
    return (
        f'<span class="bar-name">{as_html(category.name(words.language))} {code_html(category)}</span>'
        f'<span class="bar-value">{as_html(value)}</span>'
        f'<span class="bar" aria-hidden="true"><i style="width:{100 * min(max(share, 0), 1):.2f}%"></i></span>'
    )


def tiles_html(tiles: Iterable[tuple[str, str, str]]) -> str:
    """Large numbers: (value, label, CSS class) of each."""
    return "".join(
        f'<div class="tile {kind}"><strong>{as_html(value)}</strong><span>{as_html(label)}</span></div>'
        for value, label, kind in tiles
    )


def table_html(label: str, head_html: str, rows_html: Sequence[str]) -> str:
    """A table that scrolls where it is too wide, from the cells of each row; screen readers say the label."""
    rows = "".join(f"<tr>{row}</tr>" for row in rows_html)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{as_html(label)}"><table class="plain">'
        f"<thead><tr>{head_html}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
