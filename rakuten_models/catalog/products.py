"""A row's cells as a product: its texts, its code, and its picture or the reason why it has none."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pyarrow

from rakuten_models.catalog.columns import Columns
from rakuten_models.catalog.image_store import PictureStore
from rakuten_models.errors import Message, ProductError

# A table that once had a gap writes 10 as 10.0; an apostrophe may keep a spreadsheet from calculating.
_CODE = re.compile(r"'?([+-]?\d{1,15})(?:\.0*)?")


def text_of(value: Any) -> str:
    """A cell as text: "" if it is empty, and 12 for 12.0, which a column of integers with gaps becomes."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def column_texts(table: pyarrow.Table, name: str | None) -> list[str]:
    """A column as texts, "" where it is empty or absent."""
    return [""] * len(table) if name is None else list(map(text_of, table.column(name).to_pylist()))


def code_of(value: Any) -> int | None:
    """A cell as a prdtypecode; None if it is no whole number of at most 15 digits."""
    found = _CODE.fullmatch(text_of(value).strip())
    return int(found.group(1)) if found else None


class PictureFinder:
    """Finds the pictures that a table's rows name.

    Args:
        columns: Which column is what.
        pictures: Where they are; None: names are not looked at, only bytes within the table.
    """

    def __init__(self, columns: Columns, pictures: PictureStore | None = None) -> None:
        """Nothing is looked up yet."""
        self._columns = columns
        self._pictures = pictures

    def cells(self, table: pyarrow.Table) -> list[tuple[Any, str, str]]:
        """What each row says of its picture: the image column's value, imageid and productid."""
        columns = self._columns
        images: Sequence[Any] = [None] * len(table)
        if columns.image is not None:
            images = table.column(columns.image).to_pylist()
        numbers = [column_texts(table, name) for name in (columns.imageid, columns.productid)]
        return list(zip(images, *numbers, strict=True))

    def find(self, value: Any, imageid: str, productid: str) -> tuple[Any, Message | None]:
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
            return None, error.message

    def find_all(
        self, cells: Sequence[tuple[Any, str, str]], problems: Sequence[Message | None]
    ) -> Iterator[tuple[Any, Message | None]]:
        """`find` for each row in order, or its problem if it has one; several at a time where that is worth it."""

        def find(row: int) -> tuple[Any, Message | None]:
            return (None, problems[row]) if problems[row] else self.find(*cells[row])

        ahead = self._pictures.ahead if self._pictures is not None else 1
        if ahead == 1:
            yield from map(find, range(len(cells)))
            return
        with ThreadPoolExecutor(ahead, thread_name_prefix="pictures") as threads:
            waiting: deque[Future[tuple[Any, Message | None]]] = deque()
            for row in range(len(cells)):
                waiting.append(threads.submit(find, row))
                if len(waiting) == ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
