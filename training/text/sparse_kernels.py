"""Compiled kernels that touch only those table rows that a batch uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numba
import numpy as np

_Value = TypeVar("_Value")

# A batch: row starts, columns and values of the sparse matrix; int (n,) the chosen texts; bool, which entries are seen.
Entries = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _compiled(function: Callable[..., _Value]) -> Callable[..., _Value]:
    """Compiled for the processor, and cached on disk."""
    compiled: Callable[..., _Value] = numba.njit(nogil=True, fastmath=True, cache=True)(function)
    return compiled


@_compiled
def add_table_rows(entries: Entries, table: np.ndarray, pooled: np.ndarray) -> None:
    """Add to row i of pooled the table rows of text chosen[i], each times its value, where they are seen."""
    starts, columns, values, chosen, seen = entries
    entry = 0
    for row in range(chosen.shape[0]):
        for position in range(starts[chosen[row]], starts[chosen[row] + 1]):
            if seen[entry]:
                value, column = values[position], columns[position]
                for unit in range(table.shape[1]):
                    pooled[row, unit] += value * table[column, unit]
            entry += 1


@_compiled
def gather_gradient(
    entries: Entries, error: np.ndarray, slots: np.ndarray, touched: np.ndarray, gradient: np.ndarray
) -> int:
    """The gradient of each table row that was seen, one after the other; returns how many rows these are.

    `slots` holds -1 for every column before the call, and the row of its gradient after it.
    """
    starts, columns, values, chosen, seen = entries
    entry, found = 0, 0
    for row in range(chosen.shape[0]):
        for position in range(starts[chosen[row]], starts[chosen[row] + 1]):
            if seen[entry]:
                value, column = values[position], columns[position]
                if slots[column] < 0:
                    slots[column] = found
                    touched[found] = column
                    gradient[found] = 0
                    found += 1
                at = slots[column]
                for unit in range(error.shape[1]):
                    gradient[at, unit] += value * error[row, unit]
            entry += 1
    return found


@_compiled
def move_table_rows(
    touched: np.ndarray,
    gradient: np.ndarray,
    slots: np.ndarray,
    table: np.ndarray,
    moments: tuple[np.ndarray, np.ndarray],
    rates: tuple[np.float32, np.float32, np.float32, np.float32, np.float32],
) -> None:
    """Adam on the touched rows; the others keep their moments ("lazy" Adam), and decay apart from them.

    The decay is that of AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization").
    """
    first, second = moments
    momentum, memory, rate, epsilon, decay = rates
    for at in range(touched.shape[0]):
        column = touched[at]
        slots[column] = -1
        for unit in range(table.shape[1]):
            slope = gradient[at, unit]
            first[column, unit] = momentum * first[column, unit] + (1 - momentum) * slope
            second[column, unit] = memory * second[column, unit] + (1 - memory) * slope * slope
            table[column, unit] -= (
                rate * first[column, unit] / (np.sqrt(second[column, unit]) + epsilon) + decay * table[column, unit]
            )
