"""The bundle's side of the benchmark: its answers through the classifier that serves, its size, its training time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.tables import PRECISION, MethodResult
from rakuten_models import ProductClassifier
from rakuten_models.bundle.config import MODEL_NAMES, SERVING_MODEL_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.product import Product
from training.evaluate import score_catalog

OURS = "ours"

OUR_TEXT = "ours, text alone"

OUR_IMAGE = "ours, picture alone"

# What answers a product with one side, or with both: which models were trained for it, and which files are stored.
_PARTS = {
    "text": (("text",), (TOKENIZER_FILE, SERVING_MODEL_FILES[0])),
    "image": (("image",), (SERVING_MODEL_FILES[1],)),
    "both": (MODEL_NAMES, (TOKENIZER_FILE, *SERVING_MODEL_FILES)),
}


def bundle_answers(
    classifier: ProductClassifier, part: str, products: Sequence[Product], progress: bool = False
) -> MethodResult:
    """Asks the bundle as an app would.

    Args:
        classifier: the bundle, loaded.
        part: "text", "image" or "both": what the products have.
        products: n products, each of which can be answered.
        progress: whether to show a bar.
    """
    models, files = _PARTS[part]
    started = time.perf_counter()
    predictions = score_catalog(classifier, products, progress)
    seconds = time.perf_counter() - started
    return MethodResult(
        np.stack([prediction.probabilities for prediction in predictions]),
        sum(classifier.config.files[name]["size"] for name in files) / 1e6,
        _training_seconds(classifier.config, models),
        len(products) / seconds,
        classifier.config.thresholds[PRECISION]["probability"],
    )


def _training_seconds(config: BundleConfig, models: Sequence[str]) -> float | None:
    """How long the stages of these models took; None if the bundle does not say."""
    seconds = [config.training.get(model, {}).get("seconds") for model in models]
    return None if None in seconds else sum(seconds)
