"""Fits the text side: the tokenizer on the catalog's texts, then the text model on its rows.

The text model is a sum of table rows, a rectifier and a linear layer. Keras's Adam would move every row of
tables of some hundred thousand rows at every step, though a batch touches a few thousand: so the tables are
fitted in training/sparse_network.py, many times faster on a processor, and then put into the Keras model. Which
table rows a text stands for is asked of the Keras graph itself, so there is one definition of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy
import scipy.sparse
from scipy.special import log_softmax, softmax
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rakuten_models.preprocessing import TextSettings, clean_text, encode_texts
from rakuten_models.product import Product
from training.measures import weighted_f1
from training.models import TextModelSettings, build_text_model, text_feature_rows, text_inputs
from training.sparse_network import SparseNetwork, fit_network

PADDING_TOKEN, UNKNOWN_TOKEN = "[PAD]", "[UNK]"  # ids 0 and 1, as the model expects
_TABLES = ("words", "word_pairs", "character_grams")
# Rows in one call of the graph that names table rows: bounds its memory (some 100 MB with long descriptions).
_ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class TextTrainingSettings:
    """Choices for fitting the text side; all defaults were chosen on a validation part of real products.

    Attributes:
        model: Size and shape of the model.
        vocabulary: Most words that the tokenizer knows.
        minimum_word_count: A rarer word is unknown; its character n-grams still count.
        epochs: Passes over the training rows.
        batch_size: Rows a step.
        learning_rate: Of the first step; falls linearly to 0.
        feature_dropout: Share of a text's words, pairs and n-grams that a step does not see.
        unit_dropout: Share of the features that a step does not see.
        label_smoothing: Probability mass spread evenly over all categories.
        teachers: Networks of the same kind that are fitted first and thrown away; the one that is kept learns from
            what they say of the training rows, too (Furlanello et al. 2018, "Born-Again Neural Networks"). That was
            worth more than serving four of them.
        teacher_share: How far their opinion replaces the labels, 0 to 1.
    """

    model: TextModelSettings = TextModelSettings()
    vocabulary: int = 25_000
    minimum_word_count: int = 2
    epochs: int = 8
    batch_size: int = 256
    learning_rate: float = 6e-3
    feature_dropout: float = 0.3
    unit_dropout: float = 0.5
    label_smoothing: float = 0.1
    teachers: int = 4
    teacher_share: float = 0.8

    def fast(self) -> TextTrainingSettings:
        """The same without teachers."""
        return dataclasses.replace(self, teachers=0)


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


def train_tokenizer(texts: Iterable[str], settings: TextTrainingSettings) -> Tokenizer:
    """Finds the catalog's words.

    Args:
        texts: Designations and descriptions as the catalog holds them; they are cleaned here.
        settings: The choices.

    Returns:
        A tokenizer whose tokens are the lower-cased words without accents, 0 padding and 1 the unknown word.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN_TOKEN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    trainer = trainers.WordLevelTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.minimum_word_count,
        special_tokens=[PADDING_TOKEN, UNKNOWN_TOKEN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(clean_text, texts), trainer)
    return tokenizer


def fit_text_model(
    train_products: Sequence[Product],
    train_category_index: numpy.ndarray,
    train_weights: numpy.ndarray,
    validation_products: Sequence[Product],
    validation_category_index: numpy.ndarray,
    tokenizer: Tokenizer,
    text_settings: TextSettings,
    settings: TextTrainingSettings,
    *,
    categories: int,
    unlabelled_products: Sequence[Product] = (),
    seed: int = 0,
    progress: Callable[[TextEpoch], None] | None = None,
) -> keras.Model:
    """Fits a text model.

    Args:
        train_products: n products with a text; pictures are not looked at.
        train_category_index: int (n,), 0 to categories - 1.
        train_weights: float (n,), 0 or above: how much each row counts.
        validation_products: m products, possibly none; only for the figures given to `progress`.
        validation_category_index: int (m,).
        tokenizer: From `train_tokenizer`.
        text_settings: How texts become ids.
        settings: The choices.
        categories: Number of categories, at least 2.
        unlabelled_products: More products with a text, whose category nobody has named: the network that is kept
            learns from what its teachers say of them. Without teachers they are not used.
        seed: The same seed on the same machine gives the same model.
        progress: Called after each pass.

    Returns:
        The inference model of `build_text_model`, its tables in 8 bits a value.
    """
    targets = numpy.full(
        (len(train_products), categories), settings.label_smoothing / categories, numpy.float32
    )
    targets[numpy.arange(len(targets)), train_category_index] += 1 - settings.label_smoothing
    matrix_of = _FeatureMatrix(tokenizer, text_settings, settings.model)
    rows = matrix_of(train_products)
    all_rows = rows
    validation_rows = matrix_of(validation_products) if validation_products else None

    weights = numpy.asarray(train_weights, numpy.float32)
    weights = weights / max(float(weights.mean()), 1e-12)
    passes = (settings.teachers + 1) * settings.epochs

    def fit(
        number: int, rows: scipy.sparse.csr_matrix, targets: numpy.ndarray, weights: numpy.ndarray
    ) -> SparseNetwork:
        """The network with this number; 0 is the one that is kept, fitted after its teachers."""
        before = (number - 1 if number else settings.teachers) * settings.epochs

        def report(network: SparseNetwork, epoch: int, loss: float) -> None:
            f1 = None
            if validation_rows is not None:
                predicted = network.logits(validation_rows).argmax(axis=1)
                f1 = weighted_f1(numpy.asarray(validation_category_index), predicted, categories)
            if progress:
                progress(TextEpoch(before + epoch, passes, loss, f1))

        return fit_network(
            rows,
            targets,
            weights,
            units=settings.model.units,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            feature_dropout=settings.feature_dropout,
            unit_dropout=settings.unit_dropout,
            seed=[seed, number],
            report=report,
        )

    if settings.teachers:
        if unlabelled_products:
            all_rows = scipy.sparse.vstack([rows, matrix_of(unlabelled_products)], format="csr")
        # In logarithms, so that one sure teacher does not outvote several that agree on something else.
        opinion = sum(
            log_softmax(fit(number + 1, rows, targets, weights).logits(all_rows), axis=1)
            for number in range(settings.teachers)
        )
        taught = softmax(opinion / settings.teachers, axis=1)
        share = settings.teacher_share
        targets = numpy.concatenate(
            [(1 - share) * targets + share * taught[: len(targets)], taught[len(targets) :]]
        )
        weights = numpy.concatenate([weights, numpy.ones(len(targets) - len(weights), numpy.float32)])
    network = fit(0, all_rows, targets, weights)
    return _to_keras(network, categories, tokenizer.get_vocab_size(), text_settings, settings.model)


def _to_keras(
    network: SparseNetwork,
    categories: int,
    vocabulary: int,
    text_settings: TextSettings,
    settings: TextModelSettings,
) -> keras.Model:
    """The fitted numbers inside the Keras model, tables rounded to 8 bits."""
    model = build_text_model(categories, vocabulary, text_settings, settings)
    start = 0
    for name in _TABLES:
        layer = model.get_layer(name)
        layer.set_weights([network.table[start : start + layer.input_dim]])
        start += layer.input_dim
        layer.quantize("int8")
    model.get_layer("logits").set_weights([network.head, network.bias])
    return model


class _FeatureMatrix:
    """Products to the sparse matrix that, times all tables stacked, is the pooled vector."""

    def __init__(
        self, tokenizer: Tokenizer, text_settings: TextSettings, settings: TextModelSettings
    ) -> None:
        self._tokenizer, self._text_settings = tokenizer, text_settings
        inputs = text_inputs()
        tables = text_feature_rows(inputs, tokenizer.get_vocab_size(), text_settings, settings)
        outputs, offset = [], 0
        for name in _TABLES:
            count, table_rows, weights = tables[name]
            outputs.append((table_rows + offset, weights))
            offset += count
        self.columns = offset
        self._graph = keras.Model(inputs, outputs)

    def __call__(self, products: Sequence[Product]) -> scipy.sparse.csr_matrix:
        """float32 (n, rows of all tables)."""
        parts = []
        for start in range(0, len(products), _ROWS_AT_ONCE):
            encoded = encode_texts(
                products[start : start + _ROWS_AT_ONCE], self._tokenizer, self._text_settings
            )
            pieces = [
                (numpy.asarray(columns), numpy.asarray(weights))
                for columns, weights in self._graph(encoded, training=False)
            ]
            columns, weights = (numpy.concatenate(piece, axis=1) for piece in zip(*pieces, strict=True))
            valid = weights != 0
            ends = numpy.concatenate([[0], numpy.cumsum(valid.sum(axis=1))])
            part = scipy.sparse.csr_matrix(
                (weights[valid], columns[valid], ends),
                shape=(len(columns), self.columns),
                dtype=numpy.float32,
            )
            part.sum_duplicates()
            parts.append(part)
        return scipy.sparse.vstack(parts, format="csr")
