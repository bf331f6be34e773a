"""Reads Parquet files in tables of a fixed number of rows, and says what is wrong with one that cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from rakuten_models.catalog.locations import is_url
from rakuten_models.errors import CatalogError


@contextlib.contextmanager
def open_parquet(file: Any) -> Iterator[pyarrow.parquet.ParquetFile]:
    """A Parquet file, local or under a URL, open for the block.

    Raises:
        CatalogError: It is no Parquet file, or damaged.
    """
    try:
        if isinstance(file, Path) and not is_url(file):
            with pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20) as content:
                yield content
        else:
            with file.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as content:
                yield content
    except (pyarrow.ArrowException, OSError) as error:
        raise CatalogError("catalog.parquet_unreadable", file=file, reason=" ".join(str(error).split())) from error


def rows_of_groups(content: pyarrow.parquet.ParquetFile) -> list[int]:
    """The number of rows of every row group."""
    return [content.metadata.row_group(group).num_rows for group in range(content.num_row_groups)]


def rows_of_chunk(content: pyarrow.parquet.ParquetFile, chunk_rows: int, most_bytes: int) -> int:
    """How many rows of a file a chunk has: at most `chunk_rows`, fewer where they take more than `most_bytes`."""
    size = sum(content.metadata.row_group(group).total_byte_size for group in range(content.num_row_groups))
    size /= max(1, content.metadata.num_rows)
    return max(1, min(chunk_rows, int(most_bytes / max(1.0, size))))


def tables_from(
    content: pyarrow.parquet.ParquetFile, chunk_rows: int, skip: int, columns: Sequence[str] | None = None
) -> Iterator[pyarrow.Table]:
    """Tables of exactly `chunk_rows` rows, the last one excepted: where a reader cuts must not show in the output.

    Row groups with nothing but rows to skip are not read, nor are columns other than those named.
    """
    groups = rows_of_groups(content)
    first = 0
    while first < len(groups) and skip >= groups[first]:
        skip -= groups[first]
        first += 1
    batches: list[pyarrow.RecordBatch] = []
    count = 0
    for batch in content.iter_batches(chunk_rows, row_groups=range(first, len(groups)), columns=columns):
        if skip:
            skipped = min(skip, len(batch))
            batch, skip = batch.slice(skipped), skip - skipped
        while len(batch):
            part = batch.slice(0, chunk_rows - count)
            batch = batch.slice(len(part))
            batches.append(part)
            count += len(part)
            if count == chunk_rows:
                yield pyarrow.Table.from_batches(batches)
                batches, count = [], 0
    if batches:
        yield pyarrow.Table.from_batches(batches)
