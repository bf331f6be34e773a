"""A text model to start from: its words and categories keep their indices, new ones come after them.

A word's row of the table is a learned one plus a learned matrix times the pretrained encoder's vector; a bundle holds
only the sum. The matrix is therefore estimated by least squares over the known words: their rows come out exactly as
they were, and new words start from their vectors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tokenizers import Tokenizer

from rakuten_models.preprocessing.text import load_tokenizer
from training.text.features import TABLES, index_name
from training.text.ngram_vocabulary import NgramIndex
from training.text.sparse_network import InitialWeights

# Ids times 8,191 must fit into 31 bits; see `training.text.features.text_hashes`.
MAX_WORDS = 262_000

# Precision of the prior on the matrix, for each word.
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class TextWeights:
    """The weights of a bundle's text model.

    Attributes:
        words: float32 (words, units).
        others: float32 (rows, units): the tables of word pairs and of character n-grams, one after the other.
        head: float32 (units, categories).
        bias: float32 (categories,).
        linear_words: float32 (words, categories): the linear part's columns of the same tables; (words, 0) for none.
        linear_others: float32 (rows, categories).
        ngrams: The pairs and n-grams that have rows.
    """

    words: np.ndarray
    others: np.ndarray
    head: np.ndarray
    bias: np.ndarray
    linear_words: np.ndarray
    linear_others: np.ndarray
    ngrams: dict[str, NgramIndex]

    @classmethod
    def from_keras(cls, model: keras.Model) -> TextWeights:
        """From a model of `build_text_model`, its tables rounded or not."""
        words, *others = (
            np.asarray(model.get_layer(name)(np.arange(model.get_layer(name).input_dim))) for name in TABLES
        )
        ngrams = {
            name: NgramIndex(model.get_layer(index_name(name)).get_weights()[0][:, 0], len(rows))
            for name, rows in zip(TABLES[1:], others, strict=True)
        }
        head, bias = model.get_layer("head").get_weights()
        units, rest = len(head), np.concatenate(others)
        return cls(words[:, :units], rest[:, :units], head, bias, words[:, units:], rest[:, units:], ngrams)

    def initial_weights(
        self, word_vectors: np.ndarray, vocabulary: int, columns: int, categories: int, category_index: np.ndarray
    ) -> InitialWeights:
        """Where the network starts.

        Args:
            word_vectors: float32 (vocabulary, width), the encoder's; (0, 0) for none.
            vocabulary: Number of words; the bundle's come first.
            columns: Rows of all tables.
            categories: Number of categories; the bundle's come first.
            category_index: int (n,), those of the rows to learn from.
        """
        known, units = self.words.shape
        table = np.zeros((columns, units), np.float32)
        table[:known] = self.words
        table[vocabulary:] = self.others
        dense = np.zeros((word_vectors.shape[1], units), np.float32)
        if len(word_vectors):
            vectors = word_vectors[:known].astype(np.float64)
            ridge = _RIDGE * np.trace(vectors.T @ vectors) / vectors.shape[1]
            dense = np.linalg.solve(
                vectors.T @ vectors + (ridge + 1e-12) * np.eye(vectors.shape[1]), vectors.T @ self.words
            ).astype(np.float32)
            table[:known] -= word_vectors[:known] @ dense
        old = len(self.bias)
        head = np.pad(self.head, [(0, 0), (0, categories - old)])
        bias = np.pad(self.bias, (0, categories - old), constant_values=self.bias.mean())
        frozen_categories = np.setdiff1d(np.arange(old), category_index)
        return InitialWeights(table, dense, head, bias, frozen_categories)

    def linear_part(self, columns: int, vocabulary: int) -> np.ndarray:
        """The bundle's, float32 (columns, its categories or 0), for a vocabulary that begins with its words."""
        before = np.zeros((columns, self.linear_words.shape[1]), np.float32)
        before[: len(self.linear_words)] = self.linear_words
        before[vocabulary:] = self.linear_others
        return before

    def blend(self, kernel: np.ndarray, bias: np.ndarray, vocabulary: int, category_index: np.ndarray) -> None:
        """Average the bundle's linear part into one that was fitted on the rows to learn from.

        A category that only one of the two has keeps that one's values.

        Args:
            kernel: float32 (columns, categories), changed here.
            bias: float32 (categories,), changed here: what the network's bias, which holds the bundle's, is to gain.
            vocabulary: Number of words; the bundle's come first.
            category_index: int (n,), those of the rows.
        """
        before = self.linear_part(len(kernel), vocabulary)
        old = before.shape[1]
        if not old:
            return
        known = np.isin(np.arange(old), category_index)
        share = np.where(known, np.float32(0.5), np.float32(0))
        kernel[:, :old] = kernel[:, :old] * share + before * (1 - share)
        moved = float(bias.mean()) / 2
        bias[:old] = np.where(known, bias[:old] / 2, moved)


def without_frozen(targets: np.ndarray, frozen_categories: np.ndarray) -> np.ndarray:
    """Targets (rows sum to 1) with 0 for some categories."""
    targets = targets.copy()
    targets[:, frozen_categories] = 0
    shares: np.ndarray = targets / targets.sum(axis=1, keepdims=True)
    return shares


def extended_tokenizer(bundle_tokenizer: Path, catalog_tokenizer: Tokenizer) -> Tokenizer:
    """The bundle's words with their ids, then those that only the catalog has, the most frequent first."""
    content = json.loads(load_tokenizer(bundle_tokenizer).to_str())
    vocabulary = content["model"]["vocab"]
    found = catalog_tokenizer.get_vocab()
    for word in sorted(found, key=found.__getitem__):
        if word not in vocabulary and len(vocabulary) < MAX_WORDS:
            vocabulary[word] = len(vocabulary)
    return Tokenizer.from_str(json.dumps(content))
