"""What the image model's fine-tuning runs on: one device or several, in full or in mixed precision.

Data parallelism is `tf.distribute.MirroredStrategy`, under which Keras 3 runs its own training loop
(`keras.distribution.DataParallel` knows JAX alone). Each device gets an equal part of a batch: a step is the same as on
one device up to rounding. Mixed precision computes in bfloat16, whose range needs no loss scaling, with float32
weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from training.errors import DevicesError


@dataclass(frozen=True)
class Devices:
    """Which devices fit the upper blocks of the image model.

    Attributes:
        count: How many: GPUs where there are any, else (virtual) processors; None for all of them.
        mixed_precision: Whether to compute in bfloat16.
    """

    count: int | None = 1
    mixed_precision: bool = False

    def names(self) -> list[str]:
        """The devices' names, as TensorFlow knows them.

        Raises:
            DevicesError: There are fewer.
        """
        import tensorflow

        found = tensorflow.config.list_logical_devices("GPU") or tensorflow.config.list_logical_devices("CPU")
        if self.count is not None and self.count > len(found):
            names = ", ".join(device.name for device in found)
            raise DevicesError("devices.too_many", count=self.count, found=len(found), names=names)
        return [device.name for device in found[: self.count]]

    @contextlib.contextmanager
    def fitting(self, model: keras.Model) -> Iterator[keras.Model]:
        """Yields the model to fit in place of this one, into which its weights are copied when the block ends well.

        On one device in full precision that is the model itself.
        """
        names = self.names()
        if len(names) == 1 and not self.mixed_precision:
            yield model
            return
        import tensorflow

        scope = contextlib.nullcontext()
        if len(names) > 1:
            scope = tensorflow.distribute.MirroredStrategy(names).scope()
        with scope:
            copy = keras.models.clone_model(model, clone_function=self._clone)
            copy.set_weights(model.get_weights())
            yield copy
        model.set_weights(copy.get_weights())

    def _clone(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if self.mixed_precision:
            settings["dtype"] = keras.DTypePolicy("mixed_bfloat16")
        return layer.__class__.from_config(settings)


class GloballyClippedAdamW(keras.optimizers.AdamW):
    """AdamW that clips the norm of the whole batch's gradient; Keras clips each device's part before adding them."""

    def _clip_gradients(self, gradients: list[Any]) -> list[Any]:
        import tensorflow

        context = tensorflow.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            clipped: list[Any] = super()._clip_gradients(gradients)
            return clipped
        norm = tensorflow.linalg.global_norm(context.all_reduce(tensorflow.distribute.ReduceOp.SUM, gradients))
        share = self.global_clipnorm / tensorflow.maximum(norm, self.global_clipnorm)
        return [gradient * share for gradient in gradients]


def read_devices(text: str) -> int | None:
    """The value of --devices: a number, or None for "all".

    Raises:
        DevicesError: It is neither.
    """
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise DevicesError("devices.no_number", value=text)
    return int(text)
