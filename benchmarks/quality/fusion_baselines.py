"""The fusion methods that a bundle's fusion model is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import log_softmax

from benchmarks.quality.baseline import Baseline, fit_until_it_stops, pickled_megabytes
from benchmarks.quality.image_baselines import PictureRows
from benchmarks.quality.text_baselines import AveragedEmbedding
from rakuten_models.product import Product
from training.calibration import fit_temperature
from training.metrics import log_loss

OLDER_FUSION = "concatenated layers (older project)"


class LogLinearPool(Baseline):
    """A weighted mean of a text and an image baseline's log probabilities, normalised.

    Weight and temperature have the lowest log loss on n training rows with both modalities and a gold label, by the two
    baselines' answers, float (n, categories) each, of fits without the row.

    Attributes:
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
        super().__init__(text.seconds + image.seconds)
        self._text, self._image = text, image

        def loss(weight: float) -> float:
            pooled = _pool(text_answers, image_answers, weight)
            temperature = fit_temperature(pooled, category_index)
            return log_loss(np.exp(log_softmax(pooled / temperature, axis=1)), category_index)

        self.image_weight = float(min(self.WEIGHTS, key=loss))
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
        inputs = np.concatenate([text.outputs(rows.products)["features"], pictures.features], axis=1)
        keras.utils.set_random_seed(rows.seed)
        self._model = keras.Sequential(
            [
                keras.Input((inputs.shape[1],)),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(128, activation="relu"),
                keras.layers.Dense(rows.categories),
            ]
        )
        # Only gold labels tell how sure a fusion may be. Where few rows have one, none of them can be spared to fit on.
        few = rows.evaluated.sum() < len(inputs) / 10
        held_out = rows.evaluated if few else rows.fold(10) == 0
        fit_until_it_stops(self._model, inputs, rows, held_out)
        evaluated = held_out & rows.evaluated
        self.finish(self._logits(inputs[evaluated]), rows.category_index[evaluated])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logits; the products have a text and a picture each."""
        features = self._text.outputs(products)["features"]
        return self._logits(np.concatenate([features, self._network(products)[0]], axis=1))

    def megabytes(self) -> float:
        """The head and the text model as Python stores them, and the network's weights."""
        return pickled_megabytes(self._model) + self._text.megabytes() + self._network.megabytes()

    def _logits(self, inputs: np.ndarray) -> np.ndarray:
        return self._model.predict(inputs, batch_size=256, verbose=0)


def _pool(text: np.ndarray, image: np.ndarray, image_weight: float) -> np.ndarray:
    return (1.0 - image_weight) * text + image_weight * image
