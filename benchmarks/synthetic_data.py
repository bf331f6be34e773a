"""Products that nobody sells, for timing: French-looking texts and drawn photos, the same for the same seed."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from rakuten_models.product import Product

_SYLLABLES = (
    "ba be bi bo bu ca ce co da de di do fa fe fi ga go la le li lo lu ma me mi mo mu na ne ni no pa pe pi po ra re ri "
    "ro sa se si so ta te ti to va ve vi vo bre tra cla plu ron tion ment eur té ée ère ène çon août"
)

_SMALL_WORDS = "de la le et à en pour avec un une les des du par sur"
_VOCABULARY = 20_000

# Words of a title and of the descriptions of a catalog; a third of its products has none.
TITLE_WORDS = 11
_DESCRIPTION_WORDS = (0, 0, 30, 60, 120, 240)
PHOTO_SIDE = 500


def vocabulary(seed: int = 0) -> list[str]:
    """20,000 words of one to three syllables."""
    random = np.random.default_rng([seed, 1])
    syllables = _SYLLABLES.split()
    lengths = random.integers(1, 4, _VOCABULARY)
    chosen = random.integers(0, len(syllables), (_VOCABULARY, 3))
    rows = zip(chosen, lengths, strict=True)
    return ["".join(syllables[number] for number in row[:length]) for row, length in rows]


def texts(count: int, words: int | Sequence[int], seed: int = 0) -> list[str]:
    """Texts of so many words each (or: one number for each), the frequent ones frequent, every third a small one."""
    random = np.random.default_rng([seed, 2])
    known = vocabulary(seed)
    lengths = np.broadcast_to(np.asarray(words), (count,))
    # Zipf's law, as words of a language follow it.
    weights = 1.0 / np.arange(1, _VOCABULARY + 1)
    drawn = random.choice(_VOCABULARY, int(lengths.sum()), p=weights / weights.sum())
    small_words = _SMALL_WORDS.split()
    small = random.integers(0, len(small_words), len(drawn))
    words_in_turn = np.array(known, object)[drawn]
    words_in_turn[2::3] = np.array(small_words, object)[small[2::3]]
    found = [" ".join(part) for part in np.split(words_in_turn, np.cumsum(lengths)[:-1])]
    return [text[:1].upper() + text[1:] for text in found]


def titles(count: int, words: int = 22, seed: int = 0) -> list[Product]:
    """Products of one title each."""
    return [Product(text) for text in texts(count, words, seed)]


def catalog(count: int, pictures: int = 0, seed: int = 0) -> list[Product]:
    """Products with a title of 11 words, two thirds of them with a description of 30 to 240.

    They share so many different pictures of 500 x 500 pixels in turn; 0: they have none.
    """
    random = np.random.default_rng([seed, 3])
    descriptions = texts(count, random.choice(_DESCRIPTION_WORDS, count), seed + 1)
    photos = [photo(seed + number) for number in range(pictures)] or [None]
    fields = zip(texts(count, TITLE_WORDS, seed), descriptions, strict=True)
    return [
        Product(title, f"<p>{text}</p>" if text else "", photos[row % len(photos)])
        for row, (title, text) in enumerate(fields)
    ]


def photo(seed: int = 0, width: int = PHOTO_SIDE, height: int = PHOTO_SIDE) -> bytes:
    """A JPEG file with as much detail as a product photo: shapes on a white ground with grain."""
    random = np.random.default_rng([seed, 4])
    # Drawn small and enlarged, or drawing a large one would take longer than what is timed.
    small = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(small)
    for _ in range(12):
        x, y, side = random.integers(0, 200, 3).tolist()
        colour = tuple(random.integers(0, 256, 3).tolist())
        draw.ellipse((x, y, x + side // 2 + 8, y + side // 3 + 8), fill=colour)
    picture = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = random.integers(-12, 13, (min(height, 512), min(width, 512), 1), np.int16)
    repeats = (-(-height // grain.shape[0]), -(-width // grain.shape[1]), 1)
    grained = (picture + np.tile(grain, repeats)[:height, :width]).clip(0, 255)
    file = io.BytesIO()
    Image.fromarray(grained.astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()
