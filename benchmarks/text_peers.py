"""The text methods that a bundle's text model is measured against, each fitted and asked in the same way.

A peer is fitted on texts and categories and answers with log probabilities. Those that give no probabilities are
calibrated by a temperature on their scores, found in cross-validation inside the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy
import scipy.sparse
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.svm import LinearSVC

from rakuten_models.preprocessing import clean_text
from rakuten_models.product import Product
from training.calibration import fit_temperature

Texts = Sequence[tuple[str, str]]
Ask = Callable[[Texts], numpy.ndarray]


def cleaned(products: Sequence[Product]) -> Texts:
    """Designation and description as all methods get them: without tags and entities, in lower case."""
    return [
        (clean_text(product.designation).lower(), clean_text(product.description).lower())
        for product in products
    ]


def linear_svc(texts: Texts, category_index: numpy.ndarray, weights: numpy.ndarray, seed: int) -> Ask:
    """TF-IDF of words and characters, title and description apart, title weighted, and a linear SVM."""
    features = _Tfidf(texts)
    rows = features(texts)
    model = LinearSVC(C=0.2, random_state=seed)
    scores = cross_val_predict(
        model, rows, category_index, cv=3, method="decision_function", params={"sample_weight": weights}
    )
    temperature = fit_temperature(scores, category_index)
    model.fit(rows, category_index, sample_weight=weights)
    return lambda asked: log_softmax(model.decision_function(features(asked)) / temperature, axis=1)


def log_loss_linear(texts: Texts, category_index: numpy.ndarray, weights: numpy.ndarray, seed: int) -> Ask:
    """The same features and a linear model under the log loss, one against the rest."""
    features = _Tfidf(texts)
    rows = features(texts)
    model = SGDClassifier(loss="log_loss", alpha=3e-6, max_iter=30, random_state=seed, n_jobs=-1)
    scores = cross_val_predict(
        model, rows, category_index, cv=3, method="decision_function", params={"sample_weight": weights}
    )
    temperature = fit_temperature(scores, category_index)
    model.fit(rows, category_index, sample_weight=weights)
    return lambda asked: log_softmax(model.decision_function(features(asked)) / temperature, axis=1)


def averaged_embedding(texts: Texts, category_index: numpy.ndarray, weights: numpy.ndarray, seed: int) -> Ask:
    """The older project's text model: 50,000 words, sequences of 500, embedding 200, global average, dense."""
    import keras
    from sklearn.feature_extraction.text import CountVectorizer

    def joined(asked: Texts) -> list[str]:
        return [f"{title} {description}".strip() for title, description in asked]

    words = CountVectorizer(max_features=50_000 - 2, token_pattern=r"\w+").fit(joined(texts))
    analyse, known = words.build_analyzer(), words.vocabulary_

    def ids(asked: Texts) -> numpy.ndarray:
        sequences = [[known.get(word, -1) + 2 for word in analyse(text)][:500] for text in joined(asked)]
        return keras.utils.pad_sequences(sequences, maxlen=500, padding="post")

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((500,), dtype="int32")
    table = keras.layers.Embedding(50_000, 200, mask_zero=True)(inputs)
    outputs = keras.layers.Dense(int(category_index.max()) + 1)(keras.layers.GlobalAveragePooling1D()(table))
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    held = numpy.random.default_rng(seed).random(len(texts)) < 0.1
    rows = ids(texts)
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    model.fit(
        rows[~held],
        category_index[~held],
        sample_weight=weights[~held],
        validation_data=(rows[held], category_index[held]),
        batch_size=64,
        epochs=20,
        callbacks=[stop],
        verbose=0,
    )
    temperature = fit_temperature(model.predict(rows[held], verbose=0), category_index[held])
    return lambda asked: log_softmax(model.predict(ids(asked), verbose=0) / temperature, axis=1)


PEERS = {
    "TF-IDF + LinearSVC": linear_svc,
    "TF-IDF + log-loss linear": log_loss_linear,
    "averaged embedding (older project)": averaged_embedding,
}


class _Tfidf:
    """Words and word pairs, and character n-grams within words, of the title (counted double) and the description."""

    def __init__(self, texts: Texts) -> None:
        titles, descriptions = zip(*texts, strict=True)
        self._parts = [
            (column, weight, vectorizer.fit(source))
            for column, weight, source in ((0, 2.0, titles), (1, 1.0, descriptions))
            for vectorizer in (
                TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode"),
                TfidfVectorizer(
                    analyzer="char_wb",
                    ngram_range=(3, 5),
                    min_df=3,
                    sublinear_tf=True,
                    strip_accents="unicode",
                    max_features=200_000,
                ),
            )
        ]

    def __call__(self, texts: Texts) -> scipy.sparse.csr_matrix:
        columns = list(zip(*texts, strict=True))
        return scipy.sparse.hstack(
            [weight * vectorizer.transform(columns[column]) for column, weight, vectorizer in self._parts],
            format="csr",
        )
