"""The image method that a bundle's image model is measured against: frozen features and logistic regression."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.baseline import ScoredBaseline, TrainingRows, in_all_columns, out_of_fold_scores
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
        progress: called as progress("pictures", done, total).
    """

    def __init__(self, backbone_weights: str | Path | None, progress: Progress | None = None) -> None:
        """Build the network; it is compiled when it is first asked."""
        self._settings = ImageSettings(size=224)
        model = build_image_model(2, size=224, alpha=1.0, backbone_weights=backbone_weights)
        self._lower, self._progress = FrozenBackbone(model, with_activations=False), progress

    def __call__(self, products: Sequence[Product]) -> tuple[np.ndarray, np.ndarray]:
        """float32 (n, 1280), and bool (n,): False where the picture cannot be read, whose features are 0."""
        images = [product.image for product in products]
        with tempfile.TemporaryDirectory() as folder:
            found = extract_features(images, self._lower, self._settings, folder, progress=self._progress)
            return np.array(found.pooled[:, 0]), found.readable

    def megabytes(self) -> float:
        """The network's weights, 32 bits each."""
        return sum(weight.nbytes for weight in self._lower.weights()) / 1e6


class FrozenLogisticRegression(ScoredBaseline):
    """Logistic regression on frozen features; its penalty is chosen by cross-validation.

    Args:
        rows: n rows with a readable picture.
        network: what made the features.
        features: float32 (n, 1280), of the rows.
        seconds: how long it took to make them.
    """

    # Of scikit-learn's C: from strong to weak penalties. The features are 1,280 for some thousand rows.
    STRENGTHS = (0.0003, 0.001, 0.003)

    def __init__(
        self, rows: TrainingRows, network: FrozenFeatures, features: np.ndarray, seconds: float
    ) -> None:
        """Fit on the rows."""
        super().__init__()
        self.seconds = seconds
        self._network, self._categories = network, rows.categories

        def fit(strength: float, chosen: np.ndarray) -> Pipeline:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
            return model.fit(
                features[chosen],
                rows.category_index[chosen],
                logisticregression__sample_weight=rows.weights[chosen],
            )

        def fit_fold(strength: float) -> Callable:
            def fitted(chosen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
                model = fit(strength, chosen)
                return lambda held: self._scores(model, features[held])

            return fitted

        candidates = {}
        for strength in self.STRENGTHS:
            scores = out_of_fold_scores(rows, fit_fold(strength))
            self.finish_cross_validated(rows, scores)
            loss = log_loss(np.exp(self.out_of_fold[rows.judged]), rows.category_index[rows.judged])
            candidates[strength] = (loss, scores)
        self.strength = min(candidates, key=lambda strength: candidates[strength][0])
        self._model = fit(self.strength, np.arange(len(features)))
        self.finish_cross_validated(rows, candidates[self.strength][1])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The decision function of every category; the products have a picture each."""
        return self._scores(self._model, self._network(products)[0])

    def megabytes(self) -> float:
        """The head as Python stores it, and the network's weights."""
        return len(pickle.dumps(self._model, pickle.HIGHEST_PROTOCOL)) / 1e6 + self._network.megabytes()

    def _scores(self, model: Pipeline, features: np.ndarray) -> np.ndarray:
        return in_all_columns(model.decision_function(features), model.classes_, self._categories)
