"""Fine-tunes a tiny image model on two virtual processors and on one, and prints both losses as JSON.

    python -m tests.support.two_devices FOLDER_OF_PICTURES CACHE

A process of its own, since TensorFlow's devices are chosen before it does anything else.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    """Prints {"one": losses, "two": losses, "mixed": losses, "devices": names, "difference": of the weights}."""
    processor = tensorflow.config.list_physical_devices("CPU")[0]
    tensorflow.config.set_logical_device_configuration(processor, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
    import dataclasses

    import keras

    from rakuten_models.preprocessing.image import ImageSettings
    from training.image.devices import Devices
    from training.image.model import build_image_model
    from training.image.trainer import ImageRun, InitialImageModel, LabelledImages, fit_image_model
    from training.settings import ImageTrainingSettings

    images = [str(path) for path in sorted(Path(sys.argv[1]).iterdir())][:32]
    categories = np.arange(len(images)) % 4
    # Dropout draws other masks on other devices: without it a step is the same step.
    settings = dataclasses.replace(
        ImageTrainingSettings(alpha=0.35, epochs=2, batch_size=8, dropout=0.0, augmentations=("plain",)),
        # At 1e-3, start weights off by bfloat16's 2 ** -8 alone move the second epoch's loss by half.
        learning_rate=3e-4,
    )
    found, weights = {}, {}
    keras.utils.set_random_seed(0)
    lively = build_image_model(4, size=96, alpha=0.35, backbone_weights=None)
    for layer in lively.layers:
        if len(layer.weights) == 2:
            # Random weights make signals fade from layer to layer; so do their differences, and nothing would show.
            layer.kernel.assign(layer.kernel * 3.0)
    start = lively.get_weights()
    for name, devices in (
        ("one", Devices(1)),
        ("two", Devices(None)),
        ("mixed", Devices(1, mixed_precision=True)),
        ("two_mixed", Devices(2, mixed_precision=True)),
    ):
        lively.set_weights(start)
        fitted = fit_image_model(
            LabelledImages(images, categories),
            LabelledImages(images[:8], categories[:8]),
            ImageSettings(size=96),
            settings,
            ImageRun(Path(sys.argv[2]), devices=devices),
            categories=4,
            backbone_weights=None,
            start=InitialImageModel(lively),
        )
        found[name] = fitted.histories[0]["loss"]
        weights[name] = np.concatenate([weight.ravel() for weight in fitted.model.get_weights()])
    found["devices"] = Devices(None).names()
    found["difference"] = {name: float(np.abs(values - weights["one"]).max()) for name, values in weights.items()}
    found["moved"] = float(np.abs(weights["one"]).max())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
