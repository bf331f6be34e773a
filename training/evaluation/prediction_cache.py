"""Predictions that are kept a block at a time, so that an evaluation which was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.classifier import ProductClassifier
from rakuten_models.product import Prediction, Product

_BLOCK = 512

_SIDES = ("probabilities", "text_probabilities", "image_probabilities")

_PLAIN = ("probability", "image_weight", "decision", "error")


def predict_in_blocks(
    classifier: ProductClassifier,
    products: Sequence[Product],
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """What `ProductClassifier.predict` says, kept in a folder.

    Args:
        classifier: Its models tell one set of predictions from another.
        products: Always the same ones in this folder.
        folder: Made if absent.
        progress: Called with how many products are done.
    """
    digest = hashlib.sha256(json.dumps(classifier.config.to_json(), sort_keys=True).encode()).hexdigest()
    place = folder / digest[:24]
    place.mkdir(parents=True, exist_ok=True)
    predictions: list[Prediction] = []
    for start in range(0, len(products), _BLOCK):
        path = place / f"{start}.npz"
        if path.is_file():
            predictions += _read(path, classifier)
        else:
            made = classifier.predict(products[start : start + _BLOCK])
            _write(path, made, len(classifier.categories))
            predictions += made
        if progress:
            progress(len(predictions))
    return predictions


def _write(path: Path, predictions: Sequence[Prediction], categories: int) -> None:
    nothing = np.full(categories, np.nan, np.float32)
    arrays = {
        side: np.stack(
            [nothing if getattr(each, side) is None else getattr(each, side) for each in predictions]
        )
        for side in _SIDES
    }
    plain = [
        {"category": each.category and each.category.index, **{name: getattr(each, name) for name in _PLAIN}}
        for each in predictions
    ]
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        facts = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        np.savez(stream, allow_pickle=False, plain=facts, **arrays)
    os.replace(temporary, path)


def _read(path: Path, classifier: ProductClassifier) -> list[Prediction]:
    with np.load(path) as file:
        arrays = {side: file[side] for side in _SIDES}
        plain = json.loads(bytes(file["plain"]).decode())
    found = []
    for row, values in enumerate(plain):
        index = values.pop("category")
        sides: dict[str, Any] = {
            side: None if np.isnan(rows[row]).all() else rows[row] for side, rows in arrays.items()
        }
        category = None if index is None else classifier.categories[index]
        found.append(Prediction(classifier.categories, category=category, **sides, **values))
    return found
