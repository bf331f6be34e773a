"""Fits every baseline, asks it and the bundle about the same rows, and measures the answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.quality.baseline import Baseline, TrainingRows
from benchmarks.quality.image_baselines import (
    LOGISTIC_REGRESSION,
    OLDER_FUSION,
    ConcatenatedLayers,
    FrozenFeatures,
    FrozenLogisticRegression,
    LogLinearPool,
    PictureRows,
)
from benchmarks.quality.tables import PRECISION, MethodResult, section_metrics
from benchmarks.quality.text_baselines import LINEAR_SVC, LOG_LOSS, OLDER_TEXT, text_baselines
from rakuten_models import ProductClassifier
from rakuten_models.bundle.config import MODEL_NAMES, SERVING_MODEL_FILES, TOKENIZER_FILE
from rakuten_models.product import Product
from training.data.catalog import Catalog, category_list
from training.data.split import split_catalog
from training.evaluate import score_catalog
from training.evaluation.evaluation_split import category_index_of
from training.evaluation.known_confusions import confusion_groups, known_confusions
from training.metrics import Metrics
from training.progress import Progress
from training.settings import SplitSettings

Sections = dict[str, dict[str, Metrics]]

OURS = "ours"
OUR_TEXT = "ours, text alone"
OUR_IMAGE = "ours, picture alone"

# What answers a product with one modality, or with both: which models were trained for it, which files are stored.
_PARTS = {
    "text": (("text",), (TOKENIZER_FILE, SERVING_MODEL_FILES[0])),
    "image": (("image",), (SERVING_MODEL_FILES[1],)),
    "both": (MODEL_NAMES, (TOKENIZER_FILE, *SERVING_MODEL_FILES)),
}


@dataclass(frozen=True)
class CompareSettings:
    """How baselines are fitted; `backbone_weights`: "imagenet", a weights file, or None for random weights."""

    backbone_weights: str | Path | None = "imagenet"
    seed: int = 0
    show: bool = True


def training_rows(catalog: Catalog, chosen: np.ndarray, groups: np.ndarray, seed: int) -> TrainingRows:
    """Labelled rows of a catalog by number, int (n,), with the groups of all its rows, to fit baselines on."""
    categories, products = category_list(catalog), catalog.products()
    return TrainingRows(
        [products[row] for row in chosen],
        category_index_of(catalog, chosen, categories),
        catalog.table["gold_label"].to_numpy(bool)[chosen],
        groups[chosen],
        len(categories),
        seed,
    )


class Comparison:
    """The baselines, fitted on one catalog, which has the bundle's categories, beside a bundle."""

    def __init__(self, train: Catalog, classifier: ProductClassifier, settings: CompareSettings) -> None:
        """Sort the rows; nothing is fitted yet."""
        self._classifier, self._settings = classifier, settings
        self._codes = [category.prdtypecode for category in classifier.categories]
        labelled = np.flatnonzero(train.table["prdtypecode"].notna().to_numpy())
        groups = split_catalog(train, SplitSettings(test_fraction=0.0, seed=settings.seed)).groups
        self._rows = training_rows(train, labelled, groups, settings.seed)
        self._text_rows = np.flatnonzero(train.has_text[labelled])
        self._image_rows = np.flatnonzero(train.has_image[labelled])

    def run(
        self, products: Sequence[Product], has_text: np.ndarray, truth: np.ndarray
    ) -> tuple[Sections, dict[str, list[Metrics]]]:
        """Fit all baselines and measure them and the bundle on n products.

        `has_text` is bool (n,), `truth` int64 (n,), their columns.

        Returns:
            By section ("text", "image", "fusion", "served") and method the headline figures; sections without rows
            are left out. And by method the known confusions.
        """
        texts = [replace(products[row], image=None) for row in np.flatnonzero(has_text)]
        rows = self._rows.at(self._text_rows)
        baselines, text = {}, {}
        for name, fit in text_baselines().items():
            baselines[name] = fit(rows)
            text[name] = self._asked(name, baselines[name], texts)
        text[OURS] = self._ours("text", texts)
        sections = {"text": self._measured(text, truth[has_text])}

        has_image = np.array([product.image is not None for product in products])
        if has_image.any() and len(self._image_rows):
            progress = Progress(show=self._settings.show).step
            network = FrozenFeatures(self._settings.backbone_weights, progress)
            has_image[has_image] = network([product for product in products if product.image is not None])[1]
            pictures = [Product(image=products[row].image) for row in np.flatnonzero(has_image)]
            training_pictures = self._training_pictures(network)
            baseline = FrozenLogisticRegression(training_pictures)
            image = {
                LOGISTIC_REGRESSION: self._asked(LOGISTIC_REGRESSION, baseline, pictures),
                OURS: self._ours("image", pictures),
            }
            sections["image"] = self._measured(image, truth[has_image])
            both = np.flatnonzero(has_text & has_image)
            if len(both) and len(np.intersect1d(self._text_rows, self._image_rows)):
                pairs = [products[row] for row in both]
                fusion = self._fusion(baselines, baseline, training_pictures, pairs)
                sections["fusion"] = self._measured(fusion, truth[both])

        served = {OURS: self._ours("both", products)}
        if has_text.all():
            light = {name: values["weighted_f1"] for name, values in sections["text"].items() if name != OURS}
            best = max(light, key=light.__getitem__)
            served = {best: text[best], **served}
        sections["served"] = self._measured(served, truth)
        groups = confusion_groups(self._classifier.categories)
        confusions = {
            name: known_confusions(truth[rows], answers.predicted, self._codes, groups)
            for name, answers, rows in (
                (LINEAR_SVC, text[LINEAR_SVC], has_text),
                (OUR_TEXT, text[OURS], has_text),
                ("ours, served", served[OURS], slice(None)),
            )
        }
        return sections, confusions

    def _training_pictures(self, network: FrozenFeatures) -> PictureRows:
        """The training rows whose picture can be read; no others count from now on."""
        started = time.perf_counter()
        features, readable = network([self._rows.products[row] for row in self._image_rows])
        self._image_rows = self._image_rows[readable]
        rows = self._rows.at(self._image_rows)
        return PictureRows(rows, network, features[readable], time.perf_counter() - started)

    def _fusion(
        self, text: dict[str, Baseline], image: Baseline, pictures: PictureRows, pairs: Sequence[Product]
    ) -> dict[str, MethodResult]:
        both = np.intersect1d(self._text_rows, self._image_rows)
        evaluated = both[self._rows.at(both).evaluated]
        truth = self._rows.category_index[evaluated]
        image_answers = image.out_of_fold[np.searchsorted(self._image_rows, evaluated)]
        answers = {}
        for name in (LINEAR_SVC, LOG_LOSS):
            text_answers = text[name].out_of_fold[np.searchsorted(self._text_rows, evaluated)]
            pool = LogLinearPool(text[name], image, text_answers, image_answers, truth)
            weight = f"image weight {pool.image_weight:.2f}"
            title = f"log-linear pool of {name} and logistic regression ({weight})"
            answers[title] = self._asked(title, pool, pairs)
        older = ConcatenatedLayers(pictures.at(np.searchsorted(self._image_rows, both)), text[OLDER_TEXT])
        return {
            **answers,
            OLDER_FUSION: self._asked(OLDER_FUSION, older, pairs),
            OUR_TEXT: self._ours("text", [replace(product, image=None) for product in pairs]),
            OUR_IMAGE: self._ours("image", [Product(image=product.image) for product in pairs]),
            OURS: self._ours("both", pairs),
        }

    def _ours(self, part: str, products: Sequence[Product]) -> MethodResult:
        """Ask the bundle as an app would, about products that all have the same part: "text", "image" or "both"."""
        (models, files), config = _PARTS[part], self._classifier.config
        started = time.perf_counter()
        predictions = score_catalog(self._classifier, products, self._settings.show)
        rate = len(products) / (time.perf_counter() - started)
        # Of the stages of these models, if the bundle says.
        seconds = [config.training.get(model, {}).get("seconds") for model in models]
        return MethodResult(
            np.stack([prediction.probabilities for prediction in predictions]),
            sum(config.files[name]["size"] for name in files) / 1e6,
            None if None in seconds else sum(seconds),
            rate,
            config.thresholds[PRECISION]["probability"],
        )

    def _asked(self, name: str, baseline: Baseline, products: Sequence[Product]) -> MethodResult:
        started = time.perf_counter()
        probabilities = np.exp(baseline(products))
        rate = len(products) / (time.perf_counter() - started)
        if self._settings.show:
            print(f"{name}: fitted in {baseline.seconds:.0f} s", file=sys.stderr, flush=True)
        return MethodResult(probabilities, baseline.megabytes(), baseline.seconds, rate)

    def _measured(self, answers: dict[str, MethodResult], truth: np.ndarray) -> dict[str, Metrics]:
        return section_metrics(answers, OURS, truth, self._codes)
