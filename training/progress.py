"""What a training run shows while it works: lines, bars with rate and time left, and TensorBoard curves."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import keras
from tqdm import tqdm


class Progress:
    """Bars on standard error, lines on standard output, curves in a folder."""

    def __init__(self, log_dir: Path | None = None, show: bool = True) -> None:
        """Open nothing yet; log_dir is for TensorBoard's curves (None: none), and without show nothing is shown."""
        self._log_dir, self._show = log_dir, show
        self._bar: tqdm | None = None
        self._stage = ""
        self._writers: dict[str, Any] = {}
        self._stopped = False

    @contextlib.contextmanager
    def heeding_ctrl_c(self) -> Iterator[None]:
        """Let Ctrl-C end the run even where a library catches it.

        Model savers and exporters catch every exception at some places, KeyboardInterrupt too: it is raised again at
        the next sign of progress.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _frame: FrameType | None) -> None:
            self._stopped = True
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self.close()

    def _heed(self) -> None:
        if self._stopped:
            raise KeyboardInterrupt

    def say(self, line: str) -> None:
        """A line on standard output, after the bar that is on the screen."""
        self._heed()
        self.close()
        if self._show:
            print(line, flush=True)

    def step(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage, which is made on its first step, to `done` of `total`."""
        self._heed()
        if self._bar is None or stage != self._stage or total != self._bar.total or done < self._bar.n:
            self.close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, disable=not self._show, file=sys.stderr, smoothing=0.05)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()

    def log(self, stage: str, step: int, values: Mapping[str, float | None]) -> None:
        """A point on each of a stage's curves."""
        if self._log_dir is None:
            return
        import tensorflow

        if stage not in self._writers:
            self._writers[stage] = tensorflow.summary.create_file_writer(str(self._log_dir / stage))
        with self._writers[stage].as_default():
            for name, value in values.items():
                if value is not None:
                    tensorflow.summary.scalar(name, value, step=step)
        self._writers[stage].flush()

    def keras_callbacks(self, stage: str) -> list[keras.callbacks.Callback]:
        """What records the curves of a stage that Keras fits."""
        if self._log_dir is None:
            return []
        return [keras.callbacks.TensorBoard(str(self._log_dir / stage), write_graph=False)]

    def close(self) -> None:
        """End the bar that is on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
