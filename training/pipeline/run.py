"""The stages of a training run, each of which a later run with `--resume` takes over.

Catalog and split are made again each time (seconds, and fixed by the seed). All else is cached in a working folder
beside the bundle until the bundle is whole. A stage is finished once its result is in the cache, written last.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.bundle.config import KERAS_FILES, SERVING_MODEL_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.classifier import self_check_product
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.image import read_image
from rakuten_models.preprocessing.text import encode_texts, load_tokenizer
from rakuten_models.product import Category, Product
from training.block_cache import BlockCache
from training.calibration import fit_offsets
from training.data.catalog import Catalog
from training.data.split import Split
from training.errors import TrainingError
from training.image.devices import Devices
from training.image.trainer import ImageRun, InitialImageModel, LabelledImages, fit_image_model
from training.pipeline.bundle_writer import SELF_CHECK_TEXTS, self_check_products
from training.pipeline.export import save_and_compile
from training.pipeline.validation import DecisionParameters, ModelOutputs, Validation
from training.pipeline.warm_start import InitialBundle
from training.progress import Progress
from training.settings import TrainingSettings
from training.text.attribution_model import build_text_explainer
from training.text.cross_fitting import cross_fitted_logits, fold_numbers
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextEpoch, TextFitter
from training.text.warm_start import extended_tokenizer

STATE_FILE = "state.json"

# Finished stages; text features and unfinished networks; the fine-tuning's state; predictions for the test part.
STAGES_FOLDER, TEXT_FOLDER, CHECKPOINT_FOLDER = "stages", "text", "checkpoint"
EVALUATION_FOLDER = "evaluation"
TEXT_FILES = (TOKENIZER_FILE, KERAS_FILES[0], SERVING_MODEL_FILES[0])
IMAGE_FILES = (KERAS_FILES[1], SERVING_MODEL_FILES[1])
FUSION_FILES = (KERAS_FILES[2], SERVING_MODEL_FILES[2])

# What a stage gives: arrays for the next ones, and facts for config.json.
_Result = tuple[dict[str, np.ndarray], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """What a run learns from and starts from.

    Attributes:
        catalog: The rows.
        split: Which of them train, validate and test.
        categories: In the order of the outputs.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        unlabelled: Products of other catalogs whose texts teach the text model, beside this catalog's rows without a
            label.
        start: A bundle to start from, whose categories come first.
    """

    catalog: Catalog
    split: Split
    categories: tuple[Category, ...]
    backbone_weights: str | None
    unlabelled: Sequence[Product] = ()
    start: InitialBundle | None = None


class TrainingRun:
    """One run over one catalog, in one working folder."""

    def __init__(
        self,
        inputs: TrainingInputs,
        settings: TrainingSettings,
        folder: Path,
        progress: Progress,
        *,
        resume: bool = False,
        devices: Devices | None = None,
    ) -> None:
        """Prepare the folder.

        Args:
            inputs: What to learn from.
            settings: The choices.
            folder: The working folder.
            progress: Shows how far the run is.
            resume: Take over finished stages that the folder holds; otherwise start afresh.
            devices: What the image model's fine-tuning runs on; None: one device, full precision.

        Raises:
            TrainingError: Too few rows have a text or a picture, or the folder holds a run over another catalog or
                with other settings.
        """
        catalog, start = inputs.catalog, inputs.start
        self.settings, self.folder, self._progress = settings, folder, progress
        self._catalog, self._split, self._categories = catalog, inputs.split, inputs.categories
        self._backbone_weights, self._start, self._devices = (inputs.backbone_weights, start, devices or Devices())
        self._products = catalog.products()
        without_label = catalog.table["prdtypecode"].isna().to_numpy() & catalog.has_text
        self._unlabelled = [*self._some(np.flatnonzero(without_label)), *inputs.unlabelled]
        column = {category.prdtypecode: category.index for category in inputs.categories}
        # A row without a label is in no part of the split; its column is never looked at.
        codes = catalog.table["prdtypecode"].fillna(-1)
        self._category_index = codes.map(column).fillna(0).to_numpy(dtype=np.int64)
        self._weights = np.where(catalog.table["gold_label"], 1.0, settings.other_label_weight)
        self._identity = json.loads(
            json.dumps(
                {
                    "catalog_fingerprint": catalog.fingerprint(),
                    "settings": asdict(settings),
                    "backbone_weights": inputs.backbone_weights and Path(inputs.backbone_weights).name,
                    "unlabelled_texts": len(self._unlabelled),
                    **({"init": start.identity()} if start else {}),
                    **({"mixed_precision": True} if self._devices.mixed_precision else {}),
                }
            )
        )
        for modality, has in (("text", catalog.has_text), ("picture", catalog.has_image)):
            rows = len(self._rows("train", has))
            if rows < 2:
                raise TrainingError("training.too_few_rows", rows=rows, modality=modality)
        self._validation = Validation(
            folder,
            self._products,
            self._category_index,
            self._rows("validation", catalog.has_text),
            self._rows("validation", catalog.has_image),
            len(self._categories),
            settings.text_input,
            settings.image_input,
        )
        self._cache = BlockCache(folder / STAGES_FOLDER)
        self._open(resume)

    def fit(self) -> BundleConfig:
        """Go through all stages that are not finished.

        Returns:
            The bundle's config without its file hashes and self-check (the models and the tokenizer are in the
            folder); what was reached on validation is under training["validation_weighted_f1"].
        """
        text, text_facts = self._stage("text", TEXT_FILES, self._fit_text)
        image, image_facts = self._stage("image", IMAGE_FILES, self._fit_image)
        _, fusion_facts = self._stage("fusion", FUSION_FILES, lambda: self._fit_fusion(text, image))
        decision = DecisionParameters.from_json(fusion_facts["decision_parameters"])
        if decision.fusion.note:
            self._progress.say(decision.fusion.note)
        training = {
            **self._identity,
            "seed": self.settings.seed,
            "split": self._split.to_json(),
            "validation_weighted_f1": decision.weighted_f1,
            "text": text_facts,
            "image": image_facts,
            "fusion": {**asdict(decision.fusion), "seconds": fusion_facts["seconds"]},
        }
        return BundleConfig(
            categories=self._categories,
            text=self.settings.text_input,
            image=self.settings.image_input,
            calibration=decision.calibration,
            thresholds=decision.thresholds,
            training=training,
        )

    def _fit_fusion(self, text: dict[str, np.ndarray], image: dict[str, np.ndarray]) -> _Result:
        decision = self._validation.fit_decision_parameters(
            self._validation.text_outputs(**text),
            ModelOutputs(**image),
            self.settings.fusion,
            self.settings.seed,
            None if self._start is None else self._start.gate(len(self._categories)),
        )
        return {}, {
            "decision_parameters": asdict(decision),
            "validation_rows": decision.fusion.rows,
            "validation_weighted_f1": decision.weighted_f1["fusion"],
            "validation_weighted_f1_before_rounding": None,
        }

    def _open(self, resume: bool) -> None:
        """Check that the folder's run is this one, or empty it."""
        path = self.folder / STATE_FILE
        if resume and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))["identity"]
            names = {**self._identity, **found}
            different = [name for name in names if found.get(name) != self._identity.get(name)]
            if different:
                raise TrainingError("training.other_run", folder=self.folder, names=", ".join(different))
            return
        for name in (STATE_FILE, *TEXT_FILES, *IMAGE_FILES):
            (self.folder / name).unlink(missing_ok=True)
        for name in (STAGES_FOLDER, TEXT_FOLDER, CHECKPOINT_FOLDER, EVALUATION_FOLDER):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"identity": self._identity}))

    def _stage(self, name: str, files: Sequence[str], fit: Callable[[], _Result]) -> _Result:
        saved = self._cache.load(name)
        if saved is not None and all((self.folder / file).is_file() for file in files):
            self._progress.say(f"{name} model: taken over from the unfinished run")
            return saved
        started = time.perf_counter()
        arrays, facts = fit()
        # Through JSON, as a later run would find them.
        facts = json.loads(json.dumps({**facts, "seconds": round(time.perf_counter() - started, 1)}))
        self._cache.save(name, arrays, facts)
        self._progress.say(f"{name} model: {facts['seconds']:.0f} s, {_figures(facts)}")
        return arrays, facts

    def _rows(self, part: str, having: np.ndarray) -> np.ndarray:
        """Rows of a part of the split that have a text, or a picture."""
        positions = getattr(self._split, part)
        rows: np.ndarray = positions[having[positions]]
        return rows

    def _some(self, rows: np.ndarray) -> list[Product]:
        return [self._products[row] for row in rows]

    def _fit_text(self) -> _Result:
        settings = self.settings
        train = self._rows("train", self._catalog.has_text)
        validation = self._validation.text_rows
        self._make_tokenizer(train)
        tokenizer = load_tokenizer(self.folder / TOKENIZER_FILE)
        rows = np.union1d(train, validation)
        fitter = TextFitter(
            LabelledTexts(self._some(rows), self._category_index[rows], self._weights[rows], self._unlabelled),
            tokenizer,
            settings.text_input,
            settings.text,
            categories=len(self._categories),
            seed=settings.seed,
            folder=self.folder / TEXT_FOLDER,
            start=None if self._start is None else self._start.text,
            progress=lambda done, of: self._progress.step("texts", done, of),
        )
        facts: dict[str, Any] = {}
        logits: np.ndarray | None = None
        if settings.text.folds:
            predicted_rows, logits = self._cross_fit(fitter, rows)
            learned, measured = rows, validation[:0]
            facts["validation_weighted_f1_before_rounding"] = None
        else:
            predicted_rows, learned, measured = validation, train, validation
        epochs: list[TextEpoch] = []

        def show(epoch: TextEpoch) -> None:
            epochs.append(epoch)
            self._progress.step("text model", epoch.epoch, epoch.epochs)
            values = {"loss": epoch.loss, "validation weighted F1": epoch.validation_f1}
            self._progress.log("text", epoch.epoch, values)

        network = fitter.fit(np.searchsorted(rows, learned), np.searchsorted(rows, measured), show)
        if logits is not None:
            f1 = self._validation.f1(predicted_rows, logits.argmax(axis=1))
            facts["cross_fitted_weighted_f1_without_offsets"] = f1
            offsets = fit_offsets(logits, self._category_index[predicted_rows])
            network.bias += offsets
            logits += offsets
        checked = [Product(*texts) for texts in SELF_CHECK_TEXTS if any(texts)] + self._some(validation[:8])
        agreement = save_and_compile(
            fitter.to_keras(network),
            self.folder,
            "text",
            encode_texts(checked, tokenizer, settings.text_input),
            build_text_explainer,
        )
        if logits is None:
            logits = self._validation.text_logits()
            facts["validation_weighted_f1_before_rounding"] = epochs[-1].validation_f1
        return {"rows": predicted_rows, "logits": logits}, {
            "training_rows": len(learned),
            "cross_fitted_folds": settings.text.folds,
            "validation_rows": len(predicted_rows),
            "validation_weighted_f1": self._validation.f1(predicted_rows, logits.argmax(axis=1)),
            **facts,
            "agreement": agreement,
        }

    def _make_tokenizer(self, train: np.ndarray) -> None:
        """Find the catalog's words, unless an earlier run has, and write the tokenizer's file."""
        path = self.folder / TOKENIZER_FILE
        if path.is_file():
            return
        texts = (
            text for row in train for text in (self._products[row].designation, self._products[row].description) if text
        )
        tokenizer = train_tokenizer(texts, self.settings.text)
        if self._start:
            tokenizer = extended_tokenizer(self._start.tokenizer, tokenizer)
        write_atomically(path, tokenizer.to_str(pretty=True))

    def _cross_fit(self, fitter: TextFitter, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the catalog with gold labels, and out-of-fold logits for them."""
        settings = self.settings
        gold = self._catalog.table["gold_label"].to_numpy(bool)[rows]
        fold = fold_numbers(self._split.groups[rows], gold, settings.text.folds, settings.seed)
        logits = cross_fitted_logits(fitter, fold, gold, lambda done, of: self._progress.step("text folds", done, of))
        return rows[gold], logits

    def _fit_image(self) -> _Result:
        settings = self.settings
        train = self._rows("train", self._catalog.has_image)
        validation = self._validation.image_rows
        start = None
        if self._start:
            model = self._start.image(len(self._categories))
            start = InitialImageModel(model, known=len(self._start.config.categories))
        fitted = fit_image_model(
            self._images(train),
            self._images(validation),
            settings.image_input,
            settings.image,
            ImageRun(
                cache_dir=self.folder / "features",
                checkpoint_dir=self.folder / CHECKPOINT_FOLDER,
                seed=settings.seed,
                devices=self._devices,
                progress=self._progress.step,
                callbacks=self._progress.keras_callbacks("image"),
            ),
            categories=len(self._categories),
            backbone_weights=self._backbone_weights,
            start=start,
        )
        predicted = fitted.validation_predictions
        before = self._validation.f1(validation[predicted >= 0], predicted[predicted >= 0])
        checked = [self_check_product(entry).image for entry in self_check_products()]
        pixels = [read_image(image, settings.image_input) for image in checked if image]
        agreement = save_and_compile(fitted.model, self.folder, "image", {"pixels": np.stack(pixels)})
        outputs = self._validation.image_outputs()
        return dict(vars(outputs)), {
            "training_rows": len(train),
            "unreadable_pictures": len(fitted.unreadable_pictures),
            "validation_rows": len(outputs.rows),
            "validation_weighted_f1": self._validation.f1(outputs.rows, outputs.logits.argmax(axis=1)),
            "validation_weighted_f1_before_rounding": before,
            "agreement": agreement,
        }

    def _images(self, rows: np.ndarray) -> LabelledImages:
        images = [self._products[row].image for row in rows]
        return LabelledImages(images, self._category_index[rows], self._weights[rows])


def _figures(facts: Mapping[str, Any]) -> str:
    after, before = facts["validation_weighted_f1"], facts["validation_weighted_f1_before_rounding"]
    if after is None:
        return "no validation rows"
    rounding = "" if before is None else f" (before rounding to what is stored {before:.4f})"
    return f"weighted F1 on {facts['validation_rows']:,} validation rows {after:.4f}{rounding}"
