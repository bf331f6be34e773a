"""The pretrained MobileNetV2 with its batch normalisation folded into the convolutions.

Folding comes before training: what is trained is then the very graph that serves, and rounding its weights to 16 bits
moves probabilities by some 1e-5 instead of 1e-2 (a normalisation with a tiny variance multiplies the rounding error of
the kernel before it).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.errors import BackboneError

# 14 x 14 x 96 at 224 pixels: the narrowest tensor in the network's upper half, the cheapest to cache.
INTERMEDIATE_LAYER = "block_12_add"
LAST_LAYER = "out_relu"


def load_backbone(size: int, alpha: float, weights: str | Path | None) -> keras.Model:
    """Builds MobileNetV2 without its classifier, from pixels on, batch normalisation folded.

    Args:
        size: Width and height of the pictures in pixels, at least 32.
        alpha: Width of the network; 1.0 is the published one.
        weights: "imagenet" (downloaded by Keras), a Keras weights file made with `include_top=False`, or None for
            random.

    Returns:
        A model from uint8 (n, size, size, 3), RGB 0-255, to float32 (n, size / 32, size / 32, channels).

    Raises:
        BackboneError: The weights cannot be downloaded, are missing, or belong to another network.
    """
    if weights == "imagenet":
        try:
            network = keras.applications.MobileNetV2(
                input_shape=(size, size, 3), alpha=alpha, include_top=False, weights="imagenet"
            )
        except Exception as error:  # Keras raises a plain Exception for a failed download
            reason = _first_line(error)
            raise BackboneError("backbone.download_failed", alpha=alpha, reason=reason) from error
    else:
        network = keras.applications.MobileNetV2(
            input_shape=(size, size, 3), alpha=alpha, include_top=False, weights=None
        )
        if weights is not None:
            _load_weights_file(network, Path(weights), alpha)
    pixels = keras.Input((size, size, 3), dtype="uint8", name="pixels")
    # 1/128 and 255/256 are exact in 16 bits, where the usual 1/127.5 is not; the first kernel makes up for it.
    scaled = keras.layers.Rescaling(1 / 128, offset=-255 / 256, name="scaling")(pixels)
    from_pixels = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), input_tensor=scaled, alpha=alpha, include_top=False, weights=None
    )
    from_pixels.set_weights(network.get_weights())
    folded = fold_batch_normalization(from_pixels)
    first = folded.get_layer("Conv1")
    kernel, bias = first.get_weights()
    first.set_weights([kernel * np.float32(128 / 127.5), bias])
    return folded


def fold_batch_normalization(model: keras.Model) -> keras.Model:
    """A copy of a functional model with each batch normalisation folded into the convolution before it.

    Exact for inference: kernel * gamma / sqrt(variance + epsilon), and the shift becomes the convolution's bias (Jacob
    et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", section
    3.2).

    Args:
        model: Every BatchNormalization directly follows a Conv2D or a DepthwiseConv2D that feeds nothing else.

    Raises:
        ValueError: A BatchNormalization follows something else.
    """
    convolution_before = {
        layer.name: _convolution_before(layer)
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    folded_names = {convolution.name for convolution in convolution_before.values()}

    def clone(layer: keras.Layer) -> keras.Layer:
        settings = layer.get_config()
        if layer.name in folded_names:
            settings["use_bias"] = True
        return layer.__class__.from_config(settings)

    def call(layer: keras.Layer, *arguments: Any, **keywords: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return arguments[0]
        return layer(*arguments, **keywords)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    normalization_after = {convolution.name: model.get_layer(name) for name, convolution in convolution_before.items()}
    for layer in folded.layers:
        if layer.name in normalization_after:
            original = model.get_layer(layer.name)
            layer.set_weights(_folded_weights(original, normalization_after[layer.name]))
        elif layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return folded


def _load_weights_file(network: keras.Model, path: Path, alpha: float) -> None:
    if not path.is_file():
        raise BackboneError("backbone.file_missing", path=path)
    try:
        network.load_weights(str(path))
    except Exception as error:  # h5py, zipfile and Keras each raise their own kinds
        reason = _first_line(error)
        raise BackboneError("backbone.wrong_weights", path=path, alpha=alpha, reason=reason) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(". ") + "."


def _convolution_before(normalization: keras.layers.BatchNormalization) -> keras.layers.Layer:
    history = normalization.input._keras_history
    convolution = history.operation
    if not isinstance(convolution, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        raise ValueError(
            f"{normalization.name} follows {convolution.name} ({type(convolution).__name__}); only a normalisation "
            "directly after a Conv2D or a DepthwiseConv2D can be folded"
        )
    if len(convolution._outbound_nodes) != 1:
        raise ValueError(f"{convolution.name} feeds more than {normalization.name}: folding would change the others")
    return convolution


def _folded_weights(
    convolution: keras.layers.Layer, normalization: keras.layers.BatchNormalization
) -> list[np.ndarray]:
    variance = np.asarray(normalization.moving_variance, dtype=np.float64)
    mean = np.asarray(normalization.moving_mean, dtype=np.float64)
    gamma = np.asarray(normalization.gamma, np.float64) if normalization.scale else np.ones_like(mean)
    beta = np.asarray(normalization.beta, np.float64) if normalization.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + normalization.epsilon)
    kernel, *bias = (weight.astype(np.float64) for weight in convolution.get_weights())
    shift = beta + ((bias[0] if bias else 0.0) - mean) * factor
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        # A depthwise kernel is (rows, columns, channels in, multiplier) and its outputs are ordered the same way.
        kernel = kernel * factor.reshape(kernel.shape[2:])
    else:
        kernel = kernel * factor
    return [kernel.astype(np.float32), shift.astype(np.float32)]
