"""Batches of pixels or of intermediate activations for Keras, with augmentation."""

from __future__ import annotations

import hashlib

import keras
import numpy as np

from training.image.feature_cache import PictureFeatures
from training.settings import ImageTrainingSettings


class _Batches(keras.utils.PyDataset):
    """Batches of activations at the cut; each epoch has its own order, views and mixing, fixed by seed and epoch.

    Asked by number and not one after the other: Keras under a distribution strategy looks at a batch before it begins,
    which a generator would lose.

    Attributes:
        steps: Batches of an epoch.
        epoch: Whose batches are given, 0 for the first.
        first: The batch that number 0 stands for; above 0 for an epoch that a killed run had begun.
        key: What a run must share to go on from another's state.
    """

    def __init__(
        self,
        features: PictureFeatures,
        rows: np.ndarray,
        category_index: np.ndarray,
        weights: np.ndarray,
        categories: int,
        settings: ImageTrainingSettings,
        seed: int,
        frozen_categories: np.ndarray,
    ):
        super().__init__()
        # Label smoothing is spread over the categories that take part.
        self._spread = np.ones(categories, np.float32)
        self._spread[frozen_categories] = 0
        self._spread /= self._spread.sum()
        self._features, self._rows, self._row_weights = features, rows, weights
        self._category_index, self._settings, self._seed = category_index, settings, seed
        self.steps = -(-len(rows) // settings.batch_size)
        self.epoch = self.first = 0
        digest = hashlib.sha256(category_index.tobytes() + weights.tobytes())
        for begin in range(0, len(features.pooled), 4096):
            digest.update(np.ascontiguousarray(features.pooled[begin : begin + 4096, 0]).tobytes())
        self.key = digest.hexdigest()

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(cut float32 (b, rows, columns, channels), targets float32 (b, categories), weights (b,))."""
        cut, size = self._features.intermediate_activations, self._settings.batch_size
        smoothing, mixup = self._settings.label_smoothing, self._settings.mixup
        number += self.first
        order = np.random.default_rng([self._seed, self.epoch]).permutation(self._rows)
        generator = np.random.default_rng([self._seed, self.epoch, number])
        rows = order[number * size : (number + 1) * size]
        augmentations = generator.integers(0, cut.shape[1], len(rows))
        values = np.stack([cut[row, view] for row, view in zip(rows, augmentations, strict=True)]).astype(
            np.float32
        )
        targets = np.tile(np.float32(smoothing) * self._spread, (len(rows), 1))
        targets[np.arange(len(rows)), self._category_index[rows]] += 1.0 - smoothing
        weights = self._row_weights[rows]
        if mixup > 0:
            share = generator.beta(mixup, mixup, len(rows)).astype(np.float32)
            share = np.maximum(share, 1.0 - share)
            other = generator.permutation(len(rows))
            values = _mix(values, values[other], share)
            targets = _mix(targets, targets[other], share)
            weights = _mix(weights, weights[other], share)
        return values, targets, weights


def _mix(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *[1] * (one.ndim - 1))
    mixed: np.ndarray = one * share + other * (1.0 - share)
    return mixed


class _ActivationRows(keras.utils.PyDataset):
    """The plain view of some rows, a batch at a time."""

    def __init__(self, features: PictureFeatures, rows: np.ndarray, targets: np.ndarray, batch_size: int):
        super().__init__()
        self._features, self._rows, self._targets, self._batch_size = features, rows, targets, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
        return self._features.intermediate_activations[self._rows[part], 0].astype(np.float32), self._targets[
            part
        ]
