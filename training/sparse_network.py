"""The text model's numbers, fitted: a network over sparse rows whose optimizer moves touched table rows only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy
import scipy.sparse
from scipy.special import log_softmax


def fit_network(
    rows: scipy.sparse.csr_matrix,
    targets: numpy.ndarray,
    weights: numpy.ndarray,
    *,
    units: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    feature_dropout: float,
    unit_dropout: float,
    seed: Sequence[int],
    report: Callable[[SparseNetwork, int, float], None],
) -> SparseNetwork:
    """Fit a network from a random start.

    Args:
        rows: float32 (n, columns): what each text stands for, and with what weight.
        targets: float32 (n, categories), rows sum to 1.
        weights: float32 (n,) with mean 1: how much each row counts.
        units: Width of the table.
        epochs: Passes over the rows.
        batch_size: Rows a step.
        learning_rate: Of the first step; falls linearly to 0.
        feature_dropout: Share of a row's entries that a step does not see.
        unit_dropout: Share of the features that a step does not see.
        seed: Numbers that fix the start, the order and what is dropped.
        report: Called after each pass with the network, the pass (1 for the first) and its mean loss in nats.

    Returns:
        The network.
    """
    network = SparseNetwork(rows.shape[1], units, targets.shape[1], [*seed, 0], feature_dropout, unit_dropout)
    random = numpy.random.default_rng([*seed, 1])
    # A tiny catalog still needs some steps to leave its random start.
    batch_size = max(1, min(batch_size, len(targets) // 8))
    steps_an_epoch = -(-len(targets) // batch_size)
    for epoch in range(epochs):
        order = random.permutation(len(targets))
        loss = 0.0
        for step in range(steps_an_epoch):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            rate = learning_rate * (1 - (epoch + step / steps_an_epoch) / epochs)
            loss += network.step(rows[chosen], targets[chosen], weights[chosen], rate)
        report(network, epoch + 1, loss / max(len(targets), 1))
    return network


class SparseNetwork:
    """Sparse rows -> sum of table rows -> rectifier -> linear; its Adam moves touched rows only."""

    _MOMENTUM, _MEMORY, _EPSILON = 0.9, 0.99, 1e-7

    def __init__(
        self,
        columns: int,
        units: int,
        categories: int,
        seed: Sequence[int],
        feature_dropout: float,
        unit_dropout: float,
    ) -> None:
        """A random start; for the arguments see `fit_network`."""
        self._random = numpy.random.default_rng(seed)
        normal = self._random.standard_normal
        self.table = normal((columns, units), numpy.float32) * numpy.float32(0.05)
        self.head = normal((units, categories), numpy.float32) / numpy.float32(numpy.sqrt(units))
        self.bias = numpy.zeros(categories, numpy.float32)
        self._moments = {
            name: (numpy.zeros_like(value), numpy.zeros_like(value))
            for name, value in (("table", self.table), ("head", self.head), ("bias", self.bias))
        }
        self._steps = 0
        self._feature_dropout, self._unit_dropout = feature_dropout, unit_dropout

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
        self._steps += 1
        seen = self._random.random(rows.nnz, numpy.float32) >= self._feature_dropout
        rows.data *= seen / numpy.float32(1 - self._feature_dropout)
        # Only the touched columns take part, renumbered from 0.
        touched, renumbered = numpy.unique(rows.indices, return_inverse=True)
        rows = scipy.sparse.csr_matrix(
            (rows.data, renumbered, rows.indptr), shape=(rows.shape[0], len(touched))
        )

        pooled = rows @ self.table[touched]
        on = self._random.random(pooled.shape, numpy.float32) >= self._unit_dropout
        gate = on * (pooled > 0) / numpy.float32(1 - self._unit_dropout)
        features = pooled * gate
        log_probabilities = log_softmax(features @ self.head + self.bias, axis=1)
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
