"""Where the cleaned text's characters stand in the text as it was written, so that it can be marked there.

`clean_text` says what the cleaned text is. Here its first steps are followed with their positions, and what its
later steps made (mended encodings, typographic apostrophes) is laid beside the result, word by word.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher

import numpy

from rakuten_models import cleaning
from rakuten_models.cleaning import MAXIMUM_CHARACTERS, clean_text

# What `html.unescape` looks at, one by one.
_ENTITY = re.compile(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
_WORD = re.compile(r"\S+")
# By code point; the ideographic space is the last.
_IS_SPACE = numpy.array([chr(code).isspace() for code in range(0x3002)])
# Comparing two stretches costs up to their lengths multiplied; past this, their characters stay without a place.
_MOST_COMPARISONS = 250_000
# Words, of both texts together, in which they are expected to agree again.
_REACH = 40


def clean_with_offsets(raw: str) -> tuple[str, numpy.ndarray, numpy.ndarray]:
    """Clean a text and say where each character comes from.

    Args:
        raw: As the catalog holds it.

    Returns:
        `clean_text(raw)`, and two int64 (its length,): character i stands at raw[starts[i]:ends[i]]; an entity is
        one place for all its characters, -1 is none. Places of words grow; those of spaces are -1.
    """
    stripped = _stripped(raw[:MAXIMUM_CHARACTERS])
    # The same text either way; without anything to strip it is found sooner.
    nothing_left = "&" not in stripped.text and "<" not in stripped.text
    cleaned = clean_text(stripped.text if nothing_left else raw)
    starts = numpy.full(len(cleaned), -1, numpy.int64)
    ends = starts.copy()
    first_starts, last_ends = numpy.array(stripped.starts, int), numpy.array(stripped.ends, int)
    for first, last, read in _matches(stripped.text, cleaned):
        starts[read] = first_starts[first]
        ends[read] = last_ends[last]
    return cleaned, starts, ends


class _Traced:
    """A text whose characters know where they came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = list(range(len(text)))
        self.ends = list(range(1, len(text) + 1))

    def replace(self, pattern: re.Pattern[str], replacement: Callable[[re.Match[str]], str]) -> None:
        """`pattern.sub`; the characters of a replacement stand where the whole match stood."""
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        last = 0
        for match in pattern.finditer(self.text):
            first, after = match.span()
            new = replacement(match)
            if new == match.group():
                continue
            texts += (self.text[last:first], new)
            starts += self.starts[last:first] + [self.starts[first]] * len(new)
            ends += self.ends[last:first] + [self.ends[after - 1]] * len(new)
            last = after
        if texts:
            self.text = "".join([*texts, self.text[last:]])
            self.starts = starts + self.starts[last:]
            self.ends = ends + self.ends[last:]


def _stripped(raw: str) -> _Traced:
    """Entities and tags gone, as `clean_text` begins."""
    traced = _Traced(raw)
    for _ in range(2):
        if "&" in traced.text:
            traced.replace(cleaning._DOUBLE_ESCAPE, lambda match: "&")
            traced.replace(_ENTITY, lambda match: html.unescape(match.group()))
    if "<" in traced.text:
        traced.replace(cleaning._INVISIBLE_ELEMENT, lambda match: " ")
        traced.replace(cleaning._TAG, lambda match: " ")
    return traced


# Characters of the older text, the first and the last of each, and the character of the newer that they became.
_Places = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


def _matches(before: str, after: str) -> Iterator[_Places]:
    """Which characters of `before` became which of `after`: positions, in arrays of one length."""
    old_words, new_words = before.split(), after.split()
    # Nothing but single characters were exchanged, as in nearly every text.
    if list(map(len, old_words)) == list(map(len, new_words)):
        yield (places := _solid(before)), places, _solid(after)
        return
    old = [match.span() for match in _WORD.finditer(before)]
    new = [match.span() for match in _WORD.finditer(after)]
    first = new_first = 0
    while first < len(old) and new_first < len(new):
        last, new_last = _next_agreement(old_words, new_words, first, new_first)
        if last - first == new_last - new_first:
            for one, other in zip(old[first:last], new[new_first:new_last], strict=True):
                yield from _match_stretch(before, after, one, other)
        elif last > first and new_last > new_first:
            yield from _match_stretch(
                before, after, (old[first][0], old[last - 1][1]), (new[new_first][0], new[new_last - 1][1])
            )
        first, new_first = last, new_last
        if first < len(old) and new_first < len(new):
            yield from _match_stretch(before, after, old[first], new[new_first])
            first, new_first = first + 1, new_first + 1


def _next_agreement(old: list[str], new: list[str], first: int, new_first: int) -> tuple[int, int]:
    """The nearest pair of equal words from two positions on; the ends if there is none within reach."""
    for distance in range(_REACH):
        for ahead in range(distance + 1):
            position, new_position = first + ahead, new_first + distance - ahead
            if position < len(old) and new_position < len(new) and old[position] == new[new_position]:
                return position, new_position
    return len(old), len(new)


def _match_stretch(before: str, after: str, old: tuple[int, int], new: tuple[int, int]) -> Iterator[_Places]:
    """The same for one stretch of each."""
    length, new_length = old[1] - old[0], new[1] - new[0]
    if length == new_length:
        yield (places := numpy.arange(*old)), places, numpy.arange(*new)
    elif length * new_length <= _MOST_COMPARISONS:
        matcher = SequenceMatcher(None, before[slice(*old)], after[slice(*new)], autojunk=False)
        for _, first, last, new_first, new_last in matcher.get_opcodes():
            if last > first and new_last > new_first:
                # Two characters that became three: the third stands where the second does. Three that became two:
                # the second stands where both of the last do.
                read = numpy.arange(new_first, new_last)
                places = numpy.minimum(read - new_first + first, last - 1)
                lasts = numpy.append(places[:-1], last - 1)
                yield old[0] + places, old[0] + lasts, new[0] + read


def _solid(text: str) -> numpy.ndarray:
    """The positions of all characters but spaces."""
    codes = numpy.frombuffer(text.encode("utf-32-le", "surrogatepass"), numpy.uint32)
    return numpy.flatnonzero(~_IS_SPACE[numpy.minimum(codes, len(_IS_SPACE) - 1)])
