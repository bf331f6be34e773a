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

# By code of a row's problem, the reason it is counted under.
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
    """The reason that a row's problem is counted under: one of few, however many rows there are."""
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


@dataclass(frozen=True)
class BatchSummary:
    """What a run did.

    Attributes:
        rows: Rows of the catalog, and of the output.
        scored: Rows with a prediction.
        failed: By reason, rows without one.
        per_category: By prdtypecode, rows that were given it.
        to_review: Scored rows whose decision is review.
        seconds: How long this run took.
        rows_per_second: Of this run.
        output: The CSV file or the folder.
        left_out_pictures: By reason, rows that were scored from their text because their picture could not be read.
        with_picture: Scored rows whose picture was read.
        already_finished: There was nothing to do: the output was finished by an earlier run.
    """

    rows: int
    scored: int
    failed: Mapping[str, int]
    per_category: Mapping[int, int]
    to_review: int
    seconds: float
    rows_per_second: float
    output: Path
    left_out_pictures: Mapping[str, int] = field(default_factory=dict)
    with_picture: int = 0
    already_finished: bool = False


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
    """What a summary counts, from the beginning of the output on.

    Attributes:
        scored: Rows with a prediction.
        to_review: Of these, to review.
        with_picture: Of these, with a picture that was read.
        failed: By reason, rows without a prediction.
        left_out_pictures: By reason, scored rows whose picture was left out.
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
        return cls(
            scored=state.get("scored", 0),
            to_review=state.get("to_review", 0),
            with_picture=state.get("with_picture", 0),
            failed=Counter(state.get("failed", {})),
            left_out_pictures=Counter(state.get("left_out_pictures", {})),
            per_category=Counter({int(code): count for code, count in state.get("per_category", {}).items()}),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the state file."""
        return {
            "scored": self.scored,
            "to_review": self.to_review,
            "with_picture": self.with_picture,
            "failed": dict(self.failed),
            "left_out_pictures": dict(self.left_out_pictures),
            "per_category": {str(code): count for code, count in sorted(self.per_category.items())},
        }

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

    def include(self, other: Counts) -> None:
        """Add the counts of the rows that follow."""
        self.scored += other.scored
        self.to_review += other.to_review
        self.with_picture += other.with_picture
        self.failed.update(other.failed)
        self.left_out_pictures.update(other.left_out_pictures)
        self.per_category.update(other.per_category)

    def summary(
        self, run: Run, started: float, output: Path, *, already_finished: bool = False
    ) -> BatchSummary:
        """All counts, with the time since `started` (time.monotonic)."""
        seconds = time.monotonic() - started
        return BatchSummary(
            rows=self.rows,
            scored=self.scored,
            failed=dict(self.failed),
            per_category=dict(self.per_category),
            to_review=self.to_review,
            seconds=seconds,
            rows_per_second=(run.done - run.before) / max(1e-9, seconds),
            output=output,
            left_out_pictures=dict(self.left_out_pictures),
            with_picture=self.with_picture,
            already_finished=already_finished,
        )
