"""A catalog's files as tables: finds them and reads them in chunks of bounded size.

A source is a CSV, JSON Lines or Parquet file, a folder of such files (all of one kind, in the order of their
names), or a glob. The challenge's own folder stands for its X file. A CSV's values are text and stay exactly as
they are; the values of JSON Lines become strings, integers, floats or booleans where a whole column agrees, else
JSON text; Parquet's types stay.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from rakuten_models.batch_columns import Columns, recognise_columns
from rakuten_models.batch_csv import MOST_COLUMNS, BatchError, Record, csv_header, csv_records
from rakuten_models.batch_json import json_kind, json_records, json_type, json_value
from rakuten_models.bundle import file_facts

# In a chunk's table, beside the file's own columns: why a row cannot be trusted, null if it can.
PROBLEM_COLUMN = "__row_problem__"
# A chunk ends early where its rows take more memory than this.
CHUNK_BYTES = 64_000_000
CHALLENGE_FILES = ("X_train_update.csv", "X_test_update.csv")

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
_EXPECTED = "a .csv, .jsonl or .parquet file, a folder of them, or a glob"


class Header(NamedTuple):
    """A catalog's column names, in order, and which of them is what."""

    names: list[str]
    columns: Columns


def read_header(source: str | os.PathLike[str]) -> Header:
    """The column names of a catalog and what was recognised; its rows are not read (JSON Lines: they are).

    Raises:
        BatchError: There is no such file, or it cannot be read as a catalog.
    """
    catalog = CatalogSource(source)
    return Header(catalog.names, recognise_columns(catalog.names))


class CatalogSource:
    """The files of a catalog, ready to be read as often as needed.

    Args:
        source: A file, a folder or a glob.

    Attributes:
        files: In the order they are read.
        kind: "csv", "json" or "parquet".
        names: The column names.
        schema: Their Arrow types.
        folder: The folder that was given; None if it was a file, a glob or the challenge's folder.

    Raises:
        BatchError: There is no such file, the files differ in kind or columns, or one cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Find the files and read their headers."""
        self.files = _find_files(source)
        path = Path(source)
        self.folder = path if path.is_dir() and self.files[0].name not in CHALLENGE_FILES else None
        kinds = {_FORMATS[file.suffix.lower()] for file in self.files}
        if len(kinds) > 1:
            raise BatchError(
                f"{source} holds files of several kinds ({', '.join(sorted(kinds))}); give those of one kind."
            )
        self.kind = kinds.pop()
        self._delimiters: dict[Path, str] = {}
        self._json_rows: dict[Path, int] = {}
        self.schema = {"csv": self._csv_schema, "json": self._json_schema, "parquet": self._parquet_schema}[
            self.kind
        ]()
        self.names: list[str] = list(self.schema.names)
        if PROBLEM_COLUMN in self.names:
            raise BatchError(
                f"{source} has a column {PROBLEM_COLUMN!r}, which is taken; give it another name."
            )

    @cached_property
    def rows_by_file(self) -> dict[Path, int]:
        """The number of rows of every file; a bad row is a row."""
        if self.kind == "parquet":
            return {file: _open_parquet(file).metadata.num_rows for file in self.files}
        return self._json_rows or {file: sum(1 for _ in self._records(file)) for file in self.files}

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return sum(self.rows_by_file.values())

    def fingerprint(self) -> list[dict[str, Any]]:
        """[{"name", "size", "sha256"}] of the files: the same catalog elsewhere is the same catalog."""
        return [{"name": file.name, **file_facts(file)} for file in self.files]

    def chunks(self, chunk_rows: int, skip: int = 0) -> Iterator[pyarrow.Table]:
        """The rows in tables, in order; a table never holds rows of two files.

        Args:
            chunk_rows: Rows of a table at most; fewer where they take more than 64 MB.
            skip: Rows to leave out at the beginning: the rows of tables that were read before.

        Yields:
            Tables with `schema`, and PROBLEM_COLUMN (string) after it.
        """
        schema = self.schema.append(pyarrow.field(PROBLEM_COLUMN, pyarrow.string()))
        for file in self.files:
            rows = self.rows_by_file[file]
            if skip >= rows:
                skip -= rows
                continue
            read = self._parquet_chunks if self.kind == "parquet" else self._text_chunks
            yield from read(file, schema, chunk_rows, skip)
            skip = 0

    def lines_of(self, rows: Collection[int]) -> dict[int, int]:
        """Where rows begin in their file: row number to line, both from 1; {} for Parquet, which has no lines."""
        if self.kind == "parquet" or not rows:
            return {}
        records = itertools.chain.from_iterable(map(self._records, self.files))
        first_rows = enumerate(itertools.islice(records, max(rows)), start=1)
        return {number: record.line for number, record in first_rows if number in rows}

    def _records(self, file: Path) -> Iterator[Record]:
        if self.kind == "json":
            return json_records(file)
        return csv_records(file, self.names, self._delimiters[file])

    def _text_chunks(
        self, file: Path, schema: pyarrow.Schema, chunk_rows: int, skip: int
    ) -> Iterator[pyarrow.Table]:
        held: list[Record] = []
        size = 0
        for number, record in enumerate(self._records(file)):
            if number < skip:
                continue
            held.append(record)
            size += record.size
            if len(held) >= chunk_rows or size >= CHUNK_BYTES:
                yield self._table(held, schema)
                held, size = [], 0
        if held:
            yield self._table(held, schema)

    def _table(self, records: list[Record], schema: pyarrow.Schema) -> pyarrow.Table:
        if self.kind == "csv":
            values = list(zip(*(record.values for record in records), strict=True))
        else:
            values = [
                [json_value(record.values.get(field.name), field.type) for record in records]
                for field in self.schema
            ]
        columns = [*values, [record.problem for record in records]]
        arrays = [pyarrow.array(each, field.type) for each, field in zip(columns, schema, strict=True)]
        return pyarrow.Table.from_arrays(arrays, schema=schema)

    def _parquet_chunks(
        self, file: Path, schema: pyarrow.Schema, chunk_rows: int, skip: int
    ) -> Iterator[pyarrow.Table]:
        try:
            with _open_parquet(file) as content:
                groups = [content.metadata.row_group(group) for group in range(content.num_row_groups)]
                size = sum(group.total_byte_size for group in groups) / max(1, content.metadata.num_rows)
                chunk_rows = max(1, min(chunk_rows, int(CHUNK_BYTES / max(1.0, size))))
                first = 0
                while first < len(groups) and skip >= groups[first].num_rows:
                    skip -= groups[first].num_rows
                    first += 1
                batches = content.iter_batches(chunk_rows, row_groups=range(first, len(groups)))
                yield from _even_tables(batches, self.schema, schema, chunk_rows, skip)
        except (pyarrow.ArrowException, OSError) as error:
            raise _unreadable_parquet(file, error) from error

    def _csv_schema(self) -> pyarrow.Schema:
        names: list[str] | None = None
        for file in self.files:
            found, self._delimiters[file] = csv_header(file)
            if names is not None and found != names:
                raise _different_columns(file, self.files[0])
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
                if len(kinds) > MOST_COLUMNS:
                    raise BatchError(
                        f"{file} has more than {MOST_COLUMNS:,} different keys; expected one object a product."
                    )
            self._json_rows[file] = rows
        if not kinds:
            raise BatchError(
                f"{self.files[0]} holds no JSON objects; expected one object a line, one line a product."
            )
        return pyarrow.schema([(name, json_type(found - {"null"})) for name, found in kinds.items()])

    def _parquet_schema(self) -> pyarrow.Schema:
        schema: pyarrow.Schema | None = None
        for file in self.files:
            with _open_parquet(file) as content:
                found = content.schema_arrow
            if schema is not None and not found.equals(schema):
                raise _different_columns(file, self.files[0])
            schema = schema or found
        if len(set(schema.names)) < len(schema.names):
            raise BatchError(f"{self.files[0]} has a column twice; give every column a name of its own.")
        return schema


def _find_files(source: str | os.PathLike[str]) -> tuple[Path, ...]:
    path = Path(source)
    if path.is_file():
        if path.suffix.lower() not in _FORMATS:
            raise BatchError(f"{path} is no catalog; expected {_EXPECTED}.")
        return (path,)
    if path.is_dir():
        challenge = next((path / name for name in CHALLENGE_FILES if (path / name).is_file()), None)
        found = [challenge] if challenge else list(path.iterdir())
    elif glob.has_magic(str(source)):
        found = [Path(each) for each in glob.glob(str(source), recursive=True)]
    else:
        raise BatchError(f"{path} does not exist; expected {_EXPECTED}.")
    # Hidden files, and those with an underscore in front, are notes that programs leave beside the parts.
    files = sorted(
        file
        for file in found
        if file.suffix.lower() in _FORMATS and not file.name.startswith((".", "_")) and file.is_file()
    )
    if not files:
        raise BatchError(f"{source} holds no catalog; expected {_EXPECTED}.")
    return tuple(files)


def _different_columns(file: Path, first: Path) -> BatchError:
    return BatchError(f"{file} has other columns than {first.name}; give files with the same columns.")


def _open_parquet(file: Path) -> pyarrow.parquet.ParquetFile:
    try:
        return pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable_parquet(file, error) from error


def _unreadable_parquet(file: Path, error: Exception) -> BatchError:
    return BatchError(f"{file} is no readable Parquet file ({' '.join(str(error).split())}); write it again.")


def _even_tables(
    batches: Iterator[pyarrow.RecordBatch],
    schema: pyarrow.Schema,
    with_problem: pyarrow.Schema,
    chunk_rows: int,
    skip: int,
) -> Iterator[pyarrow.Table]:
    """Tables of exactly `chunk_rows` rows: where a reader cuts its batches must not show in the output."""

    def table(parts: list[pyarrow.RecordBatch]) -> pyarrow.Table:
        whole = pyarrow.Table.from_batches(parts, schema)
        return pyarrow.Table.from_arrays(
            [*whole.columns, pyarrow.nulls(len(whole), pyarrow.string())], schema=with_problem
        )

    held: list[pyarrow.RecordBatch] = []
    count = 0
    for batch in batches:
        if skip:
            skipped = min(skip, len(batch))
            batch, skip = batch.slice(skipped), skip - skipped
        while len(batch):
            part = batch.slice(0, chunk_rows - count)
            batch = batch.slice(len(part))
            held.append(part)
            count += len(part)
            if count == chunk_rows:
                yield table(held)
                held, count = [], 0
    if held:
        yield table(held)
