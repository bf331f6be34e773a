"""Reads the records of a CSV file one by one; a bad one is named with its line and stops no other.

Everything in a CSV file is text and stays as it is. A record that cannot be trusted - another number of fields
than the header, bytes that are no UTF-8, a quotation mark in the wrong place - comes out as one record all the
same, with the reason and with the fields that could be read. Empty lines are no records.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from rakuten_models.catalog.lines import MAX_LINE, Line, Lines, Record
from rakuten_models.errors import CatalogError, Message

MAX_COLUMNS = 2_000

_DELIMITERS = ",;\t"

# The limit is the whole process's: raising it harms nobody, and lowering it would.
csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE * 2))


def csv_header(path: Path) -> tuple[list[str], str]:
    """The column names of a CSV file, and its delimiter: comma, else semicolon or tab.

    Raises:
        CatalogError: The file is empty, in another encoding, or its header cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise CatalogError("catalog.utf_16", file=path)
    text = _header_text(path)
    delimiter = "," if "," in text else max(_DELIMITERS, key=text.count)
    with Lines(path) as lines:
        try:
            names = next(fields for fields in csv.reader(lines, delimiter=delimiter, strict=True) if fields)
        except csv.Error as error:
            raise CatalogError("catalog.header_unreadable", file=path, reason=str(error)) from error
    if len(names) > MAX_COLUMNS:
        raise CatalogError("catalog.too_many_columns", file=path, count=len(names), limit=MAX_COLUMNS)
    repeated = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if repeated is not None:
        raise CatalogError("catalog.column_named_twice", file=path, name=repeated)
    return names, delimiter


def _header_text(path: Path) -> str:
    with Lines(path) as lines:
        for text in lines:
            problem = lines.taken[-1].problem
            if problem:
                raise CatalogError("catalog.header_problem", file=path, problem=problem)
            if "\r" in text.rstrip("\r\n"):
                raise CatalogError("catalog.carriage_returns", file=path)
            if text.strip("\r\n"):
                return text
            lines.begin_record()
    raise CatalogError("catalog.empty_file", file=path)


def csv_records(path: Path, names: list[str], delimiter: str, offset: int = 0, line: int = 1) -> Iterator[Record]:
    """The records after the header, in order; names and delimiter are those of `csv_header`.

    With an offset other than 0 it begins there, where the record of that line begins.
    """
    with Lines(path, offset, line) as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header_seen = offset > 0
        while True:
            lines.begin_record()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _broken(lines, names, delimiter, str(error))
                continue
            problem = next((line.problem for line in lines.taken if line.problem), None)
            if not fields and problem is None:
                continue
            if not header_seen:
                header_seen = True
                continue
            if len(lines.taken) > 1 and _swallowed_rows(lines.taken, fields, len(names), delimiter):
                yield _broken(lines, names, delimiter)
                continue
            yield _record(lines.taken, fields, names, problem)


def _broken(lines: Lines, names: list[str], delimiter: str, reason: str = "") -> Record:
    """The first taken line as a record of its own; the lines after it are read again."""
    lines.give_back()
    line = lines.taken[0]
    problem = line.problem
    if problem is None:
        # The csv module's errors have no code; this is how it words a carriage return outside quotation marks.
        what = "carriage_return" if "new-line" in reason else "quotation_mark"
        what = "nul" if "\0" in line.text else what
        problem = Message(f"catalog.line_{what}", line=line.number)
    return _record(lines.taken, _fields_of(line.text, delimiter), names, problem)


def _record(taken: list[Line], fields: list[str], names: list[str], problem: Message | None) -> Record:
    size = sum(len(line.text) for line in taken)
    if len(fields) != len(names):
        code = "catalog.line_one_field" if len(fields) == 1 else "catalog.line_fields"
        problem = problem or Message(code, line=taken[0].number, count=len(fields), expected=len(names))
    values: list[str | None] = [*fields[: len(names)], *[None] * (len(names) - len(fields))]
    return Record(taken[0].number, values, problem, size, taken[0].offset)


def _fields_of(text: str, delimiter: str) -> list[str]:
    """What can be read of a line that stands alone, however wrong its quotation marks are."""
    try:
        return next(csv.reader([text.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return text.rstrip("\r\n").split(delimiter)


def _swallowed_rows(taken: list[Line], fields: list[str], columns: int, delimiter: str) -> bool:
    """Whether a quotation mark that was never meant to open a field has taken rows into it.

    Such a record has the wrong number of fields or an odd number of quotation marks, and one of its lines after the
    first would be a good row by itself.
    """
    if len(fields) == columns and sum(line.text.count('"') for line in taken) % 2 == 0:
        return False
    for line in taken[1:]:
        try:
            if len(next(csv.reader([line.text], delimiter=delimiter, strict=True), [])) == columns:
                return True
        except csv.Error:
            continue
    return False
