"""Error messages in the visitor's language: the templates of messages/fr.json by the message's code."""

from __future__ import annotations

import string
from typing import Any

from rakuten_models.app.i18n.messages import Translator, french_spaces
from rakuten_models.errors import Message, templates


class _FrenchFormatter(string.Formatter):
    """Numbers as 1 234,5; messages among the values in French, too."""

    def format_field(self, value: Any, format_spec: str) -> str:
        """One value."""
        if isinstance(value, Message):
            return translate_error(value, Translator("fr"))
        text: str = super().format_field(value, format_spec)
        return text.replace(",", "\u00a0").replace(".", ",") if isinstance(value, int | float) else text


def translate_error(message: str, words: Translator) -> str:
    """An error message in the visitor's language.

    Args:
        message: A `Message`; of any other string, and where there is no French, it is said that it is English.
        words: In the visitor's language.
    """
    if words.language == "en":
        return message
    template = templates("fr").get(message.code) if isinstance(message, Message) else None
    if template is None or not isinstance(message, Message):
        return words("in_english", sentence=message)
    return _FrenchFormatter().vformat(french_spaces(template), (), message.values)
