"""The small pieces of HTML that every view is made of."""

from __future__ import annotations

from html import escape

from rakuten_models.product import Category


def problem_html(sentence: str) -> str:
    """The answer's place when nothing could be classified.

    Args:
        sentence: What is wrong and what to do, as plain text.
    """
    return f'<div class="answer problem" role="alert"><p>{as_html(sentence)}</p></div>'


def card_html(title: str, content: str) -> str:
    """A card with a title of plain text around HTML; "" around nothing."""
    return (
        f'<div class="answer"><h2 class="card-title">{as_html(title)}</h2>{content}</div>' if content else ""
    )


def _code(category: Category) -> str:
    return f'<span class="code">{category.prdtypecode}</span>'


def as_html(text: object) -> str:
    """Plain text as HTML; "$" and braces too, which Gradio's HTML component takes for its own templates."""
    return escape(str(text)).replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")
