"""Every error that bad input can cause. `str(error)` is a sentence fit to be shown to a person.

Standard library only, so that every other module, and user code, can import it for nothing.
"""

from __future__ import annotations

from typing import Any

_MAX_SHOWN, _MAX_SAID = 60, 200


class RakutenModelsError(Exception):
    """Base of every error that bad input can cause; `str(error)` is a sentence fit to be shown to a person."""


def shown(value: Any) -> str:
    """A value for a sentence: its repr, cut after 60 characters and without what a terminal would act on."""
    text = repr(value[: _MAX_SHOWN + 1]) if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def reason(error: Exception) -> str:
    """What a library says is wrong, for a sentence: on one line, cut after 200 characters."""
    said = " ".join(str(error).split())
    return said if len(said) <= _MAX_SAID else f"{said[:_MAX_SAID]}..."


class ProductError(RakutenModelsError):
    """A product that cannot be classified: its picture cannot be read, or it holds nothing to classify."""


class BundleError(RakutenModelsError):
    """A bundle folder that is incomplete, altered, of another format, or contradicts itself."""


class ExplanationError(RakutenModelsError):
    """An explanation was asked of a category that the models do not know."""


class HubError(RakutenModelsError):
    """A folder that could not be fetched from the hub or sent there."""


class BatchError(RakutenModelsError):
    """A catalog that cannot be read or an output that cannot be written; the sentence says what to do."""


class BatchCancelled(BatchError):
    """The caller stopped the run; what was scored is kept, and the same call goes on from there."""
