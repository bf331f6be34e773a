"""What all benchmarks share: command-line options, Markdown tables, and how a report is written."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.errors import RakutenModelsError, register_messages
from rakuten_models.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]

register_messages(Path(__file__).parent / "messages")


class BenchmarkError(RakutenModelsError):
    """Something cannot be measured; the sentence says why."""


@dataclass(frozen=True)
class Line:
    """One line of a table of targets; `met` is None where there is no target."""

    what: str
    target: str
    found: str
    met: bool | None = None


def command_parser(
    module: str, text: str | None, *, quick: bool = True, bundle: bool = False, rounds: int | None = None
) -> argparse.ArgumentParser:
    """A parser with --output and those of the common options that a benchmark has.

    `module` is its name for `python -m`, `text` its docstring, whose first line describes it, and `rounds` the default
    of --rounds.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(text or "").splitlines()[0])
    add = parser.add_argument
    add("--output", type=Path, metavar="FILE", help="where to write the report as well")
    if quick:
        add("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    if bundle:
        add("--bundle", type=Path, default=STARTER_FOLDER, metavar="FOLDER", help="default: starter")
    if rounds is not None:
        add("--rounds", type=int, default=rounds, metavar="N", help=f"timed (default {rounds})")
    return parser


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """A Markdown table, as its lines."""
    head = list(head)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ["---"] * len(head), *rows)]


def format_lines(title: str, notes: Sequence[str], lines: Sequence[Line]) -> str:
    """A table of targets in Markdown with a heading and notes above it."""
    verdicts = {True: "met", False: "missed", None: ""}
    rows = [(line.what, line.target, line.found, verdicts[line.met]) for line in lines]
    return "\n".join([f"## {title}", "", *notes, "", *table(("what", "target", "found", ""), rows), ""])


def publish(text: str, output: Path | None) -> None:
    """Print a report, and write it where that was asked for."""
    print(text)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, text)
