"""Keras callbacks of the fine-tuning: going on after a stop, and saying how far it is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from training.image.feature_cache import Progress

# How often the state is kept within an epoch, in seconds: what a kill can cost.
SECONDS_BETWEEN = 45.0


class Batches(Protocol):
    """The batches of an epoch, of which the first can be left out.

    Attributes:
        steps: Batches of a whole epoch.
        epoch: Whose batches are given.
        first: How many are left out.
    """

    steps: int
    epoch: int
    first: int


class EpochCheckpoint(keras.callbacks.Callback):
    """Keeps weights and optimizer, so that a stopped run goes on as if it had not stopped.

    After each epoch, and within one whenever the last state is 45 seconds old.
    """

    def __init__(self, folder: Path, key: str, batches: Batches):
        """Keeps the state in `folder`; `key` is what a run must share to go on from it."""
        super().__init__()
        self._file, self._note, self._key = folder / "image.state", folder / "image.json", key
        self._batches, self._kept = batches, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, upper: keras.Model) -> int:
        """Loads the state of the same run, if there is one, and returns the epoch to go on with.

        The batches begin with the first that this epoch has not seen.
        """
        self._batches.first = 0
        if not self._note.is_file():
            return 0
        note = json.loads(self._note.read_text())
        if note["key"] != self._key:
            return 0
        upper.optimizer.build(upper.trainable_variables)
        state = np.load(self._place(note["epoch"], note["step"]))
        for number, variable in enumerate(_state_of(upper)):
            variable.assign(state[str(number)])
        self._batches.first = note["step"]
        return int(note["epoch"])

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keeps the state if the last one is old."""
        done = self._batches.first + batch + 1
        if done < self._batches.steps and time.monotonic() - self._kept >= SECONDS_BETWEEN:
            self._keep(self._batches.epoch, done)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Keeps the state that the epoch ended with."""
        self._keep(epoch + 1, 0)

    def _keep(self, epoch: int, step: int) -> None:
        """Writes the new state, then removes the old."""
        path = self._place(epoch, step)
        values = {str(number): np.asarray(variable) for number, variable in enumerate(_state_of(self.model))}
        np.savez(path, allow_pickle=False, **values)
        # The note names the file that is whole; only then may the one before it go.
        temporary = self._note.with_suffix(".part")
        temporary.write_text(json.dumps({"key": self._key, "epoch": epoch, "step": step}))
        os.replace(temporary, self._note)
        for other in self._note.parent.glob("image.state.*.npz"):
            if other != path:
                other.unlink(missing_ok=True)
        self._kept = time.monotonic()

    def _place(self, epoch: int, step: int) -> Path:
        return self._file.with_name(f"{self._file.name}.{epoch}.{step}.npz")


def _state_of(model: keras.Model) -> list[Any]:
    """Every variable that the next step depends on: weights, the dropout's random state, the optimizer's slots."""
    return [*model.variables, *model.optimizer.variables]


class EpochNumber(keras.callbacks.Callback):
    """Tells the batches which epoch begins, so that those of a run that goes on are the same."""

    def __init__(self, batches: Batches):
        """Takes the batches."""
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Sets the number."""
        self._batches.epoch = epoch


class StepProgress(keras.callbacks.Callback):
    """Tells how many of all steps are done."""

    def __init__(self, progress: Progress, batches: Batches, total: int):
        """Calls `progress`; `total` steps in all."""
        super().__init__()
        self._progress, self._batches, self._total = progress, batches, total

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts the step."""
        done = self._batches.epoch * self._batches.steps + self._batches.first + batch + 1
        self._progress("image model", done, self._total)
