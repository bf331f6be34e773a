"""The text methods that a bundle's text model is measured against, each fitted and asked in the same way."""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import scipy.sparse
import sklearn.base
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.svm import LinearSVC

from benchmarks.quality.baseline import (
    Baseline,
    Scores,
    TrainingRows,
    cleaned,
    fit_until_it_stops,
    in_all_columns,
    out_of_fold_scores,
)
from rakuten_models.product import Product

LINEAR_SVC = "TF-IDF + LinearSVC"
LOG_LOSS = "TF-IDF + log-loss linear"
FASTTEXT = "fastText with character n-grams"
OLDER_TEXT = "averaged embedding (older project)"
_WORD = re.compile(r"\w+")


def text_baselines() -> Mapping[str, Callable[[TrainingRows], Baseline]]:
    """By name, what fits each; fastText is only among them where it is installed."""
    baselines = {LINEAR_SVC: linear_svc, LOG_LOSS: log_loss_linear, OLDER_TEXT: AveragedEmbedding}
    return baselines | ({FASTTEXT: FastText} if importlib.util.find_spec("fasttext") else {})


def linear_svc(rows: TrainingRows) -> Baseline:
    """TF-IDF of words and characters, title and description apart, title weighted, and a linear SVM."""
    return LinearText(rows, LinearSVC(C=0.2, random_state=rows.seed))


def log_loss_linear(rows: TrainingRows) -> Baseline:
    """The same features and a linear model under the log loss, one against the rest."""
    model = SGDClassifier(loss="log_loss", alpha=3e-6, max_iter=30, random_state=rows.seed, n_jobs=-1)
    return LinearText(rows, model)


class LinearText(Baseline):
    """A linear model of scikit-learn on TF-IDF features, calibrated by cross-validation."""

    def __init__(self, rows: TrainingRows, model: sklearn.base.ClassifierMixin) -> None:
        """Fit on the rows, which have a text each."""
        super().__init__()
        texts = np.array(cleaned(rows.products), object)
        self._categories, self._features = rows.categories, _tfidf(texts)
        matrix = self._features.fit_transform(texts)

        def fit(chosen: np.ndarray) -> sklearn.base.ClassifierMixin:
            fitted = sklearn.base.clone(model)
            return fitted.fit(matrix[chosen], rows.category_index[chosen], sample_weight=rows.weights[chosen])

        def fit_fold(chosen: np.ndarray) -> Scores:
            fitted = fit(chosen)
            return lambda held_out: self._scores(fitted, matrix[held_out])

        scores = out_of_fold_scores(rows, fit_fold)
        self._model = fit(np.arange(len(texts)))
        self.finish_cross_validated(rows, scores)

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The decision function of every category."""
        return self._scores(self._model, self._features.transform(np.array(cleaned(products), object)))

    def _scores(self, model: sklearn.base.ClassifierMixin, matrix: scipy.sparse.csr_matrix) -> np.ndarray:
        return in_all_columns(model.decision_function(matrix), model.classes_, self._categories)


def _tfidf(texts: np.ndarray) -> ColumnTransformer:
    """Words and word pairs, and character n-grams within words, of the title (counted double) and the description."""
    common = {"sublinear_tf": True, "strip_accents": "unicode"}
    characters = {"analyzer": "char_wb", "ngram_range": (3, 5), "min_df": 3, "max_features": 200_000}
    # A shop without a single description has nothing to learn from there.
    columns = [column for column in range(2) if any(texts[:, column])]
    parts = [
        (f"{column} {kind}", TfidfVectorizer(**options, **common), column)
        for column in columns
        for kind, options in (("words", {"ngram_range": (1, 2), "min_df": 2}), ("characters", characters))
    ]
    weights = {name: 2.0 if column == 0 else 1.0 for name, _, column in parts}
    return ColumnTransformer(parts, transformer_weights=weights, sparse_threshold=1.0)


class FastText(Baseline):
    """fastText (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification") with character n-grams."""

    def __init__(self, rows: TrainingRows) -> None:
        """Fit on nine tenths of the rows, the rest finds the temperature; then on all."""
        super().__init__()
        self._categories = rows.categories
        held_out = rows.fold(10) == 0
        evaluated = rows.at(np.flatnonzero(held_out & rows.evaluated))
        self._model = self._fit(rows.at(np.flatnonzero(~held_out)))
        scores = self.scores(evaluated.products)
        self._model = self._fit(rows)
        self.finish(scores, evaluated.category_index)

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logarithms of its own probabilities."""
        scores = np.full((len(products), self._categories), -12.0)
        if products:
            answers = zip(*self._model.predict(self._lines(products), k=-1), strict=True)
            for row, (labels, probabilities) in enumerate(answers):
                columns = [int(label.removeprefix("__label__")) for label in labels]
                scores[row, columns] = np.log(np.maximum(probabilities, 1e-5))
        return scores

    def megabytes(self) -> float:
        """As it stores itself."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.bin"
            self._model.save_model(str(path))
            return path.stat().st_size / 1e6

    @staticmethod
    def _lines(products: Sequence[Product]) -> list[str]:
        return [" ".join(" ".join(texts).split()) for texts in cleaned(products)]

    def _fit(self, rows: TrainingRows) -> object:
        import fasttext

        labelled = zip(rows.category_index, self._lines(rows.products), strict=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.txt"
            path.write_text("".join(f"__label__{index} {text}\n" for index, text in labelled), "utf-8")
            choices = {"dim": 100, "lr": 0.5, "epoch": 15, "wordNgrams": 2, "minn": 3, "maxn": 5}
            # One thread: with more, two runs differ.
            return fasttext.train_supervised(str(path), bucket=500_000, thread=1, verbose=0, **choices)


class AveragedEmbedding(Baseline):
    """The older project's text model: 50,000 words, sequences of 500, embedding 200, global average, dense."""

    WORDS, LENGTH, WIDTH = 50_000, 500, 200

    def __init__(self, rows: TrainingRows) -> None:
        """Fit on nine tenths of the rows; the rest says when to stop, and finds the temperature."""
        super().__init__()
        words = CountVectorizer(max_features=self.WORDS - 2, tokenizer=_WORD.findall, token_pattern=None)
        self._known = words.fit(map(" ".join, cleaned(rows.products))).vocabulary_
        keras.utils.set_random_seed(rows.seed)
        inputs = keras.Input((self.LENGTH,), dtype="int32")
        embedded = keras.layers.Embedding(self.WORDS, self.WIDTH, mask_zero=True)(inputs)
        average = keras.layers.GlobalAveragePooling1D()(embedded)
        outputs = keras.layers.Dense(rows.categories)(average)
        self._model = keras.Model(inputs, {"logits": outputs, "features": average})
        held_out = rows.fold(10) == 0
        fit_until_it_stops(keras.Model(inputs, outputs), self._ids(rows.products), rows, held_out)
        evaluated = rows.at(np.flatnonzero(held_out & rows.evaluated))
        self.finish(self.scores(evaluated.products), evaluated.category_index)

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logits."""
        return self.outputs(products)["logits"]

    def outputs(self, products: Sequence[Product]) -> dict[str, np.ndarray]:
        """The logits, float32 (n, categories), and the layer before them, "features", float32 (n, 200)."""
        if not len(products):
            outputs = self._model.output.items()
            return {name: np.zeros((0, output.shape[-1]), np.float32) for name, output in outputs}
        return self._model.predict(self._ids(products), batch_size=256, verbose=0)

    def _ids(self, products: Sequence[Product]) -> np.ndarray:
        """int32 (n, 500): 0 is padding, 1 a word that is not known."""
        words = (_WORD.findall(" ".join(texts)) for texts in cleaned(products))
        sequences = [[self._known.get(word, -1) + 2 for word in row] for row in words]
        return keras.utils.pad_sequences(sequences, self.LENGTH, padding="post", truncating="post")
