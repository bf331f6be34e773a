"""A bundle whose weights a training run starts from.

Its categories keep their columns and new ones come after them; its words keep their ids. Every model starts from its
weights: the text model's tables and head (training/text/warm_start.py), the image model as it is, and the gate of the
fusion model as the mean of the prior on the new one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rakuten_models.bundle.config import KERAS_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.bundle.folder import validate_bundle
from rakuten_models.bundle.sandbox import load_in_sandbox
from rakuten_models.product import Category
from training.errors import WarmStartError
from training.fusion.trainer import Gate
from training.pipeline.keras_sandbox import KERAS_MEMORY_BYTES, KERAS_SANDBOX, KERAS_SECONDS
from training.settings import TrainingSettings
from training.text.warm_start import TextWeights


@dataclass(frozen=True, eq=False)
class InitialBundle:
    """A bundle to start from; see `load_initial_bundle`.

    Attributes:
        folder: With the `.keras` files.
        config: The bundle's.
    """

    folder: Path
    config: BundleConfig

    def categories(self, found: Sequence[Category]) -> tuple[Category, ...]:
        """The bundle's categories in their columns, then those of a catalog that it does not know."""
        known = {category.prdtypecode for category in self.config.categories}
        new = [category for category in found if category.prdtypecode not in known]
        columns = [*self.config.categories, *new]
        return tuple(dataclasses.replace(category, index=index) for index, category in enumerate(columns))

    def identity(self) -> dict[str, Any]:
        """What tells this bundle from others, and where it came from, for config.json."""
        return {
            "models": {name: self.config.files[name]["sha256"] for name in KERAS_FILES},
            "categories": len(self.config.categories),
            "catalog_fingerprint": self.config.training.get("catalog_fingerprint"),
        }

    @property
    def tokenizer(self) -> Path:
        """The bundle's tokenizer file."""
        return self.folder / TOKENIZER_FILE

    @cached_property
    def text(self) -> TextWeights:
        """The text model's weights."""
        return TextWeights.from_keras(self._load(0))

    def image(self, categories: int) -> keras.Model:
        """The image model with so many categories, the bundle's first; new columns are zero."""
        model = self._load(1)
        maps = model.get_layer("category_maps")
        kernel, bias = maps.get_weights()
        wider = keras.layers.Conv2D(categories, 1, name="category_maps")
        outputs = wider(maps.input)
        new = categories - len(bias)
        wider.set_weights(
            [np.pad(kernel, [(0, 0)] * 3 + [(0, new)]), np.pad(bias, (0, new), constant_values=bias.mean())]
        )
        return keras.Model(
            {"pixels": model.inputs[0]},
            {
                "logits": keras.layers.GlobalAveragePooling2D(name="logits")(outputs),
                "features": model.output["features"],
                "category_maps": outputs,
            },
            name="image_model",
        )

    def gate(self, categories: int) -> Gate:
        """The fusion model's gate for so many categories."""
        gate = Gate.from_keras(self._load(2))
        return gate.for_categories(len(self.config.categories), categories)

    def _load(self, number: int) -> keras.Model:
        return keras.saving.load_model(self.folder / KERAS_FILES[number], compile=False, safe_mode=True)


def load_initial_bundle(folder: str | Path, settings: TrainingSettings) -> InitialBundle:
    """Check that a run with these settings can start from a bundle's folder.

    Raises:
        BundleError: The bundle is incomplete or altered, or its `.keras` files failed when they were tried.
        WarmStartError: It is no folder, or its models have another shape or read products in another way.
    """
    path = Path(folder)
    if not path.is_dir():
        raise WarmStartError("training.init_no_folder", folder=folder)
    absent = [name for name in KERAS_FILES if not (path / name).is_file()]
    if absent:
        raise WarmStartError("training.init_serving_part", folder=folder, names=", ".join(absent))
    # The files are untrusted: another process reads them first.
    digest = load_in_sandbox(path, KERAS_SANDBOX, seconds=KERAS_SECONDS, memory_bytes=KERAS_MEMORY_BYTES)
    config = validate_bundle(path, require_keras=True, config_sha256=digest)
    trained = config.training.get("settings", {})
    # Through JSON, which has no tuples.
    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    pairs = {
        "text.model": (trained.get("text", {}).get("model"), wanted["text"]["model"]),
        "text_input": (dataclasses.asdict(config.text), wanted["text_input"]),
        "image_input": (dataclasses.asdict(config.image), wanted["image_input"]),
        "image.alpha": (trained.get("image", {}).get("alpha"), settings.image.alpha),
    }
    different = [f"{name} is {theirs}, here {ours}" for name, (theirs, ours) in pairs.items() if theirs != ours]
    if different:
        raise WarmStartError("training.init_other_settings", folder=folder, settings="; ".join(different))
    return InitialBundle(path, config)
