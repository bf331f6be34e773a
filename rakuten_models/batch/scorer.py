"""Scores a table of rows: the same rows with their predictions beside them, in the same order.

`TableScorer` is the whole work on one chunk and knows neither files nor progress, so that any engine which hands
out Arrow tables can run it. The columns it adds begin with `predicted_`; a catalog that already has one of them
(it was scored before) gets them as `predicted_2_`, and so on, so that no column of the catalog is ever changed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow

from rakuten_models.bundle.config import CONFIG_FILE
from rakuten_models.catalog.columns import Columns
from rakuten_models.catalog.image_store import PICTURE_SECONDS, open_pictures
from rakuten_models.catalog.products import PictureFinder, column_texts
from rakuten_models.catalog.source import PROBLEM_COLUMN
from rakuten_models.classifier import CHUNK, ProductClassifier
from rakuten_models.errors import BatchError, Message
from rakuten_models.files import file_facts
from rakuten_models.inference.runtime import usable_cores
from rakuten_models.product import REVIEW, Prediction, Product

# Files of pictures that one thread holds in memory at a time, in bytes.
_PICTURE_BYTES = 32_000_000

# Finer differences mean nothing, and processors round them differently.
_DIGITS = 6

_PREDICTED = re.compile(r"predicted_(?:(\d+)_)?prdtypecode")


@dataclass(frozen=True)
class ScoreSettings:
    """What a scorer has to know beside the classifier; see `BatchSettings`.

    Attributes:
        images: The pictures' folder, ZIP file or URL; None: their names are not looked at.
        prefix: Of the added columns, from `free_prefix`.
    """

    columns: Columns
    images: str | None = None
    top: int = 3
    threshold: float | None = None
    prefix: str = "predicted_"
    picture_seconds: float = PICTURE_SECONDS


class ScoredTable(NamedTuple):
    """A table with its predictions, and by row number from 0 why a row was not scored or its picture left out."""

    table: pyarrow.Table
    problems: Mapping[int, Message]


def added_fields(settings: ScoreSettings) -> list[pyarrow.Field]:
    """The columns that scoring adds, each with the settings' prefix.

    prdtypecode, category (its English name), probability (0 to 1, 6 decimals), decision (accept or review),
    image_weight (0 text only to 1 picture only), top_1_prdtypecode, top_1_probability, top_2_..., bundle, error.
    All but decision (review) and bundle are null where a row could not be scored; error says why, or why the
    picture of a row was left out.
    """
    kinds = {
        "prdtypecode": pyarrow.int64(),
        "category": pyarrow.string(),
        "probability": pyarrow.float64(),
        "decision": pyarrow.string(),
        "image_weight": pyarrow.float64(),
    }
    for rank in range(1, settings.top + 1):
        kinds[f"top_{rank}_prdtypecode"] = pyarrow.int64()
        kinds[f"top_{rank}_probability"] = pyarrow.float64()
    kinds |= {"bundle": pyarrow.string(), "error": pyarrow.string()}
    return [pyarrow.field(settings.prefix + name, kind) for name, kind in kinds.items()]


def free_prefix(names: Sequence[str], top: int) -> str:
    """The first of predicted_, predicted_2_, ... that makes no name which the catalog already has."""
    for number in itertools.count(1):
        prefix = _prefix(number)
        added = {field.name for field in added_fields(ScoreSettings(Columns(), top=top, prefix=prefix))}
        if not added.intersection(names):
            break
    return prefix


def last_prefix(names: Sequence[str]) -> str | None:
    """The prefix of the columns that were added last to a scored catalog; None if it is none."""
    numbers = [int(found.group(1) or 1) for name in names if (found := _PREDICTED.fullmatch(name))]
    return _prefix(max(numbers)) if numbers else None


def _prefix(number: int) -> str:
    return "predicted_" if number == 1 else f"predicted_{number}_"


def bundle_digest(classifier: ProductClassifier) -> str:
    """The sha256 (64 hex digits) of the bundle's config.json, which holds those of the other files."""
    return str(file_facts(classifier.folder / CONFIG_FILE)["sha256"])


class TableScorer:
    """Scores tables with one classifier; safe to use from several threads.

    Args:
        classifier: Answers.
        settings: Columns, pictures and what is written.

    Raises:
        BatchError: The pictures cannot be opened, or no column names them.
    """

    def __init__(self, classifier: ProductClassifier, settings: ScoreSettings) -> None:
        """Open the pictures."""
        self._classifier = classifier
        self._settings = settings
        self._bundle = classifier.revision or f"sha256:{bundle_digest(classifier)[:16]}"
        if settings.images is not None and not settings.columns.has_pictures:
            raise BatchError("batch.no_picture_column", images=settings.images)
        self._pictures = None if settings.images is None else open_pictures(settings.images, settings.picture_seconds)
        self._finder = PictureFinder(settings.columns, self._pictures)
        # While one group of rows is in a model, the texts of the next are cleaned and its pictures read.
        self._threads = ThreadPoolExecutor(min(8, usable_cores()), thread_name_prefix="batch")

    def __enter__(self) -> TableScorer:
        """The scorer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads and the pictures go; rows that nobody has begun with are not scored any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._pictures is not None:
            self._pictures.close()

    def __call__(self, table: pyarrow.Table, done: Callable[[int], None] | None = None) -> ScoredTable:
        """Score the rows of a table.

        Args:
            table: The catalog's columns, and optionally PROBLEM_COLUMN, in which a row that is not to be
                scored has the reason.
            done: Called with the number of rows whenever so many more have been scored; may raise to stop.

        Returns:
            The same columns without PROBLEM_COLUMN, and `added_fields` after them.
        """
        problems: list[Message | None] = [None] * len(table)
        if PROBLEM_COLUMN in table.column_names:
            texts = table.column(PROBLEM_COLUMN).to_pylist()
            problems = [text and Message.from_json(text) for text in texts]
            table = table.drop_columns([PROBLEM_COLUMN])
        # The same groups whatever the number of threads: the same table gives the same result.
        order = self._by_length(table)
        groups = [order[start : start + CHUNK] for start in range(0, len(table), CHUNK)]
        futures = [
            self._threads.submit(self._group, table.take(group), [problems[row] for row in group]) for group in groups
        ]
        rows: list[list[Any]] = [[]] * len(table)
        try:
            for group, future in zip(groups, futures, strict=True):
                for row, values in zip(group, future.result(), strict=True):
                    rows[row] = values
                if done is not None:
                    done(len(group))
        finally:
            for future in futures:
                future.cancel()
        for index, field in enumerate(added_fields(self._settings)):
            table = table.append_column(field, pyarrow.array([row[index] for row in rows], field.type))
        return ScoredTable(table, {number: row[-1] for number, row in enumerate(rows) if row[-1] is not None})

    def _by_length(self, table: pyarrow.Table) -> list[int]:
        """The row numbers, those of short descriptions first.

        The text model takes a few products at a time, all as long as the longest of them: with its like beside it
        a short one costs a fraction, which doubles the speed and changes no answer.
        """
        lengths = [len(text) for text in column_texts(table, self._settings.columns.description)]
        return sorted(range(len(table)), key=lengths.__getitem__)

    def _group(self, table: pyarrow.Table, problems: Sequence[Message | None]) -> list[list[Any]]:
        """The added values of at most CHUNK rows, in predict calls whose pictures fit into memory."""
        columns = self._settings.columns
        designations = column_texts(table, columns.designation)
        descriptions = column_texts(table, columns.description)
        cells = self._finder.cells(table)
        predictions: list[Prediction] = []
        waiting: list[Product] = []
        errors: list[Message | None] = []
        size = 0
        for row, (image, error) in enumerate(self._finder.find_all(cells, problems)):
            waiting.append(Product() if problems[row] else Product(designations[row], descriptions[row], image))
            errors.append(error)
            size += len(image) if isinstance(image, bytes) else 0
            if size >= _PICTURE_BYTES or row == len(cells) - 1:
                predictions += self._classifier.predict(waiting, threshold=self._settings.threshold)
                waiting, size = [], 0
        rows = []
        for prediction, error, (value, *numbers) in zip(predictions, errors, cells, strict=True):
            if error is None and prediction.category is None and self._pictures is None:
                error = Message("batch.row_no_pictures_given") if value or all(numbers) else None
            rows.append(self._row(prediction, error or prediction.error))
        return rows

    def _row(self, prediction: Prediction, error: str | None) -> list[Any]:
        top = prediction.top(self._settings.top)
        best: list[Any] = [None, None, None, REVIEW, None]
        category, probability, weight = prediction.category, prediction.probability, prediction.image_weight
        if category is not None and probability is not None and weight is not None:
            best = [
                category.prdtypecode,
                category.name("en"),
                round(probability, _DIGITS),
                prediction.decision,
                round(weight, _DIGITS),
            ]
        pairs: list[int | float | None] = [
            value for other, each in top for value in (other.prdtypecode, round(each, _DIGITS))
        ]
        pairs += [None] * (2 * self._settings.top - len(pairs))
        return [*best, *pairs, self._bundle, error]
