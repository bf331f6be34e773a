"""Reads a catalog - the challenge's own layout, or whatever batch reads - and says what is in it.

Rows without a picture, without a text or with an unreadable picture are taken as they are and counted; rows that
cannot be read are left out and counted. What makes the whole catalog meaningless (labels of another length, a repeated
index, a code that is no integer) is an error.

Labels: a row's `origin` (origin.csv, or a column label_origin or origin) says where its label comes from. Empty, `own`,
and all that starts with `gold` mean a gold label, the catalog's own; every other value (`silver`, `predicted`, a
model's name) means a label made by something else: such a row may train, but nothing is evaluated on it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from rakuten_models.catalog.source import read_header
from rakuten_models.errors import CatalogError, Message
from rakuten_models.preprocessing.image import MAX_PIXELS, PICTURE_FORMATS
from rakuten_models.preprocessing.text import has_text
from rakuten_models.product import Category, Product
from training.data.files import ReaderSettings, read_table

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
            (Int64, <NA> without a label), gold_label (bool), origin (str, as in the file).
        source: The file or folder it was read from.
        unreadable_images: Paths or names of pictures that are no readable file; their rows have image "".
        rows_in_file: Rows before `limit`.
        left_out: Why rows were left out that cannot be trusted, in the file's order.
        missing_image: The first reason why a picture is not where its row says; None if there is none.
    """

    table: pandas.DataFrame
    source: str
    unreadable_images: tuple[str, ...] = ()
    rows_in_file: int = 0
    left_out: Sequence[Message] = ()
    missing_image: Message | None = None

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
        own = table["gold_label"].to_numpy()
        shown = f" (a subset of {self.rows_in_file:,})" if self.rows_in_file > len(table) else ""
        lines = [
            f"catalog {self.source}: {len(table):,} rows{shown}",
            f"  with text {text.sum():,}, with a picture {image.sum():,}, with both {(text & image).sum():,}, "
            f"with neither {(~text & ~image).sum():,}",
        ]
        if self.left_out:
            lines.append(f"  left out, for they cannot be read, {len(self.left_out):,}:")
            lines += [f"    {problem}" for problem in self.left_out[:3]]
            lines += ["    ..."] * (len(self.left_out) > 3)
        if self.unreadable_images:
            names = ", ".join(Path(path).name for path in self.unreadable_images[:3])
            more = ", ..." if len(self.unreadable_images) > 3 else ""
            lines.append(
                f"  unreadable pictures {len(self.unreadable_images):,}, their rows count as without one: {names}{more}"
            )
        if self.missing_image:
            lines.append(f"    {self.missing_image}")
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
            lines.append(f"  {len(counts)} categories, the smallest {counts.idxmin()} with {counts.min():,} rows:")
            parts = [f"{code}: {count:,}" for code, count in counts.items()]
            lines += ["    " + "  ".join(parts[start : start + 9]) for start in range(0, len(parts), 9)]
        return "\n".join(lines)


def read_catalog(
    source: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    check_images: bool = True,
    settings: ReaderSettings | None = None,
) -> Catalog:
    """Reads a catalog and checks it.

    Args:
        source: A folder in the challenge's layout (X_train_update.csv, optional Y_train_CVw08PX.csv, optional
            origin.csv, images/image_train/image_<imageid>_product_<productid>.jpg; with X_test_update.csv alone,
            the unlabelled test part and images/image_test); one of those two X files; or whatever
            `rakuten_models.batch` reads (CSV, JSON Lines, Parquet, a folder or glob of them), with the same columns
            and pictures in the catalog's folder, and optionally label_origin (or origin).
        limit: Keep only so many rows: every category first, then in proportion; the same rows for the same
            seed.
        seed: Chooses the rows that `limit` keeps.
        check_images: Opens each picture's header; one that is missing, empty, no picture or over 50
            megapixels is counted as unreadable and its row is taken as one without a picture. False trusts
            the paths.
        settings: The catalog's columns and pictures, where they are not found by themselves.

    Raises:
        CatalogError: A missing file or column, labels that do not match the rows, a repeated index, a code
            that is no integer, no rows, only one category, a file in another format or encoding.
    """
    found = read_table(source, settings or ReaderSettings(), check_images=check_images)
    table = found.rows
    if not len(table):
        if found.left_out:
            raise CatalogError("training.no_readable_rows", source=source, problem=found.left_out[0])
        raise CatalogError("training.no_rows", source=source)
    codes = table["prdtypecode"].dropna().unique()
    if len(codes) == 1:
        left = {"count": len(found.left_out), "problem": found.left_out[0]} if found.left_out else {}
        code = "training.one_category_left" if left else "training.one_category"
        raise CatalogError(code, source=source, prdtypecode=codes[0], **left)
    rows_in_file = len(table)
    if limit is not None:
        table = _subset(table, limit, seed)
    unreadable = tuple(found.missing_pictures)
    if check_images:
        table, damaged = _without_unreadable_images(table)
        unreadable += damaged
    missing_image = next(iter(found.missing_pictures.values()), None)
    return Catalog(table, str(source), unreadable, rows_in_file, found.left_out, missing_image)


def read_texts(
    source: str | Path, *, limit: int | None = None, settings: ReaderSettings | None = None
) -> list[Product]:
    """The products of a catalog that have a text, with or without a label; pictures are not looked at.

    Arguments and errors are those of `read_catalog`.
    """
    settings = settings or ReaderSettings()
    # Another catalog than the one that the columns were chosen for may lack some of them.
    names = read_header(source).names
    columns = {field: name for field, name in settings.columns.items() if name in names}
    settings = replace(settings, columns=columns, images=None)
    catalog = read_catalog(source, limit=limit, check_images=False, settings=settings)
    return [product for product, legible in zip(catalog.products(), catalog.has_text, strict=True) if legible]


def category_list(catalog: Catalog) -> tuple[Category, ...]:
    """The catalog's categories by ascending code, with their English and French names.

    A code that category_names.csv does not have is its own name.

    Raises:
        CatalogError: The catalog has no labels.
    """
    codes = sorted(int(code) for code in catalog.table["prdtypecode"].dropna().unique())
    if not codes:
        raise CatalogError("training.no_labels", source=catalog.source)
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
        raise CatalogError("training.limit_too_small", limit=limit)
    generator = np.random.default_rng(seed)
    shuffled = table.iloc[generator.permutation(len(table))]
    code, own, image = shuffled["prdtypecode"].fillna(-1), shuffled["gold_label"], shuffled["image"] != ""
    rank = code.groupby(code).cumcount().to_numpy()
    strata = code.groupby([code, own, image])
    sizes = strata.transform("size").to_numpy()
    share = (strata.cumcount().to_numpy() + generator.random(len(shuffled))) / sizes
    order = np.lexsort([share, np.minimum(rank, 3)])
    chosen = shuffled.index[order[:limit]]
    return table[table.index.isin(chosen)]


def _without_unreadable_images(table: pandas.DataFrame) -> tuple[pandas.DataFrame, tuple[str, ...]]:
    paths = [path for path in table["image"].tolist() if path]
    with ThreadPoolExecutor(8) as pool:  # threads: the time goes into the disk, not into Python
        readable = pool.map(_looks_readable, paths)
        unreadable = [path for path, good in zip(paths, readable, strict=True) if not good]
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
