"""Predictions that are cached a block at a time, so that an evaluation which was killed resumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.classifier import ProductClassifier
from rakuten_models.product import Prediction, Product
from training.block_cache import BlockCache

_BLOCK = 512
_ARRAYS = ("probabilities", "text_probabilities", "image_probabilities")
_FACTS = ("probability", "image_weight", "decision", "error")


def predict_in_blocks(
    classifier: ProductClassifier,
    products: Sequence[Product],
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """`ProductClassifier.predict`, cached in a folder.

    Args:
        classifier: Its config is the cache's key.
        products: Always the same ones in this folder.
        folder: Made if absent.
        progress: Called with how many products are done.
    """
    cache = BlockCache(folder, classifier.config.to_json())
    predictions: list[Prediction] = []
    for start in range(0, len(products), _BLOCK):
        saved = cache.load(str(start))
        if saved is not None:
            predictions += _from_saved(*saved, classifier)
        else:
            made = classifier.predict(products[start : start + _BLOCK])
            _save(cache, str(start), made, len(classifier.categories))
            predictions += made
        if progress:
            progress(len(predictions))
    return predictions


def _save(cache: BlockCache, name: str, predictions: Sequence[Prediction], categories: int) -> None:
    nothing = np.full(categories, np.nan, np.float32)
    arrays = {}
    for array in _ARRAYS:
        rows = [getattr(each, array) for each in predictions]
        arrays[array] = np.stack([nothing if row is None else row for row in rows])
    facts = [
        {"category": each.category and each.category.index, **{name: getattr(each, name) for name in _FACTS}}
        for each in predictions
    ]
    cache.save(name, arrays, facts)


def _from_saved(arrays: dict[str, np.ndarray], facts: Any, classifier: ProductClassifier) -> list[Prediction]:
    found = []
    for row, values in enumerate(facts):
        index = values.pop("category")
        present: dict[str, Any] = {
            name: None if np.isnan(rows[row]).all() else rows[row] for name, rows in arrays.items()
        }
        category = None if index is None else classifier.categories[index]
        found.append(Prediction(classifier.categories, category=category, **present, **values))
    return found
