"""Fits the image model: a linear head on frozen features, then fine-tuning of the blocks above the cut.

The pictures go through the frozen lower part once (`training.picture_features`); every epoch afterwards only costs
the upper third of the network. Augmentation is a choice among the views kept there, and mixing pairs at the cut.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rakuten_models.preprocessing import ImageSettings
from rakuten_models.product import RakutenModelsError
from training.backbone import CUT_LAYER, LAST_LAYER
from training.devices import Devices, GloballyClippedAdamW
from training.epoch_checkpoint import EpochCheckpoint, EpochNumber, StepProgress
from training.linear_head import balanced_weights, fit_linear_head
from training.models import build_image_model
from training.picture_features import (
    VIEWS,
    LowerModel,
    PictureFeatures,
    PooledRows,
    Progress,
    extract_features,
)


class ImageTrainingError(RakutenModelsError):
    """The pictures cannot train an image model."""


@dataclass(frozen=True)
class ImageTrainingSettings:
    """How the image model is trained; the defaults are the recipe that was measured.

    Attributes:
        alpha: width of MobileNetV2.
        epochs: passes of fine-tuning over the training pictures; 0 stops at the linear head.
        batch_size: pictures a step.
        learning_rate: highest rate of AdamW; reached after a twentieth of the steps, then down to 0 along a cosine.
        weight_decay: of AdamW.
        label_smoothing: share of each label spread over all categories.
        mixup: parameter of the beta distribution that mixes pairs of pictures (0: no mixing).
        dropout: share of the last features dropped in training.
        average_momentum: momentum of the averaged weights, which are what is kept.
        averaged_runs: fine-tunings from the same head, each with an order, views and mixing of its own, whose weights
            are averaged (Wortsman et al. 2022, "Model soups").
        views: what is shown of a picture, of `picture_features.VIEWS`.
        balance_rows: pseudo-count that pulls the targeted shares of the categories toward those of the training rows.
        head_penalties: L2 penalties tried for the linear head; validation log loss chooses.
    """

    alpha: float = 1.0
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    mixup: float = 0.2
    dropout: float = 0.2
    average_momentum: float = 0.995
    averaged_runs: int = 1
    views: tuple[str, ...] = VIEWS
    balance_rows: float = 50.0
    head_penalties: tuple[float, ...] = (0.1, 0.03, 0.01)

    def fast(self) -> ImageTrainingSettings:
        """The same without fine-tuning: each picture is seen once."""
        return dataclasses.replace(self, epochs=0, views=VIEWS[:1])

    def best(self) -> ImageTrainingSettings:
        """The same with more time: the mean of three fine-tunings."""
        return dataclasses.replace(self, averaged_runs=3)


def fit_image_model(
    train_images: Sequence[str],
    train_category_index: np.ndarray,
    train_weights: np.ndarray,
    validation_images: Sequence[str],
    validation_category_index: np.ndarray,
    image_settings: ImageSettings,
    settings: ImageTrainingSettings,
    *,
    categories: int,
    backbone_weights: str | Path | None,
    cache_dir: str | os.PathLike[str],
    seed: int = 0,
    progress: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint_dir: str | os.PathLike[str] | None = None,
    report: dict[str, Any] | None = None,
    start: keras.Model | None = None,
    known: int = 0,
    devices: Devices | None = None,
) -> keras.Model:
    """Trains an image model.

    Args:
        train_images: paths of n pictures; unreadable ones are left out.
        train_category_index: int (n,).
        train_weights: float (n,), at least 0; 1 for a catalog's own label, less for a doubtful one.
        validation_images: paths of m pictures with own labels; may be none.
        validation_category_index: int (m,).
        image_settings: how a picture becomes pixels.
        settings: the recipe.
        categories: number of categories.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        cache_dir: folder for features that a later run on the same pictures takes over.
        seed: of every random choice.
        progress: called as progress(stage, done, total), stage "pictures" or "image model".
        callbacks: more Keras callbacks for the fine-tuning (TensorBoard).
        checkpoint_dir: where the state after each epoch is kept; a run that finds one goes on from it.
        report: filled with facts of the run: unreadable pictures, chosen penalty, losses, and "validation_answers":
            int (m,), what the model answers for the validation pictures, -1 where one cannot be read.
        start: an image model with `categories` outputs to go on from, in place of the pretrained backbone.
        known: how many of its categories, the first ones, it has learned already; of these, those without a training
            picture stay as they are.
        devices: what the fine-tuning runs on; None: one device, full precision.

    Returns:
        The model of `build_image_model`, trained.

    Raises:
        BackboneError: the pretrained weights cannot be had.
        ImageTrainingError: fewer than 2 pictures can be read.
    """
    report = {} if report is None else report
    keras.utils.set_random_seed(seed)
    model = start or build_image_model(
        categories, size=image_settings.size, alpha=settings.alpha, backbone_weights=backbone_weights
    )
    tuning = settings.epochs > 0
    lower = LowerModel(model, keep_cut=tuning)
    train, validation = (
        extract_features(images, lower, image_settings, cache_dir, views=views, progress=progress)
        for images, views in ((train_images, settings.views), (validation_images, settings.views[:1]))
    )
    report["unreadable_pictures"] = [*train.problems, *validation.problems]
    rows, validation_rows = np.flatnonzero(train.readable), np.flatnonzero(validation.readable)
    if len(rows) < 2:
        raise ImageTrainingError(
            f"{len(rows)} of {len(train_images)} training pictures can be read; the image model needs at least 2. "
            "Check that the catalog's image paths are right."
        )
    category_index = np.asarray(train_category_index, np.int64)
    validation_category_index = np.asarray(validation_category_index, np.int64)
    weights = np.zeros(len(train_images), np.float32)
    weights[rows] = balanced_weights(
        category_index[rows],
        np.asarray(train_weights, np.float64)[rows],
        validation_category_index[validation_rows],
        categories,
        settings.balance_rows,
    )
    held = np.setdiff1d(np.arange(known), category_index[rows])
    head = None
    if start is not None:
        kernel, bias = model.get_layer("category_maps").get_weights()
        head = kernel[0, 0], bias
    kernel, bias, penalty, loss = fit_linear_head(
        PooledRows(train, rows),
        category_index[rows],
        weights[rows],
        validation.pooled[validation_rows, 0],
        validation_category_index[validation_rows],
        categories,
        settings.head_penalties,
        head,
        held,
    )
    report |= {"head_penalty": penalty, "head_validation_log_loss": loss}
    model.get_layer("category_maps").set_weights([kernel[None, None], bias])
    if tuning:
        first, ends, histories = model.get_weights(), [], []
        for run in range(settings.averaged_runs):
            keras.utils.set_random_seed(seed + run)
            model.set_weights(first)
            batches = _Batches(train, rows, category_index, weights, categories, settings, seed + run, held)
            upper = _upper_model(model, settings.dropout, held)
            with (devices or Devices()).fitting(upper) as fitted:
                history = _fine_tune(
                    fitted,
                    batches,
                    (validation, validation_rows, validation_category_index),
                    settings,
                    seed + run,
                    progress and _OfRun(progress, run, settings.averaged_runs),
                    list(callbacks),
                    checkpoint_dir and Path(checkpoint_dir) / f"run_{run + 1}",
                )
            histories.append(history)
            ends.append(model.get_weights())
        model.set_weights([np.mean(weight, axis=0) for weight in zip(*ends, strict=True)])
        report["fine_tuning"] = histories
        _put_back(model, held, kernel, bias)
    answers = np.full(len(validation_images), -1)
    answers[validation_rows] = _answers(model, validation, validation_rows)
    report["validation_answers"] = answers
    return model


def _put_back(model: keras.Model, held: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Columns that are held as they were before the fine-tuning, which shrinks all weights a little."""
    maps = model.get_layer("category_maps")
    tuned_kernel, tuned_bias = maps.get_weights()
    tuned_kernel[..., held], tuned_bias[held] = kernel[:, held], bias[held]
    maps.set_weights([tuned_kernel, tuned_bias])


def _answers(model: keras.Model, features: PictureFeatures, rows: np.ndarray) -> np.ndarray:
    """The best category of some pictures, int (rows,), from what is kept of their plain view."""
    found = [np.zeros(0, np.int64)]
    kernel, bias = model.get_layer("category_maps").get_weights()
    upper = _upper_model(model, 0.0) if features.cut is not None else None
    for begin in range(0, len(rows), 64):
        part = rows[begin : begin + 64]
        if upper is None:
            logits = features.pooled[part, 0] @ kernel[0, 0] + bias
        else:
            logits = np.asarray(upper(features.at_cut[part, 0].astype(np.float32), training=False))
        found.append(logits.argmax(axis=1))
    return np.concatenate(found)


class _OfRun:
    """The progress of one of several runs as a part of all."""

    def __init__(self, progress: Progress, run: int, runs: int):
        self._progress, self._run, self._runs = progress, run, runs

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Pass it on."""
        self._progress(stage, self._run * total + done, self._runs * total)


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
        held: np.ndarray,
    ):
        super().__init__()
        # Label smoothing is spread over the categories that take part.
        self._spread = np.ones(categories, np.float32)
        self._spread[held] = 0
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
        cut, size = self._features.at_cut, self._settings.batch_size
        smoothing, mixup = self._settings.label_smoothing, self._settings.mixup
        number += self.first
        order = np.random.default_rng([self._seed, self.epoch]).permutation(self._rows)
        generator = np.random.default_rng([self._seed, self.epoch, number])
        rows = order[number * size : (number + 1) * size]
        views = generator.integers(0, cut.shape[1], len(rows))
        values = np.stack([cut[row, view] for row, view in zip(rows, views, strict=True)]).astype(np.float32)
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


def _upper_model(model: keras.Model, dropout: float, held: Sequence[int] | np.ndarray = ()) -> keras.Model:
    """The layers above the cut, sharing their weights with `model`; dropout exists only here.

    Categories that are held answer, but nothing is learned through their answers.
    """
    # Dropping whole channels before the 1 x 1 head is the same as dropping pooled features.
    last = keras.layers.SpatialDropout2D(dropout, seed=0)(model.get_layer(LAST_LAYER).output)
    logits = keras.layers.GlobalAveragePooling2D()(model.get_layer("category_maps")(last))
    if len(held):
        kept = np.zeros(logits.shape[-1], np.float32)
        kept[held] = 1
        logits = logits * (1 - kept) + keras.ops.stop_gradient(logits) * kept
    return keras.Model(model.get_layer(CUT_LAYER).output, logits)


def _fine_tune(
    upper: keras.Model,
    batches: _Batches,
    validation: tuple[PictureFeatures, np.ndarray, np.ndarray],
    settings: ImageTrainingSettings,
    seed: int,
    progress: Progress | None,
    callbacks: list[keras.callbacks.Callback],
    checkpoint_dir: str | os.PathLike[str] | None,
) -> dict[str, list[float]]:
    total = batches.steps * settings.epochs
    warm_up = max(1, total // 20)
    upper.compile(
        optimizer=GloballyClippedAdamW(
            keras.optimizers.schedules.CosineDecay(
                settings.learning_rate / 20,
                # A tiny catalog may have a single step.
                max(1, total - warm_up),
                warmup_target=settings.learning_rate,
                warmup_steps=warm_up,
            ),
            weight_decay=settings.weight_decay,
            global_clipnorm=5.0,
            use_ema=True,
            # With few steps a slow average would still hold the starting weights.
            ema_momentum=min(settings.average_momentum, 1.0 - 10.0 / (10.0 + total)),
        ),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        jit_compile=False,
    )
    features, rows, category_index = validation
    checked = {}
    if len(rows):
        targets = keras.utils.to_categorical(category_index[rows], upper.output.shape[-1])
        checked = {"validation_data": _CutRows(features, rows, targets, settings.batch_size)}
        callbacks = [keras.callbacks.SwapEMAWeights(), *callbacks]
    callbacks = [EpochNumber(batches), *callbacks]
    if progress:
        callbacks = [*callbacks, StepProgress(progress, batches, total)]
    checkpoint = None
    first_epoch = 0
    if checkpoint_dir is not None:
        checkpoint = EpochCheckpoint(
            Path(checkpoint_dir), json.dumps([dataclasses.asdict(settings), seed, batches.key]), batches
        )
        first_epoch = checkpoint.restore(upper)
        # First, so that it keeps the state that the epoch really ended with.
        callbacks = [checkpoint, *callbacks]
    found: dict[str, list[float]] = {}

    def fit(begin: int, end: int) -> None:
        """Epochs from begin to end, not included."""
        history = upper.fit(
            batches, initial_epoch=begin, epochs=end, callbacks=callbacks, verbose=0, shuffle=False, **checked
        )
        for name, values in history.history.items():
            found.setdefault(name, []).extend(float(value) for value in values)

    if batches.first:
        # The rest of an epoch that was begun. A fit ends with the averaged weights in place: they are taken back.
        fit(first_epoch, first_epoch + 1)
        assert checkpoint is not None, "only a kept state begins within an epoch"
        first_epoch = checkpoint.restore(upper)
    fit(first_epoch, settings.epochs)
    return found


class _CutRows(keras.utils.PyDataset):
    """The plain view of some rows, a batch at a time."""

    def __init__(self, features: PictureFeatures, rows: np.ndarray, targets: np.ndarray, batch_size: int):
        super().__init__()
        self._features, self._rows, self._targets, self._batch_size = features, rows, targets, batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(batch * self._batch_size, (batch + 1) * self._batch_size)
        return self._features.at_cut[self._rows[part], 0].astype(np.float32), self._targets[part]
