"""The page's labels in English and French (en.json, fr.json), and numbers written as each language writes them.

Gradio translates the labels of its own components in the browser (`translations`); HTML that we render is
written on the server by `Translator`, in the language that the visitor chose.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import gradio as gr
from gradio.i18n import I18nData

from rakuten_models.formatting import percent

LANGUAGES = ("en", "fr")

# By language, then key. Names in braces are filled in by the caller, who escapes them for HTML.
LABELS: dict[str, dict[str, str]] = {
    language: json.loads((Path(__file__).parent / f"{language}.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}

# Gradio's components that show a word of their own, translated in the browser.
_COMPONENT_KEYS = (
    "language", "tab_classify", "tab_catalog", "tab_model", "tab_compare", "designation", "designation_hint",
    "description", "description_hint", "picture", "picture_alt", "clear", "classify", "catalog_file",
    "catalog_pictures", "columns", "column_designation", "column_description", "column_image", "column_label",
    "score", "cancel", "download_scored", "previous", "next", "download_corrections", "figures_of", "served",
    "text", "image", "fusion", "threshold", "no_column", "example_sofa", "example_pool", "example_controller",
    "example_drill", "example_cushion", "example_dragons",
)  # fmt: skip

_I18N = gr.I18n()


class Translator:
    """The words in one language: `words("show_all", count=27)`.

    Attributes:
        language: "en" or "fr".
    """

    def __init__(self, language: str | None = "en") -> None:
        """Take a language, English where it is another than the two."""
        self.language = language if language in LANGUAGES else LANGUAGES[0]

    def __call__(self, key: str, **values: object) -> str:
        """The words under a key with the values, of which numbers are written whole, as by `number`; plain text.

        Raises:
            KeyError: No such words.
        """
        text = LABELS[self.language][key]
        if self.language == "fr":
            text = french_spaces(text)
        numbers = {name: self.number(value) for name, value in values.items() if isinstance(value, int | float)}
        return text.format(**values | numbers) if values else text

    def quoted(self, name: str) -> str:
        """A name in quotation marks: “Pool” or « Piscine »."""
        return f"«\u00a0{name}\u00a0»" if self.language == "fr" else f"“{name}”"

    def percent(self, probability: float) -> str:
        """A probability for people: "94.2%" or "94,2 %"."""
        text = percent(probability)
        return text.replace(".", ",").replace("%", "\u00a0%") if self.language == "fr" else text

    def whole_percent(self, share: float) -> str:
        """A share without decimals: "62%" or "62 %"."""
        return f"{share:.0%}".replace("%", "\u00a0%") if self.language == "fr" else f"{share:.0%}"

    def number(self, value: float, decimals: int = 0, *, signed: bool = False) -> str:
        """A number with its thousands set apart: "2,789.5" or "2 789,5"."""
        text = f"{value:{'+' if signed else ''},.{decimals}f}"
        if self.language == "fr":
            text = text.replace(",", "\u00a0").replace(".", ",")
        return text

    def duration(self, seconds: float) -> str:
        """A time for people, in seconds below two minutes and in minutes above."""
        if seconds < 10:
            return self("seconds", count=self.number(seconds, 1))
        if seconds < 120:
            return self("seconds", count=self.number(seconds))
        return self("minutes", count=self.number(seconds / 60))


def french_spaces(text: str) -> str:
    """French sets a space before : ; ? and !, at which no line may break."""
    return re.sub(" (?=[:;?!])", "\u00a0", text)


def translations() -> dict[str, dict[str, str]]:
    """What `gradio.I18n` takes: the components' words by language, under our own prefix."""
    return {language: {f"app.{key}": LABELS[language][key] for key in _COMPONENT_KEYS} for language in LANGUAGES}


def mark(key: str) -> I18nData:
    """Words of a component, translated by Gradio in the browser; the key is one of `_COMPONENT_KEYS`."""
    return _I18N(f"app.{key}")
