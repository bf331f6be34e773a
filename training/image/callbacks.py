"""Keras callbacks of the fine-tuning: resuming after a stop, and progress.

Keras's own BackupAndRestore restarts an interrupted epoch and saves no random state of the dropout, so that a resumed
run would end with other weights than an uninterrupted one (measured with Keras 3.15.1).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from training.block_cache import BlockCache
from training.image.batches import ActivationBatches
from training.image.feature_cache import Progress

# How often the state is saved within an epoch: the work that a kill can cost.
SECONDS_BETWEEN = 45.0
_NAME = "fine_tuning"


class Checkpoint(keras.callbacks.Callback):
    """Saves weights and optimizer after each epoch, and within one whenever the last state is 45 seconds old."""

    def __init__(self, cache: BlockCache, batches: ActivationBatches):
        """The cache belongs to one fit: the same settings, seed and rows."""
        super().__init__()
        self._cache, self._batches, self._saved = cache, batches, time.monotonic()

    def restore(self, upper: keras.Model) -> int:
        """Loads the saved state, if there is one, and returns the epoch to resume at.

        The batches begin with the first that this epoch has not seen.
        """
        self._batches.first = 0
        saved = self._cache.load(_NAME)
        if saved is None:
            return 0
        arrays, note = saved
        upper.optimizer.build(upper.trainable_variables)
        for number, variable in enumerate(_state_of(upper)):
            variable.assign(arrays[str(number)])
        self._batches.first = note["step"]
        return int(note["epoch"])

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves if the last state is old."""
        done = self._batches.first + batch + 1
        if done < self._batches.steps and time.monotonic() - self._saved >= SECONDS_BETWEEN:
            self._save(self._batches.epoch, done)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves the state that the epoch ended with."""
        self._save(epoch + 1, 0)

    def _save(self, epoch: int, step: int) -> None:
        arrays = {str(number): np.asarray(variable) for number, variable in enumerate(_state_of(self.model))}
        self._cache.save(_NAME, arrays, {"epoch": epoch, "step": step})
        self._saved = time.monotonic()


def _state_of(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on: weights, the dropout's random state, the optimizer's slots."""
    return [*model.variables, *model.optimizer.variables]


class EpochNumber(keras.callbacks.Callback):
    """Tells the batches which epoch begins, so that those of a resumed run are the same."""

    def __init__(self, batches: ActivationBatches):
        """Takes the batches."""
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Sets the number."""
        self._batches.epoch = epoch


class StepProgress(keras.callbacks.Callback):
    """Tells how many of all steps are done."""

    def __init__(self, progress: Progress, batches: ActivationBatches, total: int):
        """Calls `progress`; `total` steps in all."""
        super().__init__()
        self._progress, self._batches, self._total = progress, batches, total

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the step."""
        done = self._batches.epoch * self._batches.steps + self._batches.first + batch + 1
        self._progress("image model", done, self._total)
