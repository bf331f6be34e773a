"""The image method that a bundle's image model is measured against: frozen features and logistic regression."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.baseline import (
    Baseline,
    Scores,
    TrainingRows,
    in_all_columns,
    out_of_fold_scores,
    pickled_megabytes,
)
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.product import Product
from training.image.feature_cache import FrozenBackbone, Progress, extract_features
from training.image.model import build_image_model
from training.metrics import log_loss

LOGISTIC_REGRESSION = "frozen MobileNetV2 + logistic regression"


class FrozenFeatures:
    """MobileNetV2 as it was pretrained, its last layer averaged over all positions.

    Args:
        backbone_weights: "imagenet", a weights file, or None for random weights.
        progress: Called as progress("pictures", done, total).
    """

    def __init__(self, backbone_weights: str | Path | None, progress: Progress | None = None) -> None:
        """Build the network; it is compiled when it is first asked."""
        self._settings = ImageSettings(size=224)
        model = build_image_model(2, size=224, alpha=1.0, backbone_weights=backbone_weights)
        self._backbone, self._progress = FrozenBackbone(model, with_activations=False), progress

    def __call__(self, products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
        """float32 (n, 1280), and bool (n,): False where the picture cannot be read, whose features are 0."""
        images = [product.image for product in products]
        with tempfile.TemporaryDirectory() as folder:
            found = extract_features(images, self._backbone, self._settings, folder, progress=self._progress)
            return np.array(found.pooled[:, 0]), found.readable

    def megabytes(self) -> float:
        """The network's weights, 32 bits each."""
        return sum(weight.nbytes for weight in self._backbone.weights()) / 1e6


@dataclass(frozen=True)
class PictureRows:
    """Rows with a readable picture, a frozen network's features, float32 (n, 1280), and the seconds these took."""

    rows: TrainingRows
    network: FrozenFeatures
    features: np.ndarray
    seconds: float

    def at(self, rows: np.ndarray) -> PictureRows:
        """Some of the rows, by number, int (m,)."""
        return replace(self, rows=self.rows.at(rows), features=self.features[rows])


class FrozenLogisticRegression(Baseline):
    """Logistic regression on frozen features; its penalty is chosen by cross-validation."""

    # Of scikit-learn's C: from strong to weak penalties. The features are 1,280 for some thousand rows.
    STRENGTHS = (0.0003, 0.001, 0.003)

    def __init__(self, pictures: PictureRows) -> None:
        """Fit on the rows."""
        super().__init__(pictures.seconds)
        rows, features = pictures.rows, pictures.features
        self._network, self._categories = pictures.network, rows.categories

        def fit(strength: float, chosen: np.ndarray) -> Pipeline:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            weights = {"logisticregression__sample_weight": rows.weights[chosen]}
            return model.fit(features[chosen], rows.category_index[chosen], **weights)

        def fit_fold(strength: float, chosen: np.ndarray) -> Scores:
            model = fit(strength, chosen)
            return lambda held_out: self._scores(model, features[held_out])

        candidates = {}
        for strength in self.STRENGTHS:
            scores = out_of_fold_scores(rows, partial(fit_fold, strength))
            self.finish_cross_validated(rows, scores)
            loss = log_loss(np.exp(self.out_of_fold[rows.evaluated]), rows.category_index[rows.evaluated])
            candidates[strength] = (loss, scores)
        self.strength = min(candidates, key=lambda strength: candidates[strength][0])
        self._model = fit(self.strength, np.arange(len(features)))
        self.finish_cross_validated(rows, candidates[self.strength][1])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The decision function of every category; the products have a picture each."""
        return self._scores(self._model, self._network(products)[0])

    def megabytes(self) -> float:
        """The head as Python stores it, and the network's weights."""
        return pickled_megabytes(self._model) + self._network.megabytes()

    def _scores(self, model: Pipeline, features: np.ndarray) -> np.ndarray:
        return in_all_columns(model.decision_function(features), model.classes_, self._categories)
