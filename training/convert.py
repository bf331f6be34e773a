"""Trained Keras models to the files of a bundle: weights rounded, saved, compiled for serving, and compared.

The `.keras` file and the `.tflite` file hold the very same weights: they are rounded to 16 bits first, then saved,
then what was saved is loaded again in safe mode and compiled, and both are run on the same inputs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy

from rakuten_models.bundle import BundleError
from rakuten_models.runtime import CompiledModel, calibrate

# Largest difference of any output that the two forms of one model may show, relative to the output's largest value.
AGREEMENT = 1e-4
# A conversion that lost its weights is far smaller than the 2 bytes a weight that 16-bit storage takes.
_LEAST_SHARE_OF_WEIGHTS = 0.9


def round_weights(model: keras.Model) -> None:
    """Round every floating-point weight, in place, to the nearest value that 16 bits can hold.

    Serving stores 16 bits; rounding before the `.keras` file is saved makes both files the same model.
    """
    for weight in model.weights:
        if "float" in weight.dtype:
            values = numpy.asarray(weight)
            weight.assign(values.astype(numpy.float16).astype(values.dtype))


def save_and_compile(
    model: keras.Model, folder: Path, name: str, example: Mapping[str, numpy.ndarray]
) -> float:
    """Write `<name>_model.keras` and `<name>_model.tflite` into a folder and compare them.

    Args:
        model: The trained inference model with named inputs and outputs; its weights are rounded in place.
        folder: Where to write.
        name: "text", "image" or "fusion".
        example: The model's inputs for a few products, first axis n >= 1.

    Returns:
        The largest difference of any output between the two files, relative to that output's largest value.

    Raises:
        BundleError: The compiled file lost weights or disagrees: the conversion failed.
    """
    import tensorflow

    keras_path = folder / f"{name}_model.keras"
    serving_path = folder / f"{name}_model.tflite"
    round_weights(model)
    # An optimizer would be stored with its slots, three times the weights; serving and fine-tuning need none.
    model.optimizer = None
    model.save(keras_path)
    saved = keras.saving.load_model(keras_path, compile=False, safe_mode=True)
    # The exporter leaves a SavedModel beside its output's name if interrupted: keep that out of the bundle.
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        compiled_path = os.path.join(temporary, serving_path.name)
        saved.export(
            compiled_path,
            format="litert",
            verbose=False,
            optimizations=[tensorflow.lite.Optimize.DEFAULT],
            target_spec={"supported_types": [tensorflow.float16]},
        )
        os.replace(compiled_path, serving_path)
    least = _LEAST_SHARE_OF_WEIGHTS * sum(
        int(numpy.prod(weight.shape)) * (1 if weight.dtype == "int8" else 2) for weight in saved.weights
    )
    if serving_path.stat().st_size < least:
        raise BundleError(
            f"Compiling the {name} model gave {serving_path.stat().st_size} bytes where at least {least:.0f} are "
            "needed for its weights: the conversion lost weights; check the TensorFlow version against "
            "training/requirements.txt."
        )
    return compare(saved, CompiledModel(serving_path), name, example)


def compare(
    model: keras.Model, compiled: CompiledModel, name: str, example: Mapping[str, numpy.ndarray]
) -> float:
    """The largest difference between both forms' outputs, relative to each output's largest value.

    Raises:
        BundleError: It is over 1e-4 for an output or for a probability, or an output is not finite.
    """
    expected = model(dict(example), training=False)
    found = compiled(**example)
    worst = 0.0
    for output, values in expected.items():
        values = numpy.asarray(values)
        scale = max(1.0, float(numpy.abs(values).max()))
        difference = float(numpy.abs(values - found[output]).max()) / scale
        if not difference <= AGREEMENT:
            raise BundleError(
                f"The compiled {name} model differs from the Keras model by {difference:.2g} in {output}; check the "
                "TensorFlow and Keras versions against training/requirements.txt."
            )
        worst = max(worst, difference)
    moved = float(
        numpy.abs(calibrate(numpy.asarray(expected["logits"]), 1.0) - calibrate(found["logits"], 1.0)).max()
    )
    if not moved <= AGREEMENT:
        raise BundleError(
            f"The compiled {name} model's probabilities differ from the Keras model's by {moved:.2g}; check the "
            "TensorFlow and Keras versions against training/requirements.txt."
        )
    return max(worst, moved)
