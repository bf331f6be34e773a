"""The cells of CSV files, and files that are whole at every moment."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITING = ".writing"

_NEEDS_QUOTES = re.compile('[",\r\n]')
# What a spreadsheet takes for a formula; the wide forms are turned into the plain ones in some languages.
_FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[Any]:
    """Write a file under another name and give it its own once all of it is on the disk.

    The other name is always the same, so that a kill leaves nothing which the next run would not replace.
    """
    writing = path.with_name(f".{path.name}{WRITING}")
    try:
        with writing.open("wb") as stream:
            yield stream
            sync(stream)
        os.replace(writing, path)
    except BaseException:
        with contextlib.suppress(OSError):
            writing.unlink()
        raise
    sync_folder(path.parent)


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


def sync(stream: Any) -> None:
    """Have a file's content on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Have the renaming itself on the disk; some systems cannot, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
