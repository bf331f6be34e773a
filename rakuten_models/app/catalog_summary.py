"""What the Catalog tab shows of a scored catalog, gathered row by row in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from rakuten_models.formatting import shortened
from rakuten_models.product import ACCEPT

# So many rows are shown, and so many doubtful ones kept to be reviewed; the scored file holds all of them.
_SHOWN_ROWS = 20

_MAX_REVIEWED = 500


@dataclass(frozen=True)
class ScoredRow:
    """One row of a scored catalog, as far as the page shows it.

    Attributes:
        number: Of the row in the catalog, from 1.
        index: What the catalog itself calls it; "" if it has no such column.
        designation: As in the catalog.
        description: As in the catalog.
        image: The picture's name as in the catalog, "" if it has none.
        top: The best answers as (prdtypecode, probability), the best first; empty if it was not scored.
        decision: "accept" or "review".
        problem: Why it was not scored or its picture left out; "" if all went well.
        line: Where it begins in its file, from 1; None if nobody looked, or the file has no lines.
    """

    number: int
    index: str
    designation: str
    description: str
    image: str
    top: tuple[tuple[int, float], ...]
    decision: str
    problem: str = ""
    line: int | None = None

    @property
    def probability(self) -> float:
        """Of the best answer; 0 if it was not scored."""
        return self.top[0][1] if self.top else 0.0

    @property
    def text(self) -> str:
        """What stands for the product in a table."""
        return shortened(self.designation or self.description or self.image)


@dataclass
class CatalogSummary:
    """What the page says of a scored catalog; of however many rows, only a few are kept.

    Attributes:
        rows: How many there are.
        accepted: Of them.
        failed: Of them: not scored.
        noted: Of them: with a problem, scored or not.
        per_category: prdtypecode to rows.
        first: The first rows.
        problems: The first rows with a problem.
        doubtful: The rows for a person to look at, the least certain first.
    """

    rows: int = 0
    accepted: int = 0
    failed: int = 0
    noted: int = 0
    per_category: dict[int, int] = field(default_factory=dict)
    first: list[ScoredRow] = field(default_factory=list)
    problems: list[ScoredRow] = field(default_factory=list)
    doubtful: list[ScoredRow] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[ScoredRow]) -> CatalogSummary:
        """Count rows as they come."""
        summary = cls()
        least_certain: list[tuple[float, int, ScoredRow]] = []
        for row in rows:
            summary.rows += 1
            if len(summary.first) < _SHOWN_ROWS:
                summary.first.append(row)
            if row.problem:
                summary.noted += 1
                if len(summary.problems) < _SHOWN_ROWS:
                    summary.problems.append(row)
            if not row.top:
                summary.failed += 1
                continue
            code = row.top[0][0]
            summary.per_category[code] = summary.per_category.get(code, 0) + 1
            if row.decision == ACCEPT:
                summary.accepted += 1
                continue
            heapq.heappush(least_certain, (-row.probability, -row.number, row))
            if len(least_certain) > _MAX_REVIEWED:
                heapq.heappop(least_certain)
        summary.doubtful = [row for _, _, row in sorted(least_certain, reverse=True)]
        return summary

    @property
    def to_review(self) -> int:
        """Rows that were scored but not accepted."""
        return self.rows - self.accepted - self.failed
