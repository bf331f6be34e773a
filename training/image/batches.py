"""Batches of intermediate activations for Keras, with augmentation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import keras
import numpy as np

from training.image.feature_cache import PictureFeatures
from training.settings import ImageTrainingSettings


@dataclass(frozen=True, eq=False)
class PictureRows:
    """Pictures to learn from.

    Attributes:
        features: Of n pictures.
        rows: int (m,), which of them to use.
        category_index: int (n,).
        weights: float32 (n,), at least 0.
        categories: Number of categories.
        frozen_categories: int: those whose head columns stay as they are.
    """

    features: PictureFeatures
    rows: np.ndarray
    category_index: np.ndarray
    weights: np.ndarray
    categories: int
    frozen_categories: np.ndarray


class ActivationBatches(keras.utils.PyDataset):
    """Batches to fit on; each epoch has its own order, augmentations and mixing, fixed by seed and epoch.

    Asked by number and not one after the other: Keras under a distribution strategy looks at a batch before it begins,
    which a generator would lose.

    Attributes:
        steps: Batches of an epoch.
        epoch: Whose batches are given, 0 for the first.
        first: The batch that number 0 stands for; above 0 for an epoch that a killed run had begun.
        key: What a run must share to resume from another's state.
    """

    def __init__(self, pictures: PictureRows, settings: ImageTrainingSettings, seed: int):
        """Reads the features once, for the key."""
        super().__init__()
        # Label smoothing is spread over the categories that take part.
        self._spread = np.ones(pictures.categories, np.float32)
        self._spread[pictures.frozen_categories] = 0
        self._spread /= self._spread.sum()
        self._pictures, self._settings, self._seed = pictures, settings, seed
        self.steps = -(-len(pictures.rows) // settings.batch_size)
        self.epoch = self.first = 0
        digest = hashlib.sha256(pictures.category_index.tobytes() + pictures.weights.tobytes())
        pooled = pictures.features.pooled
        for begin in range(0, len(pooled), 4096):
            digest.update(np.ascontiguousarray(pooled[begin : begin + 4096, 0]).tobytes())
        self.key = digest.hexdigest()

    def __len__(self) -> int:
        """How many batches."""
        return self.steps - self.first

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(activations float32 (b, rows, columns, channels), targets float32 (b, categories), weights (b,))."""
        pictures, size = self._pictures, self._settings.batch_size
        smoothing, mixup = self._settings.label_smoothing, self._settings.mixup
        activations = pictures.features.activations
        number += self.first
        order = np.random.default_rng([self._seed, self.epoch]).permutation(pictures.rows)
        generator = np.random.default_rng([self._seed, self.epoch, number])
        rows = order[number * size : (number + 1) * size]
        augmentations = generator.integers(0, activations.shape[1], len(rows))
        values = np.stack([activations[each] for each in zip(rows, augmentations, strict=True)])
        values = values.astype(np.float32)
        targets = np.tile(np.float32(smoothing) * self._spread, (len(rows), 1))
        targets[np.arange(len(rows)), pictures.category_index[rows]] += 1.0 - smoothing
        weights = pictures.weights[rows]
        if mixup > 0:
            share = generator.beta(mixup, mixup, len(rows)).astype(np.float32)
            share = np.maximum(share, 1.0 - share)
            other = generator.permutation(len(rows))
            values, targets, weights = (_mix(each, other, share) for each in (values, targets, weights))
        return values, targets, weights


def _mix(values: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Each row times its share, plus another row times the rest."""
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    mixed: np.ndarray = values * share + values[other] * (1.0 - share)
    return mixed


class PlainBatches(keras.utils.PyDataset):
    """Some rows without augmentation, a batch at a time."""

    def __init__(self, features: PictureFeatures, rows: np.ndarray, targets: np.ndarray, batch_size: int):
        """Takes what the batches are made of."""
        super().__init__()
        self._features, self._rows, self._targets, self._batch_size = features, rows, targets, batch_size

    def __len__(self) -> int:
        """How many batches."""
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """(activations, targets)."""
        part = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
        return self._features.activations[self._rows[part], 0].astype(np.float32), self._targets[part]
