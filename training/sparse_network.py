"""The text model's numbers, fitted: a network over sparse rows whose optimizer moves touched table rows only.

A batch touches a few thousand rows of tables of some hundred thousand. The three loops over them are compiled; the
rest of a step is small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numba
import numpy
import scipy.sparse
from scipy.special import log_softmax

from training.network_checkpoint import NetworkCheckpoint

# Texts whose rows are in memory at a time where a network only answers.
_BLOCK = 4096
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class TextRows:
    """Texts as a network sees them; some of them are the same arrays with other positions, never a copy.

    Attributes:
        sparse: float32 (m, columns): what each text stands for, and with what weight. May lie on disk.
        dense: floating (m, width): more that is known of each text; width may be 0.
        positions: int (n,): which of the m texts these are, and in which order; None: all of them.
    """

    sparse: scipy.sparse.csr_matrix
    dense: numpy.ndarray
    positions: numpy.ndarray | None = None

    def __getitem__(self, chosen: numpy.ndarray) -> TextRows:
        """Some of the texts."""
        return TextRows(self.sparse, self.dense, self.place(chosen))

    def __len__(self) -> int:
        """How many texts."""
        return self.sparse.shape[0] if self.positions is None else len(self.positions)

    def place(self, chosen: numpy.ndarray) -> numpy.ndarray:
        """Where these texts stand in the two arrays, int (chosen,)."""
        return chosen if self.positions is None else self.positions[chosen]

    def blocks(self) -> Iterator[tuple[scipy.sparse.csr_matrix, numpy.ndarray]]:
        """Both arrays' rows of a few thousand texts at a time."""
        for start in range(0, len(self), _BLOCK):
            place = self.place(numpy.arange(start, min(start + _BLOCK, len(self))))
            yield self.sparse[place], self.dense[place]


@dataclass(frozen=True)
class NetworkSettings:
    """How one network is fitted.

    Attributes:
        units: Width of the table.
        epochs: Passes over the rows.
        batch_size: Rows a step.
        learning_rate: Of the first step; falls linearly to 0.
        dense_rate: The learning rate of what reads `TextRows.dense`, as a share of the other's.
        decay: Share of a touched table row that is taken away in a step, for each unit of the learning rate.
        feature_dropout: Share of a row's entries that a step does not see.
        unit_dropout: Share of the features that a step does not see.
    """

    units: int
    epochs: int
    batch_size: int
    learning_rate: float
    dense_rate: float
    decay: float
    feature_dropout: float
    unit_dropout: float


# Share of the values in TextRows.dense that a step does not see, and the spread of a table's random start: small, so
# that a row which is hardly ever touched stays near nothing.
_DENSE_DROPOUT = 0.1
_TABLE_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class NetworkStart:
    """Numbers that a network starts from instead of random ones.

    Attributes:
        table: float32 (columns, units).
        dense: float32 (width, units).
        head: float32 (units, categories).
        bias: float32 (categories,).
        held: int: categories without a row to learn from. Their columns stay as they are; the others learn beside
            them, so that a row of theirs is not taken for one of these.
    """

    table: numpy.ndarray
    dense: numpy.ndarray
    head: numpy.ndarray
    bias: numpy.ndarray
    held: numpy.ndarray


def fit_network(
    rows: TextRows,
    targets: numpy.ndarray,
    weights: numpy.ndarray,
    settings: NetworkSettings,
    *,
    seed: Sequence[int],
    report: Callable[[SparseNetwork, int, float], None],
    start: NetworkStart | None = None,
    checkpoint: NetworkCheckpoint | None = None,
) -> SparseNetwork:
    """Fit a network from a random start, or from given numbers.

    Args:
        rows: n texts.
        targets: float32 (n, categories), rows sum to 1.
        weights: float32 (n,) with mean 1: how much each row counts.
        settings: The choices.
        seed: Numbers that fix the start, the order and what is dropped.
        report: Called after each pass with the network, the pass (1 for the first) and its mean loss in nats.
        start: Where to start from; None: at random.
        checkpoint: Keeps the network after each pass, and takes up what it has kept.

    Returns:
        The network.
    """
    network = SparseNetwork(rows, targets.shape[1], settings, [*seed, 0])
    if start is not None:
        network.start_from(start)
    random = numpy.random.default_rng([*seed, 1])
    # A tiny catalog still needs some steps to leave its random start.
    batch_size = max(1, min(settings.batch_size, len(targets) // 8))
    steps_an_epoch = -(-len(targets) // batch_size)
    first, loss = checkpoint.restore(network, random) if checkpoint else (0, 0.0)
    if first and first == settings.epochs:
        # Stopped after its last pass, of which nobody may have heard.
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
    """Sparse rows -> sum of table rows (+ dense values through a matrix) -> rectifier -> linear.

    Attributes:
        table: float32 (columns, units).
        dense: float32 (width, units), what reads `TextRows.dense`.
        head: float32 (units, categories).
        bias: float32 (categories,).
        linear: float32 (columns, categories): what a column adds to the logits past the rectifier; without columns
            until it is set. No step moves it.
    """

    _MOMENTUM, _MEMORY, _EPSILON = 0.9, 0.99, 1e-7

    def __init__(
        self, rows: TextRows, categories: int, settings: NetworkSettings, seed: Sequence[int]
    ) -> None:
        """A random start, to be fitted on these rows."""
        self._random = numpy.random.default_rng(seed)
        normal = self._random.standard_normal
        columns, width, units = rows.sparse.shape[1], rows.dense.shape[1], settings.units
        self.table = normal((columns, units), numpy.float32) * numpy.float32(_TABLE_SPREAD)
        self.head = normal((units, categories), numpy.float32) / numpy.float32(numpy.sqrt(units))
        self.bias = numpy.zeros(categories, numpy.float32)
        self.dense = normal((width, units), numpy.float32) / numpy.float32(numpy.sqrt(max(width, 1)))
        self.linear = numpy.zeros((columns, 0), numpy.float32)
        self._rows: TextRows | None = rows
        self._moments = {
            name: (numpy.zeros_like(getattr(self, name)), numpy.zeros_like(getattr(self, name)))
            for name in ("table", "dense", "head", "bias")
        }
        self._place = numpy.full(columns, -1, numpy.int32)
        self._steps, self._settings = 0, settings
        self._held = numpy.zeros(0, numpy.int64)

    def start_from(self, start: NetworkStart) -> None:
        """Take over given numbers in place of the random ones."""
        for name in self._moments:
            getattr(self, name)[...] = getattr(start, name)
        self._held = start.held

    def state(self) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
        """All that the next step depends on: arrays, and what JSON can hold."""
        arrays = {name: getattr(self, name) for name in self._moments}
        for name, (first, second) in self._moments.items():
            arrays |= {f"{name}_first": first, f"{name}_second": second}
        return arrays, {"steps": self._steps, "random": self._random.bit_generator.state}

    def set_state(self, arrays: Mapping[str, numpy.ndarray], note: Mapping[str, Any]) -> None:
        """Set what `state` gave."""
        for name, (first, second) in self._moments.items():
            getattr(self, name)[...] = arrays[name]
            first[...], second[...] = arrays[f"{name}_first"], arrays[f"{name}_second"]
        self._steps, self._random.bit_generator.state = note["steps"], note["random"]

    def forget_rows(self) -> None:
        """Let go of what only fitting needs."""
        self._rows, self._moments = None, {}

    def features(self, rows: TextRows) -> numpy.ndarray:
        """float32 (n, units), 0 or above."""
        features = numpy.empty((len(rows), self.table.shape[1]), numpy.float32)
        start = 0
        for sparse, dense in rows.blocks():
            pooled = sparse @ self.table
            if self.dense.shape[0]:
                pooled += dense.astype(numpy.float32) @ self.dense
            features[start : start + len(pooled)] = numpy.maximum(pooled, 0)
            start += len(pooled)
        return features

    def logits(self, rows: TextRows) -> numpy.ndarray:
        """float32 (n, categories)."""
        logits = self.features(rows) @ self.head + self.bias
        if self.linear.shape[1]:
            start = 0
            for sparse, _ in rows.blocks():
                logits[start : start + sparse.shape[0]] += sparse @ self.linear
                start += sparse.shape[0]
        answer: numpy.ndarray = logits
        return answer

    def step(
        self, chosen: numpy.ndarray, targets: numpy.ndarray, weights: numpy.ndarray, learning_rate: float
    ) -> float:
        """One step.

        Args:
            chosen: int (n,), which of the rows.
            targets: float32 (n, categories), rows sum to 1.
            weights: float32 (n,).
            learning_rate: Above 0.

        Returns:
            The sum of the rows' weighted cross-entropies, in nats.
        """
        self._steps += 1
        assert self._rows is not None, "a network without rows is not fitted any more"
        settings, sparse = self._settings, self._rows.sparse
        chosen = self._rows.place(chosen)
        entries = (sparse.indptr, sparse.indices, sparse.data, chosen)
        kept_share = numpy.float32(1 - settings.feature_dropout)
        count = int((sparse.indptr[chosen + 1] - sparse.indptr[chosen]).sum())
        seen = self._random.random(count, numpy.float32) < kept_share
        pooled = numpy.zeros((len(chosen), settings.units), numpy.float32)
        _add_table_rows(*entries, seen, self.table, pooled)
        pooled /= kept_share
        dense = self._rows.dense[chosen].astype(numpy.float32)
        dense *= (self._random.random(dense.shape, numpy.float32) >= _DENSE_DROPOUT) / numpy.float32(
            1 - _DENSE_DROPOUT
        )
        pooled += dense @ self.dense

        on = self._random.random(pooled.shape, numpy.float32) >= settings.unit_dropout
        gate = on * (pooled > 0) / numpy.float32(1 - settings.unit_dropout)
        features = pooled * gate
        log_probabilities = log_softmax(features @ self.head + self.bias, axis=1)
        loss = float((weights[:, None] * targets * -log_probabilities).sum())

        error = (numpy.exp(log_probabilities) - targets) * (weights / len(weights))[:, None]
        pooled_error = (error @ self.head.T) * gate
        # After what the features learn, before what the columns do.
        error[:, self._held] = 0
        rate = learning_rate * numpy.sqrt(1 - self._MEMORY**self._steps) / (1 - self._MOMENTUM**self._steps)
        self._move("head", features.T @ error, rate)
        self._move("bias", error.sum(axis=0), rate)
        self._move("dense", dense.T @ pooled_error, rate * settings.dense_rate)

        touched = numpy.empty(count, numpy.int32)
        gradient = numpy.empty((count, settings.units), numpy.float32)
        found = _gather_gradient(*entries, seen, pooled_error / kept_share, self._place, touched, gradient)
        _move_table_rows(
            touched[:found],
            gradient,
            self._place,
            self.table,
            *self._moments["table"],
            *map(
                numpy.float32,
                (self._MOMENTUM, self._MEMORY, rate, self._EPSILON, settings.decay * learning_rate),
            ),
        )
        return loss

    def _move(self, name: str, gradient: numpy.ndarray, rate: float) -> None:
        """Adam (Kingma and Ba 2015) on all of a small array."""
        first, second = self._moments[name]
        first += (1 - self._MOMENTUM) * (gradient - first)
        second += (1 - self._MEMORY) * (gradient**2 - second)
        change = numpy.float32(rate) * first / (numpy.sqrt(second) + numpy.float32(self._EPSILON))
        getattr(self, name)[...] -= change


def _compiled(function: Callable[..., _Value]) -> Callable[..., _Value]:
    """Compiled for the processor; kept on disk, so that the next process need not compile again."""
    compiled: Callable[..., _Value] = numba.njit(nogil=True, fastmath=True, cache=True)(function)
    return compiled


@_compiled
def _add_table_rows(
    starts: numpy.ndarray,
    columns: numpy.ndarray,
    values: numpy.ndarray,
    chosen: numpy.ndarray,
    seen: numpy.ndarray,
    table: numpy.ndarray,
    pooled: numpy.ndarray,
) -> None:
    """Add to row i of pooled the table rows of text chosen[i], each times its value, where they are seen."""
    entry = 0
    for row in range(chosen.shape[0]):
        for position in range(starts[chosen[row]], starts[chosen[row] + 1]):
            if seen[entry]:
                value, column = values[position], columns[position]
                for unit in range(table.shape[1]):
                    pooled[row, unit] += value * table[column, unit]
            entry += 1


@_compiled
def _gather_gradient(
    starts: numpy.ndarray,
    columns: numpy.ndarray,
    values: numpy.ndarray,
    chosen: numpy.ndarray,
    seen: numpy.ndarray,
    error: numpy.ndarray,
    place: numpy.ndarray,
    touched: numpy.ndarray,
    gradient: numpy.ndarray,
) -> int:
    """The gradient of each table row that was seen, one after the other; returns how many rows these are.

    `place` holds -1 for every column before the call, and where its gradient stands after it.
    """
    entry, found = 0, 0
    for row in range(chosen.shape[0]):
        for position in range(starts[chosen[row]], starts[chosen[row] + 1]):
            if seen[entry]:
                value, column = values[position], columns[position]
                if place[column] < 0:
                    place[column] = found
                    touched[found] = column
                    gradient[found] = 0
                    found += 1
                at = place[column]
                for unit in range(error.shape[1]):
                    gradient[at, unit] += value * error[row, unit]
            entry += 1
    return found


@_compiled
def _move_table_rows(
    touched: numpy.ndarray,
    gradient: numpy.ndarray,
    place: numpy.ndarray,
    table: numpy.ndarray,
    first: numpy.ndarray,
    second: numpy.ndarray,
    momentum: numpy.float32,
    memory: numpy.float32,
    rate: numpy.float32,
    epsilon: numpy.float32,
    decay: numpy.float32,
) -> None:
    """Adam on the touched rows; the others keep their moments ("lazy" Adam), and decay apart from them.

    The decay is that of AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization").
    """
    for at in range(touched.shape[0]):
        column = touched[at]
        place[column] = -1
        for unit in range(table.shape[1]):
            slope = gradient[at, unit]
            first[column, unit] = momentum * first[column, unit] + (1 - momentum) * slope
            second[column, unit] = memory * second[column, unit] + (1 - memory) * slope * slope
            table[column, unit] -= (
                rate * first[column, unit] / (numpy.sqrt(second[column, unit]) + epsilon)
                + decay * table[column, unit]
            )
