"""Which column of a catalog is what: recognised by the challenge's names, or chosen by the caller."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rakuten_models.errors import CatalogError

# By what a column holds, the names it is known by, the best first.
_KNOWN_NAMES = {
    "designation": ("designation", "title", "text"),
    "description": ("description",),
    "image": ("image",),
    "label": ("prdtypecode",),
    "productid": ("productid",),
    "imageid": ("imageid",),
}

# The challenge's files leave the header of their index column empty, which pandas writes as "Unnamed: 0".
INDEX_NAMES = ("", "index", "id", "Unnamed: 0")

_OPTIONS = {
    "designation": "the column of the designation, if not so named",
    "description": "the column of the description, if not so named",
    "image": "the column of the image, if not so named",
    "label": "the column of the true codes (default: prdtypecode)",
}


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
        index: Identifies a row.
    """

    designation: str | None = None
    description: str | None = None
    image: str | None = None
    label: str | None = None
    productid: str | None = None
    imageid: str | None = None
    index: str | None = None

    @property
    def has_pictures(self) -> bool:
        """Whether they say which picture belongs to a row."""
        return self.image is not None or (self.imageid is not None and self.productid is not None)

    @property
    def has_product(self) -> bool:
        """Whether any holds something to classify."""
        return self.designation is not None or self.description is not None or self.has_pictures


def find_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of some known names among a catalog's, spelt so if possible, else in any letter case."""
    folded = {name.strip().casefold(): name for name in reversed(names)}
    exact = (name for name in known if name in names)
    return next(exact, None) or next((folded[name] for name in known if name in folded), None)


def recognise_columns(names: Sequence[str], chosen: Mapping[str, str] | None = None) -> Columns:
    """Which column is what, by the challenge's names.

    designation (or title, or text), description, image, prdtypecode, productid, imageid, and as index the
    first column if its header is empty, index or id. Letter case does not matter where the exact name is absent.

    Args:
        names: The catalog's.
        chosen: By field of `Columns`, names that are taken as they are.
    """
    found = {field: find_column(names, known) for field, known in _KNOWN_NAMES.items()}
    if names and names[0] in INDEX_NAMES:
        found["index"] = names[0]
    return Columns(**{**found, **(chosen or {})})


def check_columns(columns: Columns, names: Sequence[str]) -> None:
    """Refuse columns that the catalog does not have, and a choice without anything to classify.

    Raises:
        CatalogError: Names what is missing and what is there.
    """
    there = ", ".join(map(repr, names)) or "none"
    for role, name in dataclasses.asdict(columns).items():
        if name is not None and name not in names:
            raise CatalogError("catalog.column_missing", name=name, role=role, columns=there)
    if not columns.has_product:
        raise CatalogError("catalog.no_product_column", columns=there)


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Let a command's user choose columns: --designation-column and so on; see `chosen_columns`."""
    for field, text in _OPTIONS.items():
        parser.add_argument(f"--{field}-column", metavar="NAME", help=text)


def chosen_columns(options: argparse.Namespace) -> dict[str, str]:
    """What the options of `add_column_options` say, for `recognise_columns`."""
    given = {field: getattr(options, f"{field}_column") for field in _OPTIONS}
    return {field: name for field, name in given.items() if name is not None}
