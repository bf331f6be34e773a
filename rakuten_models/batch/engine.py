"""What every engine does with a chunk, and the engine of this machine: one process, all cores, one chunk at a time.

An engine is a function that hands out the scored chunks in order, from the first one that is not done. Which
chunk goes to whom changes no byte of them, so that a run begun by one engine may be ended by another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow

from rakuten_models.batch.output import OutputFormat, encoded
from rakuten_models.batch.progress import Counts
from rakuten_models.batch.scorer import ScoreSettings, TableScorer
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.errors import Message


@dataclass(frozen=True)
class JobSpec:
    """What is to be scored, how, and into chunks of how many rows at most; can be sent to another process."""

    catalog: CatalogSource
    settings: ScoreSettings
    form: OutputFormat
    chunk_rows: int


class ScoredChunk(NamedTuple):
    """One scored chunk: its bytes in the output, its rows, their counts, and their problems as in `ScoredTable`."""

    content: bytes
    rows: int
    counts: Counts
    problems: Mapping[int, Message]


def score_chunk(
    scorer: TableScorer, table: pyarrow.Table, job: JobSpec, *, first: bool, done: Callable[[int], None] | None = None
) -> ScoredChunk:
    """Score a table of the catalog, the first of the output or not; `done` as in `TableScorer`."""
    scored = scorer(table, done)
    content = encoded(scored.table, job.form, first=first)
    counts = Counts.of(scored, job.settings.prefix)
    return ScoredChunk(content, len(scored.table), counts, scored.problems)


def local_chunks(
    job: JobSpec, scorer: TableScorer, chunks: int, rows: int, done: Callable[[int], None]
) -> Generator[ScoredChunk]:
    """The scored chunks after the `chunks` that are done, which have `rows` rows; `done` as in `TableScorer`."""
    for number, table in enumerate(job.catalog.chunks(job.chunk_rows, skip=rows), start=chunks):
        yield score_chunk(scorer, table, job, first=number == 0, done=done)
