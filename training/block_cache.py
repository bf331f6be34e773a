"""The resumable cache: results in a folder, made a block at a time, that a killed run leaves for the next one.

Whatever is noted as done is whole: a block's values are written before its note, and notes and archives are replaced
atomically. Arrays on disk are memory-mapped, so that memory does not grow with the rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from rakuten_models.files import replaced_file, write_atomically

Step = Callable[[int, int], None]

_FACTS = "facts"


class BlockCache:
    """Named results in a folder.

    Attributes:
        folder: Holds the files; None: nothing is kept, arrays are in memory.
    """

    def __init__(self, folder: Path | None, *key: Any) -> None:
        """Open a cache; nothing is made or read yet.

        Args:
            folder: Made when something is kept; None for memory.
            key: Bytes or what JSON can hold. Everything that the results depend on: their digest names a subfolder.
                Without a key the caller sees to it that the folder belongs to one choice of inputs.
        """
        if folder is not None and key:
            digest = hashlib.sha256()
            for part in key:
                digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
            folder = folder / digest.hexdigest()[:24]
        self.folder = folder

    def within(self, name: str) -> BlockCache:
        """The cache in a subfolder."""
        return BlockCache(self.folder and self.folder / name)

    def clear(self) -> None:
        """Remove everything."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove what `save` kept."""
        if self.folder is not None:
            (self.folder / f"{name}.npz").unlink(missing_ok=True)

    def save(self, name: str, arrays: Mapping[str, np.ndarray], facts: Any = None) -> None:
        """Keep arrays, and facts that JSON can hold, in place of what has the name."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with replaced_file(self.folder / f"{name}.npz") as stream:
            np.savez(stream, allow_pickle=False, **arrays, **{_FACTS: text})

    def load(self, name: str) -> tuple[dict[str, np.ndarray], Any] | None:
        """What `save` kept: arrays and facts; None if there is nothing, or nothing whole."""
        if self.folder is None:
            return None
        try:
            with np.load(self.folder / f"{name}.npz") as saved:
                arrays = {part: saved[part] for part in saved.files if part != _FACTS}
                return arrays, json.loads(bytes(saved[_FACTS]).decode())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: Any,
        make: Callable[[int, int], np.ndarray],
        block: int,
        progress: Step | None = None,
    ) -> np.ndarray:
        """An array whose rows are made a block at a time.

        Args:
            name: Of the result.
            shape: Of the array, rows first.
            dtype: Of its values.
            make: Called as make(start, stop) for the rows from start to stop.
            block: Rows made at a time.
            progress: Called as progress(rows done, all rows) after each block.
        """
        return self.arrays({name: (shape, dtype)}, lambda *part: {name: make(*part)}, block, progress)[name]

    def arrays(
        self,
        wanted: Mapping[str, tuple[tuple[int, ...], Any]],
        make: Callable[[int, int], Mapping[str, np.ndarray]],
        block: int,
        progress: Step | None = None,
    ) -> dict[str, np.ndarray]:
        """Several arrays whose rows are made together; see `array`.

        Args:
            wanted: Shape and dtype by name; all have as many rows. The first name is that of the note.
            make: Gives the rows from start to stop, by name.
            block: Rows made at a time.
            progress: Called after each block.
        """
        note = _Note(self.folder, next(iter(wanted)))
        names = [name for name, (shape, _) in wanted.items() if self.folder is not None and 0 not in shape]
        done = note.read(self._path(f"{name}.npy") for name in names).get("rows", 0)
        arrays = {}
        for name, (shape, dtype) in wanted.items():
            if name not in names:
                arrays[name] = np.zeros(shape, dtype)
                continue
            mode = "r+" if done else "w+"
            arrays[name] = np.lib.format.open_memmap(self._path(f"{name}.npy"), mode, dtype, None if done else shape)
        rows = next(iter(wanted.values()))[0][0]
        for start in range(done, rows, block):
            stop = min(start + block, rows)
            for name, values in make(start, stop).items():
                arrays[name][start:stop] = values
            if names:
                note.write({"rows": stop})
            if progress:
                progress(stop, rows)
        return arrays

    def sparse(
        self,
        name: str,
        shape: tuple[int, int],
        make: Callable[[int, int], scipy.sparse.csr_matrix],
        block: int,
        progress: Step | None = None,
    ) -> scipy.sparse.csr_matrix:
        """A float32 sparse matrix whose rows are made a block at a time; see `array`.

        On disk, its values and columns are mapped: taking some rows copies those rows only.
        """
        rows = shape[0]
        if self.folder is None or not rows:
            parts = []
            for start in range(0, rows, block):
                parts.append(make(start, min(start + block, rows)))
                if progress:
                    progress(min(start + block, rows), rows)
            return scipy.sparse.vstack(parts, format="csr") if parts else scipy.sparse.csr_matrix(shape)
        note = _Note(self.folder, name)
        files = {part: self._path(f"{name}.{part}") for part in ("columns", "values", "lengths")}
        state = note.read(files.values())
        done, entries = state.get("rows", 0), state.get("entries", 0)
        ends = {"columns": 4 * entries, "values": 4 * entries, "lengths": 8 * done}
        with contextlib.ExitStack() as stack:
            streams = {part: stack.enter_context(path.open("r+b" if done else "wb")) for part, path in files.items()}
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
        matrix = scipy.sparse.csr_matrix(shape, dtype=np.float32)
        if not entries:
            return matrix
        lengths = np.fromfile(files["lengths"], np.int64)
        # Set one by one: the constructor would read through all columns to check them, and might copy them.
        matrix.indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32 if entries < 2**31 else np.int64)
        matrix.indices = np.asarray(np.memmap(files["columns"], np.int32, "r", shape=(entries,)))
        matrix.data = np.asarray(np.memmap(files["values"], np.float32, "r", shape=(entries,)))
        return matrix

    def _path(self, name: str) -> Path:
        assert self.folder is not None, "a cache in memory has no files"
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name


class _Note:
    """How many rows of some files are whole."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = folder and folder / f"{name}.json"

    def read(self, files: Any) -> dict[str, int]:
        """What was noted; nothing if a file is not there."""
        if self._path is None or not self._path.is_file() or not all(path.is_file() for path in files):
            return {}
        state: dict[str, int] = json.loads(self._path.read_text())
        return state

    def write(self, state: dict[str, int]) -> None:
        assert self._path is not None, "a cache in memory has no notes"
        write_atomically(self._path, json.dumps(state))
