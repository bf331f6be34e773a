"""The process that loads a bundle first (see `rakuten_models.trust`): does with it all that a caller might.

    python -m rakuten_models.trial FOLDER SHA256 SECONDS BYTES

Runs nothing from the bundle itself: JSON, a tokenizer file and three compiled models are read, no pickle, no Keras.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy
from ai_edge_litert import schema_py_generated as schema

from rakuten_models.bundle import SERVING_MODEL_FILES, BundleError
from rakuten_models.classifier import ProductClassifier, self_check_product
from rakuten_models.explain import Explanation
from rakuten_models.product import Product
from rakuten_models.trust import trial_process

# More texts than one task of the text side holds, of lengths that make it resize the model.
_TEXTS = 40
# Logits: what rounding makes of sums over hundreds of rows.
_TOLERANCE = 1e-2
_FLOATS = {
    schema.TensorType.FLOAT16: "<f2",
    schema.TensorType.FLOAT32: "<f4",
    schema.TensorType.FLOAT64: "<f8",
}


def attempt(folder: Path, config_sha256: str) -> None:
    """Load a bundle, look at all its numbers, reproduce its self-check, and ask it in every way there is.

    Args:
        folder: The bundle's.
        config_sha256: Of its config.json.

    Raises:
        BundleError: What is wrong with it.
    """
    classifier = ProductClassifier(folder, config_sha256=config_sha256)
    for name in SERVING_MODEL_FILES:
        check_numbers(folder / name)
    classifier.reproduce_self_check()
    checked = [self_check_product(entry) for entry in classifier.config.self_check["products"]]
    others = [
        Product(designation="pool 12 " * number, description="garden " * number**2)
        for number in range(1, _TEXTS)
    ]
    # Refuses what is no number.
    classifier.predict(checked + others)
    for product in [*checked, others[-1]]:
        explanation = classifier.explain(product)
        if not _adds_up(explanation):
            raise BundleError(
                f"The bundle {str(folder)!r} explains its answers with figures that do not add up to them; download or "
                "train the bundle again."
            )


def check_numbers(path: Path) -> None:
    """Refuse a compiled model with a weight that is NaN or infinite, also where the self-check does not read it.

    Raises:
        BundleError: There is one.
    """
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for tensor in (graph.Tensors(place) for place in range(graph.TensorsLength())):
            values = [_scales(tensor)]
            if tensor.Type() in _FLOATS:
                values.append(_weights(model.Buffers(tensor.Buffer()), _FLOATS[tensor.Type()]))
            if not all(numpy.isfinite(each).all() for each in values):
                name = (tensor.Name() or b"").decode("utf-8", "replace")[:60]
                raise BundleError(
                    f"{path} holds weights that are no numbers (NaN or infinity, in {name!r}); download or train the "
                    "bundle again."
                )


def _scales(tensor: Any) -> numpy.ndarray:
    quantization = tensor.Quantization()
    found = quantization.ScaleAsNumpy() if quantization else 0
    # 0 where there are none.
    return numpy.asarray(found, numpy.float32)


def _weights(buffer: Any, kind: str) -> numpy.ndarray:
    found = buffer.DataAsNumpy()
    # 0 where there are none, as for what the model computes itself.
    return numpy.zeros(0) if isinstance(found, int) else numpy.frombuffer(found.tobytes(), kind)


def _adds_up(explanation: Explanation) -> bool:
    """Whether words and heat map are the parts of the scores that they are shown as."""
    sums = [(explanation.score, explanation.score)]
    if explanation.text_score is not None:
        words = sum(word.contribution for word in explanation.words)
        sums.append((explanation.base + words, explanation.text_score))
    if explanation.heat_map is not None:
        sums.append((float(explanation.heat_map.mean()), explanation.image_score))
    return all(abs(found - wanted) <= _TOLERANCE * (1 + abs(wanted)) for found, wanted in sums)


if __name__ == "__main__":
    sys.exit(trial_process(attempt))
