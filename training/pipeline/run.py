"""The stages of a training run, each of which can be taken over by a later run with `--resume`.

Catalog and split are made again each time (they take seconds and are fixed by the seed). The text model, the image
model and what the image model needs of the pictures are kept in a working folder beside the bundle until the bundle
is whole. A stage counts as finished once its facts are in state.json, which is written last.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rakuten_models.bundle.config import KERAS_FILES, SERVING_MODEL_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.classifier import self_check_product
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.image import read_image
from rakuten_models.preprocessing.text import encode_texts, load_tokenizer
from rakuten_models.product import Category, Product
from training.calibration import fit_offsets
from training.data.catalog import Catalog
from training.data.split import Split
from training.errors import TrainingError
from training.image.devices import Devices
from training.image.trainer import fit_image_model
from training.pipeline.bundle_writer import SELF_CHECK_TEXTS, self_check_products
from training.pipeline.export import save_and_compile
from training.pipeline.validation import DecisionParameters, Validation
from training.pipeline.warm_start import InitialBundle
from training.progress import Progress
from training.settings import TrainingSettings
from training.text.cross_fitting import cross_fitted_logits, fold_numbers
from training.text.tokenizer import train_tokenizer
from training.text.trainer import TextFitter
from training.text.warm_start import extended_tokenizer

STATE_FILE = "state.json"

# Rows with an own label, and logits for them from text models that did not see them.
TEXT_ANSWERS_FILE = "text_answers.npz"

# Rows, words and unfinished networks of the text stage.
TEXT_FOLDER = "text"

# What the finished bundle says of the test part.
EVALUATION_FOLDER = "evaluation"

TEXT_FILES = (TOKENIZER_FILE, KERAS_FILES[0], SERVING_MODEL_FILES[0], TEXT_ANSWERS_FILE)

# Validation rows whose picture can be read, and the image model's outputs for them.
IMAGE_ANSWERS_FILE = "image_answers.npz"

IMAGE_FILES = (KERAS_FILES[1], SERVING_MODEL_FILES[1], IMAGE_ANSWERS_FILE)

FUSION_FILES = (KERAS_FILES[2], SERVING_MODEL_FILES[2])


class TrainingRun:
    """One run over one catalog, in one working folder.

    Args:
        catalog: The rows.
        split: Which of them train, validate and test.
        categories: In the order of the outputs.
        settings: The choices.
        folder: The working folder.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        unlabelled: Products of other catalogs whose texts teach the text model; rows of this catalog without a label
            do so, too.
        progress: Shows how far the run is.
        resume: Take over finished stages that the folder holds; otherwise start afresh.
        start: A bundle to go on from, whose categories come first.
        devices: What the image model's fine-tuning runs on.

    Raises:
        TrainingError: The folder holds a run over another catalog or with other settings.
    """

    def __init__(
        self,
        catalog: Catalog,
        split: Split,
        categories: tuple[Category, ...],
        settings: TrainingSettings,
        folder: Path,
        *,
        backbone_weights: str | None,
        unlabelled: Sequence[Product] = (),
        progress: Progress,
        resume: bool = False,
        start: InitialBundle | None = None,
        devices: Devices | None = None,
    ) -> None:
        """Prepare the folder and read what an earlier run left there."""
        self.settings, self.folder, self._progress = settings, folder, progress
        self._catalog, self._split, self._categories = catalog, split, categories
        self._backbone_weights, self._start, self._devices = backbone_weights, start, devices or Devices()
        self._products = catalog.products()
        without_label = catalog.table["prdtypecode"].isna().to_numpy() & catalog.has_text
        self._unlabelled = [*self._some(np.flatnonzero(without_label)), *unlabelled]
        column = {category.prdtypecode: category.index for category in categories}
        # A row without a label is in no part of the split; its column is never looked at.
        codes = catalog.table["prdtypecode"].fillna(-1)
        self._category_index = codes.map(column).fillna(0).to_numpy(dtype=np.int64)
        self._weights = np.where(catalog.table["own_label"], 1.0, settings.other_label_weight)
        self._identity = json.loads(
            json.dumps(
                {
                    "catalog_fingerprint": catalog.fingerprint(),
                    "settings": asdict(settings),
                    "backbone_weights": Path(backbone_weights).name if backbone_weights else None,
                    "unlabelled_texts": len(self._unlabelled),
                    **({"init": start.identity()} if start else {}),
                    **({"mixed_precision": True} if self._devices.mixed_precision else {}),
                }
            )
        )
        for side, rows in (
            ("text", self._rows("train", catalog.has_text)),
            ("picture", self._rows("train", catalog.has_image)),
        ):
            if len(rows) < 2:
                raise TrainingError(
                    f"{len(rows)} training rows have a {side}, at least 2 are needed for its model; give a "
                    "catalog with texts and pictures."
                )
        self._validation = Validation(
            folder,
            self._products,
            self._category_index,
            self._rows("validation", catalog.has_text),
            self._rows("validation", catalog.has_image),
            len(categories),
            settings.text_input,
            settings.image_input,
        )
        self._state = self._open(resume)

    def fit(self) -> BundleConfig:
        """Go through all stages that are not finished.

        Returns:
            The bundle's config without its file hashes and self-check (the models and the tokenizer are in the
            folder); what was reached on validation is under training["validation_weighted_f1"].
        """
        text_facts = self._stage("text", TEXT_FILES, self._fit_text)
        image_facts = self._stage("image", IMAGE_FILES, self._fit_image)
        fusion_facts = self._stage("fusion", FUSION_FILES, self._fit_fusion)
        answers = DecisionParameters.from_json(fusion_facts["answers"])
        if answers.fusion.note:
            self._progress.say(answers.fusion.note)
        training = {
            **self._identity,
            "seed": self.settings.seed,
            "split": self._split.to_json(),
            "validation_weighted_f1": answers.weighted_f1,
            "text": text_facts,
            "image": image_facts,
            "fusion": {**asdict(answers.fusion), "seconds": fusion_facts["seconds"]},
        }
        config = BundleConfig(
            categories=self._categories,
            text=self.settings.text_input,
            image=self.settings.image_input,
            calibration=answers.calibration,
            thresholds=answers.thresholds,
            training=training,
        )
        return config

    def _fit_fusion(self) -> dict[str, Any]:
        with np.load(self.folder / TEXT_ANSWERS_FILE) as file:
            text_rows, text_logits = file["rows"], file["logits"]
        with np.load(self.folder / IMAGE_ANSWERS_FILE) as file:
            image_rows, image = file["rows"], {name: file[name] for name in ("logits", "features")}
        answers = self._validation.fit_decision_parameters(
            text_rows,
            text_logits,
            image_rows,
            image,
            self.settings.fusion,
            self.settings.seed,
            None if self._start is None else self._start.gate(len(self._categories)),
        )
        return {
            "answers": asdict(answers),
            "validation_rows": answers.fusion.rows,
            "validation_weighted_f1": answers.weighted_f1["fusion"],
            "validation_weighted_f1_before_rounding": None,
        }

    def _open(self, resume: bool) -> dict[str, Any]:
        path = self.folder / STATE_FILE
        if resume and path.is_file():
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            different = [
                name
                for name in {**self._identity, **state["identity"]}
                if state["identity"].get(name) != self._identity.get(name)
            ]
            if different:
                raise TrainingError(
                    f"The unfinished run in {self.folder} differs in {', '.join(different)}; run without --resume to "
                    "start afresh, or with the options of that run."
                )
            return state
        for name in (STATE_FILE, *TEXT_FILES, *IMAGE_FILES):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("checkpoint", TEXT_FOLDER, EVALUATION_FOLDER):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"identity": self._identity, "finished": {}}
        write_atomically(path, json.dumps(state))
        return state

    def _stage(self, name: str, files: Sequence[str], fit: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        finished = self._state["finished"]
        if name in finished and all((self.folder / file).is_file() for file in files):
            self._progress.say(f"{name} model: taken over from the unfinished run")
            known: dict[str, Any] = finished[name]
            return known
        started = time.perf_counter()
        facts = fit()
        facts["seconds"] = round(time.perf_counter() - started, 1)
        finished[name] = facts
        write_atomically(self.folder / STATE_FILE, json.dumps(self._state))
        self._progress.say(f"{name} model: {facts['seconds']:.0f} s, {_figures(facts)}")
        return facts

    def _rows(self, part: str, having: np.ndarray) -> np.ndarray:
        """Rows of a part of the split that have a text, or a picture."""
        positions = getattr(self._split, part)
        rows: np.ndarray = positions[having[positions]]
        return rows

    def _some(self, rows: np.ndarray) -> list[Product]:
        return [self._products[row] for row in rows]

    def _fit_text(self) -> dict[str, Any]:
        settings = self.settings
        train = self._rows("train", self._catalog.has_text)
        validation = self._validation.text_rows
        self._make_tokenizer(train)
        tokenizer = load_tokenizer(self.folder / TOKENIZER_FILE)
        rows = np.union1d(train, validation)
        fitter = TextFitter(
            self._some(rows),
            self._category_index[rows],
            self._weights[rows],
            tokenizer,
            settings.text_input,
            settings.text,
            categories=len(self._categories),
            unlabelled_products=self._unlabelled,
            seed=settings.seed,
            folder=self.folder / TEXT_FOLDER,
            start=None if self._start is None else self._start.text,
            progress=lambda done, of: self._progress.step("texts", done, of),
        )
        facts: dict[str, Any] = {}
        logits: np.ndarray | None = None
        if settings.text.folds:
            answered_rows, logits = self._cross_fit(fitter, rows)
            learned, measured = rows, validation[:0]
            facts["validation_weighted_f1_before_rounding"] = None
        else:
            answered_rows = validation
            learned, measured = train, validation
        last = {}

        def show(epoch: Any) -> None:
            last["epoch"] = epoch
            self._progress.step("text model", epoch.epoch, epoch.epochs)
            values = {"loss": epoch.loss, "validation weighted F1": epoch.validation_f1}
            self._progress.log("text", epoch.epoch, values)

        network = fitter.fit(np.searchsorted(rows, learned), np.searchsorted(rows, measured), show)
        if logits is not None:
            facts["cross_fitted_weighted_f1_without_offsets"] = self._validation.f1(
                answered_rows, logits.argmax(axis=1)
            )
            offsets = fit_offsets(logits, self._category_index[answered_rows])
            network.bias += offsets
            logits += offsets
        checked = [Product(*texts) for texts in SELF_CHECK_TEXTS if any(texts)] + self._some(validation[:8])
        agreement = save_and_compile(
            fitter.to_keras(network),
            self.folder,
            "text",
            encode_texts(checked, tokenizer, settings.text_input),
        )
        if logits is None:
            logits = self._validation.text_logits()
            facts["validation_weighted_f1_before_rounding"] = last["epoch"].validation_f1
        with (self.folder / TEXT_ANSWERS_FILE).open("wb") as file:
            np.savez(file, rows=answered_rows, logits=logits)
        return {
            "training_rows": len(learned),
            "cross_fitted_folds": settings.text.folds,
            "validation_rows": len(answered_rows),
            "validation_weighted_f1": self._validation.f1(answered_rows, logits.argmax(axis=1)),
            **facts,
            "agreement": agreement,
        }

    def _make_tokenizer(self, train: np.ndarray) -> None:
        """Find the catalog's words, unless an earlier run has, and write the tokenizer's file."""
        path = self.folder / TOKENIZER_FILE
        if path.is_file():
            return
        texts = (
            text
            for row in train
            for text in (self._products[row].designation, self._products[row].description)
            if text
        )
        tokenizer = train_tokenizer(texts, self.settings.text)
        if self._start:
            tokenizer = extended_tokenizer(self._start.tokenizer, tokenizer)
        write_atomically(path, tokenizer.to_str(pretty=True))

    def _cross_fit(self, fitter: TextFitter, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the catalog with own labels, and logits for them from models that did not see them."""
        settings = self.settings
        judged = self._catalog.table["own_label"].to_numpy(bool)[rows]
        fold = fold_numbers(self._split.groups[rows], judged, settings.text.folds, settings.seed)
        logits = cross_fitted_logits(
            fitter, fold, judged, lambda done, of: self._progress.step("text folds", done, of)
        )
        return rows[judged], logits

    def _fit_image(self) -> dict[str, Any]:
        settings = self.settings
        train = self._rows("train", self._catalog.has_image)
        validation = self._validation.image_rows
        report: dict[str, Any] = {}
        model = fit_image_model(
            [self._products[row].image for row in train],
            self._category_index[train],
            self._weights[train],
            [self._products[row].image for row in validation],
            self._category_index[validation],
            settings.image_input,
            settings.image,
            categories=len(self._categories),
            backbone_weights=self._backbone_weights,
            cache_dir=self.folder / "features",
            seed=settings.seed,
            progress=self._progress.step,
            callbacks=self._progress.keras_callbacks("image"),
            checkpoint_dir=self.folder / "checkpoint",
            report=report,
            start=self._start and self._start.image(len(self._categories)),
            known=len(self._start.config.categories) if self._start else 0,
            devices=self._devices,
        )
        answers = report["validation_answers"]
        before = self._validation.f1(validation[answers >= 0], answers[answers >= 0])
        checked = [self_check_product(entry).image for entry in self_check_products()]
        pixels = [read_image(image, settings.image_input) for image in checked if image]
        agreement = save_and_compile(model, self.folder, "image", {"pixels": np.stack(pixels)})
        readable, outputs = self._validation.image_outputs()
        served = outputs["logits"].argmax(axis=1)
        with (self.folder / IMAGE_ANSWERS_FILE).open("wb") as file:
            np.savez(file, allow_pickle=False, rows=readable, **outputs)
        return {
            "training_rows": len(train),
            "unreadable_pictures": len(report["unreadable_pictures"]),
            "validation_rows": len(readable),
            "validation_weighted_f1": self._validation.f1(readable, served),
            "validation_weighted_f1_before_rounding": before,
            "agreement": agreement,
        }


def _figures(facts: Mapping[str, Any]) -> str:
    after, before = facts["validation_weighted_f1"], facts["validation_weighted_f1_before_rounding"]
    if after is None:
        return "no validation rows"
    rounding = "" if before is None else f" (before rounding to what is stored {before:.4f})"
    return f"weighted F1 on {facts['validation_rows']:,} validation rows {after:.4f}{rounding}"
