"""Bundles with random weights and a chosen number of categories: nothing is learned, all of it runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from rakuten_models.bundle.config import TOKENIZER_FILE
from rakuten_models.bundle.folder import read_config, write_config
from rakuten_models.bundle.sandbox import mark_verified
from rakuten_models.preprocessing.text import TextSettings, encode_texts, load_tokenizer
from rakuten_models.product import Category, Product
from training.fusion.model import build_fusion_model
from training.image.model import build_image_model
from training.pipeline.export import save_and_compile
from training.text.attribution_model import build_text_explainer
from training.text.features import TABLES
from training.text.model import build_text_model


def random_text_model(categories: int, vocabulary: int, settings: TextSettings) -> keras.Model:
    """A text model of random weights in the form in which training saves one: its tables in 8 bits a value."""
    model = build_text_model(categories, vocabulary, settings)
    for name in TABLES:
        model.get_layer(name).quantize("int8")
    return model


def write_random_bundle(base: Path, folder: Path, categories: int, *, alpha: float = 1.0) -> Path:
    """Write a bundle like another one, with other categories and random weights.

    Args:
        base: A bundle's folder: its tokenizer and settings are taken over.
        folder: An empty folder.
        categories: How many, at least 2.
        alpha: Width of the picture network.

    Returns:
        The folder.
    """
    config = read_config(base)
    shutil.copyfile(base / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    keras.utils.set_random_seed(0)
    text = random_text_model(categories, tokenizer.get_vocab_size(), config.text)
    image = build_image_model(categories, size=config.image.size, alpha=alpha, backbone_weights=None)
    fusion = build_fusion_model(
        categories, text.output["features"].shape[-1], image.output["features"].shape[-1]
    )
    random = np.random.default_rng(0)
    size = config.image.size
    examples = {
        "text": encode_texts([Product("canapé", "bois")], tokenizer, config.text),
        "image": {"pixels": random.integers(0, 256, (1, size, size, 3), np.uint8)},
        "fusion": {tensor.name: np.ones((1, tensor.shape[-1]), np.float32) for tensor in fusion.inputs},
    }
    for model, (name, example) in zip((text, image, fusion), examples.items(), strict=True):
        save_and_compile(model, folder, name, example, build_text_explainer if name == "text" else None)
    names = tuple(
        Category(index, index + 1, {"en": f"category {index + 1}", "fr": f"catégorie {index + 1}"})
        for index in range(categories)
    )
    write_config(folder, replace(config, categories=names, self_check={}))
    # Random weights of our own, without answers to reproduce.
    mark_verified(folder)
    return folder
