"""Rows that do not fit into memory: arrays and sparse matrices that are made a block at a time, on disk if wanted.

What is made is kept after every block, so that a run which was killed goes on with the next one. Arrays on disk are
mapped into memory: the system may drop their pages whenever memory is short. A folder belongs to one run over one
catalog with one choice of settings; whoever starts another run empties it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

Step = Callable[[int, int], None]


def array_in_blocks(
    folder: Path | None,
    name: str,
    shape: tuple[int, ...],
    kind: Any,
    make: Callable[[int, int], np.ndarray],
    block: int,
    progress: Step | None = None,
) -> np.ndarray:
    """An array whose rows are made a block at a time.

    Args:
        folder: Where its file lies, or None for an array in memory.
        name: Of the file, without an ending.
        shape: Of the array, rows first.
        kind: Of its values.
        make: Called as make(start, stop) for the rows from start to stop.
        block: Rows made at a time.
        progress: Called as progress(rows done, all rows) after each block.

    Returns:
        The array; rows that an earlier run has made are taken from the file.
    """
    rows = shape[0]
    done, array = 0, None
    if folder is None or 0 in shape:
        array = np.zeros(shape, kind)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path, note = folder / f"{name}.npy", _Note(folder / f"{name}.json")
        done = note.read().get("rows", 0) if path.is_file() else 0
        array = np.lib.format.open_memmap(path, "r+" if done else "w+", kind, None if done else shape)
    for start in range(done, rows, block):
        stop = min(start + block, rows)
        array[start:stop] = make(start, stop)
        if isinstance(array, np.memmap):
            note.write({"rows": stop})
        if progress:
            progress(stop, rows)
    return array


def sparse_in_blocks(
    folder: Path | None,
    name: str,
    shape: tuple[int, int],
    make: Callable[[int, int], scipy.sparse.csr_matrix],
    block: int,
    progress: Step | None = None,
) -> scipy.sparse.csr_matrix:
    """A sparse matrix whose rows are made a block at a time; see `array_in_blocks`.

    Returns:
        float32 (shape). On disk, its values and columns are mapped: taking some rows copies those rows only.
    """
    rows = shape[0]
    if folder is None or not rows:
        parts = []
        for start in range(0, rows, block):
            parts.append(make(start, min(start + block, rows)))
            if progress:
                progress(min(start + block, rows), rows)
        return scipy.sparse.vstack(parts, format="csr") if parts else scipy.sparse.csr_matrix(shape)
    folder.mkdir(parents=True, exist_ok=True)
    note = _Note(folder / f"{name}.json")
    state = note.read()
    files = {part: folder / f"{name}.{part}" for part in ("columns", "values", "lengths")}
    done = state.get("rows", 0) if all(path.is_file() for path in files.values()) else 0
    entries = state.get("entries", 0) if done else 0
    ends = {"columns": 4 * entries, "values": 4 * entries, "lengths": 8 * done}
    streams = {part: path.open("r+b" if done else "wb") for part, path in files.items()}
    try:
        for part, stream in streams.items():
            # A kill may have come between the rows of a block and the note.
            stream.truncate(ends[part])
            stream.seek(ends[part])
        for start in range(done, rows, block):
            made = make(start, min(start + block, rows))
            streams["columns"].write(made.indices.astype(np.int32).tobytes())
            streams["values"].write(made.data.astype(np.float32).tobytes())
            streams["lengths"].write(np.diff(made.indptr).astype(np.int64).tobytes())
            for stream in streams.values():
                stream.flush()
            entries += made.nnz
            note.write({"rows": start + made.shape[0], "entries": entries})
            if progress:
                progress(start + made.shape[0], rows)
    finally:
        for stream in streams.values():
            stream.close()
    lengths = np.fromfile(files["lengths"], np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    if not entries:
        return scipy.sparse.csr_matrix(shape, dtype=np.float32)
    matrix = scipy.sparse.csr_matrix(shape, dtype=np.float32)
    # Set one by one: the constructor would read through all columns to check them, and might copy them.
    matrix.indptr = indptr.astype(np.int32 if entries < 2**31 else np.int64)
    matrix.indices = np.asarray(np.memmap(files["columns"], np.int32, "r", shape=(entries,)))
    matrix.data = np.asarray(np.memmap(files["values"], np.float32, "r", shape=(entries,)))
    return matrix


class _Note:
    """How far a file is; replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        return json.loads(self._path.read_text()) if self._path.is_file() else {}

    def write(self, state: dict[str, int]) -> None:
        temporary = self._path.with_suffix(".part")
        temporary.write_text(json.dumps(state))
        os.replace(temporary, self._path)
