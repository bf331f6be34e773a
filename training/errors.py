"""Every error that bad input to training, evaluation or publishing can cause."""

from __future__ import annotations

from rakuten_models.errors import RakutenModelsError


class BackboneError(RakutenModelsError):
    """The pretrained weights cannot be had or do not fit."""


class DevicesError(RakutenModelsError):
    """Devices that are not there."""


class ImageTrainingError(RakutenModelsError):
    """The pictures cannot train an image model."""


class EvaluationError(RakutenModelsError):
    """A catalog that this bundle cannot be evaluated on, or a folder where the result cannot be written."""


class ExternalResultError(RakutenModelsError):
    """A file of another run's figures that cannot be used."""


class TrainingError(RakutenModelsError):
    """A run that cannot begin or resume."""


class WarmStartError(RakutenModelsError):
    """A bundle that this run cannot start from."""
