"""Trained Keras models to the files of a bundle: weights rounded, saved, compiled for serving, and compared.

Both files hold the very same weights: rounded to 16 bits, saved as `.keras`, loaded again in safe mode and compiled to
`.tflite`. The text model's has a second signature over the same tables, which gives each word's contribution
(training/text/attribution_model.py).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from rakuten_models.errors import BundleError
from rakuten_models.files import write_atomically
from rakuten_models.inference.calibration import Calibration, calibrate
from rakuten_models.inference.runtime import EXPLAINING, SERVING, CompiledModel, centred_weights

# Largest difference of any output that the two forms of one model may show, relative to the output's largest value.
AGREEMENT = 1e-4

# A conversion that lost its weights is far smaller than the 2 bytes a weight that 16-bit storage takes.
_MIN_SHARE_OF_WEIGHTS = 0.9


def round_weights(model: keras.Model) -> None:
    """Round every floating-point weight, in place, to the nearest value of 16 bits."""
    for weight in model.weights:
        if "float" in weight.dtype:
            values = np.asarray(weight)
            weight.assign(values.astype(np.float16).astype(values.dtype))


def save_and_compile(
    model: keras.Model,
    folder: Path,
    name: str,
    example: Mapping[str, np.ndarray],
    explainer: Callable[[keras.Model], keras.Model] | None = None,
) -> float:
    """Write `<name>_model.keras` and `<name>_model.tflite` into a folder and compare them.

    Args:
        model: The trained inference model with named inputs and outputs; its weights are rounded in place.
        folder: Where to write.
        name: "text", "image" or "fusion".
        example: The model's inputs for a few products, first axis n >= 1.
        explainer: Builds the second signature, `build_text_explainer` for a text model.

    Returns:
        The largest difference of any output between the two files, relative to that output's largest value.

    Raises:
        BundleError: The compiled file lost weights or disagrees: the conversion failed.
    """
    keras_path = folder / f"{name}_model.keras"
    serving_path = folder / f"{name}_model.tflite"
    round_weights(model)
    # An optimizer would be stored with its slots, three times the weights; serving and fine-tuning need none.
    model.optimizer = None
    model.save(keras_path)
    saved = keras.saving.load_model(keras_path, compile=False, safe_mode=True)
    signatures = {SERVING: saved}
    if explainer is not None:
        signatures[EXPLAINING] = explainer(saved)
    write_atomically(serving_path, _compile(signatures))
    least = _MIN_SHARE_OF_WEIGHTS * sum(
        int(np.prod(weight.shape)) * (1 if weight.dtype == "int8" else 2) for weight in saved.weights
    )
    size = serving_path.stat().st_size
    if size < least:
        raise BundleError("training.lost_weights", name=name, size=size, least=least)
    compiled = CompiledModel(serving_path)
    if explainer is not None:
        compiled.prepare(EXPLAINING)
        check_explanations(compiled, example)
    return compare(saved, compiled, name, example)


def _compile(signatures: Mapping[str, keras.Model]) -> bytes:
    """A `.tflite` file in which each model is one signature; weights that models share are in it once."""
    import tensorflow

    # Keras's own LiteRT export knows one signature. And TensorFlow drops all others if one is called "serve".
    archive = keras.export.ExportArchive()
    for name, model in signatures.items():
        archive.track(model)
        inputs = {
            tensor.name: keras.InputSpec(shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)
            for tensor in model.inputs
        }
        archive.add_endpoint(name, functools.partial(model.__call__, training=False), input_signature=[inputs])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(folder, list(signatures))
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tensorflow.float16]
        content: bytes = converter.convert()
        return content


def check_explanations(compiled: CompiledModel, example: Mapping[str, np.ndarray]) -> None:
    """Check that a text model's contributions to the best category of each of n >= 1 products add up to its logits.

    Raises:
        BundleError: A sum is off by more than 1e-4 of the largest logit.
    """
    outputs = compiled(**example)
    logits = outputs["logits"]
    weights = np.concatenate([centred_weights(int(best), logits.shape[1]) for best in logits.argmax(axis=1)])
    parts = compiled.explain(**example, features=outputs["features"], category_weights=weights)
    found = sum(values.sum(axis=1) for values in parts.values())
    expected = (logits * weights).sum(axis=1)
    difference = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(logits).max()))
    if not difference <= AGREEMENT:
        raise BundleError("training.contributions_differ", difference=difference)


def compare(model: keras.Model, compiled: CompiledModel, name: str, example: Mapping[str, np.ndarray]) -> float:
    """The largest difference between both forms' outputs, relative to each output's largest value.

    Raises:
        BundleError: It is over 1e-4 for an output or for a probability, or an output is not finite.
    """
    expected = model(dict(example), training=False)
    found = compiled(**example)
    worst = 0.0
    for output, values in expected.items():
        values = np.asarray(values)
        scale = max(1.0, float(np.abs(values).max()))
        difference = float(np.abs(values - found[output]).max()) / scale
        if not difference <= AGREEMENT:
            raise BundleError("training.outputs_differ", name=name, difference=difference, output=output)
        worst = max(worst, difference)
    before, after = (calibrate(np.asarray(each["logits"]), Calibration()) for each in (expected, found))
    moved = float(np.abs(before - after).max())
    if not moved <= AGREEMENT:
        raise BundleError("training.probabilities_differ", name=name, difference=moved)
    return max(worst, moved)
