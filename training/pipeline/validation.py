"""Fits fusion, calibration and thresholds on outputs for rows that the models were not fitted on.

The image model's outputs come from the very file that will serve; the text model's too, or from cross-fitting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.bundle.config import SERVING_MODEL_FILES, TOKENIZER_FILE
from rakuten_models.errors import ProductError
from rakuten_models.files import file_facts
from rakuten_models.inference.calibration import Calibration, calibrate
from rakuten_models.inference.runtime import CompiledModel, ImageModelRunner, TextModelRunner
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings, clean_product, load_tokenizer
from rakuten_models.product import Product
from training.block_cache import BlockCache
from training.calibration import find_thresholds, fit_calibration
from training.fusion.trainer import FusionReport, Gate, fit_fusion
from training.metrics import weighted_f1
from training.pipeline.export import save_and_compile
from training.settings import FusionSettings

_TEXTS_AT_ONCE, _PICTURES_AT_ONCE = 2048, 256


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """One model's outputs.

    Attributes:
        rows: int (n,), ascending rows of the catalog.
        logits: float32 (n, categories).
        features: float32 (n, width).
    """

    rows: np.ndarray
    logits: np.ndarray
    features: np.ndarray

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Logits and features of some of the rows."""
        chosen = np.searchsorted(self.rows, rows)
        return {"logits": self.logits[chosen], "features": self.features[chosen]}


@dataclass(frozen=True)
class DecisionParameters:
    """How the three models' outputs become predictions.

    Attributes:
        calibration: By model.
        thresholds: By wanted precision; see `find_thresholds`.
        weighted_f1: On the validation rows, by model and for "served"; out-of-fold where fusion takes part.
        fusion: How the fusion was fitted.
    """

    calibration: Mapping[str, Calibration]
    thresholds: Mapping[str, Mapping[str, float | None]]
    weighted_f1: Mapping[str, float | None]
    fusion: FusionReport

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DecisionParameters:
        """From `dataclasses.asdict`, through JSON or not."""
        calibration = {
            name: Calibration(**{**each, "category_temperatures": tuple(each["category_temperatures"])})
            for name, each in values["calibration"].items()
        }
        return cls(**{**values, "calibration": calibration, "fusion": FusionReport(**values["fusion"])})


@dataclass(frozen=True, eq=False)
class Validation:
    """The validation rows, and the compiled models in a folder.

    Attributes:
        folder: Holds the tokenizer and the compiled models.
        products: All rows of the catalog.
        category_index: int (rows of the catalog,), the true output columns.
        text_rows: int, ascending: the validation rows that have a text.
        image_rows: int, ascending: the validation rows that have a picture.
        categories: Number of categories.
        text_input: How texts become ids.
        image_input: How pictures become pixels.
    """

    folder: Path
    products: Sequence[Product]
    category_index: np.ndarray
    text_rows: np.ndarray
    image_rows: np.ndarray
    categories: int
    text_input: TextSettings
    image_input: ImageSettings

    def text_logits(self) -> np.ndarray:
        """float32 (n, categories), the text model's, of `text_rows`."""
        tokenizer = load_tokenizer(self.folder / TOKENIZER_FILE)
        model = TextModelRunner(self.folder / SERVING_MODEL_FILES[0], tokenizer, self.text_input)
        logits = [np.zeros((0, self.categories), np.float32)]
        for start in range(0, len(self.text_rows), _TEXTS_AT_ONCE):
            rows = self.text_rows[start : start + _TEXTS_AT_ONCE]
            logits.append(model([clean_product(self.products[row]) for row in rows])["logits"])
        return np.concatenate(logits)

    def text_outputs(self, rows: np.ndarray, logits: np.ndarray) -> ModelOutputs:
        """The text model's, with features of 0: cross-fitted models do not agree on what a feature means."""
        model = CompiledModel(self.folder / SERVING_MODEL_FILES[0])
        width = int(model.outputs["features"]["shape"][-1])
        return ModelOutputs(rows, logits, np.zeros((len(rows), width), np.float32))

    def image_outputs(self) -> ModelOutputs:
        """The image model's, of those of `image_rows` whose picture can be read."""
        file = self.folder / SERVING_MODEL_FILES[1]
        model, rows, names = ImageModelRunner(file, self.image_input), self.image_rows, ("logits", "features")
        widths = [int(model.model.outputs[name]["shape"][-1]) for name in names]

        def make(start: int, stop: int) -> np.ndarray:
            made = np.full((stop - start, sum(widths)), np.nan, np.float32)
            for number, outputs in enumerate(model([self.products[row].image for row in rows[start:stop]])):
                if not isinstance(outputs, ProductError):
                    made[number] = np.concatenate([outputs[name][0] for name in names])
            return made

        cache = BlockCache(self.folder / "validation", file_facts(file)["sha256"])
        found = cache.array("pictures", (len(rows), sum(widths)), np.float32, make, _PICTURES_AT_ONCE)
        readable = ~np.isnan(found[:, 0])
        return ModelOutputs(rows[readable], *np.split(np.array(found[readable]), widths[:1], axis=1))

    def f1(self, rows: np.ndarray, predicted: np.ndarray) -> float | None:
        """Weighted F1 of predictions (output columns) for rows of the catalog; None if there are none."""
        if not len(rows):
            return None
        return float(weighted_f1(self.category_index[rows], predicted, self.categories))

    def fit_decision_parameters(
        self, text: ModelOutputs, image: ModelOutputs, settings: FusionSettings, seed: int, start: Gate | None = None
    ) -> DecisionParameters:
        """Fit fusion, calibration and thresholds, and write the fusion model's two files into the folder.

        Args:
            text: From text models that were not fitted on the rows.
            image: The same of the image model.
            settings: How the fusion is fitted.
            seed: Of its folds.
            start: The gate to start from, if any.
        """
        truth, both = self.category_index, np.intersect1d(text.rows, image.rows)
        text_of_both, image_of_both = text.of(both), image.of(both)
        fused = fit_fusion(text_of_both, image_of_both, truth[both], settings, seed=seed, start=start)
        self._write_fusion_model(fused.model, text_of_both, image_of_both)
        outputs = {
            "text": (text.rows, text.logits),
            "image": (image.rows, image.logits),
            "fusion": (both, fused.logits),
        }
        calibration = {name: fit_calibration(logits, truth[rows]) for name, (rows, logits) in outputs.items()}
        # As the classifier does: fusion where both modalities are there, else the one that is.
        served = np.full((len(truth), self.categories), np.nan, np.float32)
        for name in ("image", "text", "fusion"):
            rows, logits = outputs[name]
            served[rows] = calibrate(logits, calibration[name])
        served_rows = np.flatnonzero(~np.isnan(served[:, 0]))
        f1 = {name: self.f1(rows, logits.argmax(axis=1)) for name, (rows, logits) in outputs.items()}
        for name, values in (("text", text_of_both), ("image", image_of_both)):
            f1[f"{name}_on_fusion_rows"] = self.f1(both, values["logits"].argmax(axis=1))
        f1["served"] = self.f1(served_rows, served[served_rows].argmax(axis=1))
        thresholds = find_thresholds(served[served_rows], truth[served_rows])
        return DecisionParameters(calibration, thresholds, f1, fused.report)

    def _write_fusion_model(self, model: Any, text: Mapping[str, np.ndarray], image: Mapping[str, np.ndarray]) -> None:
        """Write both files; they are compared on up to 8 rows, or on zeros."""
        rows = min(len(text["logits"]), 8)
        example = {}
        for modality, outputs in (("text", text), ("image", image)):
            for name, values in outputs.items():
                example[f"{modality}_{name}"] = (
                    values[:rows] if rows else np.zeros_like(values, shape=(1, values.shape[1]))
                )
            example[f"{modality}_present"] = np.ones((max(rows, 1), 1), np.float32)
        save_and_compile(model, self.folder, "fusion", example)
