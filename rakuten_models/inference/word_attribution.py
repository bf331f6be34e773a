"""Which words of a product's cleaned texts became which columns of the text model's inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import PreTokenizedString, Regex, Token, Tokenizer
from tokenizers.pre_tokenizers import Split

from rakuten_models.preprocessing.text import TextSettings

FIELDS = ("designation", "description")

# What `train_tokenizer` calls a word: token i is the i-th of them.
_WORDS = Split(Regex(r"\w+"), "isolated")

_RUN = re.compile(r"\s+|\S+")

# Characters of a text per byte that the model reads; a combining accent is a character that normalising drops.
_CHARACTERS_A_BYTE = 2


@dataclass(frozen=True)
class ReadWords:
    """The words that a model reads of a product, and which of its inputs' columns they became.

    Attributes:
        spans: For each word (field, start, end) in the product's cleaned text.
        owners: {"token_ids", "character_ids"} -> int64 (columns,): the word that a column belongs to, -1 for none.
    """

    spans: Sequence[tuple[str, int, int]]
    owners: Mapping[str, np.ndarray]

    def contributions(self, columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, float]:
        """Sum up columns by word.

        Args:
            columns: By input, float32 (columns,).

        Returns:
            float64 (words,), and the sum of the columns that belong to no word.
        """
        sums = np.zeros(len(self.spans) + 1)
        for name, values in columns.items():
            sums += np.bincount(self.owners[name] + 1, values, len(sums))
        return sums[1:], float(sums[0])


def read_words(
    cleaned: tuple[str, str], tokenizer: Tokenizer, settings: TextSettings, encoded: Mapping[str, np.ndarray]
) -> ReadWords:
    """Find the words that became the columns of `encode_texts`.

    A word is a run of letters and digits; signs beside it without a space belong to it, signs alone are a word.

    Args:
        cleaned: Designation and description, from `clean_product`.
        tokenizer: The bundle's.
        settings: The bundle's.
        encoded: What `encode_texts` made of this product alone.
    """
    spans: list[tuple[str, int, int]] = []
    owners = {name: np.full(ids.shape[1], -1, np.int64) for name, ids in encoded.items()}
    tokens, characters = settings.designation_tokens, settings.designation_characters
    for name, text, columns in zip(
        FIELDS,
        cleaned,
        (
            (owners["token_ids"][:tokens], owners["character_ids"][:characters]),
            (owners["token_ids"][tokens:], owners["character_ids"][characters:]),
        ),
        strict=True,
    ):
        found = _read_field(text, tokenizer, *columns)
        for owner in columns:
            owner[owner >= 0] += len(spans)
        spans += [(name, start, end) for start, end in found]
    return ReadWords(spans, owners)


def _read_field(
    text: str, tokenizer: Tokenizer, token_owners: np.ndarray, character_owners: np.ndarray
) -> list[tuple[int, int]]:
    """Write the number of each column's word into the owners of this field; return the words' spans."""
    spans: list[tuple[int, int]] = []

    def word(first: int, last: int) -> int:
        """The number of the word at text[first:last] without spaces; what overlaps the word before is that word."""
        stretch = text[first:last]
        first += len(stretch) - len(stretch.lstrip())
        last = first + len(stretch.strip())
        if first == last:
            return -1
        if spans and first < spans[-1][1]:
            spans[-1] = spans[-1][0], max(last, spans[-1][1])
        else:
            spans.append((first, last))
        return len(spans) - 1

    of_tokens: list[int] = []
    of_characters: list[int] = []
    # The word that signs right after it belong to; the bytes of signs that wait for a word right after them.
    current: int | None = None
    waiting, waiting_span = 0, (0, 0)
    for number, (piece, (first, last), _) in enumerate(
        _pieces(text[: _CHARACTERS_A_BYTE * len(character_owners)], tokenizer)
    ):
        if len(of_tokens) >= len(token_owners) and len(of_characters) >= len(character_owners):
            break
        # Less the space in front.
        first, last = max(first - 1, 0), last - 1
        if number % 2:
            current = word(first, last)
            of_tokens.append(current)
            of_characters += [current] * (waiting + len(piece.encode()))
            waiting = 0
            continue
        for run in _RUN.findall(piece):
            size = len(run.encode())
            if run.isspace():
                if waiting:
                    of_characters += [word(*waiting_span)] * waiting
                    waiting = 0
                of_characters += [-1] * size
                current = None
                continue
            # The same signs may have stood before; the normaliser may have changed these.
            found = text.find(run, first, last)
            span = (first, last) if found < 0 else (found, found + len(run))
            first = first if found < 0 else span[1]
            if current is not None:
                of_characters += [current] * size
            else:
                waiting, waiting_span = size, span
    if waiting:
        of_characters += [word(*waiting_span)] * waiting
    for owners, words in ((token_owners, of_tokens), (character_owners, of_characters)):
        owners[: len(words)] = words[: len(owners)]
    return spans


def _pieces(text: str, tokenizer: Tokenizer) -> list[tuple[str, tuple[int, int], list[Token] | None]]:
    """A space and the text, as the tokenizer's normaliser leaves them, cut up: no word, word, no word, word ...

    Each with its span in both together. `encode_texts` puts the same space before the characters.
    """
    pieces = PreTokenizedString(f" {text}")
    if tokenizer.normalizer is not None:
        pieces.normalize(tokenizer.normalizer.normalize)
    _WORDS.pre_tokenize(pieces)
    return pieces.get_splits("original", "char")
