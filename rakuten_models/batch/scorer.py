"""Scores a table of rows: the same rows with their predictions beside them, in the same order.

`TableScorer` is the whole work on one chunk and knows neither files nor progress, so that any engine which hands
out Arrow tables can run it. The columns it adds begin with `predicted_`; a catalog that already has one of them
(it was scored before) gets them as `predicted_2_`, and so on, so that no column of the catalog is ever changed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow

from rakuten_models.bundle.config import CONFIG_FILE
from rakuten_models.catalog.columns import Columns, has_pictures
from rakuten_models.catalog.image_store import (
    PICTURE_SECONDS,
    FolderPictures,
    UrlPictures,
    ZipPictures,
    open_pictures,
)
from rakuten_models.catalog.source import PROBLEM_COLUMN
from rakuten_models.classifier import CHUNK, ProductClassifier
from rakuten_models.errors import BatchError, ProductError
from rakuten_models.files import file_facts
from rakuten_models.inference.runtime import usable_cores
from rakuten_models.product import REVIEW, Prediction, Product

# Files of pictures that one thread holds in memory at a time, in bytes.
_PICTURE_BYTES = 32_000_000

# Finer differences mean nothing, and processors round them differently.
_DIGITS = 6

_NO_PICTURES = "The row has no text, and no pictures were given; give the images folder or ZIP file."

_PREDICTED = re.compile(r"predicted_(?:(\d+)_)?prdtypecode")


@dataclass(frozen=True)
class ScoreSettings:
    """What a scorer has to know beside the classifier.

    Attributes:
        columns: Which column is what.
        images: The pictures' folder, ZIP file or URL; None: their names are not looked at.
        top: How many of the most probable categories are written for each row, at least 1.
        prefix: Of the added columns, from `free_prefix`.
        picture_seconds: That one picture under a URL may take.
    """

    columns: Columns
    images: str | None = None
    top: int = 3
    prefix: str = "predicted_"
    picture_seconds: float = PICTURE_SECONDS


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
    for place in range(1, settings.top + 1):
        kinds[f"top_{place}_prdtypecode"] = pyarrow.int64()
        kinds[f"top_{place}_probability"] = pyarrow.float64()
    kinds |= {"bundle": pyarrow.string(), "error": pyarrow.string()}
    return [pyarrow.field(settings.prefix + name, kind) for name, kind in kinds.items()]


def free_prefix(names: Sequence[str], top: int) -> str:
    """The first of predicted_, predicted_2_, ... that makes no name which the catalog already has."""
    number = 1
    while True:
        prefix = "predicted_" if number == 1 else f"predicted_{number}_"
        added = {field.name for field in added_fields(ScoreSettings(Columns(), top=top, prefix=prefix))}
        if not added.intersection(names):
            return prefix
        number += 1


def last_prefix(names: Sequence[str]) -> str | None:
    """The prefix of the columns that were added last to a scored catalog; None if it is none."""
    numbers = [int(found.group(1) or 1) for name in names if (found := _PREDICTED.fullmatch(name))]
    if not numbers:
        return None
    return "predicted_" if max(numbers) == 1 else f"predicted_{max(numbers)}_"


def bundle_name(classifier: ProductClassifier) -> str:
    """The bundle's revision on the hub (40 hex digits), or for a folder sha256: and 16 digits of `bundle_digest`."""
    return classifier.revision or f"sha256:{bundle_digest(classifier)[:16]}"


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
        self._bundle = bundle_name(classifier)
        self._pictures: FolderPictures | ZipPictures | UrlPictures | None = None
        if settings.images is not None:
            if not has_pictures(settings.columns):
                raise BatchError(
                    f"No column says which of the pictures in {settings.images} belongs to a row; name the column with "
                    "the file names, or have imageid and productid."
                )
            self._pictures = open_pictures(settings.images, settings.picture_seconds)
        # While one group of rows is in a model, the texts of the next are cleaned and its pictures read.
        self._threads = ThreadPoolExecutor(min(8, usable_cores()), thread_name_prefix="batch")

    def __enter__(self) -> TableScorer:
        """The scorer itself, closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the threads and the pictures go."""
        self.close()

    def close(self) -> None:
        """Let the threads and the pictures go; rows that nobody has begun with are not scored any more."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        if self._pictures is not None:
            self._pictures.close()

    def __call__(self, table: pyarrow.Table, done: Callable[[int], None] | None = None) -> pyarrow.Table:
        """Score the rows of a table.

        Args:
            table: The catalog's columns, and optionally PROBLEM_COLUMN, in which a row that is not to be
                scored has the reason.
            done: Called with the number of rows whenever so many more have been scored; may raise to stop.

        Returns:
            The same columns without PROBLEM_COLUMN, and `added_fields` after them.
        """
        problems = [None] * len(table)
        if PROBLEM_COLUMN in table.column_names:
            problems = table.column(PROBLEM_COLUMN).to_pylist()
            table = table.drop_columns([PROBLEM_COLUMN])
        # The same groups whatever the number of threads: the same table gives the same result.
        order = self._by_length(table)
        groups = [order[start : start + CHUNK] for start in range(0, len(table), CHUNK)]
        futures = [
            self._threads.submit(self._group, table.take(group), [problems[row] for row in group])
            for group in groups
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
        for place, field in enumerate(added_fields(self._settings)):
            values = pyarrow.array([row[place] for row in rows], field.type)
            table = table.append_column(field, values)
        return table

    def _by_length(self, table: pyarrow.Table) -> list[int]:
        """The row numbers, those of short descriptions first.

        The text model takes a few products at a time, all as long as the longest of them: with its like beside it
        a short one costs a fraction, which doubles the speed and changes no answer.
        """
        lengths = [len(text) for text in self._texts(table, self._settings.columns.description)]
        return sorted(range(len(table)), key=lengths.__getitem__)

    def _group(self, table: pyarrow.Table, problems: Sequence[str | None]) -> list[list[Any]]:
        """The added values of at most CHUNK rows, in predict calls whose pictures fit into memory."""
        columns = self._settings.columns
        designations = self._texts(table, columns.designation)
        descriptions = self._texts(table, columns.description)
        pictures = self._picture_values(table)
        predictions: list[Prediction] = []
        held: list[Product] = []
        errors: list[str | None] = []
        size = 0
        for row, (problem, (image, error)) in enumerate(
            zip(problems, self._read_pictures(pictures, problems), strict=True)
        ):
            held.append(Product() if problem else Product(designations[row], descriptions[row], image))
            errors.append(error)
            size += len(image) if isinstance(image, bytes) else 0
            if size >= _PICTURE_BYTES:
                predictions += self._classifier.predict(held)
                held, size = [], 0
        if held:
            predictions += self._classifier.predict(held)
        rows = []
        for prediction, error, (value, *numbers) in zip(predictions, errors, pictures, strict=True):
            if error is None and prediction.category is None and self._pictures is None:
                error = _NO_PICTURES if value or all(numbers) else None
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

    def _texts(self, table: pyarrow.Table, name: str | None) -> list[str]:
        """A column as texts, "" where it is empty or absent."""
        if name is None:
            return [""] * len(table)
        return [text_of(value) for value in table.column(name).to_pylist()]

    def _picture_values(self, table: pyarrow.Table) -> list[tuple[Any, str, str]]:
        """For each row what it says of its picture: the image column's value, imageid and productid."""
        columns = self._settings.columns
        images: Sequence[Any] = [None] * len(table)
        if columns.image is not None:
            images = table.column(columns.image).to_pylist()
        numbers = [self._texts(table, name) for name in (columns.imageid, columns.productid)]
        return list(zip(images, *numbers, strict=True))

    def _read_pictures(
        self, pictures: Sequence[tuple[Any, str, str]], problems: Sequence[str | None]
    ) -> Iterator[tuple[Any, str | None]]:
        """`_picture` of each row in order, or its problem; some at a time where that is worth it."""

        def read(row: int) -> tuple[Any, str | None]:
            return (None, problems[row]) if problems[row] else self._picture(*pictures[row])

        ahead = self._pictures.ahead if self._pictures is not None else 1
        if ahead == 1:
            yield from map(read, range(len(pictures)))
            return
        with ThreadPoolExecutor(ahead, thread_name_prefix="pictures") as threads:
            waiting: deque[Future[tuple[Any, str | None]]] = deque()
            for row in range(len(pictures)):
                waiting.append(threads.submit(read, row))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _picture(self, value: Any, imageid: str, productid: str) -> tuple[Any, str | None]:
        """A row's picture as `Product.image` takes it, or None; and why it cannot be had."""
        if isinstance(value, dict):
            # As the Parquet files of many hub data sets hold a picture.
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) or self._pictures is None:
            return (value if isinstance(value, bytes) and value else None), None
        name = text_of(value).strip()
        try:
            if name:
                return self._pictures.named(name), None
            return self._pictures.by_numbers(imageid.strip(), productid.strip()), None
        except ProductError as error:
            return None, str(error)


def text_of(value: Any) -> str:
    """A cell as text: "" if it is empty, and 12 for 12.0, which a column of integers with gaps becomes."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)
