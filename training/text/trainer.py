"""Fits the text side: the tokenizer on the catalog's texts, then the text model on its rows.

The text model is a sum of table rows, a rectifier and a linear layer, with a linear part beside them. Keras's Adam
would move every row of tables of some hundred thousand rows at every step, though a batch touches a few thousand: so
the network is fitted in training/text/sparse_network.py, many times faster on a processor, the linear part in
training/text/linear_svm.py, and both are then put into the Keras model. Which table rows a text stands for is asked
of the
Keras graph itself, so there is one definition of it.

Words bring along what a pretrained encoder knows of them (training/text/sentence_encoder.py): a word's row of the
table is one that was learned plus the encoder's vector through a matrix that was learned. Both are one number a
unit in the end, so this costs nothing when the model serves. The teachers read whole texts through the encoder as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from scipy.special import log_softmax, softmax
from tokenizers import Tokenizer

from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Product
from training.block_cache import array_in_blocks
from training.metrics import weighted_f1
from training.settings import TextTrainingSettings
from training.text.feature_matrix import TextMatrix, pooled_words, sentence_vectors, vectors_of_vocabulary
from training.text.features import TABLES, index_name
from training.text.linear_svm import fit_linear_part
from training.text.model import build_text_model
from training.text.ngram_vocabulary import choose_ngrams
from training.text.sparse_network import (
    InitialWeights,
    NetworkCheckpoint,
    NetworkSettings,
    SparseNetwork,
    TextRows,
    fit_network,
)
from training.text.warm_start import TextWeights, without_frozen

# How fast a matrix over the encoder's vectors learns beside the tables: of the words' vectors, and of whole texts'.
_WORD_RATE, _SENTENCE_RATE = 1.0, 0.5


@dataclass(frozen=True)
class TextEpoch:
    """What one pass over the training rows came to.

    Attributes:
        epoch: 1 for the first pass of the first teacher.
        epochs: How many there will be, those of the teachers included.
        loss: Mean weighted cross-entropy in nats, under dropout.
        validation_f1: Weighted F1 on the validation products; None if there are none.
    """

    epoch: int
    epochs: int
    loss: float
    validation_f1: float | None


class TextFitter:
    """Texts as the network sees them, made once, and the networks that are fitted on parts of them.

    Attributes:
        settings: As given.
        categories: As given.
        folder: As given.
        rows: The n products' TextRows without anything dense.

    Args:
        products: n products with a text; pictures are not looked at.
        category_index: int (n,), 0 to categories - 1.
        weights: float (n,), 0 or above: how much each row counts.
        tokenizer: From `train_tokenizer`.
        text_settings: How texts become ids.
        settings: The choices.
        categories: Number of categories, at least 2.
        unlabelled_products: More products with a text, whose category nobody has named: the network that is kept
            learns from what its teachers say of them. Without teachers they are not used.
        seed: The same seed on the same machine gives the same networks.
        folder: Where rows and unfinished networks are kept, so that memory does not grow with the rows and a fit that
            was killed goes on; it belongs to these arguments alone. None: all in memory.
        start: A text model to go on from, its columns first among the categories; see `training.text.warm_start`.
        progress: Called as progress(rows, of how many) while the rows are made.
    """

    def __init__(
        self,
        products: Sequence[Product],
        category_index: np.ndarray,
        weights: np.ndarray,
        tokenizer: Tokenizer,
        text_settings: TextSettings,
        settings: TextTrainingSettings,
        *,
        categories: int,
        unlabelled_products: Sequence[Product] = (),
        seed: int = 0,
        folder: Path | None = None,
        start: TextWeights | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Find the table rows of every text, and ask the pretrained encoder."""
        self.settings = settings
        self._vocabulary, self._text_settings = tokenizer.get_vocab_size(), text_settings
        self.categories, self._seed = categories, seed
        self._category_index = np.asarray(category_index)
        self._weights = np.asarray(weights, np.float32)
        self.folder, self._start = folder, start
        everyone = [*products, *(unlabelled_products if settings.teachers else ())]
        self._grams = (
            start.grams if start else choose_ngrams(everyone, tokenizer, text_settings, settings.model)
        )
        self._model = settings.model.with_rows({table: each.rows for table, each in self._grams.items()})
        sparse = TextMatrix(tokenizer, text_settings, self._model, self._grams)(everyone, folder, progress)
        self._unlabelled = np.arange(len(products), len(everyone))
        nothing = np.zeros((len(everyone), 0), np.float16)
        self.rows = TextRows(sparse, nothing, np.arange(len(products)))
        self._texts_with_column = np.bincount(sparse.indices, minlength=sparse.shape[1])
        self._word_vectors = (
            vectors_of_vocabulary(tokenizer, sparse, folder)
            if settings.pretrained_words
            else np.zeros((0, 0), np.float32)
        )
        self._words = TextRows(sparse, pooled_words(sparse, self._word_vectors, folder))
        # Of the teachers only.
        sentences = sentence_vectors(everyone, folder) if settings.teachers else nothing
        self._sentences = TextRows(sparse, sentences)

    def fit(
        self,
        train: np.ndarray,
        validation: np.ndarray,
        progress: Callable[[TextEpoch], None] | None = None,
        name: str = "kept",
    ) -> SparseNetwork:
        """Fit teachers, ask them, and fit the network that learns from them.

        Args:
            train: int, which of the n products to fit on.
            validation: int, which to measure on after each pass, possibly none; nothing is chosen by them.
            progress: Called after each pass.
            name: Of the fit. Only "kept" goes on from a bundle, and then the rows' categories are all it may learn of:
                a model whose answers are to be honest must not have seen its rows in another life.

        Returns:
            The network; it reads `rows`, nothing dense.
        """
        settings = self.settings
        truth, own_weights = self._category_index[train], self._weights[train]
        own_weights = own_weights / max(float(own_weights.mean()), 1e-12)
        spread = settings.label_smoothing / self.categories
        targets = np.full((len(train), self.categories), spread, np.float32)
        targets[np.arange(len(targets)), truth] += 1 - settings.label_smoothing
        report = self._reporter(validation, progress)
        learned, weights = train, own_weights
        if settings.teachers:
            learned = np.concatenate([train, self._unlabelled])
            sentences = self._sentences[train]
            asked = self._sentences[learned]

            def ask(teacher: int, _: int) -> np.ndarray:
                network = self._network(teacher + 1, sentences, targets, weights, report, name)
                return network.logits(asked)[None]

            teacher_logits = array_in_blocks(
                self.folder and self.folder / name,
                "opinions",
                (settings.teachers, len(learned), self.categories),
                np.float32,
                ask,
                1,
            )
            # In logarithms, so that one sure teacher does not outvote several that agree on something else.
            teacher_sum = sum(log_softmax(logits, axis=1) for logits in teacher_logits)
            soft_targets = softmax(teacher_sum / settings.teachers, axis=1).astype(np.float32)
            share = settings.teacher_share
            targets = np.concatenate(
                [(1 - share) * targets + share * soft_targets[: len(train)], soft_targets[len(train) :]]
            )
            weights = np.concatenate([weights, np.ones(len(self._unlabelled), np.float32)])
        start = None
        if self._start is not None and name == "kept":
            start = self._start.numbers(
                self._word_vectors, self._vocabulary, self.rows.sparse.shape[1], self.categories, truth
            )
            targets = without_frozen(targets, start.frozen_categories)
        network = self._network(0, self._words[learned], targets, weights, report, name, start)
        network.table[: len(self._word_vectors)] += self._word_vectors @ network.dense
        network.dense = network.dense[:0]
        if self._linear_columns:
            self._add_linear_part(network, train, own_weights, None if start is None else self._start)
        return network

    @property
    def _linear_columns(self) -> int:
        return self._model.linear_columns(self.categories) if self.settings.linear_share else 0

    def _add_linear_part(
        self, network: SparseNetwork, train: np.ndarray, weights: np.ndarray, start: TextWeights | None
    ) -> None:
        """Fit the linear part on some of the products, weighed with mean 1, and put it beside the network."""
        kernel, bias = fit_linear_part(
            self.rows.sparse[train],
            self._category_index[train],
            weights,
            self._texts_with_column,
            self.rows.sparse.shape[0],
            self.categories,
            self._seed,
        )
        kernel *= self.settings.linear_share
        bias *= self.settings.linear_share
        if start is not None:
            start.blend(kernel, bias, self._vocabulary, self._category_index[train])
        network.linear = kernel
        network.bias += bias

    def to_keras(self, network: SparseNetwork) -> keras.Model:
        """The inference model of `build_text_model` with the network's numbers, its tables in 8 bits a value."""
        model = self.untrained_model()
        _set_tables(model, network)
        return model

    def untrained_model(self) -> keras.Model:
        """The model of `build_text_model` that finds these texts' pairs and n-grams, its tables and head random."""
        settings = self._model
        if not self._linear_columns:
            settings = dataclasses.replace(settings, linear_categories=0)
        model = build_text_model(self.categories, self._vocabulary, self._text_settings, settings)
        for table, grams in self._grams.items():
            model.get_layer(index_name(table)).set_weights([grams.index[:, None]])
        return model

    def _network(
        self,
        number: int,
        rows: TextRows,
        targets: np.ndarray,
        weights: np.ndarray,
        report: Callable[[int, SparseNetwork, int, float], None],
        name: str,
        start: InitialWeights | None = None,
    ) -> SparseNetwork:
        """The network with this number; 0 is the one that is kept, fitted after its teachers."""
        settings = self.settings
        checkpoint = None
        if self.folder is not None:
            checkpoint = NetworkCheckpoint(self.folder / name / f"network_{number}.npz")
        network = fit_network(
            rows,
            targets,
            weights,
            NetworkSettings(
                units=settings.model.units,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                dense_rate=_SENTENCE_RATE if number else _WORD_RATE,
                decay=settings.decay,
                feature_dropout=settings.teacher_feature_dropout if number else settings.feature_dropout,
                unit_dropout=settings.unit_dropout,
            ),
            seed=[self._seed, number],
            report=lambda network, epoch, loss: report(number, network, epoch, loss),
            start=start,
            checkpoint=checkpoint,
        )
        if checkpoint and number:
            checkpoint.remove()
        return network

    def _reporter(
        self, validation: np.ndarray, progress: Callable[[TextEpoch], None] | None
    ) -> Callable[[int, SparseNetwork, int, float], None]:
        settings = self.settings
        passes = (settings.teachers + 1) * settings.epochs

        def report(number: int, network: SparseNetwork, epoch: int, loss: float) -> None:
            if progress is None:
                return
            before = (number - 1 if number else settings.teachers) * settings.epochs
            f1 = None
            if len(validation):
                rows = self._sentences if number else self._words
                predicted = network.logits(rows[validation]).argmax(axis=1)
                f1 = weighted_f1(self._category_index[validation], predicted, self.categories)
            progress(TextEpoch(before + epoch, passes, loss, f1))

        return report


def _set_tables(model: keras.Model, network: SparseNetwork) -> None:
    """The fitted numbers into the Keras model, tables rounded to 8 bits."""
    # A row's columns share one scale in 8 bits; both parts' values are about as large.
    table = np.concatenate([network.table, network.linear], axis=1)
    start = 0
    for name in TABLES:
        layer = model.get_layer(name)
        layer.set_weights([table[start : start + layer.input_dim]])
        start += layer.input_dim
        layer.quantize("int8")
    model.get_layer("head").set_weights([network.head, network.bias])
