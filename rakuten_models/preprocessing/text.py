"""Products to token ids: the one text preprocessing, for training and serving."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.product import Product

# Characters of a cleaned text that are tokenized at first; all of it only if these do not fill the model's input.
_HEAD, _HEAD_MARGIN = 4096, 256


@dataclass(frozen=True)
class TextSettings:
    """How a text becomes ids.

    Attributes:
        designation_tokens: Tokens of the designation that are read, the rest is cut.
        description_tokens: Tokens of the description that are read.
        designation_characters: UTF-8 bytes of the normalised designation that are read.
        description_characters: UTF-8 bytes of the normalised description that are read.
    """

    designation_tokens: int = 64
    description_tokens: int = 192
    designation_characters: int = 256
    description_characters: int = 1024


def clean_product(product: Product) -> tuple[str, str]:
    """The designation and the description, cleaned."""
    return clean_text(product.designation), clean_text(product.description)


def holds_text(cleaned: tuple[str, str]) -> bool:
    """Whether a cleaned designation or description holds at least one letter or digit to read."""
    return any(character.isalnum() for text in cleaned for character in text)


def has_text(product: Product) -> bool:
    """Whether the designation or the description holds at least one letter or digit to read."""
    return holds_text(clean_product(product))


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizers` file, with its own truncation and padding switched off."""
    tokenizer = Tokenizer.from_file(os.fspath(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode_texts(products: Sequence[Product], tokenizer: Tokenizer, settings: TextSettings) -> dict[str, np.ndarray]:
    """Turn products into the text model's inputs.

    Args:
        products: n products; a missing text is "".
        tokenizer: From `load_tokenizer`.
        settings: From the bundle.

    Returns:
        {"token_ids": int32 (n, tokens), "character_ids": int32 (n, characters)}; 0 is padding. The designation starts
        at column 0, the description at column `designation_tokens` and `designation_characters`. character_ids are
        the UTF-8 bytes (1-255) of the text as the tokenizer normalises it, with a space before and after. Both are
        only as wide as the longest text needs, rounded up to a power of two, or to the designation's part.
    """
    return encode_cleaned([clean_product(product) for product in products], tokenizer, settings)


def encode_cleaned(
    cleaned: Sequence[tuple[str, str]], tokenizer: Tokenizer, settings: TextSettings
) -> dict[str, np.ndarray]:
    """`encode_texts` for products that `clean_product` has cleaned already."""
    designations, descriptions = [texts for texts, _ in cleaned], [texts for _, texts in cleaned]
    return {
        "token_ids": _two_parts(
            _token_ids(designations, tokenizer, settings.designation_tokens),
            _token_ids(descriptions, tokenizer, settings.description_tokens),
            settings.designation_tokens,
            settings.description_tokens,
        ),
        "character_ids": _two_parts(
            _normalised_bytes(designations, tokenizer, settings.designation_characters),
            _normalised_bytes(descriptions, tokenizer, settings.description_characters),
            settings.designation_characters,
            settings.description_characters,
        ),
    }


def _token_ids(texts: Sequence[str], tokenizer: Tokenizer, most: int) -> list[list[int]]:
    """The ids of each text's tokens, of which the first `most` are right."""
    heads = tokenizer.encode_batch_fast([text[:_HEAD] for text in texts], add_special_tokens=False)
    found = [encoding.ids for encoding in heads]
    for row, text in enumerate(texts):
        # The head's last token may be half a word: there must be more than are read.
        if len(text) > _HEAD and len(found[row]) <= most:
            found[row] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def _normalised_bytes(texts: Sequence[str], tokenizer: Tokenizer, most: int) -> list[bytes]:
    """UTF-8 of each text between two spaces, b"" for no text; the first `most` bytes are right."""
    normalise = tokenizer.normalizer.normalize_str if tokenizer.normalizer else str
    found = []
    for text in texts:
        # Accents may stand apart from their letters, and are dropped: a head can end in the middle of them.
        head = f" {normalise(text[:_HEAD])}".encode() if len(text) > _HEAD else b""
        if len(head) < most + _HEAD_MARGIN:
            head = f" {normalise(text)} ".encode() if text else b""
        found.append(head)
    return found


def _two_parts(
    first: Sequence[Sequence[int]], second: Sequence[Sequence[int]], first_length: int, second_length: int
) -> np.ndarray:
    """The first part's ids from column 0, the second's from column `first_length`, cut to their lengths."""
    longest = min(second_length, max(map(len, second), default=0))
    # Few different widths, or the compiled model would be resized for nearly every call.
    width = first_length + (min(second_length, 1 << (longest - 1).bit_length()) if longest else 0)
    ids = np.zeros((len(first), width), np.int32)
    _fill(ids[:, :first_length], first)
    if longest:
        _fill(ids[:, first_length:], second)
    return ids


def _fill(ids: np.ndarray, sequences: Sequence[Sequence[int]]) -> None:
    """Write each sequence into a row from its column 0 on, as far as the row goes."""
    length = ids.shape[1]
    lengths = np.array([min(len(each), length) for each in sequences], np.int64)
    read = itertools.chain.from_iterable(each[:length] for each in sequences)
    ids[np.arange(length) < lengths[:, np.newaxis]] = np.fromiter(read, np.int32, int(lengths.sum()))
