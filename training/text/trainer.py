"""Fits the text model.

Keras's Adam would move every row of tables of some hundred thousand rows at every step, though a batch touches a few
thousand. So the network is fitted in training/text/sparse_network.py, the linear part in training/text/linear_svm.py,
and both are then put into the Keras model, whose own graph says which table rows a text has.

A word's row is a learned one plus a learned matrix times the pretrained encoder's vector of the word
(training/text/sentence_encoder.py): one number a unit in the end, so it costs nothing at serving. The teachers read
whole texts through the encoder as well.
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
from training.block_cache import BlockCache
from training.metrics import weighted_f1
from training.settings import TextTrainingSettings
from training.text.feature_matrix import TextMatrix, pooled_words, sentence_vectors, vectors_of_vocabulary
from training.text.features import TABLES, index_name
from training.text.linear_svm import fit_linear_part
from training.text.model import build_text_model
from training.text.ngram_vocabulary import choose_ngrams
from training.text.sparse_network import InitialWeights, NetworkCheckpoint, SparseNetwork, TextRows, fit_network
from training.text.warm_start import TextWeights, without_frozen

# Learning rates of the matrix over the encoder's vectors, as a share of the tables': words' and whole texts' vectors.
_WORD_RATE, _SENTENCE_RATE = 1.0, 0.5

# The network that serves; teachers are numbered from 1.
_STUDENT = 0

_Report = Callable[[int, SparseNetwork, int, float], None]


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Products to learn from; pictures are not looked at.

    Attributes:
        products: n products with a text.
        category_index: int (n,), 0 to categories - 1.
        weights: float (n,), 0 or above: how much each row counts.
        unlabelled: More products with a text, for which the student learns from its teachers.
    """

    products: Sequence[Product]
    category_index: np.ndarray
    weights: np.ndarray
    unlabelled: Sequence[Product] = ()


@dataclass(frozen=True)
class TextEpoch:
    """The result of one pass over the training rows.

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
    """The texts' features, made once, and the networks that are fitted on parts of them.

    Attributes:
        settings, categories: As given.
        cache: Of features and unfinished networks.
        rows: The n products' TextRows without dense features.
    """

    def __init__(
        self,
        texts: LabelledTexts,
        tokenizer: Tokenizer,
        text_settings: TextSettings,
        settings: TextTrainingSettings,
        *,
        categories: int,
        seed: int = 0,
        folder: Path | None = None,
        start: TextWeights | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Find the table rows of every text, and run the pretrained encoder.

        Args:
            texts: To learn from.
            tokenizer: From `train_tokenizer`.
            text_settings: How texts become ids.
            settings: The choices.
            categories: Number of categories, at least 2.
            seed: The same seed on the same machine gives the same networks.
            folder: For the cache; it belongs to these arguments alone. None: all in memory.
            start: A text model to start from, whose categories come first; see `training.text.warm_start`.
            progress: Called as progress(rows, of how many) while the features are made.
        """
        self.settings, self.categories, self.cache = settings, categories, BlockCache(folder)
        self._vocabulary, self._text_settings, self._seed = tokenizer.get_vocab_size(), text_settings, seed
        self._category_index = np.asarray(texts.category_index)
        self._weights = np.asarray(texts.weights, np.float32)
        self._start = start
        # Only teachers have something to say of unlabelled texts.
        products = [*texts.products, *(texts.unlabelled if settings.teachers else ())]
        if start:
            self._ngrams = start.ngrams
        else:
            self._ngrams = choose_ngrams(products, tokenizer, text_settings, settings.model)
        self._model = settings.model.with_rows({table: each.rows for table, each in self._ngrams.items()})
        matrix = TextMatrix(tokenizer, text_settings, self._model, self._ngrams)
        sparse = matrix(products, self.cache, progress)
        self._unlabelled = np.arange(len(texts.products), len(products))
        nothing = np.zeros((len(products), 0), np.float16)
        self.rows = TextRows(sparse, nothing, np.arange(len(texts.products)))
        self._texts_with_column = np.bincount(sparse.indices, minlength=sparse.shape[1])
        self._word_vectors = np.zeros((0, 0), np.float32)
        if settings.pretrained_words:
            self._word_vectors = vectors_of_vocabulary(tokenizer, sparse, self.cache)
        self._student_rows = TextRows(sparse, pooled_words(sparse, self._word_vectors, self.cache))
        sentences = sentence_vectors(products, self.cache) if settings.teachers else nothing
        self._teacher_rows = TextRows(sparse, sentences)

    def fit(
        self,
        train: np.ndarray,
        validation: np.ndarray,
        progress: Callable[[TextEpoch], None] | None = None,
        *,
        name: str = "all",
        warm_start: bool = True,
    ) -> SparseNetwork:
        """Fit teachers, then the student that learns from them.

        Args:
            train: int, which of the n products to fit on.
            validation: int, which to measure on after each pass, possibly none; nothing is chosen by them.
            progress: Called after each pass.
            name: Of the fit in the cache.
            warm_start: Whether to start from the given text model; it then learns only of the rows' categories. A
                network whose predictions must be out-of-fold must not warm-start from a bundle trained on these rows.

        Returns:
            The student; it reads `rows`, nothing dense.
        """
        settings, cache = self.settings, self.cache.within(name)
        truth, row_weights = self._category_index[train], self._weights[train]
        row_weights = row_weights / max(float(row_weights.mean()), 1e-12)
        spread = settings.label_smoothing / self.categories
        targets = np.full((len(train), self.categories), spread, np.float32)
        targets[np.arange(len(targets)), truth] += 1 - settings.label_smoothing
        report = self._reporter(validation, progress)
        learned, weights = train, row_weights
        if settings.teachers:
            learned = np.concatenate([train, self._unlabelled])

            def teach(teacher: int, _: int) -> np.ndarray:
                rows = self._teacher_rows[train]
                network = self._network(teacher + 1, rows, targets, weights, report, cache)
                return network.logits(self._teacher_rows[learned])[None]

            shape = (settings.teachers, len(learned), self.categories)
            teacher_logits = cache.array("teacher_logits", shape, np.float32, teach, 1)
            # In logarithms, so that one sure teacher does not outvote several that agree on something else.
            mean = sum(log_softmax(logits, axis=1) for logits in teacher_logits) / settings.teachers
            soft_targets, share = softmax(mean, axis=1).astype(np.float32), settings.teacher_share
            targets = np.concatenate(
                [(1 - share) * targets + share * soft_targets[: len(train)], soft_targets[len(train) :]]
            )
            weights = np.concatenate([weights, np.ones(len(self._unlabelled), np.float32)])
        start, initial = self._start if warm_start else None, None
        if start is not None:
            columns = self.rows.sparse.shape[1]
            initial = start.initial_weights(self._word_vectors, self._vocabulary, columns, self.categories, truth)
            targets = without_frozen(targets, initial.frozen_categories)
        network = self._network(_STUDENT, self._student_rows[learned], targets, weights, report, cache, initial)
        network.table[: len(self._word_vectors)] += self._word_vectors @ network.dense
        network.dense = network.dense[:0]
        if self._linear_columns:
            kernel, bias = fit_linear_part(
                self.rows.sparse[train],
                truth,
                row_weights,
                self._texts_with_column,
                self.rows.sparse.shape[0],
                self.categories,
                self._seed,
            )
            kernel *= settings.linear_share
            bias *= settings.linear_share
            if start is not None:
                start.blend(kernel, bias, self._vocabulary, truth)
            network.linear = kernel
            network.bias += bias
        return network

    @property
    def _linear_columns(self) -> int:
        return self._model.linear_columns(self.categories) if self.settings.linear_share else 0

    def to_keras(self, network: SparseNetwork) -> keras.Model:
        """The inference model of `build_text_model` with the network's weights, its tables in 8 bits a value."""
        model = self.untrained_model()
        # A row's columns share one scale in 8 bits; both parts' values are about as large.
        table = np.concatenate([network.table, network.linear], axis=1)
        start = 0
        for name in TABLES:
            layer = model.get_layer(name)
            layer.set_weights([table[start : start + layer.input_dim]])
            start += layer.input_dim
            layer.quantize("int8")
        model.get_layer("head").set_weights([network.head, network.bias])
        return model

    def untrained_model(self) -> keras.Model:
        """The model of `build_text_model` that finds these texts' pairs and n-grams, its tables and head random."""
        settings = self._model
        if not self._linear_columns:
            settings = dataclasses.replace(settings, linear_categories=0)
        model = build_text_model(self.categories, self._vocabulary, self._text_settings, settings)
        for table, ngrams in self._ngrams.items():
            model.get_layer(index_name(table)).set_weights([ngrams.index[:, None]])
        return model

    def _network(
        self,
        number: int,
        rows: TextRows,
        targets: np.ndarray,
        weights: np.ndarray,
        report: _Report,
        cache: BlockCache,
        start: InitialWeights | None = None,
    ) -> SparseNetwork:
        """Fit the network with this number."""
        settings, student = self.settings, number == _STUDENT
        if not student:
            settings = dataclasses.replace(settings, feature_dropout=settings.teacher_feature_dropout)
        name = f"network_{number}"
        network = fit_network(
            rows,
            targets,
            weights,
            settings,
            dense_rate=_WORD_RATE if student else _SENTENCE_RATE,
            seed=[self._seed, number],
            report=lambda network, epoch, loss: report(number, network, epoch, loss),
            start=start,
            checkpoint=NetworkCheckpoint(cache, name),
        )
        if not student:
            cache.remove(name)
        return network

    def _reporter(self, validation: np.ndarray, progress: Callable[[TextEpoch], None] | None) -> _Report:
        settings = self.settings
        epochs = (settings.teachers + 1) * settings.epochs

        def report(number: int, network: SparseNetwork, epoch: int, loss: float) -> None:
            if progress is None:
                return
            student = number == _STUDENT
            before = (settings.teachers if student else number - 1) * settings.epochs
            f1 = None
            if len(validation):
                rows = self._student_rows if student else self._teacher_rows
                predicted = network.logits(rows[validation]).argmax(axis=1)
                f1 = weighted_f1(self._category_index[validation], predicted, self.categories)
            progress(TextEpoch(before + epoch, epochs, loss, f1))

        return report
