"""The cells of CSV files, and files that are whole at every moment."""

from __future__ import annotations

import json
import re
from typing import Any

_NEEDS_QUOTES = re.compile('[",\r\n]')

# What a spreadsheet takes for a formula; the wide forms are turned into the plain ones in some languages.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

_PLAIN_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


def cell_text(value: Any) -> str:
    """A value as a CSV file holds it: text as it is, "" for null, numbers as Python writes them, else JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict, bool)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def csv_cell(text: str) -> str:
    """A cell with the quotation marks it needs."""
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def spreadsheet_safe_cell(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet would take it for a formula.

    That is what begins with = + - @, a tab or a line's end; plain numbers such as -12.5 stay as they are.
    """
    return f"'{text}" if _FORMULA.match(text) and not _PLAIN_NUMBER.fullmatch(text) else text
