"""A prediction as text for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rakuten_models.bundle.config import DEFAULT_PRECISION
from rakuten_models.product import ACCEPT, Category, Prediction


def decision_sentence(prediction: Prediction, threshold: float | None) -> str:
    """Why the decision is what it is, in words."""
    precision = f"{float(DEFAULT_PRECISION):.0%}"
    if threshold is None:
        return f"This bundle has no level from which {precision} of answers are right; a person should look."
    level = f"{percent(threshold)}, the level from which {precision} of answers were right"
    if prediction.decision == ACCEPT:
        return f"Its probability reaches {level} on validation products."
    return f"Its probability is below {level} on validation products; a person should look."


def percent(probability: float) -> str:
    """A probability for people: "94.2%"; never "100.0%" for what is not certain, nor "0.0%" for what is possible."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return f"{probability:.1%}"


def best_category(categories: Sequence[Category], probabilities: np.ndarray) -> tuple[Category, float]:
    """The most probable category by one model's probabilities, float32 (categories,), with its probability."""
    index = int(probabilities.argmax())
    return categories[index], float(probabilities[index])


def prediction_to_json(prediction: Prediction, threshold: float | None, language: str = "en") -> dict[str, Any]:
    """One prediction as plain values, the same for the app's `/classify` and for `--json`.

    Args:
        prediction: What `ProductClassifier.predict` gave.
        threshold: The one that `predict` decided by.
        language: Of the names in the lists, "en" or "fr".

    Returns:
        {"prdtypecode": int or None, "category": {"en": name, "fr": name} or None, "probability": float or None,
        "decision": "accept" or "review", "threshold": float or None, "image_weight": float or None, "probabilities":
        [{"prdtypecode", "name", "probability"}, ...] highest first, "text" and "image": that model's best entry of the
        same form, or None without its input, "error": sentence or None}.
    """

    def entry(category: Category, probability: float) -> dict[str, Any]:
        code, name = category.prdtypecode, category.name(language)
        return {"prdtypecode": code, "name": name, "probability": probability}

    def best_entry(probabilities: np.ndarray | None) -> dict[str, Any] | None:
        return None if probabilities is None else entry(*best_category(prediction.categories, probabilities))

    category = prediction.category
    return {
        "prdtypecode": None if category is None else category.prdtypecode,
        "category": None if category is None else {code: category.name(code) for code in ("en", "fr")},
        "probability": prediction.probability,
        "decision": prediction.decision,
        "threshold": threshold,
        "image_weight": prediction.image_weight,
        "probabilities": [entry(*item) for item in prediction.top(len(prediction.categories))],
        "text": best_entry(prediction.text_probabilities),
        "image": best_entry(prediction.image_probabilities),
        "error": prediction.error,
    }


def shortened(text: str, most: int = 160) -> str:
    """A text in one line, cut where there is no room for more than so many characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
