"""How far a run is, whether it is to stop, and what it has counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rakuten_models.batch.scorer import ScoredTable
from rakuten_models.errors import BatchCancelled
from rakuten_models.product import REVIEW

# By code of a row's problem, the reason it is counted under: one of few, however many rows there are.
_REASONS = {
    "batch.row_no_pictures_given": "no text, and no pictures were given",
    "catalog.line_carriage_return": "a character that has no place there",
    "catalog.line_fields": "another number of fields than the header",
    "catalog.line_long": "too long a line",
    "catalog.line_no_json": "no JSON object",
    "catalog.line_no_object": "no JSON object",
    "catalog.line_not_utf_8": "bytes that are no UTF-8",
    "catalog.line_nul": "a character that has no place there",
    "catalog.line_one_field": "another number of fields than the header",
    "catalog.line_quotation_mark": "a quotation mark in the wrong place",
    "catalog.line_surrogate": "a character that has no place there",
    "catalog.picture_late": "the picture did not arrive in time",
    "catalog.picture_leads_out": "the picture's path leads out of the images folder",
    "catalog.picture_not_fetched": "the picture cannot be fetched",
    "catalog.picture_not_in_folder": "the picture was not found",
    "catalog.picture_not_in_zip": "the picture was not found",
    "catalog.picture_too_large": "the picture is too large",
    "catalog.picture_unreadable_in_zip": "the picture cannot be read",
    "catalog.picture_url": "the picture is a URL",
    "product.empty": "no text and no picture",
    "product.picture_damaged": "the picture cannot be read",
    "product.picture_empty": "the picture cannot be read",
    "product.picture_is_folder": "the picture cannot be read",
    "product.picture_missing": "the picture was not found",
    "product.picture_too_large": "the picture is too large",
    "product.picture_too_many_pixels": "the picture is too large",
    "product.picture_unreadable": "the picture cannot be read",
}


def reason_of(code: str) -> str:
    """The reason that a row's problem is counted under."""
    return _REASONS.get(code, "another reason")


@dataclass(frozen=True)
class BatchProgress:
    """How far a run is.

    Attributes:
        done: Rows scored, those of an earlier run that was stopped included.
        total: Rows of the catalog.
        rate: Rows a second in this run; 0 at its beginning.
        seconds_left: Until the end at this rate; None while that is not known.
    """

    done: int
    total: int | None
    rate: float
    seconds_left: float | None


class Event(Protocol):
    """Anything like threading.Event."""

    def is_set(self) -> bool:
        """Whether the run is to stop."""


class Run:
    """Progress of one run, and whether it is to go on."""

    def __init__(
        self,
        done: int,
        total: int,
        progress: Callable[[BatchProgress], None] | None,
        cancelled: Callable[[], bool] | Event | None,
    ) -> None:
        """Rows done before, rows of the catalog, and the caller's two functions."""
        self.done = self.before = done
        self._total = total
        self._progress = progress
        self._cancelled = cancelled if cancelled is None or callable(cancelled) else cancelled.is_set
        self._started = time.monotonic()

    def advance(self, rows: int) -> None:
        """So many more rows are scored."""
        self.done += rows
        self.report()

    def report(self) -> None:
        """Tell how far the run is, and stop it if that is wanted."""
        if self._progress is not None:
            rate = (self.done - self.before) / max(1e-9, time.monotonic() - self._started)
            left = (self._total - self.done) / rate if rate else None
            self._progress(BatchProgress(self.done, self._total, rate, left))
        if self._cancelled is not None and self._cancelled():
            raise BatchCancelled("batch.stopped", done=self.done, total=self._total)


@dataclass
class Counts:
    """What is counted from the beginning of an output on.

    Attributes:
        scored: Rows with a prediction.
        to_review: Of these, those whose decision is review.
        with_picture: Of these, those whose picture was read.
        failed: By reason, rows without a prediction.
        left_out_pictures: By reason, rows scored from their text because their picture could not be read.
        per_category: By prdtypecode, rows that were given it.
    """

    scored: int = 0
    to_review: int = 0
    with_picture: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left_out_pictures: Counter[str] = field(default_factory=Counter)
    per_category: Counter[int] = field(default_factory=Counter)

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Counts:
        """What `to_json` made; {} is the beginning."""
        values: dict[str, Any] = {
            name: Counter(each) if isinstance(each, dict) else each for name, each in state.items()
        }
        counts = cls(**values)
        counts.per_category = Counter({int(code): count for code, count in counts.per_category.items()})
        return counts

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the state file."""
        per_category = {str(code): count for code, count in sorted(self.per_category.items())}
        return {**vars(self), "per_category": per_category}

    @property
    def rows(self) -> int:
        """All rows that were counted."""
        return self.scored + sum(self.failed.values())

    @classmethod
    def of(cls, scored: ScoredTable, prefix: str) -> Counts:
        """The counts of a table's rows."""
        counts = cls()
        names = ("prdtypecode", "decision", "image_weight")
        columns = (scored.table.column(prefix + name).to_pylist() for name in names)
        for row, (code, decision, image_weight) in enumerate(zip(*columns, strict=True)):
            problem = scored.problems.get(row)
            if code is not None:
                counts.scored += 1
                counts.to_review += decision == REVIEW
                # It is 0 where there is no picture.
                counts.with_picture += image_weight > 0
                counts.per_category[code] += 1
            if problem is not None:
                reasons = counts.failed if code is None else counts.left_out_pictures
                reasons[reason_of(problem.code)] += 1
        return counts

    def __iadd__(self, other: Counts) -> Counts:
        """Add the counts of the rows that follow."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)
        return self


@dataclass(kw_only=True)
class BatchSummary(Counts):
    """What a run did: the counts of all rows in its output, and its own speed.

    Attributes:
        output: The CSV file or the folder.
        seconds: How long this run took.
        rows_per_second: Of this run.
        already_finished: There was nothing to do: the output was finished by an earlier run.
    """

    output: Path
    seconds: float
    rows_per_second: float
    already_finished: bool = False
