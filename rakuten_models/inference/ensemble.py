"""Runs the three models of a bundle on products and combines what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rakuten_models.product import Product


@dataclass
class ModelOutputs:
    """What the models say of some products.

    Attributes:
        errors: For each product why it, or its picture, was left out; None if it was not.
        with_text: Products with a text, growing.
        with_image: Products with a picture that can be read, growing.
        with_both: Those in both lists, growing.
        text: The text model's outputs for `with_text`, None if there are none.
        image: The image model's for `with_image`.
        fusion: The fusion model's for `with_both`.
    """

    errors: list[str | None]
    with_text: list[int] = field(default_factory=list)
    with_image: list[int] = field(default_factory=list)
    with_both: list[int] = field(default_factory=list)
    text: dict[str, np.ndarray] | None = None
    image: dict[str, np.ndarray] | None = None
    fusion: dict[str, np.ndarray] | None = None


def _wrong_type(product: Any) -> str | None:
    """Why this is not a product that can be read at all, or None."""
    if not isinstance(product, Product):
        return f"A {type(product).__name__} was given where a Product is expected; wrap it: Product(designation=...)."
    for name in ("designation", "description"):
        if not isinstance(getattr(product, name), str):
            kind = type(getattr(product, name)).__name__
            return f"The {name} is a {kind}; give a string, '' if there is none."
    return None
