"""Why a category: the HTML of an explanation (marked words, a heat map) and its plain values for programs."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import as_html, hint_html
from rakuten_models.formatting import shortened
from rakuten_models.inference.explanation import Explanation, heat_map_image, highlight_segments

# Words in the sentence below the marked text, and characters of one.
_MOST = 5

_LONGEST = 40


def why_html(explanation: Explanation, words: Translator) -> str:
    """What spoke for and against a category, as a card."""
    category = explanation.category
    chosen = explanation.prediction.category
    back = ""
    if chosen is not None and chosen.index != category.index:
        back = (
            f'<p class="back"><button type="button" class="link" data-code="{chosen.prdtypecode}">'
            f"{as_html(words('why_back'))}: {as_html(chosen.name(words.language))}</button></p>"
        )
    title = words("why_title", category=words.quoted(category.name(words.language)))
    return (
        f'<div class="answer why"><section><h3>{as_html(title)} <span class="code">{category.prdtypecode}</span>'
        f"</h3>{back}{_words_html(explanation, words)}</section>"
        f"{_picture_html(explanation, words)}{_parts_html(explanation, words)}</div>"
    )


def explanation_to_json(explanation: Explanation) -> dict[str, Any]:
    """One explanation as plain values, for `/explain`."""
    category = explanation.category
    heat_map, probabilities = explanation.heat_map, explanation.prediction.probabilities
    assert probabilities is not None, "what is explained was scored"
    return {
        "prdtypecode": category.prdtypecode,
        "category": {code: category.name(code) for code in ("en", "fr")},
        "probability": float(probabilities[category.index]),
        "texts": dict(explanation.texts),
        "words": [dataclasses.asdict(word) for word in explanation.words],
        "base": _plain(explanation.base),
        "text_score": _plain(explanation.text_score),
        "heat_map": None if heat_map is None else [[round(float(v), 4) for v in row] for row in heat_map],
        "image_score": _plain(explanation.image_score),
        "score": explanation.score,
        "text_part": explanation.text_part,
        "image_part": explanation.image_part,
    }


def _words_html(explanation: Explanation, words: Translator) -> str:
    if explanation.prediction.text_probabilities is None:
        return hint_html(words("why_no_text"))
    if not explanation.words:
        return hint_html(words("why_no_words"))
    strongest = max(abs(word.contribution) for word in explanation.words) or 1.0
    texts = []
    for field, text in explanation.texts.items():
        if not text:
            continue
        of_field = tuple(word for word in explanation.words if word.field == field)
        marked = "".join(
            _segment(segment, contribution, strongest, words)
            for segment, contribution in highlight_segments(text, of_field)
        )
        texts.append(f'<h4>{as_html(words(field))}</h4><p class="marked">{marked}</p>')
    legend = (
        f'<p class="legend"><span class="for">{as_html(words("why_for"))}</span>'
        f'<span class="against">{as_html(words("why_against"))}</span></p>'
    )
    return f"{legend}{''.join(texts)}{_most(explanation, words)}"


def _segment(segment: str, contribution: float | None, strongest: float, words: Translator) -> str:
    share = 0.0 if contribution is None else abs(contribution) / strongest
    if contribution is None or share < 0.02:
        return as_html(segment)
    kind = "for" if contribution > 0 else "against"
    meaning = words("why_for" if contribution > 0 else "why_against")
    value = words.number(contribution, 2, signed=True)
    return (
        f'<mark class="{kind}" style="--share:{100 * share:.0f}%" title="{as_html(f"{value} {meaning}")}">'
        f"{as_html(segment)}</mark>"
    )


def _most(explanation: Explanation, words: Translator) -> str:
    """The strongest words as a sentence, which colours alone would keep from some readers."""
    ranked = sorted(explanation.words, key=lambda word: -abs(word.contribution))

    def listed(sign: int) -> str:
        found = [word for word in ranked if word.contribution * sign > 0][:_MOST]
        return ", ".join(
            f"{shortened(word.text, _LONGEST)} ({words.number(word.contribution, 2, signed=True)})" for word in found
        ) or words("why_none")

    sentence = words("why_most", positive=listed(1), negative=listed(-1))
    assert explanation.base is not None and explanation.text_score is not None, "there are words"
    base, score = words.number(explanation.base, 2), words.number(explanation.text_score, 2)
    method = words("why_exact", base=base, score=score)
    return f'<p class="sentence">{as_html(sentence)}</p>{hint_html(method)}'


def _picture_html(explanation: Explanation, words: Translator) -> str:
    if explanation.heat_map is None or explanation.picture is None:
        return ""
    drawn = heat_map_image(explanation.picture, explanation.heat_map)
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=82)
    # Inside the page, not a file: nothing of a visitor's picture is left on the disk for it.
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    label = words("why_heat_alt", category=explanation.category.name(words.language))
    return (
        f'<section class="heat"><h4>{as_html(words("why_picture"))}</h4>'
        f'<img src="data:image/jpeg;base64,{data}" alt="{as_html(label)}" width="{drawn.width}" '
        f'height="{drawn.height}">{hint_html(words("why_heat"))}</section>'
    )


def _parts_html(explanation: Explanation, words: Translator) -> str:
    """What text and picture each added to fusion's score."""
    if explanation.text_part is None or explanation.image_part is None:
        return ""
    sentence = words(
        "why_parts",
        score=words.number(explanation.score, 2),
        text=words.number(explanation.text_part, 2, signed=True),
        image=words.number(explanation.image_part, 2, signed=True),
    )
    return f'<section><p class="sentence">{as_html(sentence)}</p></section>'


def _plain(value: float | None) -> float | None:
    return None if value is None else float(value)
