"""Which rows of a catalog a bundle is judged on: own labels, and nothing that it was made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rakuten_models.bundle.config import BundleConfig
from rakuten_models.product import Category
from training.data.catalog import Catalog, read_catalog
from training.data.split import Split, split_catalog
from training.errors import EvaluationError
from training.settings import SplitSettings

SEPARATE_CATALOG = "separate catalog"

TEST_PART = "{} split, test part"

# The catalog, the positions of the rows to judge on, and what they are called.
EvaluationRows = tuple[Catalog, np.ndarray, str]


def select_rows(
    config: BundleConfig, catalog_dir: str | Path, part: str = "auto", limit: int | None = None
) -> EvaluationRows:
    """Reads a catalog and finds the rows to judge on: own labels, and nothing the bundle was made from.

    Args:
        config: the bundle's; its training facts say which catalog it was trained on and how that was split.
        catalog_dir: the catalog's folder or file.
        part: "auto" (the test part if the bundle was trained on this catalog, else all rows), "all", "test"
            or "validation".
        limit: so many of those rows, drawn with a fixed seed.

    Returns:
        The catalog, int (rows,) positions in it, growing, and what they are called: "grouped split, test
        part", "separate catalog" and so on.

    Raises:
        RakutenModelsError: the catalog cannot be read, or holds nothing to judge on.
    """
    catalog, trained_on = _read_as_trained(config, catalog_dir)
    if not catalog.table["prdtypecode"].notna().any():
        raise EvaluationError(
            f"{catalog.source} has no labels, so there is nothing to compare with; add the column "
            "prdtypecode, or the file Y_train_CVw08PX.csv beside X_train_update.csv."
        )
    if part in ("test", "validation") and not trained_on:
        raise EvaluationError(
            f"--part {part} is a part of the catalog that the bundle was trained on, and {catalog.source} is "
            "another one; leave out --part to judge on all its rows."
        )
    positions = np.arange(len(catalog))
    name = SEPARATE_CATALOG
    if trained_on and part == "all":
        name = "training catalog, all rows, also those it was trained on"
    elif trained_on:
        part = "test" if part == "auto" else part
        known = {field.name for field in dataclasses.fields(SplitSettings)}
        chosen = {key: value for key, value in config.training["split"].items() if key in known}
        settings = SplitSettings(**chosen)
        positions = np.sort(getattr(split_catalog(catalog, settings), part))
        if not len(positions):
            raise EvaluationError(
                f"{catalog.source} is the catalog that the bundle was trained on, without a {part} part; "
                "give another catalog, or train with a part left aside."
            )
        name = TEST_PART.format(settings.kind)
        if part == "validation":
            name = f"training catalog, {settings.kind} split, validation part"
    positions = positions[catalog.table["own_label"].to_numpy(dtype=bool)[positions]]
    if limit is not None and limit < len(positions):
        positions = np.sort(np.random.default_rng(0).choice(positions, limit, replace=False))
        name += f", {limit:,} rows of it"
    if not len(positions):
        raise EvaluationError(
            f"{catalog.source} has no row to judge on: each label is either missing or not the catalog's "
            "own; give a catalog with labels of its own."
        )
    return catalog, positions, name


def rows_of_test_part(catalog: Catalog, split: Split) -> EvaluationRows:
    """What `select_rows` finds in the catalog that a bundle was just trained on."""
    return catalog, split.test, TEST_PART.format(split.settings.kind)


def category_index_of(catalog: Catalog, positions: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    """Returns int64 (rows,): the columns of the labels at these positions.

    Raises:
        EvaluationError: categories occur that are not among these.
    """
    codes = catalog.table["prdtypecode"].iloc[positions]
    column = {category.prdtypecode: category.index for category in categories}
    unknown = codes[~codes.isin(column)].value_counts().sort_index()
    if len(unknown):
        shown = unknown.head(10).items()
        listed = ", ".join(f"{code} ({count:,} row{'s' if count > 1 else ''})" for code, count in shown)
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise EvaluationError(
            f"{catalog.source} has categories that the bundle does not know: {listed}{more}; judge it on a "
            f"catalog of its own {len(categories)} categories, or train a bundle on this one."
        )
    columns: np.ndarray = codes.map(column).to_numpy(dtype=np.int64)
    return columns


def select_rows_of_both(
    config: BundleConfig,
    other: BundleConfig,
    catalog_dir: str | Path,
    part: str = "auto",
    limit: int | None = None,
) -> EvaluationRows:
    """`select_rows` for two bundles: rows that neither was made from, with categories that either knows.

    Raises:
        RakutenModelsError: the catalog cannot be read, or no such row is left.
    """
    catalog, positions, name = select_rows(config, catalog_dir, part)
    second, also, other_name = select_rows(other, catalog_dir, part)
    # One of them may have been trained on some rows of the catalog only: rows are told apart by their index.
    shared = catalog.table.index[positions].intersection(second.table.index[also], sort=False)
    positions = np.flatnonzero(catalog.table.index.isin(shared))
    if not len(positions):
        raise EvaluationError(
            f"{catalog.source} has no row that both bundles may be judged on ({name}; {other_name}); give a catalog "
            "that neither was trained on."
        )
    if limit is not None and limit < len(positions):
        positions = np.sort(np.random.default_rng(0).choice(positions, limit, replace=False))
    return catalog, positions, name if name == other_name else f"{name}; {other_name}"


def _read_as_trained(config: BundleConfig, catalog_dir: str | Path) -> tuple[Catalog, bool]:
    """Returns the catalog, cut to a subset if training was, and whether the bundle was trained on it."""
    fingerprint = config.training.get("catalog_fingerprint")
    catalog = read_catalog(catalog_dir)
    if fingerprint is None or catalog.fingerprint() == fingerprint:
        return catalog, fingerprint is not None
    limit = config.training.get("limit")
    if limit is not None:
        limited = read_catalog(catalog_dir, limit=limit, seed=config.training.get("seed", 0))
        if limited.fingerprint() == fingerprint:
            return limited, True
    return catalog, False
