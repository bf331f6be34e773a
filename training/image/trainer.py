"""Fits the image model: a linear head on frozen features, then fine-tuning of the upper blocks.

The pictures go through the frozen lower layers once (`training.image.feature_cache`); every epoch afterwards only costs
the upper third of the network. Augmentation is a choice among the cached ones, and mixing pairs of activations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from rakuten_models.preprocessing.image import ImageSettings
from training.block_cache import BlockCache
from training.errors import ImageTrainingError
from training.image.backbone import INTERMEDIATE_LAYER, LAST_LAYER
from training.image.batches import ActivationBatches, PictureRows, PlainBatches
from training.image.callbacks import Checkpoint, EpochNumber, StepProgress
from training.image.devices import Devices, GloballyClippedAdamW
from training.image.feature_cache import FrozenBackbone, PictureFeatures, PooledRows, Progress, extract_features
from training.image.linear_probe import LinearHead, balanced_weights, fit_linear_head
from training.image.model import build_image_model
from training.settings import ImageTrainingSettings


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Pictures and their categories.

    Attributes:
        paths: n files; unreadable ones are left out.
        category_index: int (n,).
        weights: float (n,), at least 0: 1 for a gold label, less for a doubtful one; None: 1 for all.
    """

    paths: Sequence[str]
    category_index: np.ndarray
    weights: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class InitialImageModel:
    """An image model to start from, in place of the pretrained backbone.

    Attributes:
        model: With all of the run's categories.
        known: How many categories, the first ones, it has learned already; of these, those without a training picture
            stay as they are.
    """

    model: keras.Model
    known: int = 0


@dataclass(frozen=True, eq=False)
class ImageRun:
    """Where and how a fit runs; nothing here changes what is learned but the seed and the precision.

    Attributes:
        cache_dir: Folder for features that a later run on the same pictures takes over.
        checkpoint_dir: Where the fine-tuning's state is saved; a run that finds one resumes. None: nowhere.
        seed: Of every random choice.
        devices: What the fine-tuning runs on.
        progress: Called as progress(stage, done, total), stage "pictures" or "image model".
        callbacks: More Keras callbacks for the fine-tuning (TensorBoard).
    """

    cache_dir: Path
    checkpoint_dir: Path | None = None
    seed: int = 0
    devices: Devices = Devices()
    progress: Progress | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()


@dataclass(frozen=True, eq=False)
class ImageFit:
    """A fitted image model.

    Attributes:
        model: That of `build_image_model`.
        unreadable_pictures: One sentence each.
        head: The linear head before fine-tuning.
        histories: For each fine-tuning its losses by name, one an epoch.
        validation_predictions: int (m,), the best category of each validation picture, -1 where it is unreadable.
    """

    model: keras.Model
    unreadable_pictures: tuple[str, ...]
    head: LinearHead
    histories: tuple[dict[str, list[float]], ...]
    validation_predictions: np.ndarray


def fit_image_model(
    train: LabelledImages,
    validation: LabelledImages,
    image_settings: ImageSettings,
    settings: ImageTrainingSettings,
    run: ImageRun,
    *,
    categories: int,
    backbone_weights: str | Path | None,
    start: InitialImageModel | None = None,
) -> ImageFit:
    """Trains an image model.

    Args:
        train: To learn from.
        validation: With gold labels; may be none.
        image_settings: How a picture becomes pixels.
        settings: The recipe.
        run: Where and how.
        categories: Number of categories.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        start: What to start from instead.

    Raises:
        BackboneError: The pretrained weights cannot be had.
        ImageTrainingError: Fewer than 2 pictures can be read.
    """
    keras.utils.set_random_seed(run.seed)
    if start is not None:
        model = start.model
    else:
        model = build_image_model(
            categories, size=image_settings.size, alpha=settings.alpha, backbone_weights=backbone_weights
        )
    backbone = FrozenBackbone(model, with_activations=settings.epochs > 0)

    def extract(images: LabelledImages, augmentations: Sequence[str]) -> tuple[PictureFeatures, np.ndarray]:
        features = extract_features(
            images.paths, backbone, image_settings, run.cache_dir, augmentations=augmentations, progress=run.progress
        )
        return features, np.flatnonzero(features.readable)

    features, rows = extract(train, settings.augmentations)
    validation_features, validation_rows = extract(validation, settings.augmentations[:1])
    if len(rows) < 2:
        raise ImageTrainingError("image.too_few_pictures", readable=len(rows), pictures=len(train.paths))
    category_index = np.asarray(train.category_index, np.int64)
    gold = np.asarray(validation.category_index, np.int64)[validation_rows]
    row_weights = np.ones(len(rows)) if train.weights is None else np.asarray(train.weights, np.float64)[rows]
    weights = np.zeros(len(train.paths), np.float32)
    weights[rows] = balanced_weights(category_index[rows], row_weights, gold, categories, settings.balance_rows)
    frozen_categories = np.setdiff1d(np.arange(start.known if start else 0), category_index[rows])
    head = fit_linear_head(
        PooledRows(features, rows),
        category_index[rows],
        weights[rows],
        (validation_features.pooled[validation_rows, 0], gold),
        categories,
        settings.head_penalties,
        _head_of(model) if start else None,
        frozen_categories,
    )
    maps = model.get_layer("category_maps")
    maps.set_weights([head.kernel[None, None], head.bias])
    histories = []
    if settings.epochs:
        pictures = PictureRows(features, rows, category_index, weights, categories, frozen_categories)
        measured = None
        if len(validation_rows):
            targets = keras.utils.to_categorical(gold, categories)
            measured = PlainBatches(validation_features, validation_rows, targets, settings.batch_size)
        before, ends = model.get_weights(), []
        for number in range(settings.averaged_runs):
            model.set_weights(before)
            histories.append(_fine_tune(model, pictures, measured, settings, run, number))
            ends.append(model.get_weights())
        model.set_weights([np.mean(weight, axis=0) for weight in zip(*ends, strict=True)])
        # Weight decay has shrunk the frozen categories' columns, too.
        tuned = _head_of(model)
        tuned.kernel[:, frozen_categories] = head.kernel[:, frozen_categories]
        tuned.bias[frozen_categories] = head.bias[frozen_categories]
        maps.set_weights([tuned.kernel[None, None], tuned.bias])
    predictions = np.full(len(validation.paths), -1)
    predictions[validation_rows] = _predict(model, validation_features, validation_rows, tuned=settings.epochs > 0)
    unreadable = (*features.problems, *validation_features.problems)
    return ImageFit(model, unreadable, head, tuple(histories), predictions)


def _head_of(model: keras.Model) -> LinearHead:
    kernel, bias = model.get_layer("category_maps").get_weights()
    return LinearHead(kernel[0, 0], bias)


def _predict(model: keras.Model, features: PictureFeatures, rows: np.ndarray, tuned: bool) -> np.ndarray:
    """The best category of some pictures, int (rows,), from their cached features."""
    head, upper = _head_of(model), _upper_model(model, 0.0) if tuned else None
    found = [np.zeros(0, np.int64)]
    for begin in range(0, len(rows), 64):
        part = rows[begin : begin + 64]
        if upper is None:
            logits = features.pooled[part, 0] @ head.kernel + head.bias
        else:
            logits = np.asarray(upper(features.activations[part, 0].astype(np.float32), training=False))
        found.append(logits.argmax(axis=1))
    return np.concatenate(found)


def _upper_model(model: keras.Model, dropout: float, frozen_categories: Sequence[int] | np.ndarray = ()) -> keras.Model:
    """The upper layers, sharing their weights with `model`; dropout exists only here.

    Nothing is learned through the logits of frozen categories.
    """
    # Dropping whole channels before the 1 x 1 head is the same as dropping pooled features.
    last = keras.layers.SpatialDropout2D(dropout, seed=0)(model.get_layer(LAST_LAYER).output)
    logits = keras.layers.GlobalAveragePooling2D()(model.get_layer("category_maps")(last))
    if len(frozen_categories):
        frozen = np.zeros(logits.shape[-1], np.float32)
        frozen[frozen_categories] = 1
        logits = logits * (1 - frozen) + keras.ops.stop_gradient(logits) * frozen
    return keras.Model(model.get_layer(INTERMEDIATE_LAYER).output, logits)


def _fine_tune(
    model: keras.Model,
    pictures: PictureRows,
    measured: PlainBatches | None,
    settings: ImageTrainingSettings,
    run: ImageRun,
    number: int,
) -> dict[str, list[float]]:
    """One of the fine-tunings whose weights are averaged; changes the model, returns its losses by name."""
    seed = run.seed + number
    keras.utils.set_random_seed(seed)
    batches = ActivationBatches(pictures, settings, seed)
    total = batches.steps * settings.epochs
    swap = [] if measured is None else [keras.callbacks.SwapEMAWeights()]
    callbacks: list[keras.callbacks.Callback] = [EpochNumber(batches), *swap, *run.callbacks]
    if run.progress:
        whole = _as_part(run.progress, number, settings.averaged_runs)
        callbacks.append(StepProgress(whole, batches, total))
    upper = _upper_model(model, settings.dropout, pictures.frozen_categories)
    found: dict[str, list[float]] = {}
    with run.devices.fitting(upper) as fitted:
        _compile(fitted, settings, total)
        folder = run.checkpoint_dir and run.checkpoint_dir / f"run_{number + 1}"
        checkpoint = Checkpoint(BlockCache(folder, dataclasses.asdict(settings), seed, batches.key), batches)
        epoch = checkpoint.restore(fitted)
        if folder is not None:
            # First, so that it saves the state that the epoch really ended with.
            callbacks.insert(0, checkpoint)

        def fit(begin: int, end: int) -> None:
            """Epochs from begin to end, not included."""
            history = fitted.fit(
                batches,
                initial_epoch=begin,
                epochs=end,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,
                validation_data=measured,
            )
            for name, values in history.history.items():
                found.setdefault(name, []).extend(float(value) for value in values)

        if batches.first:
            # The rest of an epoch that was begun. A fit ends with the averaged weights in place: they are taken back.
            fit(epoch, epoch + 1)
            epoch = checkpoint.restore(fitted)
        fit(epoch, settings.epochs)
    return found


def _as_part(progress: Progress, number: int, runs: int) -> Callable[[str, int, int], None]:
    """The progress of one of several runs as a part of all."""
    return lambda stage, done, total: progress(stage, number * total + done, runs * total)


def _compile(upper: keras.Model, settings: ImageTrainingSettings, total: int) -> None:
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
