"""Reads a catalog - the challenge's own layout, or one CSV or Parquet file - and says what is in it.

A catalog is a table of products. Rows without a picture, without a text or with an unreadable picture are
taken as they are and counted; what would make the whole catalog meaningless (labels of another length, a
repeated index, a code that is no integer) is an error of one sentence.

Labels: a row's `origin` (origin.csv, or a column label_origin or origin) says where its label comes from.
Empty, `own`, and everything that starts with `gold` mean the catalog's own label; every other value
(`silver`, `predicted`, a model's name) means a label made by something else: such a row may train, but
nothing is ever judged on it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from rakuten_models.preprocessing.image import MAX_PIXELS, PICTURE_FORMATS
from rakuten_models.preprocessing.text import has_text
from rakuten_models.product import Category, Product
from training.data.files import CHALLENGE_LABEL_FILE, CHALLENGE_TRAIN_FILE, catalog_file, read_table
from training.errors import CatalogError

NAMES_FILE = Path(__file__).with_name("category_names.csv")

_MARKUP = re.compile(r"<[^>]*>?|&[^;\s]*;?")

_WORD = re.compile(r"[^\W_]{3}")

_INVISIBLE = re.compile("<(script|style)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Catalog:
    """Products and what is known about them.

    Attributes:
        table: One row a product, its index as in the file. Columns: designation and description (str, "" if
            absent), image (str, path of a file that was there and looked readable, else ""), prdtypecode
            (Int64, <NA> without a label), own_label (bool: a label, and the catalog's own), origin (str, as
            in the file).
        source: The file or folder it was read from.
        unreadable_images: Paths of pictures that are no readable file; their rows have image "".
        rows_in_file: Rows before `limit`.
    """

    table: pandas.DataFrame
    source: str
    unreadable_images: tuple[str, ...] = ()
    rows_in_file: int = 0

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.table)

    @cached_property
    def has_text(self) -> np.ndarray:
        """Bool (rows,): the row has a text, as `rakuten_models.preprocessing.text.has_text` sees it."""
        texts = zip(self.table["designation"].tolist(), self.table["description"].tolist(), strict=True)
        return np.array([_has_text(designation, description) for designation, description in texts])

    @property
    def has_image(self) -> np.ndarray:
        """Bool (rows,): the row has a picture."""
        filled: np.ndarray = (self.table["image"] != "").to_numpy(dtype=bool)
        return filled

    def products(self) -> list[Product]:
        """The rows as products, in order; a row without a picture has image None."""
        columns = (self.table[name].tolist() for name in ("designation", "description", "image"))
        return [
            Product(designation, description, image or None)
            for designation, description, image in zip(*columns, strict=True)
        ]

    def fingerprint(self) -> str:
        """SHA-256 of every row's index, texts, code, origin and picture's file name, not of its pixels."""
        digest = hashlib.sha256()
        for values in (self.table.index, *(self.table[name] for name in self.table.columns)):
            texts = [str(value) for value in values.tolist()]
            if values.name == "image":  # the same catalog in another folder is the same catalog
                texts = [Path(text).name for text in texts]
            digest.update("\x1f".join(texts).encode("utf-8", "surrogatepass") + b"\x1e")
        return digest.hexdigest()

    def summary(self) -> str:
        """Several lines for a person: how many rows have what, and how many rows each category has."""
        table, text, image = self.table, self.has_text, self.has_image
        labelled = table["prdtypecode"].notna().to_numpy()
        own = table["own_label"].to_numpy()
        shown = f" (a subset of {self.rows_in_file:,})" if self.rows_in_file > len(table) else ""
        lines = [
            f"catalog {self.source}: {len(table):,} rows{shown}",
            f"  with text {text.sum():,}, with a picture {image.sum():,}, with both "
            f"{(text & image).sum():,}, "
            f"with neither {(~text & ~image).sum():,}",
        ]
        if self.unreadable_images:
            names = ", ".join(Path(path).name for path in self.unreadable_images[:3])
            more = ", ..." if len(self.unreadable_images) > 3 else ""
            lines.append(
                f"  unreadable pictures {len(self.unreadable_images):,}, their rows count as without one: "
                f"{names}{more}"
            )
        others = table["origin"][labelled & ~own].value_counts()
        other_origins = ", ".join(f"{count:,} {origin}" for origin, count in others.items())
        lines.append(
            f"  own labels {own.sum():,} ({(own & text & image).sum():,} of them with text and picture), "
            f"labels of another origin {(labelled & ~own).sum():,}"
            + (f" ({other_origins})" if other_origins else "")
            + f", without a label {(~labelled).sum():,}"
        )
        if labelled.any():
            counts = table["prdtypecode"].dropna().value_counts().sort_index()
            lines.append(
                f"  {len(counts)} categories, the smallest {counts.idxmin()} with {counts.min():,} rows:"
            )
            parts = [f"{code}: {count:,}" for code, count in counts.items()]
            lines += ["    " + "  ".join(parts[start : start + 9]) for start in range(0, len(parts), 9)]
        return "\n".join(lines)


def read_catalog(
    catalog_dir_or_file: str | Path, *, limit: int | None = None, seed: int = 0, check_images: bool = True
) -> Catalog:
    """Reads a catalog and checks it.

    Args:
        catalog_dir_or_file: A folder in the challenge's layout (X_train_update.csv, optional
            Y_train_CVw08PX.csv, optional origin.csv,
            images/image_train/image_<imageid>_product_<productid>.jpg; with X_test_update.csv alone, the
            unlabelled test part and images/image_test); one of those two X files; or a CSV or Parquet file,
            or a folder with exactly one, with the columns designation and/or image (a file path, relative to
            the file's folder or absolute; a column text
            stands for designation), and optionally description, prdtypecode, label_origin (or origin).
        limit: Keep only so many rows: every category first, then in proportion; the same rows for the same
            seed.
        seed: Chooses the rows that `limit` keeps.
        check_images: Opens each picture's header; one that is missing, empty, no picture or over 50
            megapixels is counted as unreadable and its row is taken as one without a picture. False trusts
            the paths.

    Raises:
        CatalogError: A missing file or column, labels that do not match the rows, a repeated index, a code
            that is no integer, a URL for a picture, no rows, only one category, a file in another format or
            encoding.
    """
    path = Path(catalog_dir_or_file)
    file = catalog_file(path)
    table = read_table(file)
    if not len(table):
        raise CatalogError(f"{file} holds no rows; a catalog needs at least one product.")
    codes = table["prdtypecode"].dropna().unique()
    if len(codes) == 1:
        raise CatalogError(
            f"{file}: every label is category {codes[0]}; a catalog needs at least two categories to tell "
            "apart, "
            "or no labels at all."
        )
    rows_in_file = len(table)
    if limit is not None:
        table = _subset(table, limit, seed)
    unreadable: tuple[str, ...] = ()
    if check_images:
        table, unreadable = _without_unreadable_images(table)
    return Catalog(table, str(path), unreadable, rows_in_file)


def read_texts(catalog_dir_or_file: str | Path, *, limit: int | None = None) -> list[Product]:
    """The products of a catalog that have a text, with or without a label; pictures are not looked at.

    Args:
        catalog_dir_or_file: As for `read_catalog`.
        limit: As for `read_catalog`.

    Raises:
        CatalogError: As `read_catalog`.
    """
    catalog = read_catalog(catalog_dir_or_file, limit=limit, check_images=False)
    return [product for product, legible in zip(catalog.products(), catalog.has_text, strict=True) if legible]


def category_list(catalog: Catalog) -> tuple[Category, ...]:
    """The catalog's categories by ascending code, with their English and French names.

    A code that category_names.csv does not have is its own name.

    Raises:
        CatalogError: The catalog has no labels.
    """
    codes = sorted(int(code) for code in catalog.table["prdtypecode"].dropna().unique())
    if not codes:
        raise CatalogError(
            f"{catalog.source} has no labels; put {CHALLENGE_LABEL_FILE} beside {CHALLENGE_TRAIN_FILE}, or "
            "add a column prdtypecode."
        )
    names = pandas.read_csv(NAMES_FILE, index_col="prdtypecode", encoding="utf-8")
    return tuple(
        Category(index, code, names.loc[code].to_dict() if code in names.index else {"en": str(code)})
        for index, code in enumerate(codes)
    )


def are_rakuten_categories(categories: Sequence[Category]) -> bool:
    """Whether every category is one of the Rakuten challenge's, those that category_names.csv names."""
    known = set(pandas.read_csv(NAMES_FILE, encoding="utf-8")["prdtypecode"])
    return all(category.prdtypecode in known for category in categories)


def _has_text(designation: str, description: str) -> bool:
    # A word outside tags and entities settles nearly every row; cleaning every long text would take a minute.
    text = f"{designation} {description}"
    if _WORD.search(_MARKUP.sub(" ", text)) and not _INVISIBLE.search(text):
        return True
    return has_text(Product(designation, description))


def _subset(table: pandas.DataFrame, limit: int, seed: int) -> pandas.DataFrame:
    """`limit` rows: up to three of each category, then evenly over category, label origin and picture."""
    if limit < 1:
        raise CatalogError(f"a catalog cannot be limited to {limit} rows; expected at least 1.")
    generator = np.random.default_rng(seed)
    shuffled = table.iloc[generator.permutation(len(table))]
    code, own, image = shuffled["prdtypecode"].fillna(-1), shuffled["own_label"], shuffled["image"] != ""
    rank = code.groupby(code).cumcount().to_numpy()
    strata = code.groupby([code, own, image])
    share = (strata.cumcount().to_numpy() + generator.random(len(shuffled))) / strata.transform(
        "size"
    ).to_numpy()
    order = np.lexsort([share, np.minimum(rank, 3)])
    chosen = shuffled.index[order[:limit]]
    return table[table.index.isin(chosen)]


def _without_unreadable_images(table: pandas.DataFrame) -> tuple[pandas.DataFrame, tuple[str, ...]]:
    paths = [path for path in table["image"].tolist() if path]
    with ThreadPoolExecutor(8) as pool:  # threads: the time goes into the disk, not into Python
        unreadable = [
            path
            for path, readable in zip(paths, pool.map(_looks_readable, paths), strict=True)
            if not readable
        ]
    if unreadable:
        table = table.assign(image=table["image"].mask(table["image"].isin(unreadable), ""))
    return table, tuple(unreadable)


def _looks_readable(path: str) -> bool:
    """Whether a file's header is that of a picture of at most 50 megapixels; its pixels are not read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                return 0 < image.width * image.height <= MAX_PIXELS
    except Exception:  # whatever a decoder raises on a broken file, the answer is the same
        return False
