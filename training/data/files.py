"""The files of a catalog as a table for training: products, codes and where each code comes from.

`rakuten_models.catalog` reads them, as it does for batch: every format, column and picture name that is known there
is known here. A row that cannot be trusted is left out and counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from rakuten_models.catalog.columns import (
    Columns,
    add_column_options,
    check_columns,
    chosen_columns,
    find_column,
    recognise_columns,
)
from rakuten_models.catalog.image_store import FolderPictures, numbered_name, open_pictures
from rakuten_models.catalog.locations import CHALLENGE_FILES, is_url
from rakuten_models.catalog.products import PictureFinder, code_of, column_texts
from rakuten_models.catalog.source import PROBLEM_COLUMN, CatalogSource
from rakuten_models.errors import CatalogError, Message

CHALLENGE_TRAIN_FILE, CHALLENGE_TEST_FILE = CHALLENGE_FILES

CHALLENGE_LABEL_FILE = "Y_train_CVw08PX.csv"

ORIGIN_FILE = "origin.csv"

IMAGE_FOLDERS = {CHALLENGE_TRAIN_FILE: "images/image_train", CHALLENGE_TEST_FILE: "images/image_test"}

ORIGIN_COLUMNS = ("label_origin", "origin")

_REQUIRED = ("designation", "description", "productid", "imageid")

_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class ReaderSettings:
    """How a catalog's files are understood.

    Attributes:
        columns: By what they hold (designation, description, image, label), columns that have another name.
        images: The folder of the pictures; None: the challenge's own, or the catalog's folder.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    images: str | Path | None = None


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Let a command's user say how a catalog is to be read; see `reader_settings`."""
    add_column_options(parser)
    parser.add_argument(
        "--images", metavar="DIR", help="the pictures' folder (default: the challenge's, or the catalog's folder)"
    )


def reader_settings(options: argparse.Namespace) -> ReaderSettings:
    """What the options of `add_reader_options` say."""
    return ReaderSettings(chosen_columns(options), options.images)


@dataclass(frozen=True, eq=False)
class CatalogTable:
    """What is in a catalog's files.

    Attributes:
        rows: See `Catalog.table`.
        left_out: See `Catalog`.
        missing_pictures: By name in the catalog, why a picture cannot be had.
    """

    rows: pandas.DataFrame
    left_out: Sequence[Message]
    missing_pictures: Mapping[str, Message]


def read_table(source: str | Path, settings: ReaderSettings, *, check_images: bool) -> CatalogTable:
    """The products of a catalog: the challenge's layout, or whatever `CatalogSource` reads.

    Args:
        source: A file, a folder or a glob.
        settings: Its columns and pictures.
        check_images: False takes the pictures' names for paths without looking for them.

    Raises:
        CatalogError: See `training.data.catalog.read_catalog`.
    """
    catalog = CatalogSource(source)
    file = catalog.files[0]
    columns = recognise_columns(catalog.names, settings.columns)
    if file.name in IMAGE_FOLDERS:
        _require(catalog, [name for name in _REQUIRED if getattr(columns, name) is None])
    check_columns(columns, catalog.names)
    origin = find_column(catalog.names, ORIGIN_COLUMNS)
    cells = PictureFinder(columns).cells
    find = _image_finder(catalog, columns, settings, check_images=check_images)
    texts = {
        "index": columns.index,
        "designation": columns.designation,
        "description": columns.description,
        "label": columns.label,
        "origin": origin,
    }
    rows: dict[str, list[Any]] = {name: [] for name in (*texts, "image", "problem")}
    missing: dict[str, Message] = {}
    for table in catalog.chunks(_ROWS_AT_ONCE):
        for name, column in texts.items():
            rows[name] += column_texts(table, column)
        problems = table.column(PROBLEM_COLUMN).to_pylist()
        rows["problem"] += problems
        for cell, bad in zip(cells(table), problems, strict=True):
            image, problem = (None, None) if bad else find(*cell)
            if isinstance(image, bytes):
                kind = type(cell[0]).__name__
                raise CatalogError("training.column_no_text", file=file, column=columns.image, kind=kind)
            if problem is not None:
                missing[str(problem.values["name"])] = problem
            rows["image"].append(image or "")
    products = pandas.DataFrame(rows, index=rows["index"], dtype=object)
    label_file = file
    if file.name == CHALLENGE_TRAIN_FILE:
        label_file, origin_file = file.with_name(CHALLENGE_LABEL_FILE), file.with_name(ORIGIN_FILE)
        for name, companion, column in (("label", label_file, "prdtypecode"), ("origin", origin_file, "origin")):
            if companion.is_file():
                _join(products, name, companion, column, file)
    good = products["problem"].isna()
    left_out = [Message.from_json(text) for text in products["problem"][~good]]
    products = _indexed(products[good], file, columns.index)
    return CatalogTable(_table(products, label_file), left_out, missing)


def _require(catalog: CatalogSource, missing: Sequence[str]) -> None:
    """The challenge's files have an index and all columns."""
    file, first = catalog.files[0], catalog.names[0]
    if recognise_columns(catalog.names).index is None:
        raise CatalogError("training.no_index_column", file=file, first=first)
    if missing:
        found = ", ".join(catalog.names[1:]) or "none"
        raise CatalogError(
            "training.columns_missing", file=file, missing=" and no column ".join(missing), columns=found
        )


def _image_finder(
    catalog: CatalogSource, columns: Columns, settings: ReaderSettings, *, check_images: bool
) -> Callable[[Any, str, str], tuple[Any, Message | None]]:
    """What finds a picture's path by what its row says; see `PictureFinder.find`."""
    file = catalog.files[0]
    if file.name in IMAGE_FOLDERS and settings.images is None:
        folder = file.parent / IMAGE_FOLDERS[file.name]
        # One listing of the folder instead of one look-up a row: 85,000 look-ups take minutes on a network disk.
        present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()

        def listed(_: Any, imageid: str, productid: str) -> tuple[Any, Message | None]:
            name = numbered_name(imageid, productid)
            return (str(folder / name) if name in present else None), None

        return listed
    if not check_images:
        folder = Path(settings.images or file.parent)
        return lambda value, *_: (str(folder / value) if isinstance(value, str) and value else None, None)
    pictures = None
    if settings.images is not None:
        pictures = open_pictures(settings.images)
        if not isinstance(pictures, FolderPictures):
            pictures.close()
            raise CatalogError("training.images_no_folder", images=settings.images)
    elif not is_url(file):
        pictures = FolderPictures(catalog.folder or file.parent)
    return PictureFinder(columns, pictures).find


def _join(products: pandas.DataFrame, name: str, file: Path, column: str, products_file: Path) -> None:
    """Fill a column of the products from a file beside theirs; products whose row there is bad get its problem."""
    catalog = CatalogSource(file)
    _require(catalog, [] if column in catalog.names else [column])
    names = (catalog.names[0], column, PROBLEM_COLUMN)
    tables = list(catalog.chunks(_ROWS_AT_ONCE))
    index, values, problems = ([text for table in tables for text in column_texts(table, each)] for each in names)
    found = pandas.Series(values, index, dtype=object)[[not problem for problem in problems]]
    _check_unique(found.index, file)
    if len(values) != len(products):
        raise CatalogError(
            "training.other_row_count",
            file=file,
            products_file=products_file.name,
            rows=len(values),
            expected=len(products),
        )
    unknown = found.index[~found.index.isin(products.index)]
    if len(unknown):
        raise CatalogError("training.unknown_index", file=file, index=unknown[0], products_file=products_file.name)
    products[name] = products.index.map(found)
    bad = products[name].isna() & products["problem"].isna()
    products.loc[bad, "problem"] = next(filter(None, problems), None)


def _indexed(products: pandas.DataFrame, file: Path, column: str | None) -> pandas.DataFrame:
    """The products by their index column, as numbers if it holds nothing else; without one, counted from 0."""
    if column is None:
        return products.reset_index(drop=True)
    index = pandas.Index(products["index"], name="index", dtype=object)
    if index.str.fullmatch(r"\d{1,15}").all():
        index = index.astype("int64")
    _check_unique(index, file)
    return products.set_index(index)


def _check_unique(index: pandas.Index, file: Path) -> None:
    if not index.is_unique:
        raise CatalogError("training.index_twice", file=file, index=index[index.duplicated()][0])


def _table(products: pandas.DataFrame, label_file: Path) -> pandas.DataFrame:
    table = products[["designation", "description", "image"]].astype("str")
    labels = products["label"].str.strip()
    codes = pandas.Series([code_of(label) for label in labels], table.index, dtype="Int64")
    wrong = labels[(labels != "") & codes.isna()]
    if len(wrong):
        raise CatalogError("training.code_no_integer", file=label_file, row=wrong.index[0], prdtypecode=wrong.iloc[0])
    table["prdtypecode"] = codes
    origins = products["origin"].astype("str").str.strip()
    gold = origins.str.fullmatch(r"(?s:own|gold.*)?", case=False)
    table["gold_label"] = (gold & codes.notna()).astype(bool)
    table["origin"] = origins
    return table
