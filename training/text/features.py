"""N-gram features: which rows of the text model's three tables a text has, by plain Keras operations.

Words have a row by their id. The commonest word pairs and character n-grams have rows of their own, too; all others
have none. To find a row without strings, the graph computes two hashes of a pair or n-gram. The first names a slot of
an index, the second checks that the slot is this n-gram's, and the other way about: so each has two possible slots
(Pagh and Rodler 2004, "Cuckoo hashing"). training/text/ngram_vocabulary.py chooses the n-grams and fills the index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from rakuten_models.preprocessing.text import TextSettings
from training.settings import TextModelSettings

SPACE = 32  # as character_ids holds it

# The tables, in the order in which training stacks them.
TABLES = ("words", "word_pairs", "character_grams")

# An entry of an index is row * CHECKS + check, 0 where there is nothing; row 0 of a table of pairs or n-grams is empty.
CHECKS = 8192
MAX_ROWS = 2**31 // CHECKS

# Primes below 2^23, and multipliers that keep every product below 2^31. A word's id may go up to 262,000.
_PRIMES = (7_999_993, 8_000_009)
_WORD_FACTORS, _PAIR_FACTORS, _CHARACTER_FACTORS = (8191, 7919), (31, 37), (263, 257)


def weighted_name(table: str, settings: TextModelSettings) -> str:
    """The name of the layer that weighs a table's rows; it ends with how many columns of ids a row stands for.

    "weighted_character_grams_3_4_5": as many rows of 3 characters as there are columns, then of 4, then of 5. So a
    saved model says by itself which part of the text a row belongs to.
    """
    lengths = {"words": (1,), "word_pairs": (2,), "character_grams": settings.character_lengths}[table]
    return "_".join(["weighted", table, *map(str, lengths)])


def index_name(table: str) -> str:
    """The name of the layer that holds a table's index."""
    return f"{table}_index"


def index_layer(table: str, settings: TextModelSettings) -> keras.layers.Layer:
    """The index of a table, int32 (slots, 1), empty."""
    slots, name = settings.slots()[table], index_name(table)
    return keras.layers.Embedding(slots, 1, embeddings_initializer="zeros", dtype="int32", trainable=False, name=name)


def text_inputs() -> dict[str, keras.KerasTensor]:
    """The text model's inputs, int32 (n, any length), 0 where there is nothing."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "character_ids")}


def text_feature_rows(
    inputs: Mapping[str, keras.KerasTensor],
    text_settings: TextSettings,
    settings: TextModelSettings,
    index: Mapping[str, Callable[[keras.KerasTensor], keras.KerasTensor]],
) -> dict[str, tuple[keras.KerasTensor, keras.KerasTensor]]:
    """Which rows of which table a text has, and with what weight.

    Args:
        inputs: From `text_inputs`.
        text_settings: How texts become ids.
        settings: The model's.
        index: The layers of `index_layer`, by table.

    Returns:
        Table name -> (row numbers int32 (n, m), weights float32 (n, m), 0 for padding and for what has no row).
    """
    token_ids = inputs["token_ids"]
    known = keras.ops.greater(token_ids, 1)
    found = {
        "words": (
            token_ids,
            _pooling_weights(
                known, _is_within(token_ids, text_settings.designation_tokens), settings.description_weight
            ),
        )
    }
    for table, (hashes, valid, in_designation) in text_hashes(inputs, text_settings, settings).items():
        rows = _rows_of(hashes, index[table], settings.slots()[table])
        # What has no row counts in a text's length like any other.
        weights = _pooling_weights(valid, in_designation, settings.description_weight)
        found[table] = rows, weights * keras.ops.cast(keras.ops.greater(rows, 0), "float32")
    return found


def text_hashes(
    inputs: Mapping[str, keras.KerasTensor], text_settings: TextSettings, settings: TextModelSettings
) -> dict[str, tuple[tuple[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor, keras.KerasTensor]]:
    """Two hashes of every word pair and every character n-gram.

    Returns:
        Table name -> ((int32 (n, m), int32 (n, m)), both from 0 to below 2^23; bool (n, m), whether there is
        something; bool (n, m), whether it is in the designation).
    """
    ops = keras.ops
    token_ids, character_ids = inputs["token_ids"], inputs["character_ids"]
    following = shifted(token_ids, 1, 1)
    pairs = tuple(
        ops.mod(ops.mod(token_ids * first, prime) * second + following, prime)
        for prime, first, second in zip(_PRIMES, _WORD_FACTORS, _PAIR_FACTORS, strict=True)
    )
    known = ops.logical_and(ops.greater(token_ids, 1), ops.greater(following, 1))

    longest = max(settings.character_lengths)
    hashes = [ops.zeros_like(character_ids) for _ in _PRIMES]
    grams: tuple[list[Any], list[Any]] = ([], [])
    valid = []
    # An n-gram may begin or end with the space beside a word, but never spans two words.
    inner = ops.not_equal(character_ids, 0)
    for offset in range(longest):
        character = shifted(character_ids, offset, longest - 1)
        hashes = [
            ops.mod(number * factor + character, prime)
            for number, factor, prime in zip(hashes, _CHARACTER_FACTORS, _PRIMES, strict=True)
        ]
        if offset + 1 in settings.character_lengths:
            for several, number in zip(grams, hashes, strict=True):
                several.append(number)
            valid.append(ops.logical_and(inner, ops.greater(character, 0)))
        if offset:
            inner = ops.logical_and(inner, ops.greater(character, SPACE))
    in_designation = _is_within(character_ids, text_settings.designation_characters)
    return {
        "word_pairs": (pairs, known, _is_within(token_ids, text_settings.designation_tokens)),
        "character_grams": (
            tuple(ops.concatenate(several, axis=1) for several in grams),
            ops.concatenate(valid, axis=1),
            ops.concatenate([in_designation] * len(valid), axis=1),
        ),
    }


def _rows_of(
    hashes: tuple[keras.KerasTensor, keras.KerasTensor],
    index: Callable[[keras.KerasTensor], keras.KerasTensor],
    slots: int,
) -> keras.KerasTensor:
    """int32 (n, m): the rows of what has these hashes, 0 for what has none."""
    ops = keras.ops
    rows = []
    for hashed, check in (hashes, hashes[::-1]):
        entry = ops.squeeze(index(ops.mod(hashed, slots)), -1)
        same = ops.equal(ops.mod(entry, CHECKS), ops.mod(check, CHECKS))
        rows.append(ops.floor_divide(entry, CHECKS) * ops.cast(same, "int32"))
    # Only one of the slots is its own; should the check of the other agree by chance, a row is still named.
    return ops.maximum(*rows)


def shifted(ids: keras.KerasTensor, offset: int, most: int) -> keras.KerasTensor:
    """Column i gets what column i + offset holds, zeros at the end; 0 <= offset <= most, most >= 1."""
    padded = keras.ops.pad(ids, [[0, 0], [0, most]])
    return padded[:, offset : offset - most] if offset < most else padded[:, offset:]


def _is_within(ids: keras.KerasTensor, length: int) -> keras.KerasTensor:
    """True in the first `length` columns."""
    return keras.ops.less_equal(keras.ops.cumsum(keras.ops.ones_like(ids), axis=1), length)


def _pooling_weights(
    valid: keras.KerasTensor, in_designation: keras.KerasTensor, description_weight: float
) -> keras.KerasTensor:
    """1 / sqrt(count) within designation and description each, so that length alone moves little."""
    ops = keras.ops
    in_first = ops.cast(ops.logical_and(valid, in_designation), "float32")
    in_second = ops.cast(valid, "float32") - in_first
    first, second = (
        part / ops.sqrt(ops.maximum(ops.sum(part, axis=1, keepdims=True), 1.0)) for part in (in_first, in_second)
    )
    return first + description_weight * second
