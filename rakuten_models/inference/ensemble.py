"""Runs the three models of a bundle on products and combines their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rakuten_models.errors import BundleError, Message, ProductError
from rakuten_models.inference.calibration import Calibration, calibrate
from rakuten_models.inference.runtime import FUSION_INPUTS, CompiledModel, ImageModelRunner, TextModelRunner
from rakuten_models.preprocessing.text import clean_product, holds_text
from rakuten_models.product import ACCEPT, REVIEW, Category, Prediction, Product

Outputs = dict[str, np.ndarray]


@dataclass
class ModelOutputs:
    """What the models say of n products.

    Attributes:
        errors: For each product why it, or its picture, was left out; None if it was not.
        text_rows: Products with a text, growing.
        image_rows: Products with a readable picture, growing.
        fusion_rows: Those in both, growing.
        text: The text model's outputs for `text_rows`; None if there are none.
        image: The image model's for `image_rows`.
        fusion: The fusion model's for `fusion_rows`.
    """

    errors: list[Message | None]
    text_rows: list[int] = field(default_factory=list)
    image_rows: list[int] = field(default_factory=list)
    fusion_rows: list[int] = field(default_factory=list)
    text: Outputs | None = None
    image: Outputs | None = None
    fusion: Outputs | None = None


class Ensemble:
    """The text, image and fusion model of one bundle. Safe to use from several threads.

    `categories` are in the order of the models' logits, `calibration` is by model name.

    Raises:
        BundleError: The models do not fit each other or the categories.
    """

    def __init__(
        self,
        text: TextModelRunner,
        image: ImageModelRunner,
        fusion: CompiledModel,
        categories: Sequence[Category],
        calibration: Mapping[str, Calibration],
    ) -> None:
        """Check that the models fit together."""
        self.text, self.image, self.fusion = text, image, fusion
        self._categories, self._calibration = categories, calibration
        self._check_arrays()
        self._text_thread = ThreadPoolExecutor(1, thread_name_prefix="beside")

    def run(self, products: Sequence[Product], *, for_explanation: bool = False) -> ModelOutputs:
        """Run the models on n products in any mix.

        `for_explanation` adds the inputs to the text outputs, and the picture as "picture" to the image outputs.
        """
        outputs = ModelOutputs([_wrong_type(product) for product in products])
        valid = [row for row, error in enumerate(outputs.errors) if error is None]
        cleaned = {row: clean_product(products[row]) for row in valid}
        outputs.text_rows = [row for row, texts in cleaned.items() if holds_text(texts)]
        image_rows = [row for row in valid if products[row].image is not None]
        texts = [cleaned[row] for row in outputs.text_rows]
        run_text = self.text.with_inputs if for_explanation else self.text
        # Decoding a picture keeps one core busy: the texts run on another meanwhile.
        beside = self._text_thread.submit(run_text, texts) if texts and image_rows else None
        if texts and beside is None:
            outputs.text = run_text(texts)
        if image_rows:
            pictures = self.image([products[row].image for row in image_rows], keep_pictures=for_explanation)
            readable = []
            for row, answer in zip(image_rows, pictures, strict=True):
                if isinstance(answer, ProductError):
                    outputs.errors[row] = answer.message
                else:
                    outputs.image_rows.append(row)
                    readable.append(answer)
            if readable:
                outputs.image = {name: np.concatenate([answer[name] for answer in readable]) for name in readable[0]}
        if beside is not None:
            outputs.text = beside.result()
        outputs.fusion_rows = sorted(set(outputs.text_rows) & set(outputs.image_rows))
        if outputs.fusion_rows and outputs.text is not None and outputs.image is not None:
            text_index = np.searchsorted(outputs.text_rows, outputs.fusion_rows)
            image_index = np.searchsorted(outputs.image_rows, outputs.fusion_rows)
            present = np.ones((len(outputs.fusion_rows), 1), np.float32)
            outputs.fusion = self.fusion(
                text_features=outputs.text["features"][text_index],
                text_logits=outputs.text["logits"][text_index],
                image_features=outputs.image["features"][image_index],
                image_logits=outputs.image["logits"][image_index],
                text_present=present,
                image_present=present,
            )
        return outputs

    def calibrated(self, model: str, logits: np.ndarray) -> np.ndarray:
        """float32 (n, categories), the probabilities behind a model's logits.

        Raises:
            BundleError: They are not finite: a damaged model must not pass for an answer.
        """
        probabilities = calibrate(logits, self._calibration[model])
        if not np.isfinite(probabilities).all():
            raise BundleError("bundle.answers_not_finite", model=model, folder=str(self.fusion.path.parent))
        return probabilities

    def predictions(self, outputs: ModelOutputs, threshold: float | None) -> list[Prediction]:
        """Each product's prediction: by fusion where there are both text and picture, else by the only model.

        Args:
            outputs: From `run`.
            threshold: The least probability to accept, 0 to 1; None accepts nothing.
        """
        text, image, fused = (
            dict(zip(rows, self.calibrated(name, model_outputs["logits"]), strict=True)) if model_outputs else {}
            for name, rows, model_outputs in (
                ("text", outputs.text_rows, outputs.text),
                ("image", outputs.image_rows, outputs.image),
                ("fusion", outputs.fusion_rows, outputs.fusion),
            )
        )
        answers = {row: (probabilities, 1.0) for row, probabilities in image.items()}
        answers |= {row: (probabilities, 0.0) for row, probabilities in text.items()}
        if outputs.fusion is not None:
            for row, weight in zip(outputs.fusion_rows, outputs.fusion["image_weight"][:, 0], strict=True):
                if not 0 <= weight <= 1:
                    folder = str(self.fusion.path.parent)
                    raise BundleError("bundle.image_weight_out_of_range", folder=folder, weight=weight)
                answers[row] = (fused[row], float(weight))
        predictions = []
        for row, error in enumerate(outputs.errors):
            if row not in answers:
                predictions.append(Prediction(self._categories, error=error or Message("product.empty")))
                continue
            probabilities, image_weight = answers[row]
            best = int(probabilities.argmax())
            accepted = threshold is not None and probabilities[best] >= threshold
            predictions.append(
                Prediction(
                    categories=self._categories,
                    category=self._categories[best],
                    probability=float(probabilities[best]),
                    probabilities=probabilities,
                    text_probabilities=text.get(row),
                    image_probabilities=image.get(row),
                    image_weight=image_weight,
                    decision=ACCEPT if accepted else REVIEW,
                    error=error,
                )
            )
        return predictions

    def _check_arrays(self) -> None:
        """Refuse models that do not fit each other, the categories or the settings."""
        categories, size = len(self._categories), self.image.settings.size
        self.fusion.check_signature(FUSION_INPUTS, {"logits", "image_weight"})
        for model in (self.text.model, self.image.model, self.fusion):
            columns = int(model.outputs["logits"]["shape"][-1])
            if columns != categories:
                raise BundleError("bundle.outputs_do_not_fit", file=model.path, outputs=columns, categories=categories)
        single, ids = np.float32, (np.int32, (None,))
        logits = (single, (categories,))
        text_features, image_features = (
            (single, (int(runner.model.outputs["features"]["shape"][-1]),)) for runner in (self.text, self.image)
        )
        self.text.model.check_arrays(
            {"token_ids": ids, "character_ids": ids, "logits": logits, "features": text_features}
        )
        self.image.model.check_arrays(
            {
                "pixels": (np.uint8, (size, size, 3)),
                "logits": logits,
                "features": image_features,
                "category_maps": (single, (None, None, categories)),
            }
        )
        self.fusion.check_arrays(
            {
                "text_features": text_features,
                "text_logits": logits,
                "image_features": image_features,
                "image_logits": logits,
                "text_present": (single, (1,)),
                "image_present": (single, (1,)),
                "logits": logits,
                "image_weight": (single, (1,)),
            }
        )


def _wrong_type(product: Any) -> Message | None:
    """Why this is not a Product of strings, or None."""
    if not isinstance(product, Product):
        return Message("product.wrong_type", kind=type(product).__name__)
    for name in ("designation", "description"):
        if not isinstance(getattr(product, name), str):
            return Message("product.field_no_text", field=name, kind=type(getattr(product, name)).__name__)
    return None
