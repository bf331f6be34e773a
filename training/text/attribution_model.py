"""The model of attributions: how much each word and each character added to a category.

It shares the text model's layers and is compiled into the same file as a second signature;
rakuten_models/inference/explanation.py turns its numbers into words.
"""

from __future__ import annotations

import re
from typing import Any

import keras

from training.text.features import SPACE, shifted

_WEIGHTED = re.compile(r"weighted_(.+?)((?:_\d+)+)")

# Whose columns a table's rows were made of; a name of `weighted_name` begins with one of these.
_IDS_OF_TABLE = {"word": "token_ids", "character": "character_ids"}


def build_text_explainer(model: keras.Model) -> keras.Model:
    """Builds the explainer of a text model.

    A weighted sum of logits is, given the rectifier's on/off pattern, an exact sum of one number a table row, plus one
    for the bias. A row's number is divided evenly: a pair's among its two words, an n-gram's among its characters but
    spaces.

    Args:
        model: From `build_text_model`, also saved and loaded again.

    Returns:
        A model of the same layers: {"token_ids" int32 (n, t), "character_ids" int32 (n, c), "features" float32 (n,
        units) as the text model gave them, "category_weights" float32 (n, categories)} -> {"tokens" float32 (n, t),
        "characters" float32 (n, c), "base" float32 (n, 1)}. All of a row's numbers together are the sum of logits times
        category_weights.
    """
    ops = keras.ops
    inputs = {tensor.name: tensor for tensor in model.inputs}
    head = model.get_layer("head")
    wanted = keras.Input((head.units,), name="category_weights")
    features = keras.Input((head.kernel.shape[0],), name="features")
    # What one in a pooled column is worth: nothing where the rectifier is off; a category's own column is its logit.
    units = ops.matmul(wanted, ops.transpose(head.kernel)) * ops.cast(ops.greater(features, 0), "float32")
    both = ops.concatenate([units, wanted], axis=1)
    found: dict[str, list[Any]] = {"token_ids": [], "character_ids": []}
    for layer in model.layers:
        if not (match := _WEIGHTED.fullmatch(layer.name)):
            continue
        ids = next(ids for start, ids in _IDS_OF_TABLE.items() if match.group(1).startswith(start))
        lengths = [int(length) for length in match.group(2).split("_")[1:]]
        vectors, weights = layer.input
        direction = both if vectors.shape[-1] > units.shape[-1] else units
        worth = ops.sum(vectors * ops.expand_dims(direction, 1), axis=-1, keepdims=True) * weights
        worth = keras.layers.Reshape((len(lengths), -1))(worth)
        # Spaces belong to no word; every token counts.
        counts = ops.cast(ops.greater(inputs[ids], SPACE if ids == "character_ids" else 0), "float32")
        found[ids] += [_shared_out(worth[:, number], length, counts) for number, length in enumerate(lengths)]
    outputs = {
        "tokens": _sum(found["token_ids"]),
        "characters": _sum(found["character_ids"]),
        "base": ops.matmul(wanted, ops.expand_dims(head.bias, -1)),
    }
    return keras.Model({**inputs, "features": features, "category_weights": wanted}, outputs, name="text_explainer")


def _shared_out(worth: keras.KerasTensor, length: int, counts: keras.KerasTensor) -> keras.KerasTensor:
    """Column i of `worth` stands for `length` columns from i on: evenly to those of them that count."""
    if length == 1:
        return worth
    among = _sum([shifted(counts, offset, length - 1) for offset in range(length)])
    share = worth / keras.ops.maximum(among, 1.0)
    moved = [keras.ops.pad(share, [[0, 0], [offset, 0]])[:, :-offset] for offset in range(1, length)]
    return _sum([share, *moved]) * counts


def _sum(tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
    return sum(tensors[1:], tensors[0])
