"""Catalog pictures through the frozen lower layers of the image model, once, into arrays on disk.

Each picture is read a single time by the same `read_image` that serves. What is cached is not pixels but intermediate
activations, a quarter of their size at 16 bits, for every augmentation that training will see: 37.6 KB a picture and
augmentation at 224 pixels.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from rakuten_models.errors import Message, ProductError
from rakuten_models.preprocessing.image import ImageSettings, read_image
from training.block_cache import BlockCache
from training.image.backbone import INTERMEDIATE_LAYER
from training.settings import AUGMENTATIONS

BLOCK = 256

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PictureFeatures:
    """The frozen network's outputs for n pictures.

    Attributes:
        pooled: float32 (n, augmentations, channels): the mean of the last layer over all positions; 0 for an
            unreadable picture.
        activations: float16 (n, augmentations, rows, columns, channels), memory-mapped; channels 0 if not asked for.
        readable: bool (n,).
        problems: One sentence for each unreadable file, in order.
    """

    pooled: np.ndarray
    activations: np.ndarray
    readable: np.ndarray
    problems: tuple[str, ...]


class PooledRows:
    """The pooled features of some pictures without augmentation, read when a slice of them is asked for.

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


class FrozenBackbone:
    """The frozen layers of an image model, compiled by LiteRT at first use, one interpreter a thread.

    On a CPU that is three times as fast as Keras.
    """

    def __init__(self, model: keras.Model, with_activations: bool):
        """Takes a model of `build_image_model` before training changes it."""
        outputs = {"pooled": model.output["features"]}
        if with_activations:
            outputs["activations"] = model.get_layer(INTERMEDIATE_LAYER).output
        self._model = keras.Model(model.inputs[0], outputs)
        self._content: bytes | None = None
        self._lock = threading.Lock()
        self._local = threading.local()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output for one picture."""
        return {name: tuple(output.shape[1:]) for name, output in self._model.output.items()}

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


def extract_features(
    images: Sequence[str],
    backbone: FrozenBackbone,
    image_settings: ImageSettings,
    cache_dir: str | os.PathLike[str],
    *,
    augmentations: Sequence[str] = AUGMENTATIONS[:1],
    progress: Progress | None = None,
) -> PictureFeatures:
    """Reads pictures and runs the frozen layers over them, or takes the result from the cache.

    The cache is keyed by the bytes of all pictures, the settings, the augmentations and the weights.

    Args:
        images: n paths.
        backbone: The layers to run.
        image_settings: How a picture becomes pixels.
        cache_dir: Folder for the arrays; made if absent.
        augmentations: Some of AUGMENTATIONS.
        progress: Called as progress("pictures", done, n) after every 256 pictures.

    Returns:
        The features; unreadable pictures are marked, never raised.

    Raises:
        OSError: The disk has not enough space.
    """
    n, shapes = len(images), backbone.shapes()
    choices = [asdict(image_settings), list(augmentations), sorted(shapes), BLOCK]
    weights = (weight.tobytes() for weight in backbone.weights())
    cache = BlockCache(Path(cache_dir), choices, *weights, *_digests(images))
    dtypes = {"pooled": np.float32, "activations": np.float16}
    wanted = {name: ((n, len(augmentations), *shape), dtypes[name]) for name, shape in shapes.items()}
    _check_disk(Path(cache_dir), cache, sum(np.dtype(d).itemsize * int(np.prod(s)) for s, d in wanted.values()))

    def work(row: int) -> dict[str, np.ndarray] | None:
        try:
            pixels = read_image(images[row], image_settings)
        except ProductError:
            return None
        outputs = [backbone(_augmented(pixels, name, row)) for name in augmentations]
        return {name: np.concatenate([each[name] for each in outputs]) for name in shapes}

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def make(start: int, stop: int) -> dict[str, np.ndarray]:
            block = {name: np.zeros((stop - start, *s[1:]), dtype) for name, (s, dtype) in wanted.items()}
            block["readable"] = np.zeros(stop - start, bool)
            for row, found in enumerate(pool.map(work, range(start, stop))):
                block["readable"][row] = found is not None
                for name, values in (found or {}).items():
                    block[name][row] = values
            return block

        arrays = cache.arrays(
            {**wanted, "readable": ((n,), bool)}, make, BLOCK, progress and (lambda *done: progress("pictures", *done))
        )
    readable = np.array(arrays["readable"])
    nothing = np.zeros((n, len(augmentations), 0, 0, 0), np.float16)
    problems = (_problem(images[row], image_settings) for row in np.flatnonzero(~readable).tolist())
    return PictureFeatures(arrays["pooled"], arrays.get("activations", nothing), readable, tuple(problems))


def _digests(images: Sequence[str]) -> Iterator[bytes]:
    for image in images:
        try:
            content = Path(image).read_bytes()
        except OSError as error:
            content = type(error).__name__.encode()
        yield hashlib.sha256(content).digest()


def _check_disk(folder: Path, cache: BlockCache, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if cache.folder and not cache.folder.exists() and needed > shutil.disk_usage(folder).free:
        raise OSError(Message("image.disk_full", folder=cache.folder, gigabytes=needed / 1e9))


def _problem(image: str, settings: ImageSettings) -> str:
    try:
        read_image(image, settings)
    except ProductError as error:
        return str(error)
    return ""


def _augmented(pixels: np.ndarray, name: str, row: int) -> np.ndarray:
    """Pixels (size, size, 3) as one of AUGMENTATIONS; "closer" crops 8 to 25 %, by row so that it never changes."""
    if name.startswith("closer"):
        generator = np.random.default_rng([row, AUGMENTATIONS.index(name)])
        size = pixels.shape[0]
        width = max(1, round(size * generator.uniform(0.75, 0.92)))
        top, left = generator.integers(0, size - width + 1, 2)
        picture = Image.fromarray(pixels[top : top + width, left : left + width])
        pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if name.endswith("mirrored"):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
