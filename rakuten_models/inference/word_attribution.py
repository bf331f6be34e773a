"""Which words of a product's own text became which columns of the text model's inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import PreTokenizedString, Regex, Token, Tokenizer
from tokenizers.pre_tokenizers import Split

from rakuten_models.inference.offset_mapping import clean_with_offsets
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Product

# What `train_tokenizer` calls a word: token i is the i-th of them.
_WORDS = Split(Regex(r"\w+"), "isolated")

_RUN = re.compile(r"\s+|\S+")

# No more of a text is looked at than so many characters a byte that the model reads (an accent of its own is a
# character, but no byte of the model's).
_CHARACTERS_A_BYTE = 2


@dataclass(frozen=True)
class ReadWords:
    """The words that a model reads of a product, and which of its inputs' columns they became.

    Attributes:
        places: For each word (field, start, end) in the product's own text.
        owners: {"token_ids", "character_ids"} -> int64 (columns,): the word that a column belongs to, -1 for none.
    """

    places: Sequence[tuple[str, int, int]]
    owners: Mapping[str, np.ndarray]

    def contributions(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Sum up columns by word.

        Args:
            columns: By input, float32 (columns,).

        Returns:
            float64 (words,), and the sum of the columns that belong to no word.
        """
        sums = np.zeros(len(self.places) + 1)
        for name, values in columns.items():
            sums += np.bincount(self.owners[name] + 1, values, len(sums))
        return sums[1:], float(sums[0])


def read_words(
    product: Product, tokenizer: Tokenizer, settings: TextSettings, encoded: Mapping[str, np.ndarray]
) -> ReadWords:
    """Find the words in the product's own text that became the columns of `encode_texts`.

    A word is a run of letters and digits; signs beside it without a space belong to it, signs alone are a word.

    Args:
        product: With a text.
        tokenizer: The bundle's.
        settings: The bundle's.
        encoded: What `encode_texts` made of this product alone.
    """
    places: list[tuple[str, int, int]] = []
    owners = {name: np.full(ids.shape[1], -1, np.int64) for name, ids in encoded.items()}
    designation = (
        owners["token_ids"][: settings.designation_tokens],
        owners["character_ids"][: settings.designation_characters],
    )
    description = (
        owners["token_ids"][settings.designation_tokens :],
        owners["character_ids"][settings.designation_characters :],
    )
    for field, columns in (("designation", designation), ("description", description)):
        if getattr(product, field):
            _read_field(field, getattr(product, field), tokenizer, *columns, places)
    return ReadWords(places, owners)


def _read_field(
    field: str,
    raw: str,
    tokenizer: Tokenizer,
    token_owners: np.ndarray,
    character_owners: np.ndarray,
    places: list[tuple[str, int, int]],
) -> None:
    """Write each column's word into the owners, which are views of this field's columns, and add the words' places."""
    most = _CHARACTERS_A_BYTE * len(character_owners)
    cleaned, placed_starts, placed_ends = clean_with_offsets(raw, most)
    starts, ends = placed_starts.tolist(), placed_ends.tolist()
    begun = len(places)

    def place(first: int, last: int) -> int:
        """The number of the word at cleaned[first:last]; what shares a place with the word before is that word."""
        while first < last and starts[first] < 0:
            first += 1
        while first < last and starts[last - 1] < 0:
            last -= 1
        if first == last:
            return -1
        start, end = starts[first], ends[last - 1]
        if len(places) > begun and start < places[-1][2]:
            places[-1] = (field, min(start, places[-1][1]), max(end, places[-1][2]))
        else:
            places.append((field, start, end))
        return len(places) - 1

    of_tokens: list[int] = []
    of_characters: list[int] = []
    # The word that signs right after it belong to; bytes of signs that wait for a word right after them, and where.
    current: int | None = None
    waiting, waiting_place = 0, (0, 0)

    def stand_alone() -> None:
        nonlocal waiting
        if waiting:
            of_characters.extend([place(*waiting_place)] * waiting)
            waiting = 0

    pieces = _pieces(cleaned[:most], tokenizer)
    for number, (text, (first, last), _) in enumerate(pieces):
        if len(of_tokens) >= len(token_owners) and len(of_characters) >= len(character_owners):
            break
        if number % 2:
            current = place(first - 1, last - 1)
            of_tokens.append(current)
            of_characters += [current] * (waiting + len(text.encode()))
            waiting = 0
            continue
        if text == " ":
            of_characters.append(-1)
            current = None
            continue
        begin, end = max(first - 1, 0), last - 1
        for run in _RUN.findall(text):
            size = len(run.encode())
            if not run.isspace():
                # The same signs may have stood before; the normaliser may have changed these.
                found = cleaned.find(run, begin, end)
                place_of_run = (begin, end) if found < 0 else (found, found + len(run))
                begin = begin if found < 0 else found + len(run)
                if current is not None:
                    of_characters += [current] * size
                else:
                    waiting, waiting_place = size, place_of_run
                continue
            stand_alone()
            of_characters += [-1] * size
            current = None
    stand_alone()
    for owners, words in ((token_owners, of_tokens), (character_owners, of_characters)):
        owners[: len(words)] = words[: len(owners)]


def _pieces(cleaned: str, tokenizer: Tokenizer) -> list[tuple[str, tuple[int, int], list[Token] | None]]:
    """A space and the text, as the tokenizer's normaliser leaves them, cut up: no word, word, no word, word ...

    Each with its place in both together. `encode_texts` puts the same space before the characters.
    """
    pieces = PreTokenizedString(f" {cleaned}")
    if tokenizer.normalizer is not None:
        pieces.normalize(tokenizer.normalizer.normalize)
    _WORDS.pre_tokenize(pieces)
    return pieces.get_splits("original", "char")
