"""Fits the image model: a linear head on frozen features, then fine-tuning of the blocks above the cut.

The pictures go through the frozen lower part once (`training.image.feature_cache`); every epoch afterwards only costs
the upper third of the network. Augmentation is a choice among the views kept there, and mixing pairs at the cut.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rakuten_models.preprocessing.image import ImageSettings
from training.errors import ImageTrainingError
from training.image.backbone import INTERMEDIATE_LAYER, LAST_LAYER
from training.image.batches import _ActivationRows, _Batches
from training.image.callbacks import EpochCheckpoint, EpochNumber, StepProgress
from training.image.devices import Devices, GloballyClippedAdamW
from training.image.feature_cache import (
    FrozenBackbone,
    PictureFeatures,
    PooledRows,
    Progress,
    extract_features,
)
from training.image.linear_probe import balanced_weights, fit_linear_head
from training.image.model import build_image_model
from training.settings import ImageTrainingSettings


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
    lower = FrozenBackbone(model, keep_cut=tuning)
    train, validation = (
        extract_features(
            images, lower, image_settings, cache_dir, augmentations=augmentations, progress=progress
        )
        for images, augmentations in (
            (train_images, settings.augmentations),
            (validation_images, settings.augmentations[:1]),
        )
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
    frozen_categories = np.setdiff1d(np.arange(known), category_index[rows])
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
        frozen_categories,
    )
    report |= {"head_penalty": penalty, "head_validation_log_loss": loss}
    model.get_layer("category_maps").set_weights([kernel[None, None], bias])
    if tuning:
        first, ends, histories = model.get_weights(), [], []
        for run in range(settings.averaged_runs):
            keras.utils.set_random_seed(seed + run)
            model.set_weights(first)
            batches = _Batches(
                train, rows, category_index, weights, categories, settings, seed + run, frozen_categories
            )
            upper = _upper_model(model, settings.dropout, frozen_categories)
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
        _put_back(model, frozen_categories, kernel, bias)
    answers = np.full(len(validation_images), -1)
    answers[validation_rows] = _answers(model, validation, validation_rows)
    report["validation_answers"] = answers
    return model


def _put_back(
    model: keras.Model, frozen_categories: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> None:
    """Columns that are held as they were before the fine-tuning, which shrinks all weights a little."""
    maps = model.get_layer("category_maps")
    tuned_kernel, tuned_bias = maps.get_weights()
    tuned_kernel[..., frozen_categories], tuned_bias[frozen_categories] = (
        kernel[:, frozen_categories],
        bias[frozen_categories],
    )
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
            logits = np.asarray(
                upper(features.intermediate_activations[part, 0].astype(np.float32), training=False)
            )
        found.append(logits.argmax(axis=1))
    return np.concatenate(found)


class _OfRun:
    """The progress of one of several runs as a part of all."""

    def __init__(self, progress: Progress, run: int, runs: int):
        self._progress, self._run, self._runs = progress, run, runs

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Pass it on."""
        self._progress(stage, self._run * total + done, self._runs * total)


def _upper_model(
    model: keras.Model, dropout: float, frozen_categories: Sequence[int] | np.ndarray = ()
) -> keras.Model:
    """The layers above the cut, sharing their weights with `model`; dropout exists only here.

    Categories that are held answer, but nothing is learned through their answers.
    """
    # Dropping whole channels before the 1 x 1 head is the same as dropping pooled features.
    last = keras.layers.SpatialDropout2D(dropout, seed=0)(model.get_layer(LAST_LAYER).output)
    logits = keras.layers.GlobalAveragePooling2D()(model.get_layer("category_maps")(last))
    if len(frozen_categories):
        kept = np.zeros(logits.shape[-1], np.float32)
        kept[frozen_categories] = 1
        logits = logits * (1 - kept) + keras.ops.stop_gradient(logits) * kept
    return keras.Model(model.get_layer(INTERMEDIATE_LAYER).output, logits)


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
        checked = {"validation_data": _ActivationRows(features, rows, targets, settings.batch_size)}
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
