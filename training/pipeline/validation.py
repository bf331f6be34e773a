"""What the models say of rows they were not fitted on, and what is fitted on that: fusion, temperatures, thresholds.

The image model's answers come from the very file that will serve; the text model's too, or from cross-fitting.
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

Outputs = dict[str, np.ndarray]

_TEXTS_AT_ONCE, _PICTURES_AT_ONCE = 2048, 256


@dataclass(frozen=True)
class DecisionParameters:
    """How the three models' outputs become answers.

    Attributes:
        calibration: By model.
        thresholds: By wanted precision; see `find_thresholds`.
        weighted_f1: On the validation rows, by model and for "served"; where fusion takes part, from folds in which
            it was not fitted on the row it answers.
        fusion: How the fusion was fitted.
    """

    calibration: Mapping[str, Calibration]
    thresholds: Mapping[str, Mapping[str, float | None]]
    weighted_f1: Mapping[str, float | None]
    fusion: FusionReport

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DecisionParameters:
        """From `dataclasses.asdict` of answers, through JSON or not."""
        calibration = {
            name: Calibration(**{**each, "category_temperatures": tuple(each["category_temperatures"])})
            for name, each in values["calibration"].items()
        }
        return cls(**{**values, "calibration": calibration, "fusion": FusionReport(**values["fusion"])})


class Validation:
    """The validation rows, as the compiled models in a folder see them.

    Args:
        folder: Holds the tokenizer and the compiled models.
        products: All rows of the catalog.
        category_index: int (rows of the catalog,), the true output columns.
        text_rows: int, growing: the validation rows that have a text.
        image_rows: int, growing: the validation rows that have a picture.
        categories: Number of categories.
        text_input: How texts become ids.
        image_input: How pictures become pixels.
    """

    def __init__(
        self,
        folder: Path,
        products: Sequence[Product],
        category_index: np.ndarray,
        text_rows: np.ndarray,
        image_rows: np.ndarray,
        categories: int,
        text_input: TextSettings,
        image_input: ImageSettings,
    ) -> None:
        """Run nothing yet."""
        self._folder, self._products, self._category_index = folder, products, category_index
        self.text_rows, self.image_rows, self._categories = text_rows, image_rows, categories
        self._text_input, self._image_input = text_input, image_input

    def text_logits(self) -> np.ndarray:
        """float32 (n, categories), the text model's, of `text_rows`."""
        tokenizer = load_tokenizer(self._folder / TOKENIZER_FILE)
        side = TextModelRunner(self._folder / SERVING_MODEL_FILES[0], tokenizer, self._text_input)
        if not len(self.text_rows):
            return _no_rows(side.model)["logits"]
        rows = self.text_rows
        return np.concatenate(
            [
                side([clean_product(self._products[row]) for row in rows[start : start + _TEXTS_AT_ONCE]])[
                    "logits"
                ]
                for start in range(0, len(rows), _TEXTS_AT_ONCE)
            ]
        )

    def _text_features(self) -> int:
        """How many features the text model gives."""
        model = CompiledModel(self._folder / SERVING_MODEL_FILES[0])
        return int(model.outputs["features"]["shape"][-1])

    def image_outputs(self) -> tuple[np.ndarray, Outputs]:
        """Those of `image_rows` whose picture can be read, and the image model's "logits" and "features" of them."""
        side = ImageModelRunner(self._folder / SERVING_MODEL_FILES[1], self._image_input)
        rows = self.image_rows
        widths = {name: values.shape[1] for name, values in _no_rows(side.model).items()}

        def make(start: int, stop: int) -> np.ndarray:
            made = np.full((stop - start, sum(widths.values())), np.nan, np.float32)
            answers = side([self._products[row].image for row in rows[start:stop]])
            for place, answer in enumerate(answers):
                if not isinstance(answer, ProductError):
                    made[place] = np.concatenate([answer[name][0] for name in widths])
            return made

        digest = file_facts(self._folder / SERVING_MODEL_FILES[1])["sha256"]
        cache = BlockCache(self._folder / "validation", digest)
        shape = (len(rows), sum(widths.values()))
        found = cache.array("pictures", shape, np.float32, make, _PICTURES_AT_ONCE)
        readable = ~np.isnan(found[:, 0])
        split = np.split(np.array(found[readable]), np.cumsum(list(widths.values()))[:-1], axis=1)
        return rows[readable], dict(zip(widths, split, strict=True))

    def f1(self, rows: np.ndarray, answers: np.ndarray) -> float | None:
        """Weighted F1 of the answers (output columns) on rows of the catalog; None if there are none."""
        if not len(rows):
            return None
        return float(weighted_f1(self._category_index[rows], answers, self._categories))

    def fit_decision_parameters(
        self,
        text_rows: np.ndarray,
        text_logits: np.ndarray,
        image_rows: np.ndarray,
        image: Outputs,
        settings: FusionSettings,
        seed: int,
        start: Gate | None = None,
    ) -> DecisionParameters:
        """Fit fusion, temperatures and thresholds, and write the fusion model's two files into the folder.

        Args:
            text_rows: int (n,), growing: rows of the catalog.
            text_logits: float32 (n, categories), for each of them from a text model that was not fitted on it.
            image_rows: int (m,), growing: the rows of `image_outputs`.
            image: Its outputs.
            settings: How the fusion is fitted.
            seed: Of its folds.
            start: The gate that it goes on from, if any.
        """
        # Cross-fitted models agree on categories, not on what a feature means: no features of the text here.
        text = {
            "logits": text_logits,
            "features": np.zeros((len(text_rows), self._text_features()), np.float32),
        }
        both = np.intersect1d(text_rows, image_rows)
        text_of_both = {name: values[np.searchsorted(text_rows, both)] for name, values in text.items()}
        image_of_both = {name: values[np.searchsorted(image_rows, both)] for name, values in image.items()}
        fused = fit_fusion(
            text_of_both, image_of_both, self._category_index[both], settings, seed=seed, start=start
        )
        fused_logits = fused.logits
        present = np.ones((max(len(both), 1), 1), np.float32)
        sides = {"text": text_of_both, "image": image_of_both}
        example = {
            f"{side}_{name}": outputs[name][:8]
            if len(both)
            else np.zeros((1, outputs[name].shape[1]), np.float32)
            for side, outputs in sides.items()
            for name in ("features", "logits")
        }
        for side in sides:
            example[f"{side}_present"] = present[: len(example["text_logits"])]
        save_and_compile(fused.model, self._folder, "fusion", example)

        truth = self._category_index
        fitted = {
            "text": fit_calibration(text["logits"], truth[text_rows]),
            "image": fit_calibration(image["logits"], truth[image_rows]),
            "fusion": fit_calibration(fused_logits, truth[both]),
        }
        # As the classifier answers: fusion where both sides are there, else the side that is.
        served = dict(zip(image_rows, calibrate(image["logits"], fitted["image"]), strict=True))
        served |= zip(text_rows, calibrate(text["logits"], fitted["text"]), strict=True)
        served |= zip(both, calibrate(fused_logits, fitted["fusion"]), strict=True)
        served_rows = np.array(sorted(served), np.int64)
        probabilities = np.array([served[row] for row in served_rows], np.float32).reshape(
            -1, self._categories
        )
        thresholds = find_thresholds(probabilities, truth[served_rows])
        validation = {
            "text": self.f1(text_rows, text["logits"].argmax(axis=1)),
            "image": self.f1(image_rows, image["logits"].argmax(axis=1)),
            "fusion": self.f1(both, fused_logits.argmax(axis=1)),
            "text_on_fusion_rows": self.f1(both, text_of_both["logits"].argmax(axis=1)),
            "image_on_fusion_rows": self.f1(both, image_of_both["logits"].argmax(axis=1)),
            "served": self.f1(served_rows, probabilities.argmax(axis=1)),
        }
        return DecisionParameters(
            calibration=fitted,
            thresholds=thresholds,
            weighted_f1=validation,
            fusion=fused.report,
        )


def _no_rows(model: CompiledModel) -> dict[str, np.ndarray]:
    """Outputs of no products at all, with the widths that the model has."""
    return {
        name: np.zeros((0, int(model.outputs[name]["shape"][-1])), np.float32)
        for name in ("logits", "features")
    }
