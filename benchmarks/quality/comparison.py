"""Fits every peer, asks it and the bundle about the same rows, and measures the answers."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.baseline import Baseline, TrainingRows
from benchmarks.quality.bundle_answers import OUR_IMAGE, OUR_TEXT, OURS, bundle_answers
from benchmarks.quality.fusion_baselines import OLDER_FUSION, ConcatenatedLayers, LogLinearPool
from benchmarks.quality.image_baselines import LOGISTIC_REGRESSION, FrozenFeatures, FrozenLogisticRegression
from benchmarks.quality.tables import MethodResult, section_metrics
from benchmarks.quality.text_baselines import LINEAR_SVC, LOG_LOSS, OLDER_TEXT, text_baselines
from rakuten_models import ProductClassifier
from rakuten_models.product import Product
from training.data.catalog import Catalog
from training.data.split import split_catalog
from training.evaluation.evaluation_split import category_index_of
from training.evaluation.known_confusions import confusion_groups, known_confusions
from training.metrics import Metrics
from training.progress import Progress
from training.settings import SplitSettings

Sections = dict[str, dict[str, Metrics]]


class Comparison:
    """The peers, fitted on one catalog, beside a bundle.

    Args:
        train: the training catalog.
        classifier: the bundle.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        seed: of everything random in the peers.
        show: whether to say on standard error how far the run is.
    """

    def __init__(
        self,
        train: Catalog,
        classifier: ProductClassifier,
        backbone_weights: str | Path | None,
        seed: int,
        show: bool,
    ) -> None:
        """Sort the rows; nothing is fitted yet."""
        self._classifier, self._show = classifier, show
        self._codes = [category.prdtypecode for category in classifier.categories]
        self._progress = Progress(show=show)
        self._backbone_weights = backbone_weights
        labelled = np.flatnonzero(train.table["prdtypecode"].notna().to_numpy())
        products = train.products()
        self._rows = TrainingRows(
            [products[row] for row in labelled],
            category_index_of(train, labelled, classifier.categories),
            train.table["gold_label"].to_numpy(bool)[labelled],
            split_catalog(train, SplitSettings(test_fraction=0.0, seed=seed)).groups[labelled],
            len(self._codes),
            seed,
        )
        self._text_rows = np.flatnonzero(train.has_text[labelled])
        self._image_rows = np.flatnonzero(train.has_image[labelled])

    def run(
        self, products: Sequence[Product], has_text: np.ndarray, truth: np.ndarray
    ) -> tuple[Sections, dict[str, list[Metrics]]]:
        """Fit all peers and measure them and the bundle.

        Args:
            products: n products to score.
            has_text: bool (n,): they have a text.
            truth: int64 (n,), their columns.

        Returns:
            By section ("text", "image", "fusion", "served") and method the headline figures; sections without rows
            are left out. And by method the known confusions.
        """
        texts = [replace(products[row], image=None) for row in np.flatnonzero(has_text)]
        text_peers_fitted, text = self._text(texts)
        sections = {"text": self._measured(text, truth[has_text])}

        has_image = np.array([product.image is not None for product in products])
        if has_image.any() and len(self._image_rows):
            network = FrozenFeatures(self._backbone_weights, self._progress.step)
            has_image[has_image] = network([product for product in products if product.image is not None])[1]
            pictures = [Product(image=products[row].image) for row in np.flatnonzero(has_image)]
            features, seconds = self._training_features(network)
            baseline = FrozenLogisticRegression(self._rows.at(self._image_rows), network, features, seconds)
            image = {LOGISTIC_REGRESSION: self._asked(LOGISTIC_REGRESSION, baseline, pictures)}
            image[OURS] = bundle_answers(self._classifier, "image", pictures, self._show)
            sections["image"] = self._measured(image, truth[has_image])
            both = np.flatnonzero(has_text & has_image)
            if len(both) and len(np.intersect1d(self._text_rows, self._image_rows)):
                pairs = [products[row] for row in both]
                fusion = self._fusion(text_peers_fitted, baseline, network, features, seconds, pairs)
                sections["fusion"] = self._measured(fusion, truth[both])

        served = {}
        if has_text.all():
            light = {name: values for name, values in sections["text"].items() if name != OURS}
            best = max(light, key=lambda name: light[name]["weighted_f1"])
            served[best] = text[best]
        served[OURS] = bundle_answers(self._classifier, "both", products, self._show)
        sections["served"] = self._measured(served, truth)

        groups = confusion_groups(self._classifier.categories)
        confusions = {
            name: known_confusions(of_rows, answers.predicted, self._codes, groups)
            for name, answers, of_rows in (
                (LINEAR_SVC, text[LINEAR_SVC], truth[has_text]),
                (OUR_TEXT, text[OURS], truth[has_text]),
                ("ours, served", served[OURS], truth),
            )
        }
        return sections, confusions

    def _text(self, texts: Sequence[Product]) -> tuple[dict[str, Baseline], dict[str, MethodResult]]:
        rows = self._rows.at(self._text_rows)
        fitted, answers = {}, {}
        for name, fit in text_baselines().items():
            fitted[name] = fit(rows)
            answers[name] = self._asked(name, fitted[name], texts)
        answers[OURS] = bundle_answers(self._classifier, "text", texts, self._show)
        return fitted, answers

    def _training_features(self, network: FrozenFeatures) -> tuple[np.ndarray, float]:
        """The features of the training pictures that can be read, and how long they took; keeps those rows only."""
        started = time.perf_counter()
        features, readable = network([self._rows.products[row] for row in self._image_rows])
        self._image_rows = self._image_rows[readable]
        return features[readable], time.perf_counter() - started

    def _fusion(
        self,
        text: dict[str, Baseline],
        image: FrozenLogisticRegression,
        network: FrozenFeatures,
        features: np.ndarray,
        seconds: float,
        pairs: Sequence[Product],
    ) -> dict[str, MethodResult]:
        both = np.intersect1d(self._text_rows, self._image_rows)
        judged = both[self._rows.at(both).judged]
        answers = {}
        for name in (LINEAR_SVC, LOG_LOSS):
            pool = LogLinearPool(
                text[name],
                image,
                text[name].out_of_fold[np.searchsorted(self._text_rows, judged)],
                image.out_of_fold[np.searchsorted(self._image_rows, judged)],
                self._rows.category_index[judged],
            )
            title = (
                f"log-linear pool of {name} and logistic regression (image weight {pool.image_weight:.2f})"
            )
            answers[title] = self._asked(title, pool, pairs)
        older = ConcatenatedLayers(
            self._rows.at(both),
            text[OLDER_TEXT],
            network,
            features[np.searchsorted(self._image_rows, both)],
            seconds,
        )
        answers[OLDER_FUSION] = self._asked(OLDER_FUSION, older, pairs)
        texts = [replace(product, image=None) for product in pairs]
        pictures = [Product(image=product.image) for product in pairs]
        for name, part, products in (
            (OUR_TEXT, "text", texts),
            (OUR_IMAGE, "image", pictures),
            (OURS, "both", pairs),
        ):
            answers[name] = bundle_answers(self._classifier, part, products, self._show)
        return answers

    def _asked(self, name: str, baseline: Baseline, products: Sequence[Product]) -> MethodResult:
        started = time.perf_counter()
        probabilities = np.exp(baseline(products))
        seconds = time.perf_counter() - started
        if self._show:
            print(f"{name}: fitted in {baseline.seconds:.0f} s", file=sys.stderr, flush=True)
        return MethodResult(probabilities, baseline.megabytes(), baseline.seconds, len(products) / seconds)

    def _measured(self, answers: dict[str, MethodResult], truth: np.ndarray) -> dict[str, Metrics]:
        return section_metrics(answers, OURS, truth, self._codes)
