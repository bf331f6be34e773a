"""The methods that a bundle's image model and fusion model are measured against."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.baseline import (
    Baseline,
    Scores,
    TrainingRows,
    fit_until_it_stops,
    in_all_columns,
    out_of_fold_scores,
    pickled_megabytes,
)
from benchmarks.quality.text_baselines import AveragedEmbedding
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.product import Product
from training.calibration import fit_temperature
from training.image.feature_cache import FrozenBackbone, Progress, extract_features
from training.image.model import build_image_model
from training.metrics import log_loss

LOGISTIC_REGRESSION = "frozen MobileNetV2 + logistic regression"
OLDER_FUSION = "concatenated layers (older project)"


class FrozenFeatures:
    """MobileNetV2 as it was pretrained, its last layer averaged over all positions.

    `backbone_weights`: "imagenet", a weights file, or None for random ones; `progress` is called as
    progress("pictures", done, total).
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

        def loss(strength: float) -> float:
            logits, truth = scores[strength][rows.evaluated], rows.category_index[rows.evaluated]
            return log_loss(softmax(logits / fit_temperature(logits, truth), axis=1), truth)

        scores = {each: out_of_fold_scores(rows, partial(fit_fold, each)) for each in self.STRENGTHS}
        strength = min(self.STRENGTHS, key=loss)
        self._model = fit(strength, np.arange(len(features)))
        self.finish_cross_validated(rows, scores[strength])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The decision function of every category; the products have a picture each."""
        return self._scores(self._model, self._network(products)[0])

    def megabytes(self) -> float:
        """The head as Python stores it, and the network's weights."""
        return pickled_megabytes(self._model) + self._network.megabytes()

    def _scores(self, model: Pipeline, features: np.ndarray) -> np.ndarray:
        return in_all_columns(model.decision_function(features), model.classes_, self._categories)


class LogLinearPool(Baseline):
    """A weighted mean of a text and an image baseline's log probabilities, normalised.

    `image_weight`, 0 to 1, and temperature have the lowest log loss on n training rows with both modalities and a gold
    label, by the two baselines' answers, float (n, categories) each, of fits without the row.
    """

    def __init__(
        self,
        text: Baseline,
        image: Baseline,
        text_answers: np.ndarray,
        image_answers: np.ndarray,
        category_index: np.ndarray,
    ) -> None:
        """Choose weight and temperature."""
        super().__init__(text.seconds + image.seconds)
        self._text, self._image = text, image

        def loss(weight: float) -> float:
            pooled = _pool(text_answers, image_answers, weight)
            return log_loss(softmax(pooled / fit_temperature(pooled, category_index), axis=1), category_index)

        self.image_weight = float(min(np.linspace(0.0, 1.0, 21), key=loss))
        self.finish(_pool(text_answers, image_answers, self.image_weight), category_index)

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The weighted mean; the products have a text and a picture each."""
        return _pool(self._text(products), self._image(products), self.image_weight)

    def megabytes(self) -> float:
        """Both together."""
        return self._text.megabytes() + self._image.megabytes()


class ConcatenatedLayers(Baseline):
    """The older project's fusion: the last layers before the answers, batch normalisation, dense 128, dense."""

    def __init__(self, pictures: PictureRows, text: AveragedEmbedding) -> None:
        """Fit on most of the rows; the rest says when to stop, and finds the temperature."""
        super().__init__(text.seconds + pictures.seconds)
        self._text, self._network, rows = text, pictures.network, pictures.rows
        inputs = self._inputs(rows.products, pictures.features)
        keras.utils.set_random_seed(rows.seed)
        layers = [keras.layers.BatchNormalization(), keras.layers.Dense(128, activation="relu")]
        head = keras.layers.Dense(rows.categories)
        self._model = keras.Sequential([keras.Input((inputs.shape[1],)), *layers, head])
        # Only gold labels tell how sure a fusion may be. Where few rows have one, none of them can be spared to fit on.
        few = rows.evaluated.sum() < len(inputs) / 10
        held_out = rows.evaluated if few else rows.fold(10) == 0
        fit_until_it_stops(self._model, inputs, rows, held_out)
        evaluated = held_out & rows.evaluated
        logits = self._model.predict(inputs[evaluated], batch_size=256, verbose=0)
        self.finish(logits, rows.category_index[evaluated])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logits; the products have a text and a picture each."""
        inputs = self._inputs(products, self._network(products)[0])
        return self._model.predict(inputs, batch_size=256, verbose=0)

    def megabytes(self) -> float:
        """The head and the text model as Python stores them, and the network's weights."""
        return pickled_megabytes(self._model) + self._text.megabytes() + self._network.megabytes()

    def _inputs(self, products: Sequence[Product], pictures: np.ndarray) -> np.ndarray:
        return np.concatenate([self._text.outputs(products)["features"], pictures], axis=1)


def _pool(text: np.ndarray, image: np.ndarray, image_weight: float) -> np.ndarray:
    return (1.0 - image_weight) * text + image_weight * image
