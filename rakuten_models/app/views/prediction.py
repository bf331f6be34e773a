"""The classify page's HTML: the head, the answer to one product, and the sentences for when there is none.

What came from a visitor (a file's name in a sentence) or from a bundle (names of categories) goes through `as_html`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, bar_html, code_html, hint_html, problem_html
from rakuten_models.bundle.config import DEFAULT_PRECISION
from rakuten_models.formatting import best_category
from rakuten_models.product import ACCEPT, Category, Prediction

_SHOWN_AT_ONCE = 5

ENGLISH = Translator()


def head_html(
    categories: Sequence[Category], bundle_name: str, revision: str | None, words: Translator = ENGLISH
) -> str:
    """Title, one line of explanation, and which bundle answers: its hub id and commit, or its folder's name."""
    version = f' <code title="{as_html(revision)}">{as_html(revision[:7])}</code>' if revision else ""
    return (
        f'<header class="page-head" lang="{words.language}"><h1>{as_html(words("title"))}</h1>'
        f"<p>{as_html(words('subtitle', count=len(categories)))}</p>"
        f'<p class="bundle"><span>{as_html(words("bundle"))}</span> {as_html(bundle_name)}{version}</p></header>'
    )


def empty_html(words: Translator = ENGLISH) -> str:
    """What stands where the answer will be."""
    return (
        f'<div class="answer empty"><p class="empty-title">{as_html(words("empty_title"))}</p>'
        f"<p>{as_html(words('empty_text'))}</p></div>"
    )


def answer_html(
    prediction: Prediction,
    threshold: float | None,
    words: Translator = ENGLISH,
    *,
    own_threshold: bool = False,
    chooses: bool = True,
) -> str:
    """The answer to one product.

    Args:
        prediction: What `ProductClassifier.predict` gave for it in a list.
        threshold: The least probability that is accepted, 0 to 1; None if none is.
        words: In the visitor's language.
        own_threshold: The visitor set that threshold; otherwise it is the bundle's.
        chooses: The categories are buttons that choose what is explained.
    """
    if prediction.category is None:
        sentence = translate_error(prediction.error, words) if prediction.error else words("not_classified")
        return problem_html(sentence)
    return (
        f'<div class="answer" role="status">{_verdict(prediction, threshold, words, own_threshold)}'
        f"{_modalities(prediction, words)}{_probabilities(prediction, words, chooses)}</div>"
    )


def _decision(prediction: Prediction, threshold: float | None, words: Translator, own_threshold: bool) -> str:
    """Why the decision is what it is."""
    precision = words.whole_percent(float(DEFAULT_PRECISION))
    if threshold is None:
        return words("no_level", precision=precision)
    key = ("reaches" if prediction.decision == ACCEPT else "below") + ("_own" if own_threshold else "")
    return words(key, level=words.percent(threshold), precision=precision)


def _verdict(prediction: Prediction, threshold: float | None, words: Translator, own_threshold: bool) -> str:
    category, probability = prediction.category, prediction.probability
    assert category is not None and probability is not None, "a verdict is given of what was scored"
    other = "en" if words.language == "fr" else "fr"
    name, second = category.name(words.language), category.name(other)
    second_name = f'<span lang="{other}">{as_html(second)}</span> · ' if second != name else ""
    decision = "accept" if prediction.decision == ACCEPT else "review"
    note = ""
    if prediction.error:
        reason = f"{translate_error(prediction.error, words)} {words('text_only_note')}"
        note = f'<p class="note">{as_html(reason)}</p>'
    return (
        f'<section class="verdict"><div class="verdict-name"><h2>{as_html(name)}</h2>'
        f"<p>{second_name}prdtypecode {code_html(category)}</p></div>"
        f'<div class="verdict-probability"><strong>{as_html(words.percent(probability))}</strong>'
        f"<span>{as_html(words('probability'))}</span></div>"
        f'<p class="decision {decision}"><b>{as_html(words(decision))}</b>'
        f"<span>{as_html(_decision(prediction, threshold, words, own_threshold))}</span></p>{note}</section>"
    )


def _modalities(prediction: Prediction, words: Translator) -> str:
    """Text, picture and fusion side by side, and how far fusion trusted the picture."""
    text, image = prediction.text_probabilities, prediction.image_probabilities
    both, weight = text is not None and image is not None, prediction.image_weight
    cells = "".join(
        _modality(words(name), probabilities, absent, prediction, words)
        for name, probabilities, absent in (
            ("text", text, words("no_text")),
            ("image", image, words("not_readable" if prediction.error else "no_picture")),
            ("fusion", prediction.probabilities if both else None, words("needs_both")),
        )
    )
    trust = ""
    if both and weight is not None:
        image_share = words.whole_percent(weight)
        text_share = words.whole_percent(1 - round(weight, 2))
        label = words("trust_label", text=text_share, image=image_share)
        trust = (
            f'<div class="trust"><span>{words("text")} {text_share}</span>'
            f'<div class="trust-bar" role="img" aria-label="{as_html(label)}">'
            f'<i style="width:{100 * (1 - weight):.1f}%"></i></div>'
            f"<span>{words('image')} {image_share}</span></div>{hint_html(words('trust'))}"
        )
    return f'<section><h3>{as_html(words("three_models"))}</h3><div class="sides">{cells}</div>{trust}</section>'


def _modality(
    title: str, probabilities: np.ndarray | None, absent: str, prediction: Prediction, words: Translator
) -> str:
    if probabilities is None:
        return f'<div class="side absent"><h4>{as_html(title)}</h4><p>{as_html(absent)}</p></div>'
    category, probability = best_category(prediction.categories, probabilities)
    same = category == prediction.category
    differs = "" if same else f'<span class="differs">{as_html(words("differs"))}</span>'
    return (
        f'<div class="side"><h4>{as_html(title)}{differs}</h4>'
        f'<p class="side-name">{as_html(category.name(words.language))}</p>'
        f'<p class="side-probability">{as_html(words.percent(probability))} {code_html(category)}</p></div>'
    )


def _probabilities(prediction: Prediction, words: Translator, chooses: bool) -> str:
    """The first five categories as bars, the others on demand."""
    ranked = prediction.top(len(prediction.categories))
    bars = [_bar(category, probability, words, chooses) for category, probability in ranked]
    others = ""
    if len(ranked) > _SHOWN_AT_ONCE:
        others = (
            f'<details><summary><span class="closed">{as_html(words("show_all", count=len(ranked)))}</span>'
            f'<span class="open">{as_html(words("show_first", count=_SHOWN_AT_ONCE))}</span></summary>'
            f'<ol class="bars" start="{_SHOWN_AT_ONCE + 1}">{"".join(bars[_SHOWN_AT_ONCE:])}</ol></details>'
        )
    hint = hint_html(words("probabilities_hint")) if chooses else ""
    return (
        f"<section><h3>{as_html(words('probabilities'))}</h3>"
        f'<ol class="bars">{"".join(bars[:_SHOWN_AT_ONCE])}</ol>{others}{hint}</section>'
    )


def _bar(category: Category, probability: float, words: Translator, chooses: bool) -> str:
    row = bar_html(category, words.percent(probability), probability, words)
    if chooses:
        return f'<li><button type="button" class="bar-row" data-code="{category.prdtypecode}">{row}</button></li>'
    return f'<li><span class="bar-row">{row}</span></li>'
