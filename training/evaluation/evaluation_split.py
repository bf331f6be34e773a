"""Which rows of a catalog a bundle is evaluated on: gold labels, and nothing that it was trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rakuten_models.bundle.config import BundleConfig
from rakuten_models.product import Category
from training.data.catalog import Catalog, read_catalog
from training.data.files import ReaderSettings
from training.data.split import Split, split_catalog
from training.errors import EvaluationError
from training.settings import SplitSettings


@dataclass(frozen=True)
class EvaluationSplit:
    """What the rows of an evaluation are.

    Attributes:
        name: For figures and card: "grouped split, test part", "separate catalog" and so on.
        own_catalog: They are of the catalog that the bundle was trained on.
        trained_on: The bundle was trained on some of them: no measure of quality on new rows.
    """

    name: str
    own_catalog: bool = True
    trained_on: bool = False


class EvaluationRows(NamedTuple):
    """Rows to evaluate on.

    Attributes:
        catalog: That holds them.
        positions: int (rows,), ascending.
        split: What they are.
    """

    catalog: Catalog
    positions: np.ndarray
    split: EvaluationSplit


def select_rows(
    config: BundleConfig,
    catalog_dir: str | Path,
    part: str = "auto",
    limit: int | None = None,
    reading: ReaderSettings | None = None,
) -> EvaluationRows:
    """Reads a catalog and finds the rows to evaluate on: gold labels, and nothing the bundle was trained on.

    Args:
        config: The bundle's; its training facts say which catalog it was trained on and how that was split.
        catalog_dir: The catalog's folder or file.
        part: "auto" (the test part of the catalog it was trained on, all rows of another), "all", "test" or
            "validation".
        limit: So many of those rows, drawn with a fixed seed.
        reading: The catalog's columns and pictures, where they are not found by themselves.

    Raises:
        RakutenModelsError: The catalog cannot be read, or has no such row.
    """
    catalog, trained_on = _read_as_trained(config, catalog_dir, reading)
    if not catalog.table["prdtypecode"].notna().any():
        raise EvaluationError("evaluation.no_labels", source=catalog.source)
    if part in ("test", "validation") and not trained_on:
        raise EvaluationError("evaluation.part_of_another_catalog", part=part, source=catalog.source)
    positions = np.arange(len(catalog))
    split = EvaluationSplit("separate catalog", own_catalog=False)
    if trained_on and part == "all":
        split = EvaluationSplit("training catalog, all rows, also those it was trained on", trained_on=True)
    elif trained_on:
        part = "test" if part == "auto" else part
        names = [field.name for field in dataclasses.fields(SplitSettings)]
        settings = SplitSettings(**{name: config.training["split"][name] for name in names})
        positions = np.sort(getattr(split_catalog(catalog, settings), part))
        if not len(positions):
            raise EvaluationError("evaluation.no_part", source=catalog.source, part=part)
        split = _test_part(settings)
        if part == "validation":
            name = f"training catalog, {settings.kind} split, validation part"
            split = EvaluationSplit(name, trained_on=True)
    positions = positions[catalog.table["gold_label"].to_numpy(dtype=bool)[positions]]
    if limit is not None and limit < len(positions):
        positions = _some(positions, limit)
        split = dataclasses.replace(split, name=f"{split.name}, {limit:,} rows of it")
    if not len(positions):
        raise EvaluationError("evaluation.no_gold_labels", source=catalog.source)
    return EvaluationRows(catalog, positions, split)


def _some(positions: np.ndarray, limit: int | None) -> np.ndarray:
    """At most so many, drawn with a fixed seed."""
    if limit is None or limit >= len(positions):
        return positions
    return np.sort(np.random.default_rng(0).choice(positions, limit, replace=False))


def rows_of_test_part(catalog: Catalog, split: Split) -> EvaluationRows:
    """What `select_rows` finds in the catalog that a bundle was just trained on."""
    return EvaluationRows(catalog, split.test, _test_part(split.settings))


def _test_part(settings: SplitSettings) -> EvaluationSplit:
    return EvaluationSplit(f"{settings.kind} split, test part")


def category_index_of(catalog: Catalog, positions: np.ndarray, categories: Sequence[Category]) -> np.ndarray:
    """int64 (rows,): the columns of the labels at these positions.

    Raises:
        EvaluationError: Categories occur that are not among these.
    """
    codes = catalog.table["prdtypecode"].iloc[positions]
    column = {category.prdtypecode: category.index for category in categories}
    unknown = codes[~codes.isin(column)].value_counts().sort_index()
    if len(unknown):
        shown = unknown.head(10).items()
        listed = ", ".join(f"{code} ({count:,} row{'s' if count > 1 else ''})" for code, count in shown)
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise EvaluationError(
            "evaluation.unknown_categories", source=catalog.source, categories=listed + more, known=len(categories)
        )
    columns: np.ndarray = codes.map(column).to_numpy(dtype=np.int64)
    return columns


def select_rows_of_both(
    config: BundleConfig,
    other: BundleConfig,
    catalog_dir: str | Path,
    part: str = "auto",
    limit: int | None = None,
    reading: ReaderSettings | None = None,
) -> EvaluationRows:
    """`select_rows` for two bundles: rows that neither was trained on, with categories that either knows.

    Raises:
        RakutenModelsError: The catalog cannot be read, or no such row is left.
    """
    catalog, positions, split = select_rows(config, catalog_dir, part, reading=reading)
    second, also, other_split = select_rows(other, catalog_dir, part, reading=reading)
    # One of them may have been trained on some rows of the catalog only: rows are told apart by their index.
    shared = catalog.table.index[positions].intersection(second.table.index[also], sort=False)
    positions = np.flatnonzero(catalog.table.index.isin(shared))
    if not len(positions):
        raise EvaluationError(
            "evaluation.no_shared_rows", source=catalog.source, name=split.name, other_name=other_split.name
        )
    if split != other_split:
        split = dataclasses.replace(split, name=f"{split.name}; {other_split.name}")
    return EvaluationRows(catalog, _some(positions, limit), split)


def _read_as_trained(
    config: BundleConfig, catalog_dir: str | Path, reading: ReaderSettings | None
) -> tuple[Catalog, bool]:
    """The catalog, limited to a subset if training was, and whether the bundle was trained on it."""
    fingerprint = config.training.get("catalog_fingerprint")
    catalog = read_catalog(catalog_dir, settings=reading)
    if fingerprint is None or catalog.fingerprint() == fingerprint:
        return catalog, fingerprint is not None
    limit = config.training.get("limit")
    if limit is not None:
        seed = config.training.get("seed", 0)
        limited = read_catalog(catalog_dir, limit=limit, seed=seed, settings=reading)
        if limited.fingerprint() == fingerprint:
            return limited, True
    return catalog, False
