"""Physical lines of a text file, with bounds on their length and number."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from rakuten_models.errors import Message

# Longer lines are no product, and would have to be held in memory whole.
MAX_LINE = 4_000_000

# A quoted field may run over so many lines. A quotation mark that nobody closed would else swallow the file.
MAX_LINES = 1_000


class Record(NamedTuple):
    """One row of a file.

    Attributes:
        line: Where it begins, the file's first line being 1.
        values: CSV: a list of str, None for a field that is not there, as long as the header. JSON Lines: a
            dict, empty if the line could not be read.
        problem: Why it cannot be trusted; None if it can.
        size: About how many bytes it takes.
        offset: The byte of the file it begins at.
    """

    line: int
    values: Any
    problem: Message | None
    size: int
    offset: int


class Line(NamedTuple):
    """One line: its number from 1, its text with what could not be decoded replaced, what is wrong, its first byte."""

    number: int
    text: str
    problem: Message | None
    offset: int


class Lines:
    """The lines of a file, decoded one by one; an iterator for `csv.reader` that lines can be given back to.

    Args:
        path: The file.
        offset: The byte to begin at, where a line begins.
        line: That line's number, from 1.

    Attributes:
        taken: The lines handed out since `begin_record`.
    """

    def __init__(self, path: Path, offset: int = 0, line: int = 1) -> None:
        """Open the file."""
        self._stream = path.open("rb")
        self._stream.seek(offset)
        self._given_back: deque[Line] = deque()
        self._number = line - 1
        self._offset = offset
        self.taken: list[Line] = []

    def __enter__(self) -> Lines:
        """The lines, closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stream.close()

    def __iter__(self) -> Lines:
        """The lines of the record that is being read."""
        return self

    def __next__(self) -> str:
        """The next line for the record that is being read; ends early where a record has become too long."""
        if len(self.taken) >= MAX_LINES or (self.taken and self.taken[-1].problem and not self.taken[-1].text):
            raise StopIteration
        line = self._given_back.popleft() if self._given_back else self._read()
        if line is None:
            raise StopIteration
        self.taken.append(line)
        return line.text

    def begin_record(self) -> None:
        """Forget the lines of the record before."""
        self.taken = []

    def give_back(self) -> None:
        """Only the first taken line was used; the others are read again."""
        self._given_back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]

    def _read(self) -> Line | None:
        content = self._stream.readline(MAX_LINE + 1)
        if not content:
            return None
        self._number += 1
        offset = self._offset
        self._offset += len(content)
        if self._number == 1:
            content = content.removeprefix(b"\xef\xbb\xbf")
        if len(content) > MAX_LINE:
            while content and not content.endswith(b"\n"):
                content = self._stream.readline(MAX_LINE)
                self._offset += len(content)
            problem = Message("catalog.line_long", line=self._number, limit=MAX_LINE // 1_000_000)
            return Line(self._number, "", problem, offset)
        try:
            return Line(self._number, content.decode("utf-8"), None, offset)
        except UnicodeDecodeError as error:
            byte = content[error.start]
            problem = Message("catalog.line_not_utf_8", line=self._number, byte=f"{byte:02X}")
            return Line(self._number, content.decode("utf-8", "replace"), problem, offset)
