"""A catalog's files as tables: finds them and reads them in chunks of bounded size.

A source is a CSV, JSON Lines or Parquet file, a folder of such files (all of one kind, in the order of their
names), or a glob; local, or under a URL that fsspec knows. The challenge's own folder stands for its X file. A CSV's
values are text and stay exactly as they are; the values of JSON Lines become strings, integers, floats or booleans
where a whole column agrees, else JSON text; Parquet's types stay.

Chunks are read in order (`CatalogSource.chunks`), or each by itself (`plan` and `read`): the tables are the same.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from rakuten_models.catalog.columns import Columns, recognise_columns
from rakuten_models.catalog.csv_reader import MAX_COLUMNS, csv_header, csv_records
from rakuten_models.catalog.jsonl_reader import json_kind, json_records, json_type, json_value
from rakuten_models.catalog.lines import Record
from rakuten_models.catalog.locations import CHALLENGE_FILES, find_files, is_url, kind_of, path_of, url_facts
from rakuten_models.catalog.parquet_reader import open_parquet, rows_of_chunk, rows_of_groups, tables_from
from rakuten_models.errors import CatalogError
from rakuten_models.files import file_facts

# In a chunk's table, beside the file's own columns: why a row cannot be trusted (`Message.to_json`), null if it can.
PROBLEM_COLUMN = "__row_problem__"

_PROBLEM_FIELD = pyarrow.field(PROBLEM_COLUMN, pyarrow.string())

# A chunk ends early where its rows take more memory than this.
CHUNK_BYTES = 64_000_000


class Header(NamedTuple):
    """A catalog's column names, in order, and which of them is what."""

    names: list[str]
    columns: Columns


class Chunk(NamedTuple):
    """Where one chunk of a catalog lies.

    Attributes:
        file: The file's number, from 0.
        row: The file's row that it begins with, from 0.
        rows: How many rows it has.
        start: What a reader begins at: the byte of the row in a text file, the row group of a Parquet file.
        line: The line of that byte, from 1; 0 for Parquet.
    """

    file: int
    row: int
    rows: int
    start: int
    line: int


def read_header(source: str | os.PathLike[str]) -> Header:
    """The column names of a catalog and what was recognised; its rows are not read (JSON Lines: they are).

    Raises:
        CatalogError: There is no such file, or it cannot be read as a catalog.
    """
    catalog = CatalogSource(source)
    return Header(catalog.names, recognise_columns(catalog.names))


class CatalogSource:
    """The files of a catalog, ready to be read as often as needed.

    Args:
        source: A file, a folder or a glob; local, or under a URL.

    Attributes:
        files: In the order they are read.
        kind: "csv", "json" or "parquet".
        names: The column names.
        schema: Their Arrow types.
        folder: The folder that was given; None if it was a file, a glob or the challenge's folder.

    Raises:
        CatalogError: There is no such file, the files differ in kind or columns, or one cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Find the files and read their headers."""
        self.files = find_files(source)
        path = path_of(source)
        self.folder = path if path.is_dir() and self.files[0].name not in CHALLENGE_FILES else None
        kinds = {kind_of(file) for file in self.files}
        if len(kinds) > 1:
            raise CatalogError("catalog.several_kinds", folder=source, kinds=", ".join(sorted(kinds)))
        self.kind = kinds.pop()
        self._delimiters: dict[Path, str] = {}
        self._json_rows: dict[Path, int] = {}
        self._group_rows: dict[Path, list[int]] = {}
        schemas = {"csv": self._csv_schema, "json": self._json_schema, "parquet": self._parquet_schema}
        self.schema: pyarrow.Schema = schemas[self.kind]()
        self.names: list[str] = list(self.schema.names)
        if PROBLEM_COLUMN in self.names:
            raise CatalogError("catalog.column_taken", file=source, name=PROBLEM_COLUMN)

    @cached_property
    def rows_by_file(self) -> dict[Path, int]:
        """The number of rows of every file; a bad row is a row."""
        if self.kind == "parquet":
            return {file: sum(self._group_rows[file]) for file in self.files}
        return self._json_rows or {file: sum(1 for _ in self._records(file)) for file in self.files}

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return sum(self.rows_by_file.values())

    def fingerprint(self) -> list[dict[str, Any]]:
        """[{"name", "size", "sha256"}] of the files: the same catalog elsewhere is the same catalog."""
        return [{"name": file.name, **(url_facts(file) if is_url(file) else file_facts(file))} for file in self.files]

    def chunks(self, chunk_rows: int, skip: int = 0, columns: Sequence[str] | None = None) -> Iterator[pyarrow.Table]:
        """The rows in tables, in order; a table never holds rows of two files.

        Args:
            chunk_rows: Rows of a table at most; fewer where they take more than 64 MB.
            skip: Rows to leave out at the beginning: the rows of tables that were read before.
            columns: Read no others of a Parquet file.

        Yields:
            Tables with `schema`, and PROBLEM_COLUMN (string) after it.
        """
        for file in self.files:
            if skip and skip >= self.rows_by_file[file]:
                skip -= self.rows_by_file[file]
                continue
            if self.kind == "parquet":
                with open_parquet(file) as content:
                    size = rows_of_chunk(content, chunk_rows, CHUNK_BYTES)
                    yield from map(_unproblematic, tables_from(content, size, skip, columns))
            else:
                records = itertools.islice(self._records(file), skip, None)
                yield from map(self._table, _grouped(records, chunk_rows))
            skip = 0

    def plan(self, chunk_rows: int) -> list[Chunk]:
        """Where the tables of `chunks` lie; text files are read once for it."""
        found = []
        for number, file in enumerate(self.files):
            row = 0
            if self.kind == "parquet":
                with open_parquet(file) as content:
                    size = rows_of_chunk(content, chunk_rows, CHUNK_BYTES)
                rows = self.rows_by_file[file]
                ends = list(itertools.accumulate(self._group_rows[file]))
                for row in range(0, rows, size):
                    found.append(Chunk(number, row, min(size, rows - row), bisect.bisect(ends, row), 0))
                continue
            for records in _grouped(self._records(file), chunk_rows):
                found.append(Chunk(number, row, len(records), records[0].offset, records[0].line))
                row += len(records)
        return found

    def read(self, chunks: Sequence[Chunk]) -> Iterator[pyarrow.Table]:
        """The tables of some consecutive chunks of one file, from where the first of them lies.

        Raises:
            CatalogError: The file cannot be read, or is not as it was when `plan` was made.
        """
        first = chunks[0]
        file = self.files[first.file]
        try:
            if self.kind == "parquet":
                with open_parquet(file) as content:
                    tables = tables_from(content, first.rows, first.row)
                    yield from self._as_planned(map(_unproblematic, tables), chunks)
            else:
                records = self._records(file, first.start if first.row else 0, first.line if first.row else 1)
                tables = (self._table(list(itertools.islice(records, chunk.rows))) for chunk in chunks)
                yield from self._as_planned(tables, chunks)
        except OSError as error:
            raise CatalogError("catalog.unreadable_for_worker", file=file, reason=str(error)) from error

    def _as_planned(self, tables: Iterator[pyarrow.Table], chunks: Sequence[Chunk]) -> Iterator[pyarrow.Table]:
        for chunk in chunks:
            table = next(tables, None)
            if table is None or len(table) != chunk.rows:
                raise CatalogError("catalog.changed", file=self.files[chunk.file])
            yield table

    def lines_of(self, rows: Collection[int]) -> dict[int, int]:
        """Where rows begin in their file: row number to line, both from 1; {} for Parquet, which has no lines."""
        if self.kind == "parquet" or not rows:
            return {}
        records = itertools.chain.from_iterable(map(self._records, self.files))
        first_rows = enumerate(itertools.islice(records, max(rows)), start=1)
        return {number: record.line for number, record in first_rows if number in rows}

    def _records(self, file: Path, offset: int = 0, line: int = 1) -> Iterator[Record]:
        if self.kind == "json":
            return json_records(file, offset, line)
        return csv_records(file, self.names, self._delimiters[file], offset, line)

    def _table(self, records: list[Record]) -> pyarrow.Table:
        schema = self.schema.append(_PROBLEM_FIELD)
        if self.kind == "csv":
            values = [list(column) for column in zip(*(record.values for record in records), strict=True)]
        else:
            values = [
                [json_value(record.values.get(field.name), field.type) for record in records] for field in self.schema
            ]
        columns = [*values, [record.problem and record.problem.to_json() for record in records]]
        arrays = [pyarrow.array(each, field.type) for each, field in zip(columns, schema, strict=True)]
        return pyarrow.Table.from_arrays(arrays, schema=schema)

    def _csv_schema(self) -> pyarrow.Schema:
        names: list[str] | None = None
        for file in self.files:
            found, self._delimiters[file] = csv_header(file)
            if names is not None and found != names:
                raise _different_columns(file, found, self.files[0], names)
            names = found
        return pyarrow.schema([(name, pyarrow.string()) for name in names or ()])

    def _json_schema(self) -> pyarrow.Schema:
        kinds: dict[str, set[str]] = {}
        for file in self.files:
            rows = 0
            for record in json_records(file):
                rows += 1
                for name, value in record.values.items():
                    kinds.setdefault(name, set()).add(json_kind(value))
                if len(kinds) > MAX_COLUMNS:
                    raise CatalogError("catalog.too_many_keys", file=file, limit=MAX_COLUMNS)
            self._json_rows[file] = rows
        if not kinds:
            raise CatalogError("catalog.no_json_objects", file=self.files[0])
        return pyarrow.schema([(name, json_type(found - {"null"})) for name, found in kinds.items()])

    def _parquet_schema(self) -> pyarrow.Schema:
        schema: pyarrow.Schema | None = None
        for file in self.files:
            with open_parquet(file) as content:
                found = content.schema_arrow
                self._group_rows[file] = rows_of_groups(content)
            if schema is not None and not found.equals(schema):
                raise _different_columns(file, _typed(found), self.files[0], _typed(schema))
            schema = schema or found
        if schema is not None and len(set(schema.names)) < len(schema.names):
            raise CatalogError("catalog.column_twice", file=self.files[0])
        return schema


def _unproblematic(table: pyarrow.Table) -> pyarrow.Table:
    return table.append_column(_PROBLEM_FIELD, pyarrow.nulls(len(table), pyarrow.string()))


def _grouped(records: Iterator[Record], chunk_rows: int) -> Iterator[list[Record]]:
    """The records of one chunk after the other."""
    group: list[Record] = []
    size = 0
    for record in records:
        group.append(record)
        size += record.size
        if len(group) >= chunk_rows or size >= CHUNK_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _typed(schema: pyarrow.Schema) -> list[str]:
    return [f"{field.name}: {field.type}" for field in schema]


def _different_columns(file: Path, found: Sequence[str], first: Path, expected: Sequence[str]) -> CatalogError:
    """What one file has that another has not: names, with their types where files have them."""
    differences = []
    for word, ones, others in (("without", expected, found), ("with", found, expected)):
        names = [each for each in ones if each not in others]
        if names:
            differences.append(f"{word} {', '.join(map(repr, names[:5]))}{', ...' * (len(names) > 5)}")
    difference = " and ".join(differences) or "in another order"
    return CatalogError("catalog.other_columns", file=file, first=first.name, difference=difference)
