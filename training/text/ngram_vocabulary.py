"""Chooses the word pairs and character n-grams that get a row of their own, and puts them into the models' indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from tokenizers import Tokenizer

from rakuten_models.preprocessing.text import TextSettings, encode_texts
from rakuten_models.product import Product
from training.settings import TextModelSettings
from training.text.features import CHECKS, MAX_ROWS, text_hashes, text_inputs

# What is found in fewer texts teaches nothing that holds for others.
MIN_TEXTS = 3

# Both hashes of a pair or n-gram as one number: the first above the second.
_SECOND = 1 << 23

# Texts in one call of the graph, and calls after which what was counted is put together: they bound the memory.
_TEXTS_AT_ONCE, _CALLS_AT_ONCE = 512, 32


@dataclass(frozen=True, eq=False)
class NgramIndex:
    """The pairs or n-grams of one table.

    Attributes:
        index: int32 (slots,): at a slot of each, row * CHECKS + check; see `training.text.features`.
        rows: How many rows the table needs; the first is empty.
    """

    index: np.ndarray
    rows: int


def choose_ngrams(
    products: Sequence[Product], tokenizer: Tokenizer, text_settings: TextSettings, settings: TextModelSettings
) -> dict[str, NgramIndex]:
    """The pairs and n-grams that occur in the most products, by table; labels are not looked at."""
    inputs = text_inputs()
    hashes = text_hashes(inputs, text_settings, settings)
    graph = keras.Model(
        inputs, {table: [*both, keras.ops.cast(valid, "int32")] for table, (both, valid, _) in hashes.items()}
    )
    counted: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {table: [] for table in settings.slots()}
    for start in range(0, len(products), _TEXTS_AT_ONCE):
        encoded = encode_texts(products[start : start + _TEXTS_AT_ONCE], tokenizer, text_settings)
        for table, found in graph(encoded, training=False).items():
            first, second, valid = map(np.asarray, found)
            text, column = np.nonzero(valid)
            keys = first[text, column].astype(np.int64) * _SECOND + second[text, column]
            # Once a text: 9 bits for the text above 46 of both hashes.
            keys = np.unique((text << 46) + keys) & ((1 << 46) - 1)
            counted[table].append((keys, np.ones(len(keys), np.int64)))
            if len(counted[table]) > _CALLS_AT_ONCE:
                counted[table] = [_merged(counted[table])]
    rows, slots = settings.rows(), settings.slots()
    return {
        table: build_ngram_index(*_merged(parts), min(rows[table], MAX_ROWS), slots[table])
        for table, parts in counted.items()
    }


def _merged(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, growing, and how many texts have it."""
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    keys, texts = (np.concatenate(part) for part in zip(*parts, strict=True))
    keys, inverse = np.unique(keys, return_inverse=True)
    return keys, np.bincount(inverse, texts, len(keys)).astype(np.int64)


def build_ngram_index(keys: np.ndarray, texts: np.ndarray, rows: int, slots: int) -> NgramIndex:
    """The commonest of some pairs or n-grams, each in one of its two slots; rows are numbered from the commonest on.

    Args:
        keys: int64 (n,), all different: the first hash times 2^23, plus the second.
        texts: int (n,), how many texts have each.
        rows: Most rows, the empty one among them.
        slots: Of the index. A key for which neither slot is left gets no row.
    """
    order = np.argsort(-texts, kind="stable")
    # As many as there are rows beside the empty one, and no more than fit well into the index.
    keys = keys[order[texts[order] >= MIN_TEXTS][: min(rows - 1, slots // 2)]]
    hashes = np.stack([keys // _SECOND, keys % _SECOND], axis=1)
    possible = hashes % slots
    ends = np.arange(0, possible.size + 1, 2)
    choices = scipy.sparse.csr_matrix(
        (np.ones(possible.size, np.int8), possible.ravel().astype(np.int32), ends.astype(np.int32)),
        shape=(len(keys), slots),
    )
    choices.sum_duplicates()
    slot = maximum_bipartite_matching(choices, perm_type="column") if len(keys) else np.zeros(0, int)
    placed = np.flatnonzero(slot >= 0)
    slot, hashes, possible = slot[placed], hashes[placed], possible[placed]
    # In the slot that one hash names stands the check of the other.
    check = np.where(slot == possible[:, 0], hashes[:, 1], hashes[:, 0]) % CHECKS
    index = np.zeros(slots, np.int32)
    index[slot] = (1 + np.arange(len(placed))) * CHECKS + check
    return NgramIndex(index, len(placed) + 1)
