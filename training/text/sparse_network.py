"""A network over sparse features whose optimizer moves only the table rows that a batch touches.

These are a few thousand of some hundred thousand. The three loops over them are compiled; the rest of a step is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.special import log_softmax

from training.block_cache import BlockCache
from training.settings import TextTrainingSettings
from training.text.sparse_kernels import add_table_rows, gather_gradient, move_table_rows

# Texts whose rows are in memory at a time where a network only predicts.
_BLOCK = 4096

# Share of the values in TextRows.dense that a step does not see.
_DENSE_DROPOUT = 0.1

# Standard deviation of a table's random start: small, so that a row which is hardly ever touched stays near 0.
_TABLE_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class TextRows:
    """The features of texts; a selection shares the arrays.

    Attributes:
        sparse: float32 (m, columns): n-gram features with their weights. May lie on disk.
        dense: floating (m, width): more features; width may be 0.
        positions: int (n,): which of the m texts these are, and in which order; None: all of them.
    """

    sparse: scipy.sparse.csr_matrix
    dense: np.ndarray
    positions: np.ndarray | None = None

    def __getitem__(self, chosen: np.ndarray) -> TextRows:
        """Some of the texts."""
        return TextRows(self.sparse, self.dense, self.positions_of(chosen))

    def __len__(self) -> int:
        """How many texts."""
        return self.sparse.shape[0] if self.positions is None else len(self.positions)

    def positions_of(self, chosen: np.ndarray) -> np.ndarray:
        """Positions of these texts in the two arrays, int (chosen,)."""
        return chosen if self.positions is None else self.positions[chosen]

    def blocks(self) -> Iterator[tuple[scipy.sparse.csr_matrix, np.ndarray]]:
        """Both arrays' rows of a few thousand texts at a time."""
        for start in range(0, len(self), _BLOCK):
            positions = self.positions_of(np.arange(start, min(start + _BLOCK, len(self))))
            yield self.sparse[positions], self.dense[positions]


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights that a network starts from instead of random ones.

    Attributes:
        table: float32 (columns, units).
        dense: float32 (width, units).
        head: float32 (units, categories).
        bias: float32 (categories,).
        frozen_categories: int: categories without a row to learn from, whose columns stay as they are.
    """

    table: np.ndarray
    dense: np.ndarray
    head: np.ndarray
    bias: np.ndarray
    frozen_categories: np.ndarray


def fit_network(
    rows: TextRows,
    targets: np.ndarray,
    weights: np.ndarray,
    settings: TextTrainingSettings,
    *,
    dense_rate: float,
    seed: Sequence[int],
    report: Callable[[SparseNetwork, int, float], None],
    start: InitialWeights | None = None,
    checkpoint: NetworkCheckpoint | None = None,
) -> SparseNetwork:
    """Fit a network from a random start, or from given weights.

    Args:
        rows: n texts.
        targets: float32 (n, categories), rows sum to 1.
        weights: float32 (n,) with mean 1: how much each row counts.
        settings: The choices.
        dense_rate: The learning rate of what reads `TextRows.dense`, as a share of the tables'.
        seed: Numbers that fix the start, the order and what is dropped.
        report: Called after each pass with the network, the pass (1 for the first) and its mean loss in nats.
        start: Where to start from; None: at random.
        checkpoint: Saves the network after each pass, and is resumed from.
    """
    network = SparseNetwork(rows, targets.shape[1], settings, dense_rate, [*seed, 0])
    if start:
        network.start_from(start)
    random = np.random.default_rng([*seed, 1])
    # A tiny catalog still needs some steps to leave its random start.
    batch_size = max(1, min(settings.batch_size, len(targets) // 8))
    steps_an_epoch = -(-len(targets) // batch_size)
    first, loss = checkpoint.restore(network, random) if checkpoint else (0, 0.0)
    if first and first == settings.epochs:
        # Stopped after its last pass, which may not have been reported.
        report(network, first, loss)
    for epoch in range(first, settings.epochs):
        order = random.permutation(len(targets))
        loss = 0.0
        for step in range(steps_an_epoch):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            rate = settings.learning_rate * (1 - (epoch + step / steps_an_epoch) / settings.epochs)
            loss += network.step(chosen, targets[chosen], weights[chosen], rate)
        loss /= max(len(targets), 1)
        if checkpoint:
            checkpoint.save(network, random, epoch + 1, loss)
        report(network, epoch + 1, loss)
    network.forget_rows()
    return network


class SparseNetwork:
    """Sparse features -> sum of table rows (+ dense features times a matrix) -> rectifier -> linear.

    Attributes:
        table: float32 (columns, units).
        dense: float32 (width, units), what reads `TextRows.dense`.
        head: float32 (units, categories).
        bias: float32 (categories,).
        linear: float32 (columns, categories): what a column adds to the logits past the rectifier; (columns, 0)
            until it is set. No step moves it.
    """

    _MOMENTUM, _MEMORY, _EPSILON = 0.9, 0.99, 1e-7

    def __init__(
        self, rows: TextRows, categories: int, settings: TextTrainingSettings, dense_rate: float, seed: Sequence[int]
    ) -> None:
        """A random start, to be fitted on these rows."""
        self._random = np.random.default_rng(seed)
        normal = self._random.standard_normal
        columns, width, units = rows.sparse.shape[1], rows.dense.shape[1], settings.model.units
        self.table = normal((columns, units), np.float32) * np.float32(_TABLE_SPREAD)
        self.head = normal((units, categories), np.float32) / np.float32(np.sqrt(units))
        self.bias = np.zeros(categories, np.float32)
        self.dense = normal((width, units), np.float32) / np.float32(np.sqrt(max(width, 1)))
        self.linear = np.zeros((columns, 0), np.float32)
        self._rows: TextRows | None = rows
        self._moments = {
            name: (np.zeros_like(getattr(self, name)), np.zeros_like(getattr(self, name)))
            for name in ("table", "dense", "head", "bias")
        }
        self._slots = np.full(columns, -1, np.int32)
        self._steps, self._settings, self._dense_rate = 0, settings, dense_rate
        self._frozen_categories = np.zeros(0, np.int64)

    def start_from(self, start: InitialWeights) -> None:
        """Take given weights in place of the random ones."""
        for name in self._moments:
            getattr(self, name)[...] = getattr(start, name)
        self._frozen_categories = start.frozen_categories

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All that the next step depends on: arrays, and facts for JSON."""
        arrays = {name: getattr(self, name) for name in self._moments}
        for name, (first, second) in self._moments.items():
            arrays |= {f"{name}_first": first, f"{name}_second": second}
        return arrays, {"steps": self._steps, "random": self._random.bit_generator.state}

    def set_state(self, arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> None:
        """Set what `state` gave."""
        for name, (first, second) in self._moments.items():
            getattr(self, name)[...] = arrays[name]
            first[...], second[...] = arrays[f"{name}_first"], arrays[f"{name}_second"]
        self._steps, self._random.bit_generator.state = note["steps"], note["random"]

    def forget_rows(self) -> None:
        """Let go of what only fitting needs."""
        self._rows, self._moments = None, {}

    def features(self, rows: TextRows) -> np.ndarray:
        """float32 (n, units), 0 or above."""
        features = np.empty((len(rows), self.table.shape[1]), np.float32)
        start = 0
        for sparse, dense in rows.blocks():
            pooled = sparse @ self.table
            if self.dense.shape[0]:
                pooled += dense.astype(np.float32) @ self.dense
            features[start : start + len(pooled)] = np.maximum(pooled, 0)
            start += len(pooled)
        return features

    def logits(self, rows: TextRows) -> np.ndarray:
        """float32 (n, categories)."""
        logits: np.ndarray = self.features(rows) @ self.head + self.bias
        if self.linear.shape[1]:
            start = 0
            for sparse, _ in rows.blocks():
                logits[start : start + sparse.shape[0]] += sparse @ self.linear
                start += sparse.shape[0]
        return logits

    def step(self, chosen: np.ndarray, targets: np.ndarray, weights: np.ndarray, learning_rate: float) -> float:
        """One step on some of the rows, int (n,); returns the sum of their weighted cross-entropies, in nats.

        `targets` is float32 (n, categories), its rows sum to 1; `weights` is float32 (n,).
        """
        self._steps += 1
        assert self._rows is not None, "a network without rows is not fitted any more"
        settings, sparse = self._settings, self._rows.sparse
        chosen = self._rows.positions_of(chosen)
        kept_share = np.float32(1 - settings.feature_dropout)
        count = int((sparse.indptr[chosen + 1] - sparse.indptr[chosen]).sum())
        seen = self._random.random(count, np.float32) < kept_share
        entries = (sparse.indptr, sparse.indices, sparse.data, chosen, seen)
        pooled = np.zeros((len(chosen), self.table.shape[1]), np.float32)
        add_table_rows(entries, self.table, pooled)
        pooled /= kept_share
        dense = self._rows.dense[chosen].astype(np.float32)
        dense *= (self._random.random(dense.shape, np.float32) >= _DENSE_DROPOUT) / np.float32(1 - _DENSE_DROPOUT)
        pooled += dense @ self.dense

        on = self._random.random(pooled.shape, np.float32) >= settings.unit_dropout
        gate = on * (pooled > 0) / np.float32(1 - settings.unit_dropout)
        features = pooled * gate
        log_probabilities = log_softmax(features @ self.head + self.bias, axis=1)
        loss = float((weights[:, None] * targets * -log_probabilities).sum())

        error = (np.exp(log_probabilities) - targets) * (weights / len(weights))[:, None]
        pooled_error = (error @ self.head.T) * gate
        # After what the features learn, before what the columns do.
        error[:, self._frozen_categories] = 0
        rate = learning_rate * np.sqrt(1 - self._MEMORY**self._steps) / (1 - self._MOMENTUM**self._steps)
        self._move("head", features.T @ error, rate)
        self._move("bias", error.sum(axis=0), rate)
        self._move("dense", dense.T @ pooled_error, rate * self._dense_rate)

        touched = np.empty(count, np.int32)
        gradient = np.empty((count, self.table.shape[1]), np.float32)
        found = gather_gradient(entries, pooled_error / kept_share, self._slots, touched, gradient)
        rates = (self._MOMENTUM, self._MEMORY, rate, self._EPSILON, settings.decay * learning_rate)
        move_table_rows(
            touched[:found], gradient, self._slots, self.table, self._moments["table"], tuple(map(np.float32, rates))
        )
        return loss

    def _move(self, name: str, gradient: np.ndarray, rate: float) -> None:
        """Adam (Kingma and Ba 2015) on all of a small array."""
        first, second = self._moments[name]
        first += (1 - self._MOMENTUM) * (gradient - first)
        second += (1 - self._MEMORY) * (gradient**2 - second)
        change = np.float32(rate) * first / (np.sqrt(second) + np.float32(self._EPSILON))
        getattr(self, name)[...] -= change


@dataclass(frozen=True, eq=False)
class NetworkCheckpoint:
    """One network's saved state.

    Attributes:
        cache: Where it lies; it belongs to one fit: the same rows, targets and settings.
        name: Of the network.
    """

    cache: BlockCache
    name: str

    def restore(self, network: SparseNetwork, order: np.random.Generator) -> tuple[int, float]:
        """Set the network, and the generator of the rows' order, to what was saved.

        Returns:
            The passes that were done, and the mean loss of the last of them in nats.
        """
        saved = self.cache.load(self.name)
        if saved is None:
            return 0, 0.0
        arrays, note = saved
        network.set_state(arrays, note)
        order.bit_generator.state = note["order"]
        return int(note["passes"]), float(note["loss"])

    def save(self, network: SparseNetwork, order: np.random.Generator, passes: int, loss: float) -> None:
        """Save the state after so many passes."""
        arrays, note = network.state()
        note |= {"order": order.bit_generator.state, "passes": passes, "loss": loss}
        self.cache.save(self.name, arrays, note)
