"""The process that verifies a bundle (see `rakuten_models.bundle.sandbox`) by using all of it.

    python -m rakuten_models.sandbox_worker FOLDER SHA256 SECONDS BYTES

Runs nothing from the bundle itself: JSON, a tokenizer file and three compiled models are read, no pickle, no Keras.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from rakuten_models.bundle.config import SERVING_MODEL_FILES, TOKENIZER_FILE
from rakuten_models.bundle.sandbox import sandbox_process
from rakuten_models.bundle.strict_json import mapping, parse_json, sequence, text, whole_number
from rakuten_models.classifier import ProductClassifier, self_check_product
from rakuten_models.errors import BundleError, reason, shown
from rakuten_models.inference.explanation import Explanation
from rakuten_models.product import Product

# More texts than one task of the text model's runner holds, of lengths that make it resize the model.
_TEXTS = 40

# Logits: what rounding makes of sums over hundreds of rows. And probabilities, whatever else runs beside them.
_TOLERANCE, _SAME = 1e-2, 1e-5

# What calls other graphs may not end; what keeps a state or draws lots answers a product otherwise the next time.
_REFUSED_OPERATORS = frozenset(
    number
    for name, number in vars(schema.BuiltinOperator).items()
    if name.startswith(("STABLEHLO_", "RANDOM_", "HASHTABLE", "CALL"))
    or name in ("ASSIGN_VARIABLE", "CUSTOM", "DELEGATE", "IF", "MULTINOMIAL", "READ_VARIABLE", "VAR_HANDLE", "WHILE")
)

# The only regular expression allowed: another could take years on a certain text.
_PATTERN = {"Regex": r"\w+"}
_NORMALIZERS = frozenset(("Sequence", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Lowercase"))
_PRE_TOKENIZERS = frozenset(("Split", "Whitespace", "WhitespaceSplit"))
_MAX_WORDS, _MAX_ADDED = 10_000_000, 1000

_FLOATS = {schema.TensorType.FLOAT16: "<f2", schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT64: "<f8"}


def verify_bundle(folder: Path, config_sha256: str) -> None:
    """Load a bundle, check all its weights, reproduce its self-check, predict and explain.

    Raises:
        BundleError: What is wrong with the bundle.
    """
    last_word = check_tokenizer(folder / TOKENIZER_FILE)
    for name in SERVING_MODEL_FILES:
        check_model(folder / name)
    classifier = ProductClassifier(folder, config_sha256=config_sha256)
    classifier.reproduce_self_check()
    checked = [self_check_product(entry) for entry in classifier.config.self_check["products"]]
    others = [
        Product(designation="pool 12 " * number, description="garden " * number**2) for number in range(1, _TEXTS)
    ]
    # Refuses what is no number. The word with the highest id reads the end of the model's table.
    together = classifier.predict([*checked, *others, Product(designation=last_word)])
    # After all of these, and one at a time: answers depend on the product alone.
    for product, before in zip(checked, together, strict=False):
        alone = classifier.predict(product).probabilities
        among = before.probabilities
        if alone is None or among is None or not np.allclose(alone, among, atol=_SAME):
            raise BundleError("bundle.answers_depend_on_others", folder=str(folder))
    classifier.reproduce_self_check()
    for product in [*checked, others[-1]]:
        if not _adds_up(classifier.explain(product)):
            raise BundleError("bundle.explanation_does_not_add_up", folder=str(folder))


def check_tokenizer(path: Path) -> str:
    """The word with the highest id of a tokenizer file, if it is of the kind that training writes.

    Raises:
        BundleError: Other parts, a regular expression, or ids that are not 0, 1, 2, ...
    """
    try:
        content = mapping(parse_json(path.read_bytes()), "it")
        kinds = {"normalizer": _NORMALIZERS, "pre_tokenizer": _PRE_TOKENIZERS, "model": {"WordLevel"}}
        for name, allowed in {**kinds, "post_processor": set(), "decoder": set()}.items():
            for part in _parts(content.get(name)):
                if part.get("type") not in allowed or part.get("pattern", _PATTERN) != _PATTERN:
                    raise ValueError(f"its {name} is {shown(part)}")
        for token in sequence(content.get("added_tokens", []), "added_tokens", _MAX_ADDED):
            text(mapping(token, "an added token")["content"], "an added token")
        words = mapping(content["model"]["vocab"], "vocab")
        numbers = {whole_number(number, "an id", 0, _MAX_WORDS) for number in words.values()}
        if not words or len(numbers) != len(words) or max(numbers) != len(words) - 1:
            raise ValueError(f"its {len(words)} words do not have the ids 0, 1, 2, ...")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError("bundle.tokenizer_unknown", file=path, reason=reason(error)) from error
    return max(words, key=words.__getitem__)


def _parts(part: Any) -> list[Mapping[str, Any]]:
    """A part of a tokenizer, which is none, one, or a sequence of them."""
    if part is None:
        return []
    inner = mapping(part, "a part").get("normalizers", [])
    return [part, *(each for entry in sequence(inner, "normalizers", 20) for each in _parts(entry))]


def check_model(path: Path) -> None:
    """BundleError for a compiled model that may not end, keeps a state, or has any weight that is NaN or infinite."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    for code in _all(model, "OperatorCodes"):
        # Small numbers are in the older field.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number in _REFUSED_OPERATORS:
            raise BundleError("bundle.operator_refused", file=path, number=number)
    for graph in _all(model, "Subgraphs"):
        tensors = _all(graph, "Tensors")
        if not _in_order(model, graph, tensors):
            raise BundleError("bundle.graph_out_of_order", file=path)
        for tensor in tensors:
            values = [_scales(tensor)]
            if tensor.Type() in _FLOATS:
                values.append(_weights(model.Buffers(tensor.Buffer()), _FLOATS[tensor.Type()]))
            if not all(np.isfinite(each).all() for each in values):
                name = (tensor.Name() or b"").decode("utf-8", "replace")[:60]
                raise BundleError("bundle.weights_not_finite", file=path, name=name)


def _all(table: Any, field: str) -> list[Any]:
    """The entries of a vector in the file."""
    return [getattr(table, field)(index) for index in range(getattr(table, f"{field}Length")())]


def _in_order(model: Any, graph: Any, tensors: Sequence[Any]) -> bool:
    """Whether each operator reads inputs, weights and earlier results alone, and no result is written twice."""
    # -1 stands for an optional input that is left out.
    known = {-1, *_all(graph, "Inputs")}
    for index, tensor in enumerate(tensors):
        if model.Buffers(tensor.Buffer()).DataLength() or 0 in _all(tensor, "Shape"):
            known.add(index)
        if tensor.IsVariable():
            return False
    for operator in _all(graph, "Operators"):
        results = _all(operator, "Outputs")
        if not known.issuperset(_all(operator, "Inputs")):
            return False
        if not known.isdisjoint(results) or len(set(results)) < len(results):
            return False
        known.update(results)
    return known.issuperset(_all(graph, "Outputs"))


def _scales(tensor: Any) -> np.ndarray:
    quantization = tensor.Quantization()
    found = quantization.ScaleAsNumpy() if quantization else 0
    # 0 where there are none.
    return np.asarray(found, np.float32)


def _weights(buffer: Any, kind: str) -> np.ndarray:
    found = buffer.DataAsNumpy()
    # 0 where there are none, as for what the model computes itself.
    return np.zeros(0) if isinstance(found, int) else np.frombuffer(found.tobytes(), kind)


def _adds_up(explanation: Explanation) -> bool:
    """Whether words and heat map are the parts of the scores that they are shown as."""
    sums = []
    if explanation.text_score is not None and explanation.base is not None:
        words = sum(word.contribution for word in explanation.words)
        sums.append((explanation.base + words, explanation.text_score))
    if explanation.heat_map is not None and explanation.image_score is not None:
        sums.append((float(explanation.heat_map.mean()), explanation.image_score))
    return np.isfinite(explanation.score) and all(
        abs(found - wanted) <= _TOLERANCE * (1 + abs(wanted)) for found, wanted in sums
    )


if __name__ == "__main__":
    sys.exit(sandbox_process(verify_bundle))
