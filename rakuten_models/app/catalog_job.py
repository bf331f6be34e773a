"""Scores an uploaded catalog at a visitor's threshold and gathers what the Catalog tab shows."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet

from rakuten_models.app.catalog_summary import CatalogSummary, ScoredRow
from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.batch import score_catalog
from rakuten_models.batch.evaluation import BatchMetrics, evaluate_scored, write_corrections
from rakuten_models.batch.progress import BatchProgress
from rakuten_models.batch.scorer import last_prefix
from rakuten_models.batch.settings import BatchSettings
from rakuten_models.catalog.columns import Columns
from rakuten_models.catalog.csv_writer import spreadsheet_safe_cell
from rakuten_models.catalog.products import text_of
from rakuten_models.catalog.source import CatalogSource, read_header
from rakuten_models.classifier import ProductClassifier
from rakuten_models.errors import BatchCancelled, Message, RakutenModelsError
from rakuten_models.product import Category

TOP = 3

_ROWS_AT_ONCE = 2000

# A scored file and the copy for its download, in sizes of the catalog, and in bytes besides.
_SCORED_SIZES = 4

_MIN_SIZE = 1_000_000

# So many rows' problems are kept with code and values, some 10 MB; those of later rows stay English sentences.
_MAX_NOTED = 20_000


@dataclass(frozen=True)
class ScoredCatalog:
    """A catalog that was scored.

    Attributes:
        output: The scored file.
        summary: What is in it.
        seconds: How long it took.
        rate: Rows a second.
        measures: Against the file's labels; None where it has none.
        unmeasured: Why its labels say nothing, None if they do, or there are none.
    """

    output: Path
    summary: CatalogSummary
    seconds: float
    rate: float
    measures: BatchMetrics | None = None
    unmeasured: Message | None = None

    def measured_categories(self, categories: Sequence[Category]) -> list[Category]:
        """The categories of the confusion matrix's rows and columns, in their order."""
        known = {category.prdtypecode: category for category in categories}
        codes = self.measures.prdtypecodes if self.measures is not None else ()
        return [known.get(code) or Category(-1, code) for code in codes]

    def counts(self) -> dict[str, Any]:
        """What `/classify_batch` says beside the file."""
        return {
            "rows": self.summary.rows,
            "scored": self.summary.rows - self.summary.failed,
            "failed": self.summary.failed,
            "to_review": self.summary.to_review,
            "seconds": round(self.seconds, 3),
        }


def recognise(source: Path) -> tuple[list[str], Columns]:
    """The column names of a catalog, and which is what.

    Raises:
        RakutenModelsError: The file cannot be read as a catalog.
    """
    with _named_as_uploaded(source):
        header = read_header(source)
    return list(header.names), header.columns


def score(
    classifier: ProductClassifier,
    source: Path,
    folder: Path,
    *,
    disk: DiskQuota,
    pictures: Path | None,
    columns: Columns,
    threshold: float | None,
    progress: Callable[[BatchProgress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ScoredCatalog:
    """Score a catalog into a folder.

    Args:
        classifier: Answers.
        source: The catalog, CSV or Parquet.
        folder: Where the scored file goes; a new, empty one, for what a cancelled run leaves would be taken up.
        disk: Says whether there is room for the scored file and its copy.
        pictures: A ZIP of the pictures; without one no picture is read, whatever paths the catalog names.
        columns: Which column is what.
        threshold: The least probability to accept, 0 to 1; None takes the bundle's.
        progress: Called as rows are done.
        cancelled: Asked now and then; True ends the work.

    Raises:
        RakutenModelsError: The catalog or the ZIP cannot be read, or there is no room.
        BatchCancelled: `cancelled` said so.
    """
    parquet = source.suffix.lower() == ".parquet"
    output = folder / (f"{source.stem}_scored" if parquet else f"{source.stem}_scored.csv")
    settings = BatchSettings(columns=columns, top=TOP, threshold=threshold, spreadsheet_safe=not parquet)
    measures = unmeasured = None
    with disk.reserve(_SCORED_SIZES * source.stat().st_size + _MIN_SIZE) as granted:
        if not granted:
            raise RakutenModelsError("app.no_room")
        problems: dict[int, Message] = {}

        def note(number: int, problem: Message) -> None:
            if len(problems) < _MAX_NOTED:
                problems[number] = problem

        with _named_as_uploaded(source, pictures):
            done = score_catalog(
                source,
                output,
                classifier=classifier,
                images=pictures,
                settings=settings,
                progress=progress,
                noted=note,
                cancelled=cancelled,
            )
            if not parquet:
                columns = _as_written(columns)
            summary = CatalogSummary.of(_scored_rows(output, columns, problems))
            lines = CatalogSource(source).lines_of({row.number for row in summary.problems})
        summary.problems = [replace(row, line=lines.get(row.number)) for row in summary.problems]
        if columns.label:
            try:
                with _named_as_uploaded(output):
                    measures = evaluate_scored(output, columns.label)
            except RakutenModelsError as error:
                # The rows are scored all the same.
                unmeasured = error.message
        file = _one_file(output) if parquet else output
    return ScoredCatalog(file, summary, done.seconds, done.rows_per_second, measures, unmeasured)


def _as_written(columns: Columns) -> Columns:
    """The same columns by their names in a file that no spreadsheet takes for formulas."""
    names = dataclasses.asdict(columns)
    return Columns(**{key: name and spreadsheet_safe_cell(name) for key, name in names.items()})


def write_labels(folder: Path, rows: Sequence[ScoredRow], corrections: Mapping[int, int]) -> Path | None:
    """Write what was picked, a prdtypecode by row number, as a labels file that training reads; None for nothing."""
    picked = [row for row in rows if row.number in corrections]
    if not picked:
        return None
    # Training takes an index only where each row has its own, and no address of a picture elsewhere.
    has_index = all(row.index for row in picked) and len({row.index for row in picked}) == len(picked)
    labels = [
        {
            **({"index": row.index} if has_index else {}),
            "designation": row.designation,
            "description": row.description,
            "image": "" if "://" in row.image else row.image,
            "prdtypecode": corrections[row.number],
        }
        for row in picked
    ]
    return write_corrections(folder / "corrections.csv", labels)


def _scored_rows(output: Path, columns: Columns, problems: Mapping[int, Message]) -> Iterator[ScoredRow]:
    """The rows of a scored file; a problem has its code and values as far as `problems` holds them."""
    scored = CatalogSource(output)
    prefix = last_prefix(scored.names)
    texts = (columns.index, columns.designation, columns.description, columns.image)
    top = [(f"{prefix}top_{rank}_prdtypecode", f"{prefix}top_{rank}_probability") for rank in range(1, TOP + 1)]
    decision, error = f"{prefix}decision", f"{prefix}error"
    needed = {*filter(None, texts), *itertools.chain(*top), decision, error}
    tables = (table.select(sorted(needed)).to_pylist() for table in scored.chunks(_ROWS_AT_ONCE))
    for number, row in enumerate(itertools.chain.from_iterable(tables), start=1):
        index, designation, description, image = (_text(row[name]) if name else "" for name in texts)
        answers = tuple(
            (int(row[code]), float(row[probability])) for code, probability in top if row[code] not in (None, "")
        )
        problem = problems.get(number, row[error] or "")
        yield ScoredRow(number, index, designation, description, image, answers, row[decision], problem)


def _text(value: Any) -> str:
    return "" if isinstance(value, (bytes, dict)) else text_of(value)


def _one_file(folder: Path) -> Path:
    """The Parquet parts of a folder as one file beside it."""
    parts = sorted(folder.glob("part-*.parquet"))
    path = folder.with_suffix(".parquet")
    schema = pyarrow.parquet.read_schema(parts[0])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        for part in parts:
            file.write_table(pyarrow.parquet.read_table(part))
    return path


@contextlib.contextmanager
def _named_as_uploaded(*files: Path | None) -> Iterator[None]:
    """Errors name a file as the visitor did, not by its path on this machine."""
    try:
        yield
    except BatchCancelled:
        raise
    except RakutenModelsError as error:
        values = dict(error.message.values)
        for file in filter(None, files):
            values |= {
                name: str(value).replace(str(file), file.name)
                for name, value in values.items()
                if isinstance(value, str | Path) and not isinstance(value, Message)
            }
        raise RakutenModelsError(error.code, **values) from error
