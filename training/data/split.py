"""Splits a catalog into train, validation and test so that no product is in two of them.

Rows are grouped by near-identical texts and pictures (training/data/near_duplicates.py) and a group is never divided.
Groups go where the parts lack most, for every category and, within it, for rows with text, with a picture and with both
(a grouped form of the stratification of Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label
data"). Validation and test hold rows with gold labels (the catalog's own) only; the others train, or are dropped if
their group is not in train.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rakuten_models.errors import CatalogError
from training.block_cache import BlockCache
from training.data.catalog import Catalog
from training.data.near_duplicates import group_numbers, picture_links, text_links
from training.settings import SplitSettings

TRAIN, VALIDATION, TEST = range(3)

_Key = TypeVar("_Key")

# A category; a category and a kind of row; a kind of row of any category.
_Stratum = int | tuple[int | None, int]


@dataclass(frozen=True, eq=False)
class Split:
    """Which row of a catalog goes where. All arrays hold ascending row positions, int64.

    Attributes:
        train: Rows to fit on, whatever their label's origin.
        validation: Rows with gold labels to choose settings, temperatures and thresholds on.
        test: Rows with gold labels to report on.
        dropped: Rows with another label that are near-duplicates of a validation or test row.
        unused: Rows without a label, or with neither text nor picture.
        groups: int32 (rows,), the group of each row of the catalog.
        settings: What it was made with.
        validation_pairs: Rows of validation with both text and picture.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    dropped: np.ndarray
    unused: np.ndarray
    groups: np.ndarray
    settings: SplitSettings
    validation_pairs: int

    def summary(self) -> str:
        """Two or three lines for a person."""
        sizes = np.bincount(self.groups)
        pairs = f"{self.validation_pairs:,} with text and picture"
        lines = [
            f"{self.settings.kind} split, seed {self.settings.seed}: train {len(self.train):,}, "
            f"validation {len(self.validation):,} ({pairs}), test {len(self.test):,} rows"
        ]
        if self.settings.kind == "grouped":
            lines.append(
                f"  {(sizes > 1).sum():,} groups of near-duplicates hold {sizes[sizes > 1].sum():,} rows, "
                f"the largest {sizes.max():,}"
            )
        lines.append(
            f"  left out: {len(self.dropped):,} near-duplicates of judged rows whose label is not the catalog's own, "
            f"{len(self.unused):,} rows without a label or with nothing to classify"
        )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The settings and counts, for the bundle's config.json."""
        sizes = np.bincount(self.groups)
        parts = ("train", "validation", "test", "dropped", "unused")
        return {
            **asdict(self.settings),
            **{name: len(getattr(self, name)) for name in parts},
            "validation_pairs": self.validation_pairs,
            "near_duplicate_groups": int((sizes > 1).sum()),
            "rows_in_near_duplicate_groups": int(sizes[sizes > 1].sum()),
        }


def split_catalog(
    catalog: Catalog,
    settings: SplitSettings | None = None,
    cache_dir: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Splits a catalog; the same catalog and settings give the same split.

    Every category with gold labels in at least three groups gets a validation row where the catalog allows it.

    Args:
        catalog: The rows.
        settings: How; None for the defaults.
        cache_dir: For the near-duplicates; None: in memory.
        progress: Called as progress(pictures compared, of how many).

    Raises:
        CatalogError: A category has no row left to train on, or no row is left to validate on.
    """
    settings = settings or SplitSettings()
    table, text, image = catalog.table, catalog.has_text, catalog.has_image
    labelled = table["prdtypecode"].notna().to_numpy() & (text | image)
    own = labelled & table["gold_label"].to_numpy()
    codes = table["prdtypecode"].fillna(-1).to_numpy(dtype=np.int64)
    groups = _groups(catalog, settings, cache_dir, progress)
    assignment = _Assignment(groups, codes, labelled, own, text, image, settings)
    assignment.stratify()
    if settings.validation_fraction:
        assignment.cover_categories()
        assignment.add_pairs()
    part = assignment.part[groups]
    split = Split(
        train=np.flatnonzero(labelled & (part == TRAIN)),
        validation=np.flatnonzero(own & (part == VALIDATION)),
        test=np.flatnonzero(own & (part == TEST)),
        dropped=np.flatnonzero(labelled & ~own & (part != TRAIN)),
        unused=np.flatnonzero(~labelled),
        groups=groups,
        settings=settings,
        validation_pairs=int((own & text & image & (part == VALIDATION)).sum()),
    )
    _check(split, catalog, codes)
    return split


def _groups(
    catalog: Catalog, settings: SplitSettings, cache_dir: Path | None, progress: Callable[[int, int], None] | None
) -> np.ndarray:
    table = catalog.table
    if settings.kind == "plain":
        return np.arange(len(table), dtype=np.int32)
    images = table["image"].tolist()
    facts = [os.stat(image) for image in images if image and cache_dir]
    cache = BlockCache(cache_dir, catalog.fingerprint(), [(each.st_size, each.st_mtime_ns) for each in facts])
    saved = cache.load("links")
    if saved is None:
        texts = zip(table["designation"], table["description"], strict=True)
        # Not by the split's seed: what is a near-duplicate is no matter of chance.
        links = {
            "text": text_links([f"{designation} {description}" for designation, description in texts]),
            "picture": picture_links(images, cache, progress),
        }
        cache.save("links", links)
    else:
        links = saved[0]
    return group_numbers(np.concatenate([links["text"], links["picture"]]), len(table))


class _Assignment:
    """The part of each group."""

    def __init__(
        self,
        groups: np.ndarray,
        codes: np.ndarray,
        labelled: np.ndarray,
        own: np.ndarray,
        text: np.ndarray,
        image: np.ndarray,
        settings: SplitSettings,
    ) -> None:
        self.settings = settings
        self.generator = np.random.default_rng(settings.seed)
        count = int(groups.max()) + 1
        self.part = np.full(count, TRAIN, dtype=np.int8)
        # Of each group: rows with gold labels by stratum (category; category and kind of row; kind of row), and
        # labelled rows by category.
        self.strata: list[Counter[_Stratum]] = [Counter() for _ in range(count)]
        self.rows: list[Counter[int]] = [Counter() for _ in range(count)]
        self.pairs = np.bincount(groups[own & text & image], minlength=count)
        kinds = text + 2 * image.astype(int)
        for row in np.flatnonzero(labelled).tolist():
            group, code = groups[row], int(codes[row])
            self.rows[group][code] += 1
            if own[row]:
                self.strata[group].update((code, (code, int(kinds[row])), (None, int(kinds[row]))))
        self.with_gold = np.array([group for group in range(count) if self.strata[group]], dtype=np.int64)

    def stratify(self) -> None:
        """Gives each group to the part where it lowers the sum of (found - wanted)^2 / (wanted + 1) most."""
        total = _sum_counters(self.strata)
        shares = {VALIDATION: self.settings.validation_fraction, TEST: self.settings.test_fraction}
        shares = {TRAIN: 1 - sum(shares.values())} | {part: share for part, share in shares.items() if share}
        found: dict[int, Counter[_Stratum]] = {part: Counter() for part in shares}
        order = self.generator.permutation(self.with_gold)
        sizes = np.array([sum(self.rows[group].values()) for group in order.tolist()])
        for group in order[np.argsort(-sizes, kind="stable")].tolist():
            costs = {}
            for part, share in shares.items():
                costs[part] = sum(
                    count * (2 * (found[part][stratum] - share * total[stratum]) + count) / (share * total[stratum] + 1)
                    for stratum, count in self.strata[group].items()
                )
            best = min(costs, key=costs.__getitem__)
            self.part[group] = best
            found[best].update(self.strata[group])

    def cover_categories(self) -> None:
        """Moves a category's smallest group to validation where that has none and others can spare it."""
        groups_of: dict[int, list[int]] = {}
        for group in self.generator.permutation(self.with_gold).tolist():
            for stratum in self.strata[group]:
                if isinstance(stratum, int):
                    groups_of.setdefault(stratum, []).append(group)
        for code in sorted(groups_of):
            parts = self.part[groups_of[code]]
            if len(parts) < 3 or (parts == VALIDATION).any():
                continue
            source = TRAIN if (parts == TRAIN).sum() > 1 else TEST
            candidates = [group for group in groups_of[code] if self.part[group] == source]
            self.part[min(candidates, key=lambda group: sum(self.rows[group].values()))] = VALIDATION

    def add_pairs(self) -> None:
        """Moves groups with own pairs to validation until it has enough, or categories run short."""
        total = _sum_counters(self.rows)
        taken = _sum_counters(self.rows[group] for group in self.with_gold.tolist() if self.part[group] != TRAIN)
        pairs = int(self.pairs[self.part == VALIDATION].sum())
        candidates = np.flatnonzero((self.part == TRAIN) & (self.pairs > 0))
        for group in self.generator.permutation(candidates).tolist():
            if pairs >= self.settings.minimum_pairs:
                return
            if all(2 * (taken[code] + count) <= total[code] for code, count in self.rows[group].items()):
                self.part[group] = VALIDATION
                taken.update(self.rows[group])
                pairs += int(self.pairs[group])


def _sum_counters(counters: Iterable[Counter[_Key]]) -> Counter[_Key]:
    """The counts of many counters together."""
    total: Counter[_Key] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _check(split: Split, catalog: Catalog, codes: np.ndarray) -> None:
    without = sorted(set(codes[codes >= 0].tolist()) - set(codes[split.train].tolist()))
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        categories = ", ".join(map(str, without[:5])) + more
        raise CatalogError("catalog.no_training_rows", source=catalog.source, categories=categories)
    if split.settings.validation_fraction and not len(split.validation):
        rows = int(catalog.table["gold_label"].sum())
        raise CatalogError("catalog.no_validation_rows", source=catalog.source, rows=rows)
