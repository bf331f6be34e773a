"""Finds products that are listed more than once: near-identical texts and near-identical pictures.

Texts are compared without case, accents, punctuation, HTML, broken encoding and the shortest words: equal texts, a text
that begins another (some exports cut at 100 characters), and texts whose 5-character shingles largely agree, found with
MinHash and banding (Broder 1997, "On the resemblance and containment of documents"; Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3). Our own MinHash: over 24,000 texts datasketch 2.0.0 took 2.2 CPU seconds where
this takes 0.35, and other links would move rows of existing bundles between train and test. Pictures are compared by
their perceptual hash (the signs of the low frequencies of a 32 by 32 cosine transform, as in the pHash library) and
then by the pixels, found by multi-index hashing (Norouzi, Punjani and Fleet 2012, "Fast search in Hamming space with
multi-index hashing").

A link is a pair of row positions; groups follow links transitively.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rakuten_models.preprocessing.cleaning import clean_text
from rakuten_models.preprocessing.image import PICTURE_FORMATS
from training.block_cache import BlockCache

# Jaccard similarity of the shingle sets from which on two texts count as one. On real listings 0.8 left the
# same cushion under two article numbers apart, and 0.6 began to chain all pool kits of one maker.
TEXT_SIMILARITY = 0.7
SHINGLE_BYTES = 5
PERMUTATIONS, ROWS_PER_BAND = 64, 4  # 16 bands: a pair at 0.7 shares no band once in 80, at 0.8 once in 5,000
MIN_PREFIX = 30  # normalised characters; "lego star wars" begins many texts of different products

# A text cut at 100 characters may end within a word or an entity: its last 12 are not compared.
CUT_PREFIX, CUT_LENGTH, CUT_TAIL = 60, 100, 12
HASH_DISTANCE = 4  # of 63 bits
PIXEL_DIFFERENCE = 10.0  # mean absolute difference of the 32 by 32 greys, 0-255
FLAT_PICTURE = 3.0  # standard deviation of the greys under which a picture shows nothing to compare
MAX_PICTURE_GROUP = 50  # rows; more is a placeholder or a chain of look-alikes, not one product
MAX_SIMILAR_GROUP = 1000  # rows; more is a chain through a seller's template
_PICTURES_AT_ONCE = 1024
_NO_LINKS = np.empty((0, 2), dtype=np.int64)


def text_links(texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """Links int64 (links, 2) between rows whose texts are near-identical: enough to connect each group.

    Args:
        texts: One a row, designation and description joined; empty ones have no link.
        seed: Of the random permutations behind MinHash.
    """
    keys = [comparison_key(text) for text in texts]
    unique = sorted(set(keys) - {""})
    if not unique:
        return _NO_LINKS
    number_of = {key: number for number, key in enumerate(unique)}
    rows = np.array([row for row, key in enumerate(keys) if key], dtype=np.int64)
    numbers = np.array([number_of[keys[row]] for row in rows], dtype=np.int64)
    first_row = np.empty(len(unique), dtype=np.int64)
    first_row[numbers[::-1]] = rows[::-1]
    equal = np.stack([rows, first_row[numbers]], axis=1)
    similar, distances = _similar_links(unique, seed)
    similar = _without_chains(similar, distances, len(unique), MAX_SIMILAR_GROUP, (0.2, 0.1, 0.0))
    between = np.concatenate([_prefix_links(unique), similar])
    return np.concatenate([equal[equal[:, 0] != equal[:, 1]], first_row[between]])


def picture_links(
    paths: Sequence[str], cache: BlockCache | None = None, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """Links int64 (links, 2) between rows whose pictures are near-identical.

    Rows with path "" or an unreadable or flat picture have none. Groups of more than MAX_PICTURE_GROUP rows keep only
    their identical hashes, and none if these are too many as well.

    Args:
        paths: One a row.
        cache: For the thumbnails; it belongs to these pictures. None: in memory.
        progress: Called as progress(pictures read, of how many).
    """
    rows = np.array([row for row, path in enumerate(paths) if path], dtype=np.int64)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside of Python's lock

        def make(start: int, stop: int) -> np.ndarray:
            return np.stack(list(pool.map(_grey_thumbnail, [paths[row] for row in rows[start:stop]])))

        shape = (len(rows), 32, 32)
        cache = cache or BlockCache(None)
        greys = cache.array("thumbnails", shape, np.uint8, make, _PICTURES_AT_ONCE, progress)
    textured = [number for number, grey in enumerate(greys) if grey.std() >= FLAT_PICTURE]
    if len(textured) < 2:
        return _NO_LINKS
    rows, thumbnails = rows[textured], greys[textured]
    hashes = perceptual_hashes(thumbnails)
    links, distances = _close_pictures(hashes, thumbnails)
    unchained: np.ndarray = rows[_without_chains(links, distances, len(rows), MAX_PICTURE_GROUP, (0, -1))]
    return unchained


def group_numbers(links: np.ndarray, count: int) -> np.ndarray:
    """int32 (count,): the group of each row, 0-based; rows that links connect, by any way, share one."""
    ones = np.ones(len(links), dtype=bool)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    numbers: np.ndarray = connected_components(graph, directed=False)[1]
    return numbers


def comparison_key(text: str) -> str:
    """The text's words and numbers, lower-case, without accents, one space between them.

    Words of one or two letters ("de", "et") go, for one listing has them and the next has not.
    """
    decomposed = unicodedata.normalize("NFKD", clean_text(text).lower())
    words = re.findall(r"[^\W_]+", "".join(c for c in decomposed if not unicodedata.combining(c)))
    return " ".join([word for word in words if len(word) > 2 or not word.isalpha()] or words)


def perceptual_hashes(greys: np.ndarray) -> np.ndarray:
    """The signs of the 63 lowest frequencies around their median.

    Args:
        greys: uint8 (n, 32, 32), 0-255.

    Returns:
        uint64 (n,); the lowest bit, which would stand for the brightness, is 0.
    """
    hashes = np.empty(len(greys), dtype=np.uint64)
    for start in range(0, len(greys), 4096):
        cosines = scipy.fft.dctn(greys[start : start + 4096].astype(np.float32), axes=(1, 2))
        block = cosines[:, :8, :8].reshape(-1, 64)[:, 1:]
        bits = (block > np.median(block, axis=1, keepdims=True)).astype(np.uint64)
        hashes[start : start + 4096] = (bits << np.arange(1, 64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    return hashes


def _grey_thumbnail(path: str) -> np.ndarray:
    """uint8 (32, 32); an unreadable picture is as flat as an empty one, and has no near-duplicate."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                image.draft("L", (64, 64))  # a JPEG is decoded at an eighth of its size
                return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))
    except Exception:  # whatever a decoder raises; the catalog counts the picture
        return np.zeros((32, 32), np.uint8)


def _prefix_links(unique: list[str]) -> np.ndarray:
    """Links between texts and those they begin, which lie in a row because `unique` is sorted."""
    linked_to_next = np.zeros(len(unique) + 1, dtype=np.int64)
    links = []
    for number, text in enumerate(unique):
        if len(text) < MIN_PREFIX:
            continue
        prefix = text[:-CUT_TAIL] if CUT_PREFIX <= len(text) <= CUT_LENGTH else text
        low = bisect.bisect_left(unique, prefix)
        high = bisect.bisect_right(unique, prefix + "\U0010ffff")
        if high - low > 1:
            linked_to_next[low] += 1
            linked_to_next[high - 1] -= 1
            links.append((number, low))
    starts = np.flatnonzero(np.cumsum(linked_to_next)[:-1])
    return np.concatenate([_NO_LINKS, np.stack([starts, starts + 1], axis=1), np.array(links or _NO_LINKS)]).astype(
        np.int64
    )


def _similar_links(unique: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Links int64 (links, 2) between similar texts, and their distances (links,), 1 - similarity."""
    numbers = np.array([number for number, text in enumerate(unique) if len(text) >= MIN_PREFIX], dtype=np.int64)
    links, distances = [_NO_LINKS], [np.empty(0)]
    signatures = _signatures([unique[number] for number in numbers], seed)
    for start in range(0, PERMUTATIONS, ROWS_PER_BAND):
        keys = np.unique(signatures[:, start : start + ROWS_PER_BAND], axis=0, return_inverse=True)[1].ravel()
        for left, right in _pairs_with_equal_keys(keys):
            distance = (signatures[left] != signatures[right]).mean(axis=1)
            close = distance <= 1 - TEXT_SIMILARITY
            links.append(numbers[np.stack([left[close], right[close]], axis=1)])
            distances.append(distance[close])
    return np.concatenate(links), np.concatenate(distances)


def _signatures(texts: list[str], seed: int) -> np.ndarray:
    """uint32 (texts, PERMUTATIONS): for each permutation the smallest hash of a text's shingles."""
    generator = np.random.default_rng(seed)
    factors = generator.integers(1, 2**63, PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    signatures = np.empty((len(texts), PERMUTATIONS), dtype=np.uint32)
    start = 0
    while start < len(texts):
        stop, size, encoded = start, 0, []
        # As much as stays in the processor's cache.
        while stop < len(texts) and (size < 500_000 or stop == start):
            encoded.append(texts[stop].encode("utf-8"))
            size += len(encoded[-1])
            stop += 1
        data = np.frombuffer(b"".join(encoded) + bytes(SHINGLE_BYTES), dtype=np.uint8).astype(np.uint64)
        shingles = np.zeros(len(data) - SHINGLE_BYTES + 1, dtype=np.uint64)
        for offset in range(SHINGLE_BYTES):
            shingles |= data[offset : offset + len(shingles)] << np.uint64(8 * offset)
        shingles ^= shingles >> np.uint64(23)
        shingles *= np.uint64(0x9E3779B97F4A7C15)
        shingles ^= shingles >> np.uint64(29)
        lengths = np.array([len(text) for text in encoded])
        begins = np.cumsum(lengths) - lengths
        # Between a text's last shingle and the next one's first lie those of both: every second range is dropped.
        bounds = np.stack([begins, begins + lengths - SHINGLE_BYTES + 1], axis=1).ravel()
        for number, factor in enumerate(factors):
            smallest = np.minimum.reduceat((shingles * factor) >> np.uint64(32), bounds)
            signatures[start:stop, number] = smallest[::2]
        start = stop
    return signatures


def _without_chains(
    links: np.ndarray, distances: np.ndarray, count: int, largest: int, steps: Sequence[float]
) -> np.ndarray:
    """Takes groups of more than `largest` rows apart, step by step: their links longer than a step go."""
    for step in steps:
        groups = group_numbers(links, count)
        keep = (np.bincount(groups, minlength=1)[groups[links[:, 0]]] <= largest) | (distances <= step)
        links, distances = links[keep], distances[keep]
    return links


def _close_pictures(hashes: np.ndarray, thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Links int64 (links, 2) between pictures, and how many bits of their hashes differ, (links,)."""
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    links = [np.stack([np.arange(len(hashes)), first[inverse]], axis=1)]
    links[0] = links[0][links[0][:, 0] != links[0][:, 1]]
    # Of 5 bands, one is equal if at most 4 bits differ.
    edges = np.linspace(1, 64, HASH_DISTANCE + 2).astype(int)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        keys = (unique >> np.uint64(low)) & np.uint64(2 ** (int(high) - int(low)) - 1)
        for left, right in _pairs_with_equal_keys(keys):
            close = np.bitwise_count(unique[left] ^ unique[right]) <= HASH_DISTANCE
            links.append(first[np.stack([left[close], right[close]], axis=1)])
    pairs = np.concatenate(links)
    if not len(pairs):
        return _NO_LINKS, np.empty(0, dtype=np.int64)
    pairs = np.unique(pairs, axis=0)
    differences = np.concatenate(
        [
            np.abs(thumbnails[part[:, 0]].astype(np.int16) - thumbnails[part[:, 1]]).mean(axis=(1, 2))
            for part in np.array_split(pairs, len(pairs) // 10_000 + 1)
        ]
    )
    pairs = pairs[differences <= PIXEL_DIFFERENCE]
    return pairs, np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]).astype(np.int64)


def _pairs_with_equal_keys(keys: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of positions with equal keys, in portions: neighbours in sorted order first."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts, distance = np.arange(len(keys)), 1
    while True:
        starts = starts[starts + distance < len(keys)]
        starts = starts[keys[starts] == keys[starts + distance]]  # no equal key here: none further on
        if not len(starts):
            return
        yield order[starts], order[starts + distance]
        distance += 1
