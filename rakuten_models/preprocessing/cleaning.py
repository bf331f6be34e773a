"""Catalog text to plain text: no HTML, entities or mojibake; the first step of text preprocessing."""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterator

# A listing's first 20,000 characters decide; more would only cost time (a text of 1 MB is not an error).
MAX_CHARACTERS = 20_000

# An escaped ampersand in front of an entity, as double escaping leaves it: "&amp; nbsp;", "&amp;eacute;".
_DOUBLE_ESCAPE = re.compile(r"&amp;\s?(?=#?\w{2,8};)")

# Python refuses to read a number of more than 4,300 digits; the code point after the last stands for it.
_ENDLESS_NUMBER, _NO_CHARACTER = re.compile(r"(?<=&#)[0-9]{1000,}"), "1114112"

_INVISIBLE_START = re.compile(r"<(script|style)\b", re.IGNORECASE)
_INVISIBLE_END = re.compile(r"</(script|style)(\s*>)?", re.IGNORECASE)
_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_ZERO_WIDTH = re.compile(r"[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_APOSTROPHE = re.compile("[\u2018\u2019\u201b\u02bc\u00b4\u0060\u2032]")

# Exports that knew no "œ" and no typographic apostrophe wrote an inverted question mark for both.
_LOST_LIGATURE = re.compile(r"¿(?=uvre|uf|urs?\b|uds?\b|il|ux?\b)", re.IGNORECASE)
_LOST_APOSTROPHE = re.compile(r"(?<=[^\W\d_])¿(?=[^\W\d_])")

# UTF-8 read as Latin-1 and lower-cased afterwards, which ftfy cannot see: "grà¢ce" was "grâce". The lookbehind comes
# last, here and below: a pattern that begins with a literal is found many times sooner.
_LOWERED_MOJIBAKE = re.compile(r"[ãà]([\xa2\xa7-\xab\xae\xb4\xb9\xbb])(?<=[^\W\d_]..)(?=[^\W\d_])", re.DOTALL)

# A paragraph tag of which only the letter is left: "pIn Ancient Persia".
_TAG_LETTER = re.compile(r"p(?=[A-ZÀ-Ý][a-zà-ÿ])(?<![^\s\-.!?]p)")

# ftfy changes no text of ASCII and these characters alone (a test shows it), and most French texts hold no others:
# searching for one costs a thirtieth of asking ftfy.
_MAY_BE_BROKEN = re.compile("[^\x00-\x7fàâäçèéêëîïôöùûü\u2019\u2013\u2026]")


def clean_text(text: str) -> str:
    """Plain text: no HTML, no entities, no broken encoding, single spaces.

    Letter case and accents stay; the tokenizer's own normaliser deals with them.

    Args:
        text: As the catalog holds it: HTML, escaped once or twice, mojibake, any length.

    Returns:
        At most 20,000 characters of plain text; "" if nothing is left.
    """
    text = text[:MAX_CHARACTERS]
    if "&" in text:
        text = unescape(_DOUBLE_ESCAPE.sub("&", text))
        if "&" in text:
            text = unescape(_DOUBLE_ESCAPE.sub("&", text))
    if "<" in text:
        visible, position = [], 0
        for start, end in invisible_elements(text):
            visible.append(text[position:start])
            position = end
        text = _TAG.sub(" ", " ".join([*visible, text[position:]]))
    if not text.isascii():
        text = _mend_encoding(text)
    text = _TAG_LETTER.sub("", text)
    return " ".join(_CONTROL.sub(" ", text).split())


def unescape(text: str) -> str:
    """`html.unescape` that takes a numeric entity of any length."""
    return html.unescape(_ENDLESS_NUMBER.sub(_NO_CHARACTER, text))


def invisible_elements(text: str) -> Iterator[tuple[int, int]]:
    """Spans of scripts and style sheets, tags included; one that is never closed is none.

    Linear in the length: one pattern for the whole element would search its end anew from each start tag, which takes
    seconds for 20,000 characters of them.
    """
    ends: dict[str, deque[re.Match[str]]] = {}
    for match in _INVISIBLE_END.finditer(text):
        ends.setdefault(match.group(1).lower(), deque()).append(match)
    position = 0
    for start in _INVISIBLE_START.finditer(text):
        if start.start() < position:
            continue
        following = ends.get(start.group(1).lower(), deque())
        while following and following[0].start() < start.end():
            following.popleft()
        # The first end tag decides, whole or broken.
        if following and following[0].group(2):
            position = following[0].end()
            yield start.start(), position


def _mend_encoding(text: str) -> str:
    """Undo wrong decoding; drop invisible characters."""
    # Half of a surrogate pair has no UTF-8, and the tokenizer refuses it.
    text = text.encode("utf-8", "ignore").decode("utf-8")
    if _MAY_BE_BROKEN.search(text):
        # Imported here: the import takes a tenth of the time to a first answer, and many texts need none of it.
        import ftfy
        import ftfy.badness
        import ftfy.fixes

        text = ftfy.fixes.fix_c1_controls(text)
        text = ftfy.fix_encoding(text) if ftfy.badness.is_bad(text) else text
    if "¿" in text:
        text = _LOST_APOSTROPHE.sub("'", _LOST_LIGATURE.sub("œ", text))
    text = _LOWERED_MOJIBAKE.sub(lambda match: chr(ord(match.group(1)) + 0x40), text)
    return _APOSTROPHE.sub("'", _ZERO_WIDTH.sub("", text))
