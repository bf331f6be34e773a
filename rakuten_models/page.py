"""The app's words and HTML: the head of the page, the answer, and the sentences for when there is none.

Every function takes values and returns a string, without Gradio, so that a test reads what a visitor sees.
What came from a visitor (a file's name in a sentence) or from a bundle (names of categories) is escaped
here, nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy

from rakuten_models.classify import best_category, decision_sentence, percent
from rakuten_models.product import ACCEPT, Category, Prediction

STYLE_FILE = Path(__file__).parent / "page.css"
EXAMPLES_FOLDER = Path(__file__).parent / "examples"

_SHOWN_AT_ONCE = 5

# What a button says, and the designation, description and picture it fills in.
EXAMPLES = (
    (
        "Sofa\nFrench",
        "Canapé d'angle 5 places en tissu gris avec méridienne",
        "Structure en bois massif, assises en mousse haute densité. Dimensions 240 x 160 x 85 cm.",
        "sofa.jpg",
    ),
    ("Pool\npicture only", "", "", "pool.jpg"),
    (
        "Controller\nEnglish",
        "Wireless controller for console and PC, dual vibration, black",
        "20 hours of battery life, headset jack, USB-C charging cable included.",
        "controller.jpg",
    ),
    (
        "Drill\nFrench text",
        "Perceuse visseuse sans fil 18 V avec 2 batteries et mallette",
        "Mandrin 13 mm, 2 vitesses, éclairage LED. Livrée avec 30 embouts et forets.",
        None,
    ),
    (
        "Cushion cover\nGerman text",
        "Kissenbezug 45 x 45 cm, Kissenhülle für Sofa",
        "Weicher Stoff mit Reißverschluss, waschbar.",
        None,
    ),
    ("Dragons\ndoubtful", "Coffret Dragons", "Très bon état.", "book.jpg"),
)


def head_html(categories: Sequence[Category], bundle_name: str, revision: str | None) -> str:
    """Title, one line of explanation, and which bundle answers.

    Args:
        categories: The bundle's.
        bundle_name: A hub id or a folder's name.
        revision: The hub commit, 40 hex digits; None for a folder.
    """
    version = f' <code title="{_text(revision)}">{_text(revision[:7])}</code>' if revision else ""
    return (
        '<header class="page-head"><h1>Product classifier</h1>'
        f"<p>Describe a product, show it, or both: three models choose one of {len(categories)} "
        "shop categories and say how sure they are.</p>"
        f'<p class="bundle"><span>Bundle</span> {_text(bundle_name)}{version}</p></header>'
    )


def empty_html() -> str:
    """What stands where the answer will be."""
    return (
        '<div class="answer empty"><p class="empty-title">The answer appears here</p>'
        "<p>Type a designation and press Enter, drop a picture, or try one of the examples.</p></div>"
    )


def problem_html(sentence: str) -> str:
    """The answer's place when nothing could be classified.

    Args:
        sentence: What is wrong and what to do, as plain text.
    """
    return f'<div class="answer problem" role="alert"><p>{_text(sentence)}</p></div>'


def answer_html(prediction: Prediction, threshold: float | None) -> str:
    """The answer to one product.

    Args:
        prediction: What `ProductClassifier.predict` gave for it in a list.
        threshold: The least probability that is accepted, 0 to 1; None if none is.
    """
    if prediction.category is None:
        return problem_html(prediction.error or "This product could not be classified.")
    return (
        f'<div class="answer" role="status">{_verdict(prediction, threshold)}{_sides(prediction)}'
        f"{_probabilities(prediction)}</div>"
    )


def _verdict(prediction: Prediction, threshold: float | None) -> str:
    category = prediction.category
    english, french = category.name("en"), category.name("fr")
    second_name = f'<span lang="fr">{_text(french)}</span> · ' if french != english else ""
    accepted = prediction.decision == ACCEPT
    note = ""
    if prediction.error:
        note = f'<p class="note">{_text(prediction.error)} This answer comes from the text alone.</p>'
    return (
        f'<section class="verdict"><div class="verdict-name"><h2>{_text(english)}</h2>'
        f"<p>{second_name}prdtypecode {_code(category)}</p></div>"
        f'<div class="verdict-probability"><strong>{_text(percent(prediction.probability))}</strong>'
        "<span>probability</span></div>"
        f'<p class="decision {"accept" if accepted else "review"}"><b>{"Accept" if accepted else "Review"}</b>'
        f"<span>{_text(decision_sentence(prediction, threshold))}</span></p>{note}</section>"
    )


def _sides(prediction: Prediction) -> str:
    """Text, picture and fusion side by side, and how far fusion trusted the picture."""
    text, image = prediction.text_probabilities, prediction.image_probabilities
    both = text is not None and image is not None
    absent_picture = "Not readable" if prediction.error else "No picture given"
    cells = (
        _side("Text", text, "No text given", prediction)
        + _side("Picture", image, absent_picture, prediction)
        + _side("Fusion", prediction.probabilities if both else None, "Needs text and picture", prediction)
    )
    trust = ""
    if both:
        picture_share = f"{prediction.image_weight:.0%}"
        text_share = f"{1 - round(prediction.image_weight, 2):.0%}"
        trust = (
            f'<div class="trust"><span>Text {text_share}</span>'
            f'<div class="trust-bar" role="img" aria-label="Fusion trusted the text {text_share} and the picture '
            f'{picture_share}"><i style="width:{100 * (1 - prediction.image_weight):.1f}%"></i></div>'
            f"<span>Picture {picture_share}</span></div>"
            '<p class="hint">How far fusion trusted each side for this product.</p>'
        )
    return f'<section><h3>The three models</h3><div class="sides">{cells}</div>{trust}</section>'


def _side(title: str, probabilities: numpy.ndarray | None, absent: str, prediction: Prediction) -> str:
    if probabilities is None:
        return f'<div class="side absent"><h4>{title}</h4><p>{absent}</p></div>'
    category, probability = best_category(prediction.categories, probabilities)
    differs = "" if category.index == prediction.category.index else '<span class="differs">differs</span>'
    return (
        f'<div class="side"><h4>{title}{differs}</h4><p class="side-name">{_text(category.name("en"))}</p>'
        f'<p class="side-probability">{_text(percent(probability))} {_code(category)}</p></div>'
    )


def _probabilities(prediction: Prediction) -> str:
    """The first five categories as bars, the others on demand."""
    ranked = prediction.top(len(prediction.categories))
    others = ""
    if len(ranked) > _SHOWN_AT_ONCE:
        rows = "".join(_bar(*item) for item in ranked[_SHOWN_AT_ONCE:])
        others = (
            f'<details><summary><span class="closed">Show all {len(ranked)} categories</span>'
            f'<span class="open">Show the first {_SHOWN_AT_ONCE} only</span></summary>'
            f'<ol class="bars" start="{_SHOWN_AT_ONCE + 1}">{rows}</ol></details>'
        )
    rows = "".join(_bar(*item) for item in ranked[:_SHOWN_AT_ONCE])
    return f'<section><h3>Probabilities</h3><ol class="bars">{rows}</ol>{others}</section>'


def _bar(category: Category, probability: float) -> str:
    return (
        f'<li><span class="bar-name">{_text(category.name("en"))} {_code(category)}</span>'
        f'<span class="bar-value">{_text(percent(probability))}</span>'
        f'<span class="bar" aria-hidden="true"><i style="width:{100 * probability:.2f}%"></i></span></li>'
    )


def _code(category: Category) -> str:
    return f'<span class="code">{category.prdtypecode}</span>'


def _text(text: str) -> str:
    """Plain text as HTML; "$" and braces too, which Gradio's HTML component takes for its own templates."""
    return escape(text).replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")
