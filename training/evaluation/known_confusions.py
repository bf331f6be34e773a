"""Categories that are known to be confused, and how often they are.

The groups are the Rakuten catalog's: second-hand and new books; model kits, toys and board games; imported games,
bundles of games and downloads; furniture of the house and of the garden. Another shop's categories have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rakuten_models.product import Category
from training.data.catalog import are_rakuten_categories
from training.metrics import Metrics, category_metrics

RAKUTEN_GROUPS = ((10, 2705), (1180, 1280, 1281), (40, 2462, 2905), (1560, 2582))


def confusion_groups(categories: Sequence[Category]) -> list[tuple[int, ...]]:
    """The groups whose categories are all there; none for a catalog with other categories than Rakuten's."""
    if not are_rakuten_categories(categories):
        return []
    codes = {category.prdtypecode for category in categories}
    return [group for group in RAKUTEN_GROUPS if codes.issuperset(group)]


def known_confusions(
    category_index: np.ndarray, predicted: np.ndarray, prdtypecodes: Sequence[int], groups: Sequence[Sequence[int]]
) -> list[Metrics]:
    """{"prdtypecodes", "rows", "confused_share", "f1" (by code as text)} for each group of categories.

    rows are those whose truth is in the group; confused_share, 0 to 1, those of them that are predicted as another
    category of the group, None without rows.

    Args:
        category_index: int (rows,), true columns.
        predicted: int (rows,), predicted columns, -1 for none.
        prdtypecodes: The code of each column.
        groups: Codes that belong together.
    """
    per_category, confusion = category_metrics(category_index, predicted, prdtypecodes)
    found = []
    for group in groups:
        columns = [list(prdtypecodes).index(code) for code in group]
        inside = confusion[np.ix_(columns, columns)]
        rows = sum(per_category[str(code)]["support"] for code in group)
        confused = int(inside.sum() - np.trace(inside))
        found.append(
            {
                "prdtypecodes": list(group),
                "rows": rows,
                "confused_share": confused / rows if rows else None,
                "f1": {str(code): per_category[str(code)]["f1"] for code in group},
            }
        )
    return found
