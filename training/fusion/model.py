"""The fusion model as a plain functional Keras model, untrained; it loads in safe mode without this project."""

from __future__ import annotations

import math

import keras


def build_fusion_model(categories: int, text_features: int, image_features: int) -> keras.Model:
    """Builds the fusion model: a log-linear pool of both modalities with a gate for each product.

    fused = strength * ((1 - image_weight) * log p_text + image_weight * log p_image), where image_weight is a logistic
    and strength an exponential function of how sure each modality is, how far they agree and, for image_weight, which
    categories they favour and both models' features. (Logarithmic opinion pool: Genest and Zidek 1986, "Combining
    probability distributions", section 3.) A product with one modality gets exactly its logits, and an image_weight of
    exactly 0 or 1.

    Returns:
        A model {"text_features" (n, text_features), "text_logits" (n, categories), "image_features" (n,
        image_features), "image_logits" (n, categories), "text_present" (n, 1), "image_present" (n, 1)}, all float32,
        presence 0 or 1, -> {"logits" (n, categories), "image_weight" (n, 1) in [0, 1]}; untrained, the product of both
        models' probabilities.
    """
    widths = {
        "text_features": text_features,
        "text_logits": categories,
        "image_features": image_features,
        "image_logits": categories,
        "text_present": 1,
        "image_present": 1,
    }
    inputs = {name: keras.Input((width,), name=name) for name, width in widths.items()}
    logarithms = {}
    for modality in ("text", "image"):
        # Where the output is used at all, presence is 1: this is one learned number, the inverse temperature.
        scale = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name=f"{modality}_scale")
        scaled = keras.layers.Multiply()([inputs[f"{modality}_logits"], scale(inputs[f"{modality}_present"])])
        logarithms[modality] = keras.ops.log_softmax(scaled, axis=-1)
    probabilities = {modality: keras.ops.exp(values) for modality, values in logarithms.items()}
    confidence = [
        signal
        for modality in ("text", "image")
        for signal in (
            keras.ops.max(logarithms[modality], axis=-1, keepdims=True),
            keras.ops.sum(probabilities[modality] * logarithms[modality], axis=-1, keepdims=True),
        )
    ]
    agreement = keras.ops.sum(probabilities["text"] * probabilities["image"], axis=-1, keepdims=True)
    signals = keras.layers.Concatenate(name="signals")([*confidence, agreement])
    features = (inputs["text_features"], inputs["image_features"])
    gate_inputs = keras.layers.Concatenate(name="gate_inputs")([signals, *probabilities.values(), *features])
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
    image_weight = keras.layers.Add(name="image_weight")([keras.layers.Multiply()([weight, both]), only_image])
    return keras.Model(inputs, {"logits": logits, "image_weight": image_weight}, name="fusion_model")
