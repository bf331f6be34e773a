"""Models and bundles with random weights and a chosen number of categories: nothing is learned, all of it runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from rakuten_models.bundle.config import CONFIG_FILE, KERAS_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.bundle.folder import read_config, write_config
from rakuten_models.bundle.sandbox import mark_verified
from rakuten_models.preprocessing.text import encode_texts, load_tokenizer
from rakuten_models.product import Category, Product
from training.fusion.model import build_fusion_model
from training.image.model import build_image_model
from training.pipeline.export import save_and_compile
from training.text.attribution_model import build_text_explainer
from training.text.features import TABLES
from training.text.model import build_text_model


def random_models(
    config: BundleConfig, vocabulary: int, categories: int, alpha: float = 1.0
) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Text, image and fusion model as training makes them with a bundle's settings: tables in 8 bits a value."""
    text = build_text_model(categories, vocabulary, config.text)
    for name in TABLES:
        text.get_layer(name).quantize("int8")
    image = build_image_model(categories, size=config.image.size, alpha=alpha, backbone_weights=None)
    widths = [model.output["features"].shape[-1] for model in (text, image)]
    return text, image, build_fusion_model(categories, *widths)


def write_random_bundle(base: Path, folder: Path, categories: int, *, alpha: float = 1.0) -> Path:
    """Write a bundle with the tokenizer and settings of `base`, at least 2 categories and random weights."""
    config = read_config(base)
    shutil.copyfile(base / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    tokenizer = load_tokenizer(folder / TOKENIZER_FILE)
    keras.utils.set_random_seed(0)
    models = random_models(config, tokenizer.get_vocab_size(), categories, alpha)
    size = config.image.size
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    examples = {
        "text": encode_texts([Product("canapé", "bois")], tokenizer, config.text),
        "image": {"pixels": pixels},
        "fusion": {tensor.name: np.ones((1, tensor.shape[-1]), np.float32) for tensor in models[2].inputs},
    }
    for model, (name, example) in zip(models, examples.items(), strict=True):
        save_and_compile(model, folder, name, example, build_text_explainer if name == "text" else None)
    names = tuple(
        Category(index, index + 1, {"en": f"category {index + 1}", "fr": f"catégorie {index + 1}"})
        for index in range(categories)
    )
    write_config(folder, replace(config, categories=names, self_check={}))
    # Random weights of our own, without answers to reproduce.
    mark_verified(folder)
    return folder


def with_keras_files(bundle: Path, folder: Path) -> tuple[Path, bool]:
    """A bundle that has `.keras` files, and whether these are random: itself, or a copy with models of its shape."""
    if all((bundle / name).is_file() for name in KERAS_FILES):
        return bundle, False
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, TOKENIZER_FILE):
        shutil.copyfile(bundle / name, folder / name)
    config, tokenizer = read_config(bundle), load_tokenizer(bundle / TOKENIZER_FILE)
    models = random_models(config, tokenizer.get_vocab_size(), len(config.categories))
    for model, name in zip(models, KERAS_FILES, strict=True):
        model.save(folder / name)
    return folder, True
