"""Runs the compiled models on LiteRT: named arrays in, named arrays out, and logits to calibrated probabilities."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer

from rakuten_models.errors import BundleError, ProductError, reason
from rakuten_models.preprocessing.image import ImageSettings, decode_image, fit_image
from rakuten_models.preprocessing.text import TextSettings, encode_cleaned

TEXT_INPUTS = frozenset(("token_ids", "character_ids"))
FUSION_INPUTS = frozenset(
    ("text_features", "text_logits", "image_features", "image_logits", "text_present", "image_present")
)

# Every compiled model has the first signature; a text model has the second, too.
SERVING, EXPLAINING = "serving_default", "explain"

# Texts that one thread reads at a time, and texts in one run of the model: the embedded n-grams of a long text take
# about 1 MB, and a run is fastest while all of them fit into the processor's cache.
_TEXTS_A_TASK, _TEXTS_A_RUN = 32, 4

# Height or width, in pixels, of a picture that is kept to draw a heat map over.
_MAX_KEPT = 896

# Widths are rounded up to these, or the model would be resized for nearly every run.
_WIDTH_STEPS = {"token_ids": 8, "character_ids": 16}


def usable_cores() -> int:
    """Processors this process may use, at least 1 (a container's limit may be below the machine's count)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def centred_weights(category_index: int, categories: int) -> np.ndarray:
    """float32 (1, categories): logits times these are a category's logit less the mean of all logits."""
    weights = np.full((1, categories), -1 / categories, np.float32)
    weights[0, category_index] += 1
    return weights


class CompiledModel:
    """One `.tflite` file, run by one interpreter; calls from several threads wait for each other.

    Args:
        path: The file. Its sha256 must have been checked: a malformed file can crash the process.
        threads: Processors that one call may use.

    Raises:
        BundleError: The file cannot be read as a compiled model.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        """Map the file and prepare its first signature."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self._runners: dict[str, Any] = {}
        try:
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=threads)
        except (ValueError, RuntimeError) as error:
            raise BundleError("bundle.model_unreadable", file=path, reason=reason(error)) from error
        self.prepare(SERVING)
        self.inputs: Mapping[str, Mapping[str, Any]] = self._runners[SERVING].get_input_details()
        self.outputs: Mapping[str, Mapping[str, Any]] = self._runners[SERVING].get_output_details()

    def prepare(self, signature: str) -> None:
        """Make a signature ready to be run.

        Raises:
            BundleError: The file has no such signature.
        """
        try:
            self._runners[signature] = self._interpreter.get_signature_runner(signature)
        except (ValueError, RuntimeError) as error:
            raise BundleError("bundle.model_unreadable", file=self.path, reason=reason(error)) from error

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run once; arrays by input name, first axis n.

        Raises:
            BundleError: The model cannot be run on them.
        """
        return self._call(SERVING, inputs)

    def explain(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run a text model's second signature; see `TextModelRunner.contributions`."""
        return self._call(EXPLAINING, inputs)

    def _call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            with self._lock:
                outputs: dict[str, np.ndarray] = self._runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            raise BundleError("bundle.model_not_run", file=self.path, reason=reason(error)) from error
        return outputs

    def check_signature(self, inputs: Set[str], outputs: Set[str]) -> None:
        """Refuse a model of other inputs and outputs than its part in the bundle has.

        Raises:
            BundleError: Names what was found and what was expected.
        """
        if set(self.inputs) != inputs or not outputs <= set(self.outputs):
            raise BundleError(
                "bundle.signature_differs",
                file=self.path,
                inputs=sorted(self.inputs),
                outputs=sorted(self.outputs),
                expected_inputs=sorted(inputs),
                expected_outputs=sorted(outputs),
            )

    def check_arrays(self, expected: Mapping[str, tuple[type, tuple[int | None, ...]]]) -> None:
        """Refuse a model whose inputs and outputs are not the arrays that are put in and taken out.

        Args:
            expected: By name, the kind of number and the shape behind the first axis; None for any length.

        Raises:
            BundleError: Names what was found and what was expected.
        """
        found = {**self.inputs, **self.outputs}
        for name, (kind, wanted) in expected.items():
            shape = tuple(int(length) for length in found[name]["shape"])
            fits = len(shape) == len(wanted) + 1 and all(
                length == want or (want is None and length > 0) for length, want in zip(shape[1:], wanted, strict=True)
            )
            if found[name]["dtype"] is not kind or not fits:
                raise BundleError(
                    "bundle.arrays_do_not_fit",
                    file=self.path,
                    name=name,
                    dtype=found[name]["dtype"].__name__,
                    shape=str(shape),
                    expected_dtype=kind.__name__,
                    columns=" x ".join("any" if want is None else str(want) for want in wanted),
                )


class _Workers:
    """Threads, one a core, each with its own interpreter, made when it is first needed."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix=name)
        self._own = threading.local()

    def map(self, work: Callable[[Any, CompiledModel], Any], items: Sequence[Any]) -> list[Any]:
        """work(item, model) for each item, in order."""
        return list(self._pool.map(lambda item: work(item, self._model()), items))

    def _model(self) -> CompiledModel:
        if not hasattr(self._own, "model"):
            self._own.model = CompiledModel(self._path)
        model: CompiledModel = self._own.model
        return model


class TextModelRunner:
    """The text model with its tokenizer and settings, on every core.

    Texts of about one length run together, as wide as the longest of them: padding costs time and changes no bit of an
    answer.
    """

    def __init__(self, path: str | os.PathLike[str], tokenizer: Tokenizer, settings: TextSettings) -> None:
        """Load the model and check that it takes what preprocessing makes."""
        self.model = CompiledModel(path)
        self.tokenizer = tokenizer
        self.settings = settings
        self.model.check_signature(TEXT_INPUTS, {"logits", "features"})
        self.model.prepare(EXPLAINING)
        self._workers = _Workers(self.model.path, "text")

    def __call__(self, cleaned: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        """Run on n >= 1 products' texts, from `clean_product`.

        Returns:
            {"logits": float32 (n, categories), "features": float32 (n, text features)}.
        """
        # The longest first: the threads end at about the same time.
        order = sorted(
            range(len(cleaned)), key=lambda row: [len(text) for text in reversed(cleaned[row])], reverse=True
        )
        tasks = [
            [cleaned[row] for row in order[start : start + _TEXTS_A_TASK]]
            for start in range(0, len(cleaned), _TEXTS_A_TASK)
        ]
        single = len(tasks) == 1
        parts = [self._answer(tasks[0], self.model)] if single else self._workers.map(self._answer, tasks)
        rows = np.argsort(order)
        return {
            name: np.concatenate([run[name] for part in parts for run in part])[rows] for name in ("logits", "features")
        }

    def _answer(self, cleaned: Sequence[tuple[str, str]], model: CompiledModel) -> list[dict[str, np.ndarray]]:
        encoded = encode_cleaned(cleaned, self.tokenizer, self.settings)
        return [
            model(
                **{
                    name: _cut_to_longest(ids[start : start + _TEXTS_A_RUN], _WIDTH_STEPS[name])
                    for name, ids in encoded.items()
                }
            )
            for start in range(0, len(cleaned), _TEXTS_A_RUN)
        ]

    def with_inputs(self, cleaned: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
        """As by calling it, in one run, with the model's inputs (see `encode_texts`) beside its outputs."""
        inputs = encode_cleaned(cleaned, self.tokenizer, self.settings)
        return {**inputs, **self.model(**inputs)}

    def contributions(
        self, encoded: Mapping[str, np.ndarray], features: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """How much each token and each character added to a weighted sum of the logits.

        Args:
            encoded: One product, from `encode_cleaned`.
            features: float32 (1, text features), the model's output for it.
            weights: float32 (1, categories), from `centred_weights`.

        Returns:
            {"tokens": float32 (1, tokens), "characters": float32 (1, characters), "base": float32 (1, 1)}: the
            columns are those of token_ids and character_ids, base is the bias; together they are the sum.
        """
        return self.model.explain(**encoded, features=features, category_weights=weights)


def _cut_to_longest(ids: np.ndarray, step: int) -> np.ndarray:
    """int32 (n, width) without columns at the end that are 0 in every row, but for a multiple of `step` in all."""
    used = np.flatnonzero(ids.any(axis=0))
    needed = int(used[-1]) + 1 if len(used) else 1
    return ids[:, : -(-needed // step) * step]


class ImageModelRunner:
    """The image model with its settings, on every core.

    One picture is answered soonest by one interpreter on all cores; many by one interpreter a core, each with one
    picture at a time, which was measured to beat batches.
    """

    def __init__(self, path: str | os.PathLike[str], settings: ImageSettings) -> None:
        """Load the model and check its signature; the other interpreters are made when they are first needed."""
        self.model = CompiledModel(path, threads=usable_cores())
        self.model.check_signature({"pixels"}, {"logits", "features", "category_maps"})
        self.settings = settings
        self._workers = _Workers(self.model.path, "picture")

    def __call__(
        self, images: Sequence[Any], *, keep_pictures: bool = False
    ) -> list[dict[str, np.ndarray] | ProductError]:
        """Run on pictures of any kind that `read_image` takes.

        `keep_pictures` adds "picture": uint8 (1, height, width, 3), RGB, sides of at most 896 pixels.

        Returns:
            For each, in order, {"logits": float32 (1, categories), "features": float32 (1, image features),
            "category_maps": float32 (1, rows, columns, categories)}, or the error that says why it cannot be read.
        """
        run = partial(self._answer, keep_picture=keep_pictures)
        if len(images) == 1:
            return [run(images[0], self.model)]
        return self._workers.map(run, images)

    def _answer(self, image: Any, model: CompiledModel, *, keep_picture: bool) -> dict[str, np.ndarray] | ProductError:
        size = self.settings.size
        try:
            picture = decode_image(image, size)
        except ProductError as error:
            return error
        outputs = model(pixels=fit_image(picture, size)[np.newaxis])
        if keep_picture:
            if max(picture.size) > _MAX_KEPT:
                picture.thumbnail((_MAX_KEPT, _MAX_KEPT))
            outputs["picture"] = np.asarray(picture)[np.newaxis]
        return outputs
