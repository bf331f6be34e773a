"""Catalog pictures through the frozen lower part of the image model, once, into arrays on disk.

Each picture is read a single time by the same `read_image` that serves. What is kept is not pixels but the
activations at the cut, a quarter of their size at 16 bits, for every view (mirrored, closer) that training will see:
37.6 KB a picture and view at 224 pixels. The arrays are memory-mapped, so memory does not grow with the catalog.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from rakuten_models.errors import ProductError
from rakuten_models.preprocessing.image import ImageSettings, read_image
from training.image.backbone import INTERMEDIATE_LAYER
from training.settings import AUGMENTATIONS

CHUNK = 256

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PictureFeatures:
    """What the frozen network says of n pictures.

    Attributes:
        pooled: float32 (n, views, channels): the mean of the last layer over all positions.
        cut: float16 (n, views, rows, columns, channels), memory-mapped, or None if only `pooled` was asked for.
        readable: bool (n,): False where the file cannot be read; its rows are then 0.
        problems: one sentence for each unreadable file, in order.
    """

    pooled: np.ndarray
    cut: np.ndarray | None
    readable: np.ndarray
    problems: tuple[str, ...]

    @property
    def intermediate_activations(self) -> np.ndarray:
        """`cut` of features that were asked for with it, as fine-tuning does."""
        assert self.cut is not None, "these features were read without the cut"
        return self.cut


class PooledRows:
    """The plain view's pooled features of some pictures, read when a slice of them is asked for.

    Attributes:
        shape: (rows, channels).
    """

    def __init__(self, features: PictureFeatures, rows: np.ndarray):
        """Takes int (rows,), which pictures."""
        self._pooled, self._rows = features.pooled, rows
        self.shape = (len(rows), features.pooled.shape[2])

    def __len__(self) -> int:
        """How many pictures."""
        return len(self._rows)

    def __getitem__(self, part: slice) -> np.ndarray:
        """Float32 (rows of the part, channels)."""
        pooled: np.ndarray = self._pooled[self._rows[part], 0]
        return pooled


def extract_features(
    images: Sequence[str],
    lower: FrozenBackbone,
    image_settings: ImageSettings,
    cache_dir: str | os.PathLike[str],
    *,
    augmentations: Sequence[str] = AUGMENTATIONS[:1],
    threads: int | None = None,
    progress: Progress | None = None,
) -> PictureFeatures:
    """Reads pictures and runs the lower part of an image model over them, or takes the result from the cache.

    The cache is keyed by the bytes of all pictures, the settings, the views and the model's weights; an interrupted
    run goes on where it stopped.

    Args:
        images: n paths.
        lower: the frozen part to run; with its cut, the activations there are kept too (for fine-tuning).
        image_settings: how a picture becomes pixels.
        cache_dir: folder for the arrays; made if absent.
        augmentations: some of AUGMENTATIONS.
        threads: pictures worked on at the same time; None: one a core.
        progress: called as progress("pictures", done, n) after every 256 pictures.

    Returns:
        The features; unreadable pictures are marked, never raised.
    """
    n = len(images)
    folder = Path(cache_dir) / _key(images, lower, image_settings, augmentations)
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / "state.json"
    state: dict[str, Any] = {"done": 0, "problems": {}}
    if state_file.is_file():
        state = json.loads(state_file.read_text())
    mode = "r+" if state["done"] else "w+"
    pooled = _array(folder / "pooled.npy", mode, np.float32, (n, len(augmentations), *lower.shape("pooled")))
    cut = (
        _array(folder / "cut.npy", mode, np.float16, (n, len(augmentations), *lower.shape("cut")))
        if lower.keep_cut
        else None
    )
    if state["done"] < n:

        def work(row: int) -> tuple[int, str | None]:
            try:
                pixels = read_image(images[row], image_settings)
            except ProductError as error:
                pooled[row] = 0
                return row, str(error)
            for column, view in enumerate(augmentations):
                answer = lower(_view(pixels, view, row))
                pooled[row, column] = answer["pooled"][0]
                if cut is not None:
                    cut[row, column] = answer["cut"][0]
            return row, None

        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for start in range(state["done"], n, CHUNK):
                stop = min(start + CHUNK, n)
                for row, problem in pool.map(work, range(start, stop)):
                    if problem:
                        state["problems"][str(row)] = problem
                state["done"] = stop
                for array in (pooled, cut):
                    if isinstance(array, np.memmap):
                        array.flush()
                _write_state(state_file, state)
                if progress:
                    progress("pictures", stop, n)
    readable = np.ones(n, bool)
    readable[[int(row) for row in state["problems"]]] = False
    return PictureFeatures(pooled, cut, readable, tuple(state["problems"].values()))


def _view(pixels: np.ndarray, view: str, row: int) -> np.ndarray:
    """Pixels (size, size, 3) as one of AUGMENTATIONS; "closer" cuts off 8 to 25 %, by row so that it never changes."""
    if view.startswith("closer"):
        generator = np.random.default_rng([row, AUGMENTATIONS.index(view)])
        size = pixels.shape[0]
        side = max(1, round(size * generator.uniform(0.75, 0.92)))
        top, left = generator.integers(0, size - side + 1, 2)
        picture = Image.fromarray(pixels[top : top + side, left : left + side])
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if view.endswith("mirrored"):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


class FrozenBackbone:
    """The frozen part of an image model, compiled by LiteRT at first use, one interpreter a thread.

    On a CPU that is three times as fast as Keras.
    """

    def __init__(self, model: keras.Model, keep_cut: bool):
        """Takes a model of `build_image_model` before training changes it; `keep_cut` also gives the cut."""
        outputs = {"pooled": model.output["features"]}
        if keep_cut:
            outputs["cut"] = model.get_layer(INTERMEDIATE_LAYER).output
        self.keep_cut = keep_cut
        self._model = keras.Model(model.inputs[0], outputs)
        self._content: bytes | None = None
        self._lock = threading.Lock()
        self._local = threading.local()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one output for one picture."""
        return tuple(self._model.output[name].shape[1:])

    def weights(self) -> list[np.ndarray]:
        """All weights, in order."""
        weights: list[np.ndarray] = self._model.get_weights()
        return weights

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one picture, uint8 (size, size, 3), and gives float32 outputs of first axis 1."""
        if not hasattr(self._local, "runner"):
            from ai_edge_litert.interpreter import Interpreter

            # The interpreter must outlive its runner.
            self._local.interpreter = Interpreter(model_content=self._compiled(), num_threads=1)
            self._local.runner = self._local.interpreter.get_signature_runner()
        outputs: dict[str, np.ndarray] = self._local.runner(pixels=pixels[None])
        return outputs

    def _compiled(self) -> bytes:
        with self._lock:
            if self._content is None:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "lower.tflite"
                    self._model.export(str(path), format="litert", verbose=False)
                    self._content = path.read_bytes()
            return self._content


def _key(
    images: Sequence[str], lower: FrozenBackbone, settings: ImageSettings, augmentations: Sequence[str]
) -> str:
    digest = hashlib.sha256(
        json.dumps([asdict(settings), list(augmentations), lower.keep_cut, CHUNK]).encode()
    )
    for weight in lower.weights():
        digest.update(weight.tobytes())
    for image in images:
        try:
            content = Path(image).read_bytes()
        except OSError as error:
            content = type(error).__name__.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:24]


def _array(path: Path, mode: str, kind: type, shape: tuple[int, ...]) -> np.ndarray:
    needed = int(np.prod(shape)) * np.dtype(kind).itemsize
    if mode == "w+" and needed > shutil.disk_usage(path.parent).free:
        raise OSError(
            f"{path.parent} has not enough free space for the picture features: {needed / 1e9:.1f} GB are needed. "
            "Give another --cache-dir, or train with --fast."
        )
    if 0 in shape:
        return np.zeros(shape, kind)
    return np.lib.format.open_memmap(path, mode, kind, shape if mode == "w+" else None)


def _write_state(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(state))
    os.replace(temporary, path)
