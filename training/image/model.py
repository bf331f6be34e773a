"""The image model as a plain functional Keras model, untrained; it loads in safe mode without this project."""

from __future__ import annotations

from pathlib import Path

import keras

from training.image.backbone import load_backbone


def build_image_model(
    categories: int, *, size: int = 224, alpha: float = 1.0, backbone_weights: str | Path | None = "imagenet"
) -> keras.Model:
    """Builds the image model: MobileNetV2 and a linear head.

    The head is a 1 x 1 convolution before the pooling, the same as a dense layer after it: the mean of the category
    maps over their positions IS the logits, bias included. That makes the maps the exact class activation map (Zhou et
    al. 2016, "Learning Deep Features for Discriminative Localization").

    Args:
        categories: Number of categories, at least 2.
        size: Width and height of the pictures in pixels.
        alpha: Width of the network.
        backbone_weights: "imagenet", a weights file, or None for random weights.

    Returns:
        A model {"pixels" uint8 (n, size, size, 3), RGB 0-255} -> {"logits" float32 (n, categories), "features" float32
        (n, channels), "category_maps" float32 (n, rows, columns, categories)}, batch normalisation folded, the head
        zero.

    Raises:
        BackboneError: The weights cannot be had or do not fit.
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
