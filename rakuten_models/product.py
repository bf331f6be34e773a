"""What goes in and what comes out: Product, Category, Prediction. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rakuten_models.errors import Message

if TYPE_CHECKING:
    import numpy as np

ACCEPT = "accept"
REVIEW = "review"


@dataclass(frozen=True)
class Category:
    """One kind of product.

    Attributes:
        index: The column of the models' outputs that stands for this category, 0-based.
        prdtypecode: Rakuten's integer code.
        names: Human names by language code, such as `{"en": "Pool equipment", "fr": "Piscine"}`.
    """

    index: int
    prdtypecode: int
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, language: str = "en") -> str:
        """The human name in a language; another language's where that is missing, else the code."""
        if language in self.names:
            return self.names[language]
        return next(iter(self.names.values()), str(self.prdtypecode))


@dataclass(frozen=True, eq=False)
class Product:
    """One item to classify; at least one of the three must be there.

    Attributes:
        designation: The listing's title; "" if absent.
        description: The longer text, HTML allowed; "" if absent.
        image: A file path, the file's bytes, a PIL image, or an array (height, width[, 1, 3 or 4]) of uint8
            0-255; None if absent.
    """

    designation: str = ""
    description: str = ""
    image: Any = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the models say of one product. All probabilities are calibrated.

    Attributes:
        categories: Every category, in the order of the probability arrays.
        category: The most probable one; None if the product could not be scored.
        probability: Its probability, 0 to 1; None if the product could not be scored.
        probabilities: float32 (categories,), sums to 1; None if the product could not be scored.
        text_probabilities: The same from the text alone; None without a text.
        image_probabilities: The same from the picture alone; None without a readable picture.
        image_weight: How far the answer rests on the picture, 0 (text only) to 1 (picture only); None if the
            product could not be scored.
        decision: "accept" if the probability reaches the threshold, else "review".
        error: Why the picture was left out or why the product could not be scored; None if all went well.
    """

    categories: Sequence[Category]
    category: Category | None = None
    probability: float | None = None
    probabilities: np.ndarray | None = None
    text_probabilities: np.ndarray | None = None
    image_probabilities: np.ndarray | None = None
    image_weight: float | None = None
    decision: str = REVIEW
    error: Message | None = None

    def top(self, count: int = 5) -> list[tuple[Category, float]]:
        """The most probable categories with their probabilities, highest first.

        Equal probabilities keep the categories' own order. Empty if the product could not be scored.
        """
        if self.probabilities is None:
            return []
        values = self.probabilities.tolist()
        order = sorted(range(len(values)), key=lambda index: (-values[index], index))
        return [(self.categories[index], values[index]) for index in order[:count]]
