"""The same three models as people run Keras models: `predict`, Pillow, TextVectorization."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow
from PIL import Image

from rakuten_models.bundle.config import KERAS_FILES, TOKENIZER_FILE
from rakuten_models.bundle.folder import read_config
from rakuten_models.inference.calibration import calibrate
from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.product import Product


class KerasBaseline:
    """The `.keras` files in a bundle's folder, asked with `predict`.

    Texts are cleaned as ours are; the words are looked up by a TextVectorization layer a field, with the tokenizer's
    vocabulary, at the lengths the model was trained with.
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
        self._characters = (settings.designation_characters, settings.description_characters)
        self._layers = [
            keras.layers.TextVectorization(output_sequence_length=tokens, vocabulary=known)
            for tokens in (settings.designation_tokens, settings.description_tokens)
        ]

    def __call__(self, products: Sequence[Product], batch_size: int) -> np.ndarray:
        """Answer n products with text and picture: calibrated probabilities, float32 (n, categories)."""
        text = self._text.predict(self._encode(products), batch_size=batch_size, verbose=0)
        pixels = np.stack([self._pixels(product.image) for product in products])
        image = self._image.predict({"pixels": pixels}, batch_size=batch_size, verbose=0)
        inputs = {}
        for modality, answers in (("text", text), ("image", image)):
            inputs |= {f"{modality}_{name}": answers[name] for name in ("features", "logits")}
            inputs[f"{modality}_present"] = np.ones((len(products), 1), np.float32)
        fused = self._fusion.predict(inputs, batch_size=batch_size, verbose=0)
        return calibrate(fused["logits"], self._config.calibration["fusion"])

    def texts(self, products: Sequence[Product], batch_size: int, cut: bool = False) -> np.ndarray:
        """Answer products by their texts alone; `cut` leaves out the description's columns if none has one."""
        text = self._text.predict(self._encode(products, cut), batch_size=batch_size, verbose=0)
        return calibrate(text["logits"], self._config.calibration["text"])

    def _encode(self, products: Sequence[Product], cut: bool = False) -> dict[str, np.ndarray]:
        fields = [[clean_text(product.designation) for product in products]]
        if not cut or any(product.description for product in products):
            fields.append([clean_text(product.description) for product in products])
        ids, characters = [], []
        for texts, layer, length in zip(fields, self._layers, self._characters, strict=False):
            strings = tensorflow.constant(texts)
            ids.append(layer(strings))
            lowered = tensorflow.strings.lower(tensorflow.strings.join([" ", strings, " "]))
            short = tensorflow.strings.substr(lowered, 0, length)
            characters.append(tensorflow.io.decode_raw(short, tensorflow.uint8, fixed_length=length))
        columns = {"token_ids": ids, "character_ids": characters}
        return {name: np.concatenate(parts, axis=1).astype(np.int32) for name, parts in columns.items()}

    def _pixels(self, file: bytes) -> np.ndarray:
        side = self._config.image.size
        picture = Image.open(io.BytesIO(file)).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(picture)
