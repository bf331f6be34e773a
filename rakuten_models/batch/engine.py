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
    """What is to be scored, and into what; can be sent to another process.

    Attributes:
        catalog: The rows.
        settings: How they are scored.
        form: What the output is made of.
        chunk_rows: Rows of a chunk at most.
    """

    catalog: CatalogSource
    settings: ScoreSettings
    form: OutputFormat
    chunk_rows: int


class ScoredChunk(NamedTuple):
    """One scored chunk.

    Attributes:
        content: Its bytes in the output.
        rows: Rows in it.
        counts: What was counted of them.
        problems: See `ScoredTable`.
    """

    content: bytes
    rows: int
    counts: Counts
    problems: Mapping[int, Message]


def score_chunk(
    scorer: TableScorer,
    table: pyarrow.Table,
    job: JobSpec,
    *,
    first: bool,
    done: Callable[[int], None] | None = None,
) -> ScoredChunk:
    """Score a table of the catalog, the first of the output or not; `done` as in `TableScorer`."""
    scored = scorer(table, done)
    content = encoded(scored.table, job.form, first=first)
    counts = Counts.of(scored, job.settings.prefix)
    return ScoredChunk(content, len(scored.table), counts, scored.problems)


def local_chunks(
    job: JobSpec, scorer: TableScorer, chunks: int, rows: int, done: Callable[[int], None]
) -> Generator[ScoredChunk]:
    """The scored chunks, made in this process.

    Args:
        job: What to do.
        scorer: Scores.
        chunks: How many are done.
        rows: How many rows they have.
        done: Called with numbers of rows as they are scored; may raise to stop.
    """
    for number, table in enumerate(job.catalog.chunks(job.chunk_rows, skip=rows), start=chunks):
        yield score_chunk(scorer, table, job, first=number == 0, done=done)
