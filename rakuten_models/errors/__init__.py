"""Every error that bad input can cause. `str(error)` is a sentence fit to be shown to a person.

Standard library only, so that every other module, and user code, can import it for nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_SHOWN, _MAX_SAID = 60, 200

# Every folder of sentences: one file a language, `en.json` in each; code to a template for `str.format`.
_FOLDERS = [Path(__file__).parent / "messages"]


def register_messages(folder: Path) -> None:
    """Add the sentences of a folder with en.json and maybe other languages' files."""
    if folder not in _FOLDERS:
        _FOLDERS.append(folder)
        templates.cache_clear()


@functools.cache
def templates(language: str) -> Mapping[str, str]:
    """Every sentence of a language by its code; a code that is missing has none in this language."""
    found: dict[str, str] = {}
    for folder in _FOLDERS:
        file = folder / f"{language}.json"
        if file.is_file():
            found |= json.loads(file.read_text(encoding="utf-8"))
    return found


class Message(str):
    """An English sentence that knows its code and values, so that nothing needs to read them back out of it.

    Attributes:
        code: Names the sentence in messages/*.json.
        values: What it fills in, by name.
    """

    code: str
    values: Mapping[str, Any]

    def __new__(cls, code: str, **values: Any) -> Message:
        """The sentence with its values.

        Raises:
            KeyError: messages/en.json has no such code, or the sentence wants a value that is not given.
        """
        message = super().__new__(cls, templates("en")[code].format(**values))
        message.code, message.values = code, values
        return message

    def __reduce__(self) -> tuple[Any, ...]:
        """Codes and values travel between processes."""
        return _message, (self.code, dict(self.values))

    def to_json(self) -> str:
        """Code and values as text, for a column of a table; see `from_json`."""
        return json.dumps([self.code, self.values])

    @classmethod
    def from_json(cls, text: str) -> Message:
        """What `to_json` wrote."""
        code, values = json.loads(text)
        return cls(code, **values)


def _message(code: str, values: Mapping[str, Any]) -> Message:
    return Message(code, **values)


class RakutenModelsError(Exception):
    """Base of every error that bad input can cause; `str(error)` is a sentence fit to be shown to a person.

    Attributes:
        message: The sentence with its code and values.
    """

    def __init__(self, code: str, **values: Any) -> None:
        """Make the sentence of a code; see `Message`."""
        self.message = code if isinstance(code, Message) else Message(code, **values)
        super().__init__(self.message)

    @property
    def code(self) -> str:
        """Names the sentence; see `Message`."""
        return self.message.code


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
    """A catalog that cannot be scored or an output that cannot be written; the sentence says what to do."""


class CatalogError(BatchError):
    """A catalog that cannot be used; the sentence says what is wrong, where, and what to do."""


class BatchCancelled(BatchError):
    """The caller stopped the run; what was scored is kept, and the same call goes on from there."""
