"""Texts to ids without any shortcut, as bundles were trained at first: the faster ones must give these very bits."""

import html
import re
from collections.abc import Sequence

import ftfy
import ftfy.badness
import ftfy.fixes
import numpy as np
from tokenizers import Tokenizer

from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Product

# A listing's first 20,000 characters decide; more would only cost time (a text of 1 MB is not an error).
MAX_CHARACTERS = 20_000

# An escaped ampersand in front of an entity, as double escaping leaves it: "&amp; nbsp;", "&amp;eacute;".
_DOUBLE_ESCAPE = re.compile(r"&amp;\s?(?=#?\w{2,8};)")

_INVISIBLE_ELEMENT = re.compile(r"<(script|style)\b[^<]*(?:<(?!/\1)[^<]*)*</\1\s*>", re.IGNORECASE)

_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")

_ZERO_WIDTH = re.compile(r"[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")

_APOSTROPHE = re.compile("[\u2018\u2019\u201b\u02bc\u00b4\u0060\u2032]")

# Exports that knew no "œ" and no typographic apostrophe wrote an inverted question mark for both.
_LOST_LIGATURE = re.compile(r"¿(?=uvre|uf|urs?\b|uds?\b|il|ux?\b)", re.IGNORECASE)

_LOST_APOSTROPHE = re.compile(r"(?<=[^\W\d_])¿(?=[^\W\d_])")

# UTF-8 read as Latin-1 and lower-cased afterwards, which ftfy cannot see: "grà¢ce" was "grâce".
_LOWERED_MOJIBAKE = re.compile(r"(?<=[^\W\d_])[ãà]([\xa2\xa7-\xab\xae\xb4\xb9\xbb])(?=[^\W\d_])")

# A paragraph tag of which only the letter is left: "pIn Ancient Persia".
_TAG_LETTER = re.compile(r"(?<![^\s\-.!?])p(?=[A-ZÀ-Ý][a-zà-ÿ])")

_SPACES = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """What a person would read: no HTML, no entities, no broken encoding, single spaces.

    Letter case and accents stay; the tokenizer's own normaliser deals with them.

    Args:
        text: As the catalog holds it: HTML, escaped once or twice, mojibake, any length.

    Returns:
        At most 20,000 characters of plain text; "" if nothing is left.
    """
    text = text[:MAX_CHARACTERS]
    if "&" in text:
        text = html.unescape(_DOUBLE_ESCAPE.sub("&", text))
        if "&" in text:
            text = html.unescape(_DOUBLE_ESCAPE.sub("&", text))
    if "<" in text:
        text = _TAG.sub(" ", _INVISIBLE_ELEMENT.sub(" ", text))
    if not text.isascii():
        text = _mend_encoding(text)
    text = _TAG_LETTER.sub("", text)
    return _SPACES.sub(" ", _CONTROL.sub(" ", text)).strip()


def _mend_encoding(text: str) -> str:
    """Undo what wrong encodings did; drop what no reader sees."""
    # Half of a surrogate pair cannot be written as UTF-8, and the tokenizer refuses it.
    text = text.encode("utf-8", "ignore").decode("utf-8")
    text = ftfy.fixes.fix_c1_controls(text)
    if ftfy.badness.is_bad(text):
        text = ftfy.fix_encoding(text)
    if "¿" in text:
        text = _LOST_APOSTROPHE.sub("'", _LOST_LIGATURE.sub("œ", text))
    text = _LOWERED_MOJIBAKE.sub(lambda match: chr(ord(match.group(1)) + 0x40), text)
    return _APOSTROPHE.sub("'", _ZERO_WIDTH.sub("", text))


def has_text(product: Product) -> bool:
    """Whether the designation or the description holds at least one letter or digit to read."""
    return any(
        character.isalnum() for text in (product.designation, product.description) for character in clean_text(text)
    )


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
    designations = [clean_text(product.designation) for product in products]
    descriptions = [clean_text(product.description) for product in products]
    token_ids = _two_parts(
        [
            [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
            for texts in (designations, descriptions)
        ],
        settings.designation_tokens,
        settings.description_tokens,
    )
    character_ids = _two_parts(
        [[_normalised_bytes(text, tokenizer) for text in texts] for texts in (designations, descriptions)],
        settings.designation_characters,
        settings.description_characters,
    )
    return {"token_ids": token_ids, "character_ids": character_ids}


def _normalised_bytes(text: str, tokenizer: Tokenizer) -> list[int]:
    """UTF-8 of the text between two spaces, [] for no text."""
    if not text:
        return []
    normalised = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    return list(f" {normalised} ".encode())


def _two_parts(parts: Sequence[Sequence[Sequence[int]]], first_length: int, second_length: int) -> np.ndarray:
    """The first part's ids from column 0, the second's from column `first_length`, cut to their lengths."""
    first, second = parts
    longest = min(second_length, max(map(len, second), default=0))
    # Few different widths, or the compiled model would be resized for nearly every call.
    width = first_length + (min(second_length, 1 << (longest - 1).bit_length()) if longest else 0)
    ids = np.zeros((len(first), width), np.int32)
    for row, (first_ids, second_ids) in enumerate(zip(first, second, strict=True)):
        first_ids, second_ids = first_ids[:first_length], second_ids[:second_length]
        ids[row, : len(first_ids)] = first_ids
        ids[row, first_length : first_length + len(second_ids)] = second_ids
    return ids
