"""The features that the text model is fitted on: a sparse matrix of table rows, and a pretrained encoder's vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import scipy.sparse
from tokenizers import Tokenizer

from rakuten_models.preprocessing.text import TextSettings, clean_product, encode_texts
from rakuten_models.product import Product
from training.block_cache import BlockCache
from training.settings import TextModelSettings
from training.text.features import TABLES, index_layer, text_feature_rows, text_inputs
from training.text.ngram_vocabulary import NgramIndex
from training.text.sentence_encoder import WIDTH, encode_sentences

PADDING_TOKEN, UNKNOWN_TOKEN = "[PAD]", "[UNK]"  # ids 0 and 1, as the model expects

# Texts in one call of the graph that finds table rows: bounds its memory (some 100 MB with long descriptions).
_ROWS_AT_ONCE = 512

# Words in one call of the pretrained encoder.
_WORDS_AT_ONCE = 2048


def vectors_of_vocabulary(tokenizer: Tokenizer, sparse: scipy.sparse.csr_matrix, cache: BlockCache) -> np.ndarray:
    """float32 (vocabulary, 512), scaled so that a text's sum of them is about as long as 1."""
    vocabulary = tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    encoded = cache.array(
        "vocabulary",
        (len(words), WIDTH),
        np.float16,
        lambda start, stop: encode_sentences(words[start:stop]),
        _WORDS_AT_ONCE,
    )
    vectors = encoded.astype(np.float32)
    vectors -= vectors.mean(axis=0)
    vectors[[vocabulary[PADDING_TOKEN], vocabulary[UNKNOWN_TOKEN]]] = 0
    squares = 0.0
    for start in range(0, sparse.shape[0], _ROWS_AT_ONCE):
        sums = _sum_of_words(sparse, vectors, start, start + _ROWS_AT_ONCE)
        squares += float((sums.astype(np.float64) ** 2).sum())
    return vectors / max(float(np.sqrt(squares / sparse.shape[0])), 1e-6)


def _sum_of_words(sparse: scipy.sparse.csr_matrix, vectors: np.ndarray, start: int, stop: int) -> np.ndarray:
    """float32 (stop - start, width): the weighted sum of the vectors of each text's words."""
    total: np.ndarray = sparse[start:stop][:, : len(vectors)] @ vectors
    return total


def pooled_words(sparse: scipy.sparse.csr_matrix, vectors: np.ndarray, cache: BlockCache) -> np.ndarray:
    """float16 (n, width): the sums of all texts."""
    pooled = cache.array(
        "words",
        (sparse.shape[0], vectors.shape[1]),
        np.float16,
        lambda start, stop: _sum_of_words(sparse, vectors, start, stop),
        _ROWS_AT_ONCE,
    )
    return np.asarray(pooled)


def sentence_vectors(products: Sequence[Product], cache: BlockCache) -> np.ndarray:
    """float16 (n, 1024): the pretrained encoder's vectors of designation and description."""

    def make(start: int, stop: int) -> np.ndarray:
        texts = [text for product in products[start:stop] for text in clean_product(product)]
        return encode_sentences(texts).reshape(stop - start, -1)

    shape = (len(products), 2 * WIDTH)
    return np.asarray(cache.array("sentences", shape, np.float16, make, _ROWS_AT_ONCE))


class TextMatrix:
    """Products to the sparse matrix that, times all tables stacked, is the pooled vector."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        text_settings: TextSettings,
        settings: TextModelSettings,
        ngrams: Mapping[str, NgramIndex],
    ) -> None:
        """Build the graph; settings has as many rows as ngrams, from `choose_ngrams`, needs."""
        self._tokenizer, self._text_settings = tokenizer, text_settings
        inputs = text_inputs()
        index = {table: index_layer(table, settings) for table in ngrams}
        tables = text_feature_rows(inputs, text_settings, settings, index)
        for table, layer in index.items():
            layer.set_weights([ngrams[table].index[:, None]])
        counts = {"words": tokenizer.get_vocab_size(), **settings.rows()}
        outputs, offset = [], 0
        for name in TABLES:
            table_rows, weights = tables[name]
            outputs.append((table_rows + offset, weights))
            offset += counts[name]
        self.columns = offset
        self._graph = keras.Model(inputs, outputs)

    def __call__(
        self,
        products: Sequence[Product],
        cache: BlockCache | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> scipy.sparse.csr_matrix:
        """float32 (n, rows of all tables)."""
        return (cache or BlockCache(None)).sparse(
            "rows",
            (len(products), self.columns),
            lambda start, stop: self._part(products[start:stop]),
            _ROWS_AT_ONCE,
            progress,
        )

    def _part(self, products: Sequence[Product]) -> scipy.sparse.csr_matrix:
        """The rows of a few products."""
        encoded = encode_texts(products, self._tokenizer, self._text_settings)
        tables = self._graph(encoded, training=False)
        columns, weights = (np.concatenate(each, axis=1) for each in zip(*tables, strict=True))
        valid = weights != 0
        ends = np.concatenate([[0], np.cumsum(valid.sum(axis=1))])
        part = scipy.sparse.csr_matrix(
            (weights[valid], columns[valid], ends), shape=(len(columns), self.columns), dtype=np.float32
        )
        part.sum_duplicates()
        return part
