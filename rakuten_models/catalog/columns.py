"""Which column of a catalog is what: recognised by the challenge's names, or chosen by the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from rakuten_models.errors import BatchError

# By what a column holds, the names it is known by, the best first.
_KNOWN_NAMES = {
    "designation": ("designation", "title", "text"),
    "description": ("description",),
    "image": ("image",),
    "label": ("prdtypecode",),
    "productid": ("productid",),
    "imageid": ("imageid",),
}

# The challenge's files leave the header of their index column empty.
_INDEX_NAMES = ("", "index", "id", "Unnamed: 0")


@dataclass(frozen=True)
class Columns:
    """Which column of a catalog is what; None for what it does not have.

    Attributes:
        designation: The title, or the whole listing in one field.
        description: The longer text.
        image: The picture's file name or path within the images folder; in Parquet also its bytes.
        label: The true prdtypecode.
        productid: With `imageid`, names the challenge's pictures.
        imageid: See `productid`.
        index: What identifies a row.
    """

    designation: str | None = None
    description: str | None = None
    image: str | None = None
    label: str | None = None
    productid: str | None = None
    imageid: str | None = None
    index: str | None = None


def recognise_columns(names: Sequence[str]) -> Columns:
    """Which column is what, by the challenge's names.

    designation (or title, or text), description, image, prdtypecode, productid, imageid, and as index the
    first column if its header is empty, index or id. Letter case does not matter where the exact name is absent.
    """
    folded = {name.strip().casefold(): name for name in reversed(names)}
    found: dict[str, str] = {}
    for field, known in _KNOWN_NAMES.items():
        exact = next((name for name in known if name in names), None)
        name = exact if exact is not None else next((folded[each] for each in known if each in folded), None)
        if name is not None:
            found[field] = name
    if names and names[0] in _INDEX_NAMES:
        found["index"] = names[0]
    return Columns(**found)


def check_columns(columns: Columns, names: Sequence[str]) -> None:
    """Refuse columns that the catalog does not have, and a choice without anything to classify.

    Raises:
        BatchError: Names what is missing and what is there.
    """
    there = ", ".join(repr(name) for name in names) or "none"
    for field in fields(columns):
        name = getattr(columns, field.name)
        if name is not None and name not in names:
            raise BatchError(f"The catalog has no column {name!r} ({field.name}); it has: {there}.")
    if not has_product(columns):
        raise BatchError(
            f"No column holds a designation, a description or a picture; say which one does: {there}."
        )


def has_product(columns: Columns) -> bool:
    """Whether any column holds something to classify."""
    texts = (columns.designation, columns.description)
    return any(name is not None for name in texts) or has_pictures(columns)


def has_pictures(columns: Columns) -> bool:
    """Whether the columns say which picture belongs to a row."""
    return columns.image is not None or (columns.imageid is not None and columns.productid is not None)
