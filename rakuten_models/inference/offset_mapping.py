"""Where the cleaned text's characters stand in the text as it was written, so that it can be marked there.

`clean_text` says what the cleaned text is. Here its first steps are followed with their positions, and what its
later steps made (mended encodings, typographic apostrophes) is laid beside the result, word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from rakuten_models.preprocessing import cleaning
from rakuten_models.preprocessing.cleaning import MAX_CHARACTERS, clean_text

# What `html.unescape` looks at, one by one.
_ENTITY = re.compile(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")

_WORD = re.compile(r"\S+")

# By code point; the ideographic space is the last.
_IS_SPACE = np.array([chr(code).isspace() for code in range(0x3002)])

# Words, and characters of a word, of both texts together, in which they are expected to agree again.
_WORD_REACH, _CHARACTER_REACH = 40, 12


def clean_with_offsets(raw: str, most: int = MAX_CHARACTERS) -> tuple[str, np.ndarray, np.ndarray]:
    """Clean a text and say where each character comes from.

    Args:
        raw: As the catalog holds it.
        most: Characters of the cleaned text whose places are wanted; those of the rest may be missing.

    Returns:
        `clean_text(raw)`, and two int64 (its length,): character i stands at raw[starts[i]:ends[i]]; an entity is
        one place for all its characters, -1 is none. Places of words grow; those of spaces are -1.
    """
    stripped = _stripped(raw[:MAX_CHARACTERS])
    # The same text either way; without anything to strip it is found sooner.
    nothing_left = "&" not in stripped.text and "<" not in stripped.text
    cleaned = clean_text(stripped.text if nothing_left else raw)
    starts = np.full(len(cleaned), -1, np.int64)
    ends = starts.copy()
    first_starts, last_ends = np.array(stripped.starts, int), np.array(stripped.ends, int)
    for first, last, read in _matches(stripped.text, cleaned, most):
        starts[read] = first_starts[first]
        ends[read] = last_ends[last]
    return cleaned, starts, ends


class _Traced:
    """A text whose characters know where they came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = list(range(len(text)))
        self.ends = list(range(1, len(text) + 1))

    def replace(self, replacements: Iterable[tuple[int, int, str]]) -> None:
        """Put other texts in the places (start, end, new text); their characters stand where the whole place stood."""
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        last = 0
        for first, after, new in replacements:
            if new == self.text[first:after]:
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
            traced.replace((*match.span(), "&") for match in cleaning._DOUBLE_ESCAPE.finditer(traced.text))
            traced.replace(
                (*match.span(), cleaning.unescape(match.group())) for match in _ENTITY.finditer(traced.text)
            )
    if "<" in traced.text:
        traced.replace((*place, " ") for place in cleaning.invisible_elements(traced.text))
        traced.replace((*match.span(), " ") for match in cleaning._TAG.finditer(traced.text))
    return traced


# Characters of the older text, the first and the last of each, and the character of the newer that they became.
_Places = tuple[np.ndarray, np.ndarray, np.ndarray]


def _matches(before: str, after: str, most: int) -> Iterator[_Places]:
    """Which characters of `before` became which of the first `most` of `after`: positions, in arrays of one length."""
    old_words, new_words = before.split(), after.split()
    # Nothing but single characters were exchanged, as in nearly every text.
    if list(map(len, old_words)) == list(map(len, new_words)):
        yield (places := _solid(before)), places, _solid(after)
        return
    old = [match.span() for match in _WORD.finditer(before)]
    new = [match.span() for match in _WORD.finditer(after)]
    for first, last, new_first, new_last in _steps(old_words, new_words, _WORD_REACH):
        if new[new_first][0] >= most:
            return
        if last - first == new_last - new_first:
            for one, other in zip(old[first:last], new[new_first:new_last], strict=True):
                yield from _match_stretch(before, after, one, other)
        else:
            stretches = (old[first][0], old[last - 1][1]), (new[new_first][0], new[new_last - 1][1])
            yield from _match_stretch(before, after, *stretches)


def _steps(old: Sequence[str], new: Sequence[str], reach: int) -> Iterator[tuple[int, int, int, int]]:
    """Walk along both, from agreement to agreement: what became what, from first to last of each, none of them empty.

    It takes time by the texts' lengths, whatever they hold; `difflib` takes up to the cube of them, a minute for words
    of 500 characters with a zero-width space after each.
    """
    first = new_first = 0
    while first < len(old) and new_first < len(new):
        last, new_last = _next_agreement(old, new, first, new_first, reach)
        if last > first and new_last > new_first:
            yield first, last, new_first, new_last
        first, new_first = last, new_last
        while last < len(old) and new_last < len(new) and old[last] == new[new_last]:
            last, new_last = last + 1, new_last + 1
        if last > first:
            yield first, last, new_first, new_last
        first, new_first = last, new_last


def _next_agreement(
    old: Sequence[str], new: Sequence[str], first: int, new_first: int, reach: int
) -> tuple[int, int]:
    """The nearest pair of equals from two positions on; the ends if there is none within reach."""
    for distance in range(reach):
        for ahead in range(distance + 1):
            position, new_position = first + ahead, new_first + distance - ahead
            if position < len(old) and new_position < len(new) and old[position] == new[new_position]:
                return position, new_position
    return len(old), len(new)


def _match_stretch(before: str, after: str, old: tuple[int, int], new: tuple[int, int]) -> Iterator[_Places]:
    """The same for one stretch of each."""
    if old[1] - old[0] == new[1] - new[0]:
        yield (places := np.arange(*old)), places, np.arange(*new)
        return
    for first, last, new_first, new_last in _steps(before[slice(*old)], after[slice(*new)], _CHARACTER_REACH):
        # Two characters that became three: the third stands where the second does. Three that became two: the
        # second stands where both of the last do.
        read = np.arange(new_first, new_last)
        places = np.minimum(read - new_first + first, last - 1)
        lasts = np.append(places[:-1], last - 1)
        yield old[0] + places, old[0] + lasts, new[0] + read


def _solid(text: str) -> np.ndarray:
    """The positions of all characters but spaces."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.flatnonzero(~_IS_SPACE[np.minimum(codes, len(_IS_SPACE) - 1)])
