"""How fast a bundle serves, beside what people use and beside what this machine can do at most.

    python -m benchmarks.speed.serving --output serving.md            with the starter bundle
    python -m benchmarks.speed.serving --bundle FOLDER --rounds 11
    python -m benchmarks.speed.serving --quick                        a smoke test; its figures mean nothing

Prints Markdown: one table of targets and figures. Every ratio is the median of the rounds' own ratios, in which the
two sides took turns (A B A B), each in a process of its own that sleeps while the other works; beside it stands the
same ratio of processor time, which other work on the machine hardly changes. Texts and pictures are
made up (benchmarks/synthetic_data.py). A bundle without `.keras` files is set beside Keras models of the same shape
with random weights. About five minutes on two cores. fastText is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, synthetic_data
from benchmarks.speed import startup
from benchmarks.speed.keras_baseline import with_keras_files
from benchmarks.speed.worker_pool import Timing, Worker, alternate
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.inference.runtime import usable_cores

ROUNDS = 7


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        what: What was measured.
        target: As a person reads it.
        found: Its figures.
        met: Whether the target is met; None for a line without a target.
    """

    what: str
    target: str
    found: str
    met: bool | None = None


def measure_serving(bundle: Path, rounds: int, quick: bool) -> list[Line]:
    """Every line of the table.

    Args:
        bundle: The bundle's folder.
        rounds: Turns that count, after one that does not; 0: there is that one only, and it counts.
        quick: Whether all work is tiny.
    """
    wall_rate, processor_rate = machine.sgemm_rate(1 if quick else 40)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keras_bundle, random_weights = with_keras_files(bundle, folder / "keras")
        kind = "Keras (random weights)" if random_weights else "Keras"
        lines = [
            Line(
                "float32 matrix rate of the machine",
                "",
                f"{wall_rate / 1e9:.0f} GFLOP/s on all cores, {processor_rate / 1e9:.0f} per second of processor time",
            )
        ]
        with contextlib.ExitStack() as stack:
            ours = stack.enter_context(Worker("ours", bundle, quick=quick))
            baseline = stack.enter_context(Worker("keras", keras_bundle, quick=quick))
            lines += _one_product(ours, baseline, rounds, wall_rate, processor_rate, kind)
            lines += _catalogs(ours, baseline, rounds, kind)
        lines += _one_core(bundle, rounds, quick)
        lines += _starts(bundle, keras_bundle, folder, rounds, kind)
    return lines


def _one_product(
    ours: Worker, baseline: Worker, rounds: int, wall_rate: float, processor_rate: float, kind: str
) -> list[Line]:
    found = alternate({"ours": (ours, "one"), "keras": (baseline, "one")}, rounds)
    parts = alternate({name: (ours, name) for name in ("one", "decode", "image model", "explain")}, rounds)
    # Other work takes cores away now and then, but no processor time: so the floor is that of an idle machine.
    floor = (
        machine.MOBILENET_OPERATIONS / max(wall_rate, usable_cores() * processor_rate)
        + parts["decode"].seconds
    )
    above = parts["one"].seconds / floor
    share = machine.MOBILENET_OPERATIONS / parts["image model"].processor_seconds / processor_rate
    explain = parts["one"].ratio(parts["explain"])
    lead = found["ours"].ratio(found["keras"])
    return [
        Line(
            f"one product, text and picture, against {kind} `predict`",
            "at least 15x",
            _times(found, "keras"),
            lead >= 15,
        ),
        Line(
            "the same against the floor",
            "at most 1.4x",
            f"{above:.2f}x: {_milliseconds(parts['one'])} against {1e3 * floor:.1f} ms "
            f"({_milliseconds(parts['decode'])} of them decoding)",
            above <= 1.4,
        ),
        Line(
            "image model alone, share of the matrix rate per second of processor time",
            "at least 70 %",
            f"{share:.0%} ({_milliseconds(parts['image model'])}, "
            f"{1e3 * parts['image model'].processor_seconds:.1f} ms of processor time)",
            share >= 0.7,
        ),
        Line(
            "explanation of a product against its prediction",
            "at most 2x",
            f"{explain:.2f}x ({_milliseconds(parts['explain'])} against {_milliseconds(parts['one'])})",
            explain <= 2,
        ),
    ]


def _catalogs(ours: Worker, baseline: Worker, rounds: int, kind: str) -> list[Line]:
    lines = []
    for task, peer_task, what, least in (
        ("pairs", "pairs", f"catalog with pictures against {kind} `predict` at batch 32", 5),
        (
            "titles",
            "titles",
            f"titles of 22 words against {kind} `predict` with TextVectorization at batch 256",
            20,
        ),
        ("titles", "titles, cut", "the same, Keras without the description's columns", None),
        ("mixed", "mixed", f"titles, most with a description, against {kind} `predict` at batch 256", 20),
    ):
        found = alternate({"ours": (ours, task), "keras": (baseline, peer_task)}, rounds)
        met = None if least is None else found["ours"].ratio(found["keras"]) >= least
        lines.append(Line(what, f"at least {least}x" if least else "", _rates(found, "keras"), met))
    return lines


def _one_core(bundle: Path, rounds: int, quick: bool) -> list[Line]:
    """What needs processes that may use one core only: how the work scales, and fastText, which knows one thread."""
    if not hasattr(os, "sched_setaffinity"):
        return [
            Line("scaling over cores, fastText", "", "not measured: this system binds no process to a core")
        ]
    core = sorted(os.sched_getaffinity(0))[:1]
    cores = usable_cores()
    lines = []
    with contextlib.ExitStack() as stack:
        everywhere = stack.enter_context(Worker("ours", bundle, quick=quick))
        alone = stack.enter_context(Worker("ours", bundle, cores=core, quick=quick))
        for task, what in (("pairs", "catalog with pictures"), ("titles", "titles of 22 words")):
            found = alternate({"all": (everywhere, task), "one": (alone, task)}, rounds)
            share = found["all"].ratio(found["one"]) / cores
            met = share >= 0.85 if task == "pairs" else None
            lines.append(
                Line(
                    f"{what}, all {cores} cores: share of {cores} x the rate of one",
                    "at least 85 %" if task == "pairs" else "",
                    f"{share:.0%} ({1 / found['all'].seconds:,.0f} against {1 / found['one'].seconds:,.0f} a second; "
                    f"{found['all'].processor_ratio(found['one']):.0%} in processor time)",
                    met,
                )
            )
        if importlib.util.find_spec("fasttext") is None:
            return [
                *lines,
                Line("texts against fastText", "at least 0.5x", "not measured: fastText is not installed"),
            ]
        fast = stack.enter_context(Worker("fasttext", bundle, cores=core, quick=quick))
        for task, what in (("titles", "titles of 22 words"), ("mixed", "titles, most with a description")):
            found = alternate({"ours": (alone, task), "fasttext": (fast, task)}, rounds)
            ratio = found["ours"].ratio(found["fasttext"])
            lines.append(
                Line(
                    f"{what} against fastText, one core each, cleaning counted",
                    "at least 0.5x" if task == "titles" else "",
                    _rates(found, "fasttext"),
                    ratio >= 0.5 if task == "titles" else None,
                )
            )
    return lines


def _starts(bundle: Path, keras_bundle: Path, folder: Path, rounds: int, kind: str) -> list[Line]:
    photo = folder / "photo.jpg"
    photo.write_bytes(synthetic_data.photo(synthetic_data.PHOTO_SIDE, synthetic_data.PHOTO_SIDE))
    found, peaks = startup.first_answers(bundle, keras_bundle, photo, rounds)
    megabytes = {name: peak / 1e6 for name, peak in peaks.items()}
    pages = startup.first_pages(folder, rounds)
    page_ratio = pages["empty"].ratio(pages["app"])
    imported = startup.imported_by_app()
    return [
        Line(
            f"new process, import, bundle and first answer against {kind}",
            "at least 30x",
            _times(found, "keras"),
            found["ours"].ratio(found["keras"]) >= 30,
        ),
        Line(
            "the same, time and peak memory",
            "under 0.6 s and 150 MB",
            f"{found['ours'].seconds:.2f} s and {megabytes['ours']:.0f} MB; Keras {found['keras'].seconds:.1f} s and "
            f"{megabytes['keras']:.0f} MB",
            found["ours"].seconds < 0.6 and megabytes["ours"] < 150,
        ),
        Line(
            "app, from its start to the first page, against an empty Gradio app",
            "at most 1.15x",
            f"{page_ratio:.2f}x ({pages['app'].seconds:.1f} s against {pages['empty'].seconds:.1f} s)",
            page_ratio <= 1.15,
        ),
        Line(
            "training libraries that the app imports",
            "none",
            ", ".join(imported) or "none",
            not imported,
        ),
    ]


def _times(found: dict[str, Timing], other: str) -> str:
    """As in "25.3x (24.1 to 26.0): 7.1 ms against 180.2 ms"."""
    ours, theirs = found["ours"], found[other]
    low, high = ours.spread(theirs)
    return (
        f"{ours.ratio(theirs):.1f}x ({low:.1f} to {high:.1f}): {_milliseconds(ours)} against "
        f"{_milliseconds(theirs)}; {ours.processor_ratio(theirs):.1f}x in processor time"
    )


def _rates(found: dict[str, Timing], other: str) -> str:
    """As in "5.30x (5.10 to 6.00): 250 against 47 a second"."""
    ours, theirs = found["ours"], found[other]
    low, high = ours.spread(theirs)
    return (
        f"{ours.ratio(theirs):.2f}x ({low:.2f} to {high:.2f}): {1 / ours.seconds:,.0f} against "
        f"{1 / theirs.seconds:,.0f} a second; {ours.processor_ratio(theirs):.2f}x in processor time"
    )


def _milliseconds(timing: Timing) -> str:
    return f"{1e3 * timing.seconds:,.1f} ms"


def format_lines(title: str, notes: Sequence[str], lines: Sequence[Line]) -> str:
    """A Markdown table with a heading and notes above it."""
    verdicts = {True: "met", False: "missed", None: ""}
    rows = [f"| {line.what} | {line.target} | {line.found} | {verdicts[line.met]} |" for line in lines]
    return "\n".join(
        [f"## {title}", "", *notes, "", "| what | target | found | |", "| --- | --- | --- | --- |", *rows, ""]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.serving", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--bundle", type=Path, default=STARTER_FOLDER, metavar="FOLDER", help="default: the starter"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, metavar="N", help=f"turns that count (default {ROUNDS})"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean nothing")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="where to write the table as well")
    options = parser.parse_args(arguments)
    notes = machine.facts()
    rounds = 0 if options.quick else max(1, options.rounds)
    lines = measure_serving(options.bundle, rounds, options.quick)
    text = format_lines("Serving", [*notes, f"- Rounds: {max(1, rounds)}"], lines)
    print(text)
    if options.output:
        write_atomically(options.output, text)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
