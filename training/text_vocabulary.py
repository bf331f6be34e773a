"""Chooses the word pairs and character n-grams that get a row of their own, and puts them into the models' indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy
import scipy.sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from tokenizers import Tokenizer

from rakuten_models.preprocessing import TextSettings, encode_texts
from rakuten_models.product import Product
from training.text_rows import CHECKS, MOST_ROWS, TextModelSettings, text_hashes, text_inputs

# What is found in fewer texts teaches nothing that holds for others.
LEAST_TEXTS = 3
# Both hashes of a pair or n-gram as one number: the first above the second.
_SECOND = 1 << 23
# Texts in one call of the graph, and calls after which what was counted is put together: they bound the memory.
_TEXTS_AT_ONCE, _CALLS_AT_ONCE = 512, 32


@dataclass(frozen=True, eq=False)
class Grams:
    """Those of one table.

    Attributes:
        index: int32 (slots,): at a slot of each, row * CHECKS + check; see `training.text_rows`.
        rows: How many rows the table needs; the first is empty.
    """

    index: numpy.ndarray
    rows: int


def choose_grams(
    products: Sequence[Product],
    tokenizer: Tokenizer,
    text_settings: TextSettings,
    settings: TextModelSettings,
) -> dict[str, Grams]:
    """The pairs and n-grams that the most products have.

    Args:
        products: With texts; labels are not looked at.
        tokenizer: The words.
        text_settings: How texts become ids.
        settings: How many rows and slots there are.

    Returns:
        By table.
    """
    inputs = text_inputs()
    graph = keras.Model(
        inputs,
        {
            table: {"first": first, "second": second, "valid": keras.ops.cast(valid, "int32")}
            for table, ((first, second), valid, _) in text_hashes(inputs, text_settings, settings).items()
        },
    )
    counted: dict[str, list[tuple[numpy.ndarray, numpy.ndarray]]] = {table: [] for table in settings.slots()}
    for start in range(0, len(products), _TEXTS_AT_ONCE):
        encoded = encode_texts(products[start : start + _TEXTS_AT_ONCE], tokenizer, text_settings)
        for table, found in graph(encoded, training=False).items():
            first, second, valid = (numpy.asarray(found[name]) for name in ("first", "second", "valid"))
            text, place = numpy.nonzero(valid)
            keys = first[text, place].astype(numpy.int64) * _SECOND + second[text, place]
            # Once a text: 9 bits for the text above 46 of both hashes.
            keys = numpy.unique((text << 46) + keys) & ((1 << 46) - 1)
            counted[table].append((keys, numpy.ones(len(keys), numpy.int64)))
            if len(counted[table]) > _CALLS_AT_ONCE:
                counted[table] = [_together(counted[table])]
    rows, slots = settings.rows(), settings.slots()
    return {
        table: place_grams(*_together(parts), min(rows[table], MOST_ROWS), slots[table])
        for table, parts in counted.items()
    }


def _together(parts: Sequence[tuple[numpy.ndarray, numpy.ndarray]]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Each key once, growing, and how many texts have it."""
    if not parts:
        return numpy.zeros(0, numpy.int64), numpy.zeros(0, numpy.int64)
    keys, texts = (numpy.concatenate(part) for part in zip(*parts, strict=True))
    keys, places = numpy.unique(keys, return_inverse=True)
    return keys, numpy.bincount(places, texts, len(keys)).astype(numpy.int64)


def place_grams(keys: numpy.ndarray, texts: numpy.ndarray, rows: int, slots: int) -> Grams:
    """The commonest of some pairs or n-grams, each in one of its two slots.

    Args:
        keys: int64 (n,), all different: the first hash times 2^23, plus the second.
        texts: int (n,), how many texts have each.
        rows: Most rows, the empty one among them.
        slots: Of the index. A key for which neither slot is left gets no row.

    Returns:
        The index; rows are numbered from the commonest on.
    """
    order = numpy.argsort(-texts, kind="stable")
    # As many as there are rows beside the empty one, and no more than fit well into the index.
    keys = keys[order[texts[order] >= LEAST_TEXTS][: min(rows - 1, slots // 2)]]
    hashes = numpy.stack([keys // _SECOND, keys % _SECOND], axis=1)
    places = hashes % slots
    ends = numpy.arange(0, places.size + 1, 2)
    choices = scipy.sparse.csr_matrix(
        (numpy.ones(places.size, numpy.int8), places.ravel().astype(numpy.int32), ends.astype(numpy.int32)),
        shape=(len(keys), slots),
    )
    choices.sum_duplicates()
    slot = maximum_bipartite_matching(choices, perm_type="column") if len(keys) else numpy.zeros(0, int)
    placed = numpy.flatnonzero(slot >= 0)
    slot, hashes, places = slot[placed], hashes[placed], places[placed]
    # In the slot that one hash names stands the check of the other.
    check = numpy.where(slot == places[:, 0], hashes[:, 1], hashes[:, 0]) % CHECKS
    index = numpy.zeros(slots, numpy.int32)
    index[slot] = (1 + numpy.arange(len(placed))) * CHECKS + check
    return Grams(index, len(placed) + 1)
