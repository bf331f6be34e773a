"""The same three models as people run Keras models: `predict`, Pillow, TextVectorization; and bundles to run them from.

Run as a program it answers one product and ends, for the time from nothing to a first answer:

    python -m benchmarks.speed.keras_baseline BUNDLE PICTURE
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow
from PIL import Image

from rakuten_models.bundle.config import CONFIG_FILE, KERAS_FILES, TOKENIZER_FILE
from rakuten_models.bundle.folder import read_config
from rakuten_models.inference.calibration import calibrate
from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.product import Product

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class KerasBaseline:
    """The `.keras` files of a bundle, asked with `predict`.

    Texts are cleaned as ours are; the words are looked up by a TextVectorization layer a field, with the tokenizer's
    vocabulary, at the lengths the model was trained with.

    Args:
        folder: The bundle's, with its `.keras` files.
    """

    def __init__(self, folder: Path) -> None:
        """Load everything."""
        self._config = read_config(folder)
        self._text, self._image, self._fusion = (
            keras.saving.load_model(folder / name, compile=False) for name in KERAS_FILES
        )
        words = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["vocab"]
        # The layer itself adds the padding and the unknown word, which the tokenizer's list begins with.
        known = sorted(words, key=words.get)[2:]
        settings = self._config.text
        self._lengths = (
            (settings.designation_tokens, settings.designation_characters),
            (settings.description_tokens, settings.description_characters),
        )
        self._layers = [
            keras.layers.TextVectorization(output_sequence_length=tokens, vocabulary=known)
            for tokens, _ in self._lengths
        ]

    def __call__(self, products: Sequence[Product], batch_size: int) -> np.ndarray:
        """Answer products with text and picture.

        Returns:
            Calibrated probabilities, float32 (n, categories).
        """
        text = self._text.predict(self._encode(products), batch_size=batch_size, verbose=0)
        pixels = np.stack([self._pixels(product.image) for product in products])
        image = self._image.predict({"pixels": pixels}, batch_size=batch_size, verbose=0)
        present = np.ones((len(products), 1), np.float32)
        fused = self._fusion.predict(
            {
                "text_features": text["features"],
                "text_logits": text["logits"],
                "image_features": image["features"],
                "image_logits": image["logits"],
                "text_present": present,
                "image_present": present,
            },
            batch_size=batch_size,
            verbose=0,
        )
        return self._calibrated("fusion", fused["logits"])

    def texts(self, products: Sequence[Product], batch_size: int, cut: bool = False) -> np.ndarray:
        """Answer products by their texts alone; `cut` leaves out the description's columns if none has one."""
        text = self._text.predict(self._encode(products, cut), batch_size=batch_size, verbose=0)
        return self._calibrated("text", text["logits"])

    def _encode(self, products: Sequence[Product], cut: bool = False) -> dict[str, np.ndarray]:
        fields = [[clean_text(product.designation) for product in products]]
        if not cut or any(product.description for product in products):
            fields.append([clean_text(product.description) for product in products])
        ids, characters = [], []
        for texts, layer, (_, length) in zip(fields, self._layers, self._lengths, strict=False):
            strings = tensorflow.constant(texts)
            ids.append(layer(strings))
            lowered = tensorflow.strings.lower(tensorflow.strings.join([" ", strings, " "]))
            short = tensorflow.strings.substr(lowered, 0, length)
            characters.append(tensorflow.io.decode_raw(short, tensorflow.uint8, fixed_length=length))
        return {
            "token_ids": np.concatenate(ids, axis=1).astype(np.int32),
            "character_ids": np.concatenate(characters, axis=1).astype(np.int32),
        }

    def _pixels(self, file: bytes) -> np.ndarray:
        side = self._config.image.size
        picture = Image.open(io.BytesIO(file)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(picture)

    def _calibrated(self, name: str, logits: np.ndarray) -> np.ndarray:
        return calibrate(logits, self._config.calibration[name])


def with_keras_files(bundle: Path, folder: Path) -> tuple[Path, bool]:
    """A bundle that has `.keras` files: itself, or a copy with models of the same shape and random weights.

    Args:
        bundle: The bundle's folder.
        folder: Where the copy goes.

    Returns:
        The folder, and whether its Keras models are random. Weights change no time.
    """
    if all((bundle / name).is_file() for name in KERAS_FILES):
        return bundle, False
    from benchmarks.random_bundle import random_text_model
    from training.fusion.model import build_fusion_model
    from training.image.model import build_image_model

    folder.mkdir(parents=True, exist_ok=True)
    config = read_config(bundle)
    for name in (CONFIG_FILE, TOKENIZER_FILE):
        shutil.copyfile(bundle / name, folder / name)
    words = json.loads((bundle / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]["vocab"]
    count = len(config.categories)
    text = random_text_model(count, len(words), config.text)
    image = build_image_model(count, size=config.image.size, backbone_weights=None)
    fusion = build_fusion_model(count, *(model.output["features"].shape[-1] for model in (text, image)))
    for model, name in zip((text, image, fusion), KERAS_FILES, strict=True):
        model.save(folder / name)
    return folder, True


def main() -> int:
    """Answer one product."""
    from benchmarks.speed.startup import DESCRIPTION, TITLE, report_peak

    route = KerasBaseline(Path(sys.argv[1]))
    answer = route([Product(TITLE, DESCRIPTION, Path(sys.argv[2]).read_bytes())], batch_size=1)
    report_peak(float(answer.max()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
