"""The files of a catalog: finds the one that holds the products, reads it and checks it.

Everything is read as text first, an empty cell as "": a product named "NaN" or "None" keeps its name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from training.errors import CatalogError

CHALLENGE_TRAIN_FILE, CHALLENGE_TEST_FILE = "X_train_update.csv", "X_test_update.csv"

CHALLENGE_LABEL_FILE = "Y_train_CVw08PX.csv"

ORIGIN_FILE = "origin.csv"

IMAGE_FOLDERS = {CHALLENGE_TRAIN_FILE: "images/image_train", CHALLENGE_TEST_FILE: "images/image_test"}

# The challenge's files leave the header of their index column empty, which pandas reads as "Unnamed: 0".
INDEX_COLUMNS = ("Unnamed: 0", "index", "id")

ORIGIN_COLUMNS = ("label_origin", "origin")

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")

_INTEGER = re.compile(r"[+-]?\d{1,15}(\.0*)?")  # a table that once had a gap writes 10 as 10.0


def catalog_file(path: Path) -> Path:
    """The file that holds the products: `path` itself or the one to use in the folder `path`."""
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".parquet"):
            raise CatalogError(
                f"{path} is not a catalog: expected a .csv or .parquet file, or a folder that holds one."
            )
        return path
    if not path.is_dir():
        raise CatalogError(f"{path} does not exist; give the catalog's folder, or its CSV or Parquet file.")
    for name in (CHALLENGE_TRAIN_FILE, CHALLENGE_TEST_FILE):
        if (path / name).is_file():
            return path / name
    files = sorted(
        file for file in path.iterdir() if file.suffix.lower() in (".csv", ".parquet") and file.is_file()
    )
    if len(files) == 1:
        return files[0]
    found = (
        f"it holds {len(files)}: {', '.join(file.name for file in files[:5])}"
        if files
        else "it holds none of them"
    )
    raise CatalogError(
        f"{path} is no catalog folder: expected {CHALLENGE_TRAIN_FILE}, {CHALLENGE_TEST_FILE} or exactly one "
        ".csv or .parquet file, "
        f"but {found}."
    )


def read_table(file: Path) -> pandas.DataFrame:
    """The products of a file in the challenge's layout, or of a single CSV or Parquet file.

    Returns:
        One row a product with the columns of `Catalog.table`, indexed as in the file; an image is the path
        that the file gives, or "" where the challenge's folder has no such file.

    Raises:
        CatalogError: A missing column, labels that do not match the rows, a repeated index, a code that is no
            integer, a URL for a picture, another format or encoding.
    """
    return _read_challenge(file) if file.name in IMAGE_FOLDERS else _read_single_file(file)


def _read_challenge(file: Path) -> pandas.DataFrame:
    folder = file.parent
    products = _with_identifiers(_read_csv(file), file, required=True)
    _require_columns(products, ("designation", "description", "productid", "imageid"), file)
    labels = origins = None
    if file.name == CHALLENGE_TRAIN_FILE:
        labels = _companion(folder / CHALLENGE_LABEL_FILE, ("prdtypecode",), products, file)
        origins = _companion(folder / ORIGIN_FILE, ("origin",), products, file)
    image_folder = folder / IMAGE_FOLDERS[file.name]
    # One listing of the folder instead of one look-up a row: 85,000 look-ups take minutes on a network disk.
    present = {entry.name for entry in image_folder.iterdir()} if image_folder.is_dir() else set()
    names = [
        f"image_{image}_product_{product}.jpg"
        for image, product in zip(products["imageid"], products["productid"], strict=True)
    ]
    images = [str(image_folder / name) if name in present else "" for name in names]
    return _table(products, images, labels, origins, folder / CHALLENGE_LABEL_FILE)


def _companion(
    file: Path, columns: Sequence[str], products: pandas.DataFrame, products_file: Path
) -> pandas.Series | None:
    """A column of a file beside the products', in the products' order; None if the file is absent."""
    if not file.is_file():
        return None
    table = _with_identifiers(_read_csv(file), file, required=True)
    _require_columns(table, columns, file)
    if len(table) != len(products):
        raise CatalogError(
            f"{file} has {len(table):,} rows but {products_file.name} has {len(products):,}; they must "
            "describe the same products."
        )
    unknown = table.index[~table.index.isin(products.index)]
    if len(unknown):
        raise CatalogError(
            f"{file} has the index {unknown[0]}, which {products_file.name} does not have; both must have "
            "the same rows."
        )
    return table[columns[0]].reindex(products.index)


def _read_single_file(file: Path) -> pandas.DataFrame:
    products = _read_csv(file) if file.suffix.lower() == ".csv" else _read_parquet(file)
    products = _with_identifiers(products, file, required=False)
    if "designation" not in products and "text" in products:
        # An export with the whole listing in one field.
        products = products.rename(columns={"text": "designation"})
    if "designation" not in products and "image" not in products:
        raise CatalogError(
            f"{file} has neither a column designation nor a column image; it has: "
            f"{', '.join(map(str, products.columns)) or 'none'}."
        )
    images = (
        _as_text(products["image"], file) if "image" in products else pandas.Series("", index=products.index)
    )
    urls = images[images.str.match(_URL)]
    if len(urls):
        raise CatalogError(
            f"{file}, row {urls.index[0]}: the image {urls.iloc[0]!r} is a URL; expected the path of a file "
            "- download the pictures first."
        )
    paths = [str(file.parent / image) if image else "" for image in images.str.strip()]
    origin = next((products[name] for name in ORIGIN_COLUMNS if name in products), None)
    return _table(products, paths, products.get("prdtypecode"), origin, file)


def _table(
    products: pandas.DataFrame,
    images: list[str],
    labels: pandas.Series | None,
    origins: pandas.Series | None,
    label_file: Path,
) -> pandas.DataFrame:
    table = pandas.DataFrame(index=products.index)
    for name in ("designation", "description"):
        table[name] = _as_text(products[name], label_file) if name in products else ""
    table["image"] = images
    table["prdtypecode"] = (
        pandas.array([pandas.NA] * len(table), dtype="Int64")
        if labels is None
        else _codes(labels, label_file)
    )
    table["origin"] = "" if origins is None else _as_text(origins, label_file).str.strip()
    origin = table["origin"].str.lower()
    own = (origin == "") | (origin == "own") | origin.str.startswith("gold")
    table["own_label"] = (own & table["prdtypecode"].notna()).astype(bool)
    return table[["designation", "description", "image", "prdtypecode", "own_label", "origin"]]


def _codes(values: pandas.Series, file: Path) -> pandas.Series:
    texts = values.astype("string").fillna("").str.strip()
    wrong = texts[(texts != "") & ~texts.str.fullmatch(_INTEGER)]
    if len(wrong):
        raise CatalogError(
            f"{file}, row {wrong.index[0]}: the prdtypecode {wrong.iloc[0]!r} is not an integer."
        )
    numbers = texts.str.replace(r"\.0*$", "", regex=True).replace("", pandas.NA)
    return pandas.to_numeric(numbers).astype("Int64")


def _read_csv(file: Path) -> pandas.DataFrame:
    """Every column as text, an empty cell as "": a product named "NaN" or "None" keeps its name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pandas.errors.ParserWarning
            )  # a row longer than the header loses a field
            return pandas.read_csv(file, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"{file} is not UTF-8 text (byte {error.start} cannot be read); save it as UTF-8."
        ) from error
    except pandas.errors.EmptyDataError as error:
        raise CatalogError(f"{file} is empty; expected a header line and one line a product.") from error
    except (pandas.errors.ParserError, pandas.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise CatalogError(f"{file} is not a CSV file with commas and one header line: {reason}") from error


def _read_parquet(file: Path) -> pandas.DataFrame:
    try:
        return pandas.read_parquet(file)
    except (ValueError, OSError) as error:  # pyarrow's own errors are both of these
        raise CatalogError(
            f"{file} is not a readable Parquet file: {' '.join(str(error).split())}"
        ) from error


def _with_identifiers(table: pandas.DataFrame, file: Path, *, required: bool) -> pandas.DataFrame:
    """The table indexed by its index column; a single file may have none and counts its rows from 0."""
    first = str(table.columns[0]) if len(table.columns) else ""
    if first not in INDEX_COLUMNS:
        if required:
            raise CatalogError(
                f"{file} has no index column: the first column's header must be empty, index or id, but it "
                f"is {first!r}."
            )
        return table.reset_index(drop=True)
    identifiers = table[first].astype(str)
    if identifiers.str.fullmatch(r"\d{1,15}").all():
        identifiers = identifiers.astype("int64")
    table = table.drop(columns=first).set_index(pandas.Index(identifiers, name="index"))
    if not table.index.is_unique:
        repeated = table.index[table.index.duplicated()][0]
        raise CatalogError(f"{file} has the index {repeated} twice; every product needs an index of its own.")
    return table


def _require_columns(table: pandas.DataFrame, names: Sequence[str], file: Path) -> None:
    missing = [name for name in names if name not in table]
    if missing:
        found = ", ".join(map(str, table.columns)) or "none"
        raise CatalogError(
            f"{file} has no column {' and no column '.join(missing)}; beside the index it has: {found}."
        )


def _as_text(values: pandas.Series, file: Path) -> pandas.Series:
    """A column as str, "" where it is empty (None or NaN, which only Parquet has)."""
    absent = values.isna()
    objects = [
        value for value in values[~absent].head(1000) if isinstance(value, (dict, list, bytes, np.ndarray))
    ]
    if objects:
        raise CatalogError(
            f"{file}: the column {values.name} holds {type(objects[0]).__name__} values; expected text (for "
            "image: a file path)."
        )
    return values.astype(str).mask(absent, "")
