"""The three Keras models, built untrained: what goes in, what comes out, and nothing about how they are fitted.

All are plain functional Keras 3 models, so that a saved `.keras` file loads in safe mode without this project.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import keras

from rakuten_models.preprocessing import TextSettings
from training.backbone import load_backbone

SPACE = 32  # as character_ids holds it


@dataclass(frozen=True)
class TextModelSettings:
    """The text model's size and shape.

    Attributes:
        units: Width of every table, and of the features.
        pair_rows: Rows of the table of word pairs; a prime spreads the hash evenly.
        character_rows: Rows of the table of character n-grams; a prime, below 8 million so that int32
            suffices.
        character_lengths: Lengths of the n-grams in UTF-8 bytes.
        description_weight: How much the description's pooled vector counts beside the designation's 1; a sum
            of a few powers of 2, for serving stores it in 16 bits.
    """

    units: int = 64
    pair_rows: int = 40_009
    character_rows: int = 100_003
    character_lengths: tuple[int, ...] = (3, 4, 5)
    description_weight: float = 0.75


def build_text_model(
    categories: int, vocabulary: int, text_settings: TextSettings, settings: TextModelSettings | None = None
) -> keras.Model:
    """Builds the text model: words, word pairs and character n-grams pooled, rectified, one linear layer.

    Each text becomes rows of three tables (`text_feature_rows`); the features are the rectified sum of these
    rows, each with a weight that depends on the counts only. So with the rectifier's on/off pattern read from
    the features, the logits are an exact sum of one vector a word, pair and n-gram, plus the bias:
    training/explainer.py builds the model that says how much each was. The hashed n-grams are those of fastText
    (Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification").

    Args:
        categories: number of categories, at least 2.
        vocabulary: number of the tokenizer's tokens; id 0 is padding and id 1 the unknown word.
        text_settings: how texts become ids.
        settings: size and shape, `TextModelSettings()` if None.

    Returns:
        A model {"token_ids" int32 (n, any length), "character_ids" int32 (n, any length)} -> {"logits"
        float32 (n, categories), "features" float32 (n, units), 0 or above}, its tables and head random.
    """
    settings = settings or TextModelSettings()
    inputs = text_inputs()
    pooled = []
    tables = text_feature_rows(inputs, vocabulary, text_settings, settings)
    for name, (count, rows, weights) in tables.items():
        table = keras.layers.Embedding(count, settings.units, name=name)
        weigh = keras.layers.Multiply(name=weighted_name(name, settings))
        pooled.append(keras.ops.sum(weigh([table(rows), keras.ops.expand_dims(weights, -1)]), axis=1))
    features = keras.layers.ReLU(name="features")(keras.layers.Add(name="pooled")(pooled))
    logits = keras.layers.Dense(categories, name="logits")(features)
    return keras.Model(inputs, {"logits": logits, "features": features}, name="text_model")


def weighted_name(table: str, settings: TextModelSettings) -> str:
    """The name of the layer that weighs a table's rows; it ends with how many columns of ids a row stands for.

    "weighted_character_grams_3_4_5": as many rows of 3 characters as there are columns, then of 4, then of 5. So a
    saved model says by itself which part of the text a row belongs to.
    """
    lengths = {"words": (1,), "word_pairs": (2,), "character_grams": settings.character_lengths}[table]
    return "_".join(["weighted", table, *map(str, lengths)])


def text_inputs() -> dict[str, keras.KerasTensor]:
    """The text model's inputs, int32 (n, any length), 0 where there is nothing."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "character_ids")}


def text_feature_rows(
    inputs: dict[str, keras.KerasTensor],
    vocabulary: int,
    text_settings: TextSettings,
    settings: TextModelSettings,
) -> dict[str, tuple[int, keras.KerasTensor, keras.KerasTensor]]:
    """Which rows of which table a text stands for, and with what weight.

    Args:
        inputs: from `text_inputs`.
        vocabulary: number of the tokenizer's tokens.
        text_settings: how texts become ids.
        settings: the model's.

    Returns:
        Table name -> (rows of the table, row numbers int32 (n, m), weights float32 (n, m), 0 for what is
        padding).
    """
    ops = keras.ops
    token_ids, character_ids = inputs["token_ids"], inputs["character_ids"]
    in_designation = _is_within(token_ids, text_settings.designation_tokens)
    known = ops.greater(token_ids, 1)

    following, following_known = shifted(token_ids, 1, 1), ops.greater(shifted(token_ids, 1, 1), 1)
    # Each product stays far below 2^31: a vocabulary of up to 262,000 words, then a remainder times 31.
    pairs = ops.mod(ops.mod(token_ids * 8191, settings.pair_rows) * 31 + following, settings.pair_rows)

    grams, valid, in_designation_characters = [], [], []
    for length in settings.character_lengths:
        gram, complete = ops.full_like(character_ids, length), ops.not_equal(character_ids, 0)
        for offset in range(length):
            character = shifted(character_ids, offset, length - 1)
            gram = ops.mod(gram * 263 + character, settings.character_rows)
            # An n-gram may begin or end with the space beside a word, but never spans two words.
            inner = 0 < offset < length - 1
            complete = ops.logical_and(complete, ops.greater(character, SPACE if inner else 0))
        grams.append(gram)
        valid.append(complete)
        in_designation_characters.append(_is_within(character_ids, text_settings.designation_characters))

    weight = settings.description_weight
    return {
        "words": (vocabulary, token_ids, _pooling_weights(known, in_designation, weight)),
        "word_pairs": (
            settings.pair_rows,
            pairs,
            _pooling_weights(ops.logical_and(known, following_known), in_designation, weight),
        ),
        "character_grams": (
            settings.character_rows,
            ops.concatenate(grams, axis=1),
            _pooling_weights(
                ops.concatenate(valid, axis=1), ops.concatenate(in_designation_characters, axis=1), weight
            ),
        ),
    }


def shifted(ids: keras.KerasTensor, offset: int, most: int) -> keras.KerasTensor:
    """Column i gets what column i + offset holds, zeros at the end; 0 <= offset <= most, most >= 1."""
    padded = keras.ops.pad(ids, [[0, 0], [0, most]])
    return padded[:, offset : offset - most] if offset < most else padded[:, offset:]


def _is_within(ids: keras.KerasTensor, length: int) -> keras.KerasTensor:
    """True in the first `length` columns."""
    return keras.ops.less_equal(keras.ops.cumsum(keras.ops.ones_like(ids), axis=1), length)


def _pooling_weights(
    valid: keras.KerasTensor, in_designation: keras.KerasTensor, description_weight: float
) -> keras.KerasTensor:
    """1 / sqrt(count) within designation and description each, so that length alone moves little."""
    ops = keras.ops
    in_first = ops.cast(ops.logical_and(valid, in_designation), "float32")
    in_second = ops.cast(valid, "float32") - in_first
    first, second = (
        part / ops.sqrt(ops.maximum(ops.sum(part, axis=1, keepdims=True), 1.0))
        for part in (in_first, in_second)
    )
    return first + description_weight * second


def build_image_model(
    categories: int, *, size: int = 224, alpha: float = 1.0, backbone_weights: str | Path | None = "imagenet"
) -> keras.Model:
    """Builds the image model: MobileNetV2 and a linear head.

    The head is a 1 x 1 convolution before the pooling, which is the same as a dense layer after it: the mean
    of the category maps over their positions IS the logits, bias included. That makes the maps the exact
    class activation map (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization").

    Args:
        categories: number of categories, at least 2.
        size: side of the pictures in pixels.
        alpha: width of the network.
        backbone_weights: "imagenet", a weights file, or None for random weights.

    Returns:
        A model {"pixels" uint8 (n, size, size, 3), RGB 0-255} -> {"logits" float32 (n, categories),
        "features" float32 (n, channels), "category_maps" float32 (n, rows, columns, categories)}, batch
        normalisation folded, the head zero.

    Raises:
        BackboneError: the weights cannot be had or do not fit.
    """
    backbone = load_backbone(size, alpha, backbone_weights)
    last = backbone.output
    features = keras.layers.GlobalAveragePooling2D(name="features")(last)
    maps = keras.layers.Conv2D(categories, 1, kernel_initializer="zeros", name="category_maps")(last)
    logits = keras.layers.GlobalAveragePooling2D(name="logits")(maps)
    return keras.Model(
        {"pixels": backbone.input},
        {"logits": logits, "features": features, "category_maps": maps},
        name="image_model",
    )


def build_fusion_model(categories: int, text_features: int, image_features: int) -> keras.Model:
    """Builds the fusion model: a log-linear pool of both sides with a gate for each product.

    fused = strength * ((1 - image_weight) * log p_text + image_weight * log p_image), where image_weight is a
    logistic and strength an exponential function of how sure each side is, how far they agree and, for
    image_weight, which categories they favour and both sides' features. (Logarithmic opinion pool: Genest and
    Zidek 1986, "Combining probability distributions", section 3.)

    A product with one side gets exactly that side's logits, and an image_weight of exactly 0 or 1.

    Args:
        categories: number of categories.
        text_features: width of the text model's features.
        image_features: width of the image model's features.

    Returns:
        A model {"text_features" (n, text_features), "text_logits" (n, categories), "image_features" (n,
        image_features), "image_logits" (n, categories), "text_present" (n, 1), "image_present" (n, 1)}, all
        float32, presence 0 or 1, -> {"logits" (n, categories), "image_weight" (n, 1) in [0, 1]}. Untrained it is
        the plain product of both sides' probabilities.
    """
    inputs = {
        name: keras.Input((width,), name=name)
        for name, width in (
            ("text_features", text_features),
            ("text_logits", categories),
            ("image_features", image_features),
            ("image_logits", categories),
            ("text_present", 1),
            ("image_present", 1),
        )
    }
    logarithms = {}
    for side in ("text", "image"):
        # Where the answer is used at all, presence is 1: this is one learned number, the side's inverse temperature.
        scale = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name=f"{side}_scale")
        scaled = keras.layers.Multiply()([inputs[f"{side}_logits"], scale(inputs[f"{side}_present"])])
        logarithms[side] = keras.ops.log_softmax(scaled, axis=-1)
    probabilities = {side: keras.ops.exp(values) for side, values in logarithms.items()}
    confidence = [
        measure
        for side in ("text", "image")
        for measure in (
            keras.ops.max(logarithms[side], axis=-1, keepdims=True),
            keras.ops.sum(probabilities[side] * logarithms[side], axis=-1, keepdims=True),
        )
    ]
    agreement = keras.ops.sum(probabilities["text"] * probabilities["image"], axis=-1, keepdims=True)
    signals = keras.layers.Concatenate(name="signals")([*confidence, agreement])
    gate_inputs = keras.layers.Concatenate(name="gate_inputs")(
        [
            signals,
            probabilities["text"],
            probabilities["image"],
            inputs["text_features"],
            inputs["image_features"],
        ]
    )
    weight = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="zeros", name="gate")(gate_inputs)
    strength = keras.layers.Dense(
        1,
        activation="exponential",
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(math.log(2.0)),
        name="strength",
    )(signals)
    difference = keras.layers.Subtract()([logarithms["image"], logarithms["text"]])
    pooled = keras.layers.Add()([logarithms["text"], keras.layers.Multiply()([difference, weight])])
    pooled = keras.layers.Multiply()([pooled, strength])
    text_present, image_present = inputs["text_present"], inputs["image_present"]
    both = keras.layers.Multiply()([text_present, image_present])
    only_text = keras.layers.Subtract()([text_present, both])
    only_image = keras.layers.Subtract()([image_present, both])
    logits = keras.layers.Add(name="logits")(
        [
            keras.layers.Multiply()([pooled, both]),
            keras.layers.Multiply()([inputs["text_logits"], only_text]),
            keras.layers.Multiply()([inputs["image_logits"], only_image]),
        ]
    )
    image_weight = keras.layers.Add(name="image_weight")(
        [keras.layers.Multiply()([weight, both]), only_image]
    )
    return keras.Model(inputs, {"logits": logits, "image_weight": image_weight}, name="fusion_model")
