"""Fits the text side: the tokenizer on the catalog's texts, then the text model on its rows.

The text model is a sum of table rows, a rectifier and a linear layer. Keras's Adam would move every row of
tables of some hundred thousand rows at every step, though a batch touches a few thousand: so the tables are
fitted here, with sparse matrices and an Adam that moves touched rows only, many times faster on a processor,
and then put into the Keras model. Which table rows a text stands for is asked of the Keras graph itself, so
there is one definition of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy
import scipy.sparse
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from rakuten_models.preprocessing import TextSettings, clean_text, encode_texts
from rakuten_models.product import Product
from training.measures import weighted_f1
from training.models import TextModelSettings, build_text_model, text_feature_rows, text_inputs

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

    def fast(self) -> TextTrainingSettings:
        """The same with half the passes."""
        return dataclasses.replace(self, epochs=max(1, self.epochs // 2))


@dataclass(frozen=True)
class TextEpoch:
    """What one pass over the training rows came to.

    Attributes:
        epoch: 1 for the first.
        epochs: How many there will be.
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
    validation_rows = matrix_of(validation_products) if validation_products else None

    network = _SparseNetwork(rows.shape[1], settings.model.units, categories, seed, settings)
    random = numpy.random.default_rng([seed, 1])
    weights = numpy.asarray(train_weights, numpy.float32)
    weights = weights / max(float(weights.mean()), 1e-12)
    # A tiny catalog still needs some steps to leave its random start.
    batch_size = max(1, min(settings.batch_size, len(targets) // 8))
    steps_an_epoch = -(-len(targets) // batch_size)
    for epoch in range(settings.epochs):
        order = random.permutation(len(targets))
        loss = 0.0
        for step in range(steps_an_epoch):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            done = (epoch + step / steps_an_epoch) / settings.epochs
            loss += network.step(
                rows[chosen],
                targets[chosen],
                weights[chosen],
                settings.learning_rate * (1 - done),
            )
        if progress:
            f1 = None
            if validation_rows is not None:
                predicted = network.logits(validation_rows).argmax(axis=1)
                f1 = weighted_f1(numpy.asarray(validation_category_index), predicted, categories)
            progress(TextEpoch(epoch + 1, settings.epochs, loss / max(len(targets), 1), f1))
    return _to_keras(network, categories, tokenizer.get_vocab_size(), text_settings, settings.model)


def _to_keras(
    network: _SparseNetwork,
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


class _SparseNetwork:
    """Sparse rows -> sum of table rows -> rectifier -> linear; its Adam moves touched rows only."""

    _MOMENTUM, _MEMORY, _EPSILON = 0.9, 0.99, 1e-7

    def __init__(
        self, columns: int, units: int, categories: int, seed: int, settings: TextTrainingSettings
    ) -> None:
        self._random = numpy.random.default_rng([seed, 0])
        normal = self._random.standard_normal
        self.table = normal((columns, units), numpy.float32) * numpy.float32(0.05)
        self.head = normal((units, categories), numpy.float32) / numpy.float32(numpy.sqrt(units))
        self.bias = numpy.zeros(categories, numpy.float32)
        self._moments = {
            name: (numpy.zeros_like(value), numpy.zeros_like(value))
            for name, value in (("table", self.table), ("head", self.head), ("bias", self.bias))
        }
        self._steps = 0
        self._settings = settings

    def features(self, rows: scipy.sparse.csr_matrix) -> numpy.ndarray:
        """float32 (n, units), 0 or above."""
        return numpy.maximum(rows @ self.table, 0)

    def logits(self, rows: scipy.sparse.csr_matrix) -> numpy.ndarray:
        """float32 (n, categories)."""
        return self.features(rows) @ self.head + self.bias

    def step(
        self,
        rows: scipy.sparse.csr_matrix,
        targets: numpy.ndarray,
        weights: numpy.ndarray,
        learning_rate: float,
    ) -> float:
        """One step.

        Args:
            rows: float32 (n, columns); its values are changed.
            targets: float32 (n, categories), rows sum to 1.
            weights: float32 (n,).
            learning_rate: Above 0.

        Returns:
            The sum of the rows' weighted cross-entropies, in nats.
        """
        settings = self._settings
        self._steps += 1
        seen = self._random.random(rows.nnz, numpy.float32) >= settings.feature_dropout
        rows.data *= seen / numpy.float32(1 - settings.feature_dropout)
        # Only the touched columns take part, renumbered from 0.
        touched, renumbered = numpy.unique(rows.indices, return_inverse=True)
        rows = scipy.sparse.csr_matrix(
            (rows.data, renumbered, rows.indptr), shape=(rows.shape[0], len(touched))
        )

        pooled = rows @ self.table[touched]
        on = self._random.random(pooled.shape, numpy.float32) >= settings.unit_dropout
        gate = on * (pooled > 0) / numpy.float32(1 - settings.unit_dropout)
        features = pooled * gate
        logits = features @ self.head + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        log_probabilities = logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
        loss = float((weights[:, None] * targets * -log_probabilities).sum())

        error = (numpy.exp(log_probabilities) - targets) * (weights / len(weights))[:, None]
        pooled_error = (error @ self.head.T) * gate
        rate = learning_rate * numpy.sqrt(1 - self._MEMORY**self._steps) / (1 - self._MOMENTUM**self._steps)
        self._move("head", slice(None), features.T @ error, rate)
        self._move("bias", slice(None), error.sum(axis=0), rate)
        self._move("table", touched, rows.T @ pooled_error, rate)
        return loss

    def _move(self, name: str, chosen: numpy.ndarray | slice, gradient: numpy.ndarray, rate: float) -> None:
        """Adam (Kingma and Ba 2015) on the chosen rows; the others keep their moments ("lazy" Adam)."""
        first, second = self._moments[name]
        momentum, memory = self._MOMENTUM, self._MEMORY
        first_chosen = momentum * first[chosen] + (1 - momentum) * gradient
        second_chosen = memory * second[chosen] + (1 - memory) * gradient**2
        first[chosen], second[chosen] = first_chosen, second_chosen
        change = numpy.float32(rate) * first_chosen / (numpy.sqrt(second_chosen) + self._EPSILON)
        getattr(self, name)[chosen] -= change
