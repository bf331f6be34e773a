"""The text methods that a bundle's text model is measured against, each fitted and asked in the same way."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import scipy.sparse
import sklearn.base
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.svm import LinearSVC

from benchmarks.quality.baseline import (
    ScoredBaseline,
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


def text_baselines() -> Mapping[str, Callable[[TrainingRows], ScoredBaseline]]:
    """By name, what fits each; fastText is only among them where it is installed."""
    baselines = {LINEAR_SVC: linear_svc, LOG_LOSS: log_loss_linear, OLDER_TEXT: AveragedEmbedding}
    try:
        import fasttext  # noqa: F401
    except ImportError:
        return baselines
    return {**baselines, FASTTEXT: FastText}


def linear_svc(rows: TrainingRows) -> ScoredBaseline:
    """TF-IDF of words and characters, title and description apart, title weighted, and a linear SVM."""
    return LinearText(rows, LinearSVC(C=0.2, random_state=rows.seed))


def log_loss_linear(rows: TrainingRows) -> ScoredBaseline:
    """The same features and a linear model under the log loss, one against the rest."""
    model = SGDClassifier(loss="log_loss", alpha=3e-6, max_iter=30, random_state=rows.seed, n_jobs=-1)
    return LinearText(rows, model)


class LinearText(ScoredBaseline):
    """A linear model of scikit-learn on TF-IDF features, calibrated by cross-validation."""

    def __init__(self, rows: TrainingRows, model: sklearn.base.ClassifierMixin) -> None:
        """Fit on the rows, which have a text each."""
        super().__init__()
        texts = cleaned(rows.products)
        self._features, self._categories = _Tfidf(texts), rows.categories
        matrix = self._features(texts)

        def fit(chosen: np.ndarray) -> sklearn.base.ClassifierMixin:
            fitted = sklearn.base.clone(model)
            return fitted.fit(matrix[chosen], rows.category_index[chosen], sample_weight=rows.weights[chosen])

        def fit_fold(chosen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
            fitted = fit(chosen)
            return lambda held: self._scores(fitted, matrix[held])

        scores = out_of_fold_scores(rows, fit_fold)
        self._model = fit(np.arange(len(texts)))
        self.finish_cross_validated(rows, scores)

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The decision function of every category."""
        return self._scores(self._model, self._features(cleaned(products)))

    def _scores(self, model: sklearn.base.ClassifierMixin, matrix: scipy.sparse.csr_matrix) -> np.ndarray:
        return in_all_columns(model.decision_function(matrix), model.classes_, self._categories)


class FastText(ScoredBaseline):
    """fastText (Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification") with character n-grams."""

    def __init__(self, rows: TrainingRows) -> None:
        """Fit on nine tenths of the rows, the rest finds the temperature; then on all."""
        super().__init__()
        texts = [self._line(text) for text in cleaned(rows.products)]
        self._categories = rows.categories
        held = rows.fold(10) == 0
        self._model = self._fit(texts, rows.category_index, np.flatnonzero(~held))
        judged = np.flatnonzero(held & rows.judged)
        scores = self.scores([rows.products[row] for row in judged])
        self._model = self._fit(texts, rows.category_index, np.arange(len(texts)))
        self.finish(scores, rows.category_index[judged])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logarithms of its own probabilities."""
        lines = [self._line(text) for text in cleaned(products)]
        scores = np.full((len(lines), self._categories), -12.0)
        if lines:
            for row, (labels, probabilities) in enumerate(
                zip(*self._model.predict(lines, k=-1), strict=True)
            ):
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
    def _line(text: tuple[str, str]) -> str:
        return " ".join(" ".join(text).split())

    @staticmethod
    def _fit(texts: Sequence[str], category_index: np.ndarray, chosen: np.ndarray):
        import fasttext

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.txt"
            lines = (f"__label__{category_index[row]} {texts[row]}\n" for row in chosen)
            path.write_text("".join(lines), encoding="utf-8")
            # One thread: with more, two runs differ.
            return fasttext.train_supervised(
                str(path), dim=100, lr=0.5, epoch=15, wordNgrams=2, minn=3, maxn=5, bucket=500_000, thread=1, verbose=0
            )  # fmt: skip


class AveragedEmbedding(ScoredBaseline):
    """The older project's text model: 50,000 words, sequences of 500, embedding 200, global average, dense."""

    WORDS, LENGTH, WIDTH = 50_000, 500, 200

    def __init__(self, rows: TrainingRows) -> None:
        """Fit on nine tenths of the rows; the rest says when to stop, and finds the temperature."""
        super().__init__()
        texts = self._joined(rows.products)
        words = CountVectorizer(max_features=self.WORDS - 2, tokenizer=_WORD.findall, token_pattern=None).fit(
            texts
        )
        self._known = words.vocabulary_
        keras.utils.set_random_seed(rows.seed)
        inputs = keras.Input((self.LENGTH,), dtype="int32")
        table = keras.layers.Embedding(self.WORDS, self.WIDTH, mask_zero=True)(inputs)
        average = keras.layers.GlobalAveragePooling1D()(table)
        outputs = keras.layers.Dense(rows.categories)(average)
        self._model = keras.Model(inputs, {"logits": outputs, "features": average})
        held = rows.fold(10) == 0
        model, ids = keras.Model(inputs, outputs), self._ids(rows.products)
        fit_until_it_stops(model, ids, rows.category_index, rows.weights, held)
        judged = np.flatnonzero(held & rows.judged)
        self.finish(self.scores([rows.products[row] for row in judged]), rows.category_index[judged])

    def scores(self, products: Sequence[Product]) -> np.ndarray:
        """The logits."""
        return self.outputs(products)["logits"]

    def outputs(self, products: Sequence[Product]) -> dict[str, np.ndarray]:
        """The logits, float32 (n, categories), and the layer before them, "features", float32 (n, 200)."""
        if not len(products):
            shapes = {name: output.shape[-1] for name, output in self._model.output.items()}
            return {name: np.zeros((0, width), np.float32) for name, width in shapes.items()}
        return self._model.predict(self._ids(products), batch_size=256, verbose=0)

    def _ids(self, products: Sequence[Product]) -> np.ndarray:
        """int32 (n, 500): 0 is padding, 1 a word that is not known."""
        sequences = [
            [self._known.get(word, -1) + 2 for word in _WORD.findall(text)][: self.LENGTH]
            for text in self._joined(products)
        ]
        return keras.utils.pad_sequences(sequences, maxlen=self.LENGTH, padding="post")

    @staticmethod
    def _joined(products: Sequence[Product]) -> list[str]:
        return [f"{title} {description}".strip() for title, description in cleaned(products)]


class _Tfidf:
    """Words and word pairs, and character n-grams within words, of the title (counted double) and the description."""

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        columns = list(zip(*texts, strict=True))
        common = {"sublinear_tf": True, "strip_accents": "unicode"}
        self._parts = [
            (column, weight, vectorizer.fit(columns[column]))
            for column, weight in ((0, 2.0), (1, 1.0))
            # A shop without a single description has nothing to learn from there.
            if any(columns[column])
            for vectorizer in (
                TfidfVectorizer(ngram_range=(1, 2), min_df=2, **common),
                TfidfVectorizer(
                    analyzer="char_wb", ngram_range=(3, 5), min_df=3, max_features=200_000, **common
                ),
            )
        ]

    def __call__(self, texts: Sequence[tuple[str, str]]) -> scipy.sparse.csr_matrix:
        columns = list(zip(*texts, strict=True))
        return scipy.sparse.hstack(
            [weight * vectorizer.transform(columns[column]) for column, weight, vectorizer in self._parts],
            format="csr",
        )
