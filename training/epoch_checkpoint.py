"""Keras callbacks of the fine-tuning: going on after a stop, and saying how far it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import keras
import numpy as np

from training.picture_features import Progress


class EpochCheckpoint(keras.callbacks.Callback):
    """Keeps weights and optimizer after each epoch, so that a stopped run goes on as if it had not stopped."""

    def __init__(self, folder: Path, key: str):
        """Keeps the state in `folder`; `key` is what a run must share to go on from it."""
        super().__init__()
        self._file, self._note, self._key = folder / "image.state", folder / "image.json", key
        folder.mkdir(parents=True, exist_ok=True)

    def restore(self, upper: keras.Model) -> int:
        """Loads the state of the same run, if there is one, and returns the epoch to go on with."""
        if not self._note.is_file():
            return 0
        note = json.loads(self._note.read_text())
        if note["key"] != self._key:
            return 0
        upper.optimizer.build(upper.trainable_variables)
        state = np.load(self._file.with_suffix(f".{note['epoch']}.npz"))
        for number, variable in enumerate(_state_of(upper)):
            variable.assign(state[str(number)])
        return note["epoch"]

    def on_epoch_end(self, epoch, logs=None):
        """Writes the new state, then removes the old."""
        done = epoch + 1
        values = {str(number): np.asarray(variable) for number, variable in enumerate(_state_of(self.model))}
        np.savez(self._file.with_suffix(f".{done}.npz"), **values)
        # The note names the file that is whole; only then may the one before it go.
        temporary = self._note.with_suffix(".part")
        temporary.write_text(json.dumps({"key": self._key, "epoch": done}))
        os.replace(temporary, self._note)
        self._file.with_suffix(f".{epoch}.npz").unlink(missing_ok=True)


def _state_of(model: keras.Model) -> list:
    """Every variable that the next step depends on: weights, the dropout's random state, the optimizer's slots."""
    return [*model.variables, *model.optimizer.variables]


class StepProgress(keras.callbacks.Callback):
    """Tells how many of all steps are done."""

    def __init__(self, progress: Progress, steps: int, total: int):
        """Calls `progress`; `steps` in an epoch, `total` in all."""
        super().__init__()
        self._progress, self._steps, self._total, self._epoch = progress, steps, total, 0

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Counts the step."""
        self._progress("image model", self._epoch * self._steps + batch + 1, self._total)
