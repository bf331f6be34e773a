"""What a batch run is asked to do, and what it reads."""

from __future__ import annotations

from dataclasses import dataclass

from rakuten_models.catalog.columns import Columns
from rakuten_models.catalog.image_store import PICTURE_SECONDS
from rakuten_models.errors import BatchError

# Rows that a kill can cost at most, and rows of one Parquet part.
CHUNK_ROWS = 2048

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class BatchSettings:
    """How a catalog is scored.

    Attributes:
        columns: Which column is what; None recognises them by name. Given columns are taken as they are, save that
            productid and imageid are recognised where no image column is given.
        label_column: The column with the true codes, for `evaluate_scored`.
        top: How many of the most probable categories to write for each row, at least 1.
        threshold: The least probability to accept, 0 to 1; None takes the bundle's.
        spreadsheet_safe: In a CSV output, put an apostrophe before texts that a spreadsheet would take for formulas.
            Off, every value stays exactly as it was.
        overwrite: Replace an output that is finished or of another run.
        chunk_rows: Rows of a Parquet part, and rows that a kill can cost at most.
        picture_seconds: That one picture under a URL may take, more than 0.
        engine: "local", which is this process; or "ray", Ray Data on this machine or a cluster (`batch/ray_data`). The
            output is the same, and either goes on where the other was stopped.
        address: Of the Ray cluster; None: one of this machine's own.
        workers: Ray actors that score; None: by the cluster's size.
    """

    columns: Columns | None = None
    label_column: str | None = None
    top: int = 3
    threshold: float | None = None
    spreadsheet_safe: bool = False
    overwrite: bool = False
    chunk_rows: int = CHUNK_ROWS
    picture_seconds: float = PICTURE_SECONDS
    engine: str = "local"
    address: str | None = None
    workers: int | None = None

    def check(self) -> None:
        """Refuse numbers out of range, and an engine that is none.

        Raises:
            BatchError: Names the setting.
        """
        if self.top < 1 or self.chunk_rows < 1:
            raise BatchError("batch.less_than_one", top=self.top, chunk_rows=self.chunk_rows)
        if self.engine not in ENGINES:
            raise BatchError("batch.no_such_engine", engine=self.engine, known=" or ".join(ENGINES))
        if self.engine != "ray" and (self.address is not None or self.workers is not None):
            raise BatchError("batch.cluster_for_local")
        if (self.workers is not None and self.workers < 1) or self.picture_seconds <= 0:
            raise BatchError("batch.cluster_out_of_range", workers=self.workers, seconds=self.picture_seconds)
