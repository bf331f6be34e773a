"""How far a run is, whether it is to stop, and what it has counted."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow

from rakuten_models.errors import BatchCancelled
from rakuten_models.product import REVIEW

# What a row's sentence holds, and the reason it is counted under; the sentence itself tells the particulars.
_REASONS = (
    (r"where the header has", "another number of fields than the header"),
    (r"is no UTF-8", "bytes that are no UTF-8"),
    (r"quotation mark that", "a quotation mark in the wrong place"),
    (r"carriage return|NUL character|surrogate pair", "a character that has no place there"),
    (r"one object a line", "no JSON object"),
    (r"^Line \d+ is longer", "too long a line"),
    (r"holds no text and no picture", "no text and no picture"),
    (r"no pictures were given", "no text, and no pictures were given"),
    (r"is not in the|does not exist", "the picture was not found"),
    (r"leads out of", "the picture's path leads out of the images folder"),
    (r"is a URL", "the picture is a URL"),
    (r"make it smaller", "the picture is too large"),
    (r"did not arrive within", "the picture did not arrive in time"),
    (r"cannot be fetched", "the picture cannot be fetched"),
    (r"^The picture", "the picture cannot be read"),
)

_OTHER = "another reason"


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
            raise BatchCancelled(
                f"The run was stopped at {self.done:,} of {self._total:,} rows; started again, it goes on from "
                "its last whole chunk."
            )


class Counts:
    """What a summary counts, from the beginning of the output on."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        """Go on from the counts in a state file; {} at the beginning."""
        self._scored = int(state.get("scored", 0))
        self._to_review = int(state.get("to_review", 0))
        self._with_picture = int(state.get("with_picture", 0))
        self._failed = Counter(state.get("failed", {}))
        self._pictures = Counter(state.get("left_out_pictures", {}))
        self._categories = Counter({int(code): n for code, n in state.get("per_category", {}).items()})

    def add(self, table: pyarrow.Table, prefix: str) -> None:
        """Count the rows of a scored table."""
        names = ("prdtypecode", "decision", "image_weight", "error")
        columns = (table.column(prefix + name).to_pylist() for name in names)
        for code, decision, image_weight, error in zip(*columns, strict=True):
            if code is None:
                self._failed[reason_of(error)] += 1
                continue
            self._scored += 1
            self._to_review += decision == REVIEW
            # It is 0 where there is no picture.
            self._with_picture += image_weight > 0
            self._categories[code] += 1
            if error is not None:
                self._pictures[reason_of(error)] += 1

    def include(self, other: Mapping[str, Any]) -> None:
        """Add the `to_json` of other rows."""
        more = Counts(other)
        self._scored += more._scored
        self._to_review += more._to_review
        self._with_picture += more._with_picture
        self._failed.update(more._failed)
        self._pictures.update(more._pictures)
        self._categories.update(more._categories)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the state file."""
        return {
            "scored": self._scored,
            "to_review": self._to_review,
            "with_picture": self._with_picture,
            "failed": dict(self._failed),
            "left_out_pictures": dict(self._pictures),
            "per_category": {str(code): self._categories[code] for code in sorted(self._categories)},
        }

    def summary(
        self, run: Run, started: float, output: Path, *, already_finished: bool = False
    ) -> BatchSummary:
        """All counts, with the time since `started` (time.monotonic)."""
        seconds = time.monotonic() - started
        return BatchSummary(
            rows=self._scored + sum(self._failed.values()),
            scored=self._scored,
            failed=dict(self._failed),
            per_category=dict(self._categories),
            to_review=self._to_review,
            seconds=seconds,
            rows_per_second=(run.done - run.before) / max(1e-9, seconds),
            output=output,
            left_out_pictures=dict(self._pictures),
            with_picture=self._with_picture,
            already_finished=already_finished,
        )


def reason_of(sentence: str) -> str:
    """The reason that a row's sentence is counted under: one of few, however many rows there are."""
    return next((reason for pattern, reason in _REASONS if re.search(pattern, sentence)), _OTHER)
