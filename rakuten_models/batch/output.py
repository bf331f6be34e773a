"""Writes a scored catalog chunk by chunk, so that a run which was killed goes on where it was.

A folder of Parquet parts, one a chunk, or one CSV file. Beside them lies a state file (`_state.json` in the folder,
`.NAME.state.json` beside a CSV): what is being scored, with which bundle and settings, and how far it has come.
A chunk is first on the disk and then in the state; what the state does not know is written again. Nothing in the
files depends on when they were written: a disturbed run ends with the bytes of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from rakuten_models.catalog.csv_writer import cell_text, csv_cell, spreadsheet_safe_cell
from rakuten_models.errors import BatchError
from rakuten_models.files import WRITING, locked, move, sync, write_atomically

STATE_FILE = "_state.json"

_STATE_FORMAT = 1

_STATE_KEYS = {"identity", "finished", "chunks", "rows", "bytes", "counts", "replaces"}


class OutputFormat(NamedTuple):
    """What an output is made of: CSV lines or Parquet parts; `safe` as `spreadsheet_safe_cell`, in a CSV only."""

    csv: bool
    safe: bool = False


class ScoredOutput:
    """The output of one run.

    Args:
        path: A file whose name ends in .csv, or a folder for Parquet parts.
        identity: What the output depends on: plain values, compared with those of an earlier run.

    Attributes:
        state: A dict with the keys of _STATE_KEYS and the format; empty before `open`.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        """Only the names of the files are found; nothing is written."""
        self.path = Path(path)
        self.state: dict[str, Any] = {}
        self._identity = json.loads(json.dumps(identity))
        self._csv = is_csv(path)
        self._state_path = state_path(path)
        # Of a CSV only. Nobody takes a file with such a name for a finished catalog.
        self._partial = self.path.with_name(f".{self.path.name}.partial")

    @contextlib.contextmanager
    def open(self, *, overwrite: bool) -> Iterator[dict[str, Any]]:
        """Take up the run where an earlier one has left it, or begin.

        Args:
            overwrite: Begin anew where the output is finished or of another run.

        Yields:
            `state`. If it is finished, there is nothing to do.

        Raises:
            BatchError: The output is something else, of another run, or being written by another process.
        """
        if self._csv and self.path.is_dir():
            raise BatchError("batch.output_is_folder", output=self.path)
        if not self._csv and self.path.exists() and not self.path.is_dir():
            raise BatchError("batch.output_is_file", output=self.path)
        (self.path.parent if self._csv else self.path).mkdir(parents=True, exist_ok=True)
        with self._locked():
            earlier = self._earlier_state(overwrite)
            if earlier is not None:
                self.state = earlier
            else:
                self.state = {
                    "format": _STATE_FORMAT,
                    "identity": self._identity,
                    "finished": False,
                    "chunks": 0,
                    "rows": 0,
                    "bytes": 0,
                    "counts": {},
                    # A CSV file that stays until the new one is whole.
                    "replaces": self._csv and self.path.exists(),
                }
                self._write_state()
            self._clear()
            yield self.state

    def append(self, content: bytes, rows: int, counts: Mapping[str, Any]) -> None:
        """Write one chunk of so many rows from `encoded`, and the counts of all rows up to here, so that both stay."""
        if self._csv:
            with self._partial.open("r+b" if self._partial.exists() else "xb") as stream:
                # A kill may have come between this chunk and the state.
                stream.truncate(self.state["bytes"])
                stream.seek(self.state["bytes"])
                stream.write(content)
                sync(stream)
            self.state["bytes"] += len(content)
        else:
            write_atomically(self.path / _part_name(self.state["chunks"]), content)
        self.state["chunks"] += 1
        self.state["rows"] += rows
        self.state["counts"] = dict(counts)
        self._write_state()

    def finish(self) -> None:
        """Give the CSV file its name, and note that all is done."""
        self.state["finished"] = True
        self._write_state()
        self._publish()

    def _publish(self) -> None:
        if self._csv and self._partial.exists():
            move(self._partial, self.path)

    def _earlier_state(self, overwrite: bool) -> dict[str, Any] | None:
        """The state of a run to be taken up, or None to begin."""
        state = read_state(self.path)
        if state is None or (self._csv and not state["finished"] and not state["replaces"]):
            self._check_nothing_is_lost(overwrite)
        if state is None:
            return None
        if state["identity"] != self._identity:
            earlier = state["identity"]
            different = sorted(
                key for key in {*earlier, *self._identity} if earlier.get(key) != self._identity.get(key)
            )
            what = next((key for key in ("input", "bundle") if key in different), "settings")
            error = BatchError(f"batch.output_of_other_{what}", output=self.path, settings=", ".join(different))
        else:
            if state["finished"]:
                self._publish()
            if self._is_there(state):
                return None if state["finished"] and overwrite else state
            if not state["finished"] or (self._csv and not self.path.exists()):
                return None
            error = BatchError("batch.output_changed", output=self.path)
        if overwrite:
            return None
        raise error

    def _is_there(self, state: Mapping[str, Any]) -> bool:
        """Whether all that the state knows of is on the disk."""
        if not self._csv:
            return all((self.path / _part_name(number)).is_file() for number in range(state["chunks"]))
        if state["finished"]:
            return self.path.is_file() and self.path.stat().st_size == state["bytes"]
        return not state["bytes"] or (self._partial.is_file() and self._partial.stat().st_size >= state["bytes"])

    def _check_nothing_is_lost(self, overwrite: bool) -> None:
        """Without a state, what is there is not ours."""
        if self._csv:
            if self.path.exists() and not overwrite:
                raise BatchError("batch.output_exists", output=self.path)
        elif any(entry.name not in (".lock", f".{STATE_FILE}{WRITING}") for entry in self.path.iterdir()):
            raise BatchError("batch.output_not_empty", output=self.path)

    def _clear(self) -> None:
        """Take away what the state does not know of: of an overwritten run, or of a moment before a kill."""
        if self._csv:
            if not self.state["bytes"]:
                self._partial.unlink(missing_ok=True)
            return
        known = {_part_name(number) for number in range(self.state["chunks"])}
        for part in [*self.path.glob("part-*.parquet"), *self.path.glob(f".*{WRITING}")]:
            if part.name not in known:
                part.unlink()

    def _write_state(self) -> None:
        write_atomically(self._state_path, json.dumps(self.state, indent=1, ensure_ascii=False))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Refuse a second process on the same output; the lock goes with the process, however that ends."""
        lock = self.path.with_name(f".{self.path.name}.lock") if self._csv else self.path / ".lock"
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, wait=False))
            except BlockingIOError as error:
                raise BatchError("batch.output_locked", output=self.path) from error
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    lock.unlink()


def encoded(table: pyarrow.Table, form: OutputFormat, *, first: bool) -> bytes:
    """A scored chunk as it stands in an output, the same bytes on every machine; a CSV's first has the header."""
    if not form.csv:
        part = io.BytesIO()
        pyarrow.parquet.write_table(table, part, compression="zstd")
        return part.getvalue()
    header = [table.column_names] if first else []
    lines = io.StringIO()
    for row in itertools.chain(header, zip(*table.to_pydict().values(), strict=True)):
        texts = map(cell_text, row)
        lines.write(",".join(csv_cell(spreadsheet_safe_cell(text) if form.safe else text) for text in texts))
        lines.write("\n")
    return lines.getvalue().encode("utf-8")


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Whether an output of this name is one CSV file."""
    return Path(path).suffix.lower() == ".csv"


def state_path(path: str | os.PathLike[str]) -> Path:
    """The state file of an output."""
    path = Path(path)
    return path.with_name(f".{path.name}.state.json") if is_csv(path) else path / STATE_FILE


def read_state(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The state of an output; None if there is none that can be read."""
    try:
        state = json.loads(state_path(path).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(state, dict) or state.get("format") != _STATE_FORMAT:
        return None
    return state if state.keys() >= _STATE_KEYS else None


def _part_name(number: int) -> str:
    return f"part-{number:06d}.parquet"
