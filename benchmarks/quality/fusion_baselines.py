"""The fusion methods that a bundle's fusion model is measured against."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import log_softmax

from benchmarks.quality.baseline import Baseline, ScoredBaseline, TrainingRows, fit_until_it_stops
from benchmarks.quality.image_baselines import FrozenFeatures
from benchmarks.quality.text_baselines import AveragedEmbedding
from rakuten_models.product import Product
from training.calibration import fit_temperature
from training.metrics import log_loss

OLDER_FUSION = "concatenated layers (older project)"


class LogLinearPool:
    """A weighted mean of a text peer's and an image peer's log probabilities, normalised.

    Weight and temperature have the lowest log loss on training rows with both sides and an own label, by answers of
    fits without the row.

    Args:
        text: a fitted text peer.
        image: a fitted image peer.
        text_answers: float (n, categories), its log probabilities of n such rows, from fits without the row.
        image_answers: float (n, categories), the image peer's.
        category_index: int (n,).

    Attributes:
        seconds: how long the training took, both sides' included.
        image_weight: 0 to 1.
    """

    WEIGHTS = np.linspace(0.0, 1.0, 21)

    def __init__(
        self,
        text: Baseline,
        image: Baseline,
        text_answers: np.ndarray,
        image_answers: np.ndarray,
        category_index: np.ndarray,
    ) -> None:
        """Choose weight and temperature."""
        started = time.perf_counter()
        self._text, self._image = text, image
        losses = {}
        for weight in self.WEIGHTS:
            pooled = _pool(text_answers, image_answers, weight)
            temperature = fit_temperature(pooled, category_index)
            probabilities = np.exp(log_softmax(pooled / temperature, axis=1))
            losses[float(weight), temperature] = log_loss(probabilities, category_index)
        self.image_weight, self.temperature = min(losses, key=losses.__getitem__)
        self.seconds = text.seconds + image.seconds + time.perf_counter() - started

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        """float64 (n, categories), log probabilities; the products have a text and a picture each."""
        pooled = _pool(self._text(products), self._image(products), self.image_weight)
        return log_softmax(pooled / self.temperature, axis=1)

    def megabytes(self) -> float:
        """Both sides."""
        return self._text.megabytes() + self._image.megabytes()


class ConcatenatedLayers(ScoredBaseline):
    """The older project's fusion: the last layers before the answers, batch normalisation, dense 128, dense.

    Args:
        rows: n rows with a text and a readable picture.
        text: the older project's text model.
        network: the frozen image network.
        features: float32 (n, 1280), what it says of the rows.
        seconds: how long it took to make them.
    """

    def __init__(
        self,
        rows: TrainingRows,
        text: AveragedEmbedding,
        network: FrozenFeatures,
        features: np.ndarray,
        seconds: float,
    ) -> None:
        """Fit on most of the rows; the rest says when to stop, and finds the temperature."""
        super().__init__()
        self.seconds = text.seconds + seconds
        self._text, self._network = text, network
        inputs = np.concatenate([text.outputs(rows.products)["features"], features], axis=1)
        keras.utils.set_random_seed(rows.seed)
        self._model = keras.Sequential(
            [
                keras.Input((inputs.shape[1],)),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dense(rows.categories),
            ]
        )
        # Only own labels tell how sure a fusion may be. Where few rows have one, none of them can be spared to fit on.
        few = rows.judged.sum() < len(inputs) / 10
        held = rows.judged if few else rows.fold(10) == 0
        fit_until_it_stops(self._model, inputs, rows.category_index, rows.weights, held)
        judged = held & rows.judged
        self.finish(self._logits(inputs[judged]), rows.category_index[judged])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logits; the products have a text and a picture each."""
        features = self._text.outputs(products)["features"]
        return self._logits(np.concatenate([features, self._network(products)[0]], axis=1))

    def megabytes(self) -> float:
        """The head and the text model as Python stores them, and the network's weights."""
        head = len(pickle.dumps(self._model, pickle.HIGHEST_PROTOCOL)) / 1e6
        return head + self._text.megabytes() + self._network.megabytes()

    def _logits(self, inputs: np.ndarray) -> np.ndarray:
        return self._model.predict(inputs, batch_size=256, verbose=0)


def _pool(text: np.ndarray, image: np.ndarray, image_weight: float) -> np.ndarray:
    return (1.0 - image_weight) * text + image_weight * image
