"""What a text's nearest neighbours among the labelled texts say of its category.

A teacher of another kind than the network: it errs elsewhere, so the two together are surer than either. It is not
served (that would mean to ship the catalog); the network learns what it says.
"""

from __future__ import annotations

import numpy
import scipy.sparse

# Rows compared at a time with all labelled rows: bounds the memory (80 MB beside 80,000 rows).
_ROWS_AT_ONCE = 250
# Added to every share, so that a category no neighbour has is unlikely and not impossible.
_LEAST_SHARE = 1e-3


class Neighbours:
    """Weighted vote of the nearest labelled texts (Dudani 1976, "The distance-weighted k-nearest-neighbor rule").

    Texts are compared by the cosine of their table rows, each weighted by the logarithm of its rarity.

    Args:
        rows: float32 (n, columns), n labelled texts as the network sees them.
        category_index: int (n,).
        weights: float (n,), how much each label counts.
        categories: Number of categories.
        others: float32 (m, columns), more texts to learn from which table rows are rare.
        count: How many neighbours vote.
        sharpness: A neighbour of cosine c votes with exp(sharpness * c).
    """

    def __init__(
        self,
        rows: scipy.sparse.csr_matrix,
        category_index: numpy.ndarray,
        weights: numpy.ndarray,
        categories: int,
        others: scipy.sparse.csr_matrix | None = None,
        *,
        count: int = 20,
        sharpness: float = 12.0,
    ) -> None:
        """Weigh the columns and keep the labelled rows at length 1."""
        counts = numpy.diff(rows.tocsc().indptr)
        total = rows.shape[0]
        if others is not None:
            counts = counts + numpy.diff(others.tocsc().indptr)
            total += others.shape[0]
        self._rarity = numpy.log((1 + total) / (1 + counts)).astype(numpy.float32)
        self._columns_first = self._at_length_one(rows).T.tocsr()
        self._votes = numpy.zeros((rows.shape[0], categories), numpy.float32)
        self._votes[numpy.arange(rows.shape[0]), category_index] = weights
        self._count, self._sharpness = count, sharpness

    def of(self, rows: scipy.sparse.csr_matrix) -> numpy.ndarray:
        """float32 (k, categories), log probabilities of k other texts; float32 (k, columns) rows as above."""
        rows = self._at_length_one(rows)
        categories = self._votes.shape[1]
        count = min(self._count, len(self._votes))
        answers = numpy.empty((rows.shape[0], categories), numpy.float32)
        for start in range(0, rows.shape[0], _ROWS_AT_ONCE):
            cosines = (rows[start : start + _ROWS_AT_ONCE] @ self._columns_first).toarray()
            nearest = numpy.argpartition(-cosines, count - 1, axis=1)[:, :count]
            strength = numpy.exp(self._sharpness * numpy.take_along_axis(cosines, nearest, axis=1))
            shares = numpy.einsum("rk,rkc->rc", strength, self._votes[nearest])
            total = numpy.maximum(shares.sum(axis=1, keepdims=True), 1e-30)
            shares = shares / total + _LEAST_SHARE
            answers[start : start + len(cosines)] = numpy.log(shares / shares.sum(axis=1, keepdims=True))
        return answers

    def _at_length_one(self, rows: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        weighted = (rows @ scipy.sparse.diags(self._rarity)).tocsr()
        lengths = numpy.sqrt(numpy.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        scale = scipy.sparse.diags(1 / numpy.maximum(lengths, 1e-9))
        return (scale @ weighted).tocsr().astype(numpy.float32)
