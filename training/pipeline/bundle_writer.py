"""Puts a bundle together: the compiled models and the tokenizer, the settings, a self-check and the card."""

from __future__ import annotations

import base64
import io
import os
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rakuten_models.bundle.config import CARD_FILE, KERAS_FILES, SERVING_MODEL_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.bundle.folder import replace_folder, write_config
from rakuten_models.bundle.sandbox import mark_verified
from rakuten_models.classifier import ProductClassifier, self_check_product
from rakuten_models.errors import BundleError
from training.evaluation.model_card import render_card
from training.pipeline.keras_sandbox import KERAS_SANDBOX

_LIBRARIES = (
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "ai-edge-litert",
    "tokenizers",
    "numpy",
    "pillow",
    "scikit-learn",
)

SELF_CHECK_TEXTS = (
    ("Piscine tubulaire ronde 3,66 m", "Livr&eacute;e avec pompe de filtration.<br>Bâche non comprise."),
    ("", ""),
    ("Wooden chess set, folding board", "With 32 carved pieces"),
    # Doubtful ones: where a model is sure, a changed weight hardly moves its probabilities.
    ("Lot de 2", ""),
    ("Gartenstuhl mit Kissen, 3er Set", "Aus Holz & Metall &ndash; klappbar"),
    ("", "XR-200 4K (2019) édition limitée"),
    # Longer than what is read of it.
    ("livre ancien jeu console figurine carte", "manga piscine chien bébé lampe outil cahier drone " * 60),
)


def self_check_products() -> list[dict[str, Any]]:
    """Products as config.json holds them: with a text, with a picture, with both, sure and doubtful."""
    pictures = {
        1: _picture("ellipse", "royalblue"),
        2: _picture("rectangle", "saddlebrown"),
        4: _picture("ellipse", "seagreen"),
    }
    return [
        {"designation": designation, "description": description, "image": pictures.get(number)}
        for number, (designation, description) in enumerate(SELF_CHECK_TEXTS)
    ]


def _picture(shape: str, color: str) -> str:
    """A small drawn PNG file in base64; PNG, because every decoder reads it alike to the last bit."""
    image = Image.new("RGB", (96, 72), "white")
    getattr(ImageDraw.Draw(image), shape)((14, 10, 82, 62), fill=color, outline="black", width=3)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def library_versions() -> dict[str, str]:
    """The versions of the libraries that make a bundle, as far as they are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def assemble_bundle(models_folder: Path, target: str | os.PathLike[str], config: BundleConfig) -> BundleConfig:
    """Write a whole bundle in place of `target`, checked by loading it; returns the config as written.

    Args:
        models_folder: Holds the tokenizer and the three models in both forms.
        target: The bundle's folder; it is the old one or the new one at every moment.
        config: Without self-check, library versions and file hashes, which are filled in here.

    Raises:
        BundleError: The bundle cannot be loaded, or the target holds something else than a bundle.
    """
    entries = self_check_products()
    config = replace(config, library_versions=library_versions(), self_check={"products": entries})
    with replace_folder(target) as staging:
        for name in (TOKENIZER_FILE, *SERVING_MODEL_FILES, *KERAS_FILES):
            shutil.copyfile(models_folder / name, staging / name)
        write_config(staging, config)
        predictions = ProductClassifier(staging).predict([self_check_product(entry) for entry in entries])
        found = [each.probabilities for each in predictions if each.probabilities is not None]
        if len(found) < len(predictions) or any(each.error for each in predictions):
            raise BundleError("training.self_check_failed")
        rounded = [np.round(probabilities.astype(float), 7).tolist() for probabilities in found]
        config = write_config(staging, replace(config, self_check={"products": entries, "probabilities": rounded}))
        ProductClassifier(staging).reproduce_self_check()
        (staging / CARD_FILE).write_text(render_card(config, {}), encoding="utf-8")
    # It was made here and has just been run: no sandbox has to try it first.
    mark_verified(target)
    mark_verified(target, KERAS_SANDBOX)
    return config
