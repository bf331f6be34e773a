"""The three Keras models, built untrained: what goes in, what comes out, and nothing about how they are fitted.

All are plain functional Keras 3 models, so that a saved `.keras` file loads in safe mode without this project.
"""

from __future__ import annotations

import math
from pathlib import Path

import keras

from rakuten_models.preprocessing import TextSettings
from training.backbone import load_backbone
from training.text_rows import TextModelSettings, index_layer, text_feature_rows, text_inputs, weighted_name


def build_text_model(
    categories: int, vocabulary: int, text_settings: TextSettings, settings: TextModelSettings | None = None
) -> keras.Model:
    """Builds the text model: words, word pairs and character n-grams pooled, then a network and a linear part.

    Each text becomes rows of three tables (`text_feature_rows`), which are summed up with weights that depend on the
    counts only. The first columns of the sum are rectified and go through one linear layer; the others, one a
    category, are added to its logits. So with the rectifier's on/off pattern read from the features, the logits are an
    exact sum of one vector a word, pair and n-gram, plus the bias: training/explainer.py builds the model that says
    how much each was. (A network beside a linear part: Cheng et al. 2016, "Wide & Deep Learning for Recommender
    Systems"; the n-grams are those of Joulin et al. 2016, "Bag of Tricks for Efficient Text Classification".)

    Args:
        categories: number of categories, at least 2.
        vocabulary: number of the tokenizer's tokens; id 0 is padding and id 1 the unknown word.
        text_settings: how texts become ids.
        settings: size and shape, `TextModelSettings()` if None.

    Returns:
        A model {"token_ids" int32 (n, any length), "character_ids" int32 (n, any length)} -> {"logits"
        float32 (n, categories), "features" float32 (n, units), 0 or above}, its tables and head random, and the
        indexes empty, so that no pair and no n-gram has a row yet.
    """
    settings = settings or TextModelSettings()
    inputs = text_inputs()
    pooled = []
    counts = {"words": vocabulary, **settings.rows()}
    linear = settings.linear_columns(categories)
    index = {table: index_layer(table, settings) for table in settings.slots()}
    for name, (rows, weights) in text_feature_rows(inputs, text_settings, settings, index).items():
        table = keras.layers.Embedding(counts[name], settings.units + linear, name=name)
        weigh = keras.layers.Multiply(name=weighted_name(name, settings))
        pooled.append(keras.ops.sum(weigh([table(rows), keras.ops.expand_dims(weights, -1)]), axis=1))
    total = keras.layers.Add(name="pooled")(pooled)
    features = keras.layers.ReLU(name="features")(total[:, : settings.units])
    logits = keras.layers.Dense(categories, name="head")(features)
    if linear:
        logits = keras.layers.Add(name="logits")([logits, total[:, settings.units :]])
    return keras.Model(inputs, {"logits": logits, "features": features}, name="text_model")


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
        {"pixels": backbone.inputs[0]},
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
