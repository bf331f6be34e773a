"""How fast a bundle serves, beside what people use and beside what this machine can do at most.

    python -m benchmarks.speed.serving --output serving.md            with the starter bundle
    python -m benchmarks.speed.serving --bundle FOLDER --rounds 11

Prints Markdown: one table of targets and figures. Every ratio is the median of the rounds' own ratios, in which the
two methods took turns (A B A B), each in a process of its own that sleeps while the other works; beside it stands the
same ratio of processor time, which other work on the machine hardly changes. Texts and pictures are
made up (benchmarks/synthetic_data.py). A bundle without `.keras` files is set beside Keras models of the same shape
with random weights. About five minutes on two cores. fastText is left out where it is not installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine, synthetic_data
from benchmarks.random_bundle import with_keras_files
from benchmarks.report import Line, command_parser, format_lines, publish
from benchmarks.speed import startup
from benchmarks.speed.worker_pool import Timing, alternate, worker
from rakuten_models.cli import run_command
from rakuten_models.inference.runtime import usable_cores

ROUNDS = 7

# Of a worker process: from a task to its wall and processor seconds.
Runner = Callable[[str], tuple[float, float]]


def measure_serving(bundle: Path, rounds: int, quick: bool) -> list[Line]:
    """Every line of the table; `rounds` as in `alternate`."""
    rates = machine.sgemm_rate(1 if quick else 40)
    figures = "{:.0f} GFLOP/s on all cores, {:.0f} per second of processor time"
    lines = [Line("float32 matrix rate of the machine", "", figures.format(*(rate / 1e9 for rate in rates)))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keras_bundle, random_weights = with_keras_files(bundle, folder / "keras")
        kind = "Keras (random weights)" if random_weights else "Keras"
        with worker("ours", bundle, quick=quick) as ours, worker("keras", keras_bundle, quick=quick) as baseline:
            lines += _one_product(ours, baseline, rounds, rates, kind)
            batches = f"titles of 22 words against {kind} `predict` with TextVectorization at batch 256"
            for task, their_task, what, least in (
                ("pairs", "pairs", f"catalog with pictures against {kind} `predict` at batch 32", 5),
                ("titles", "titles", batches, 20),
                ("titles", "titles, cut", "the same, Keras without the description's columns", None),
                ("mixed", "mixed", f"titles, most with a description, against {kind} `predict` at batch 256", 20),
            ):
                lines.append(_ratio_line(what, least, *_in_turn(rounds, (ours, task), (baseline, their_task))))
        lines += _one_core(bundle, rounds, quick)
        lines += _starts(bundle, keras_bundle, folder, rounds, kind)
    return lines


def _in_turn(rounds: int, *tasks: tuple[Runner, str]) -> list[Timing]:
    return alternate(rounds, *(partial(run, task) for run, task in tasks))


def _one_product(ours: Runner, baseline: Runner, rounds: int, rates: tuple[float, float], kind: str) -> list[Line]:
    both = _in_turn(rounds, (ours, "one"), (baseline, "one"))
    parts = ("one", "decode", "image model", "explain")
    one, decode, image, why = _in_turn(rounds, *((ours, part) for part in parts))
    wall_rate, processor_rate = rates
    # Other work takes cores away now and then, but no processor time: so the floor is that of an idle machine.
    idle_rate = max(wall_rate, usable_cores() * processor_rate)
    floor = machine.MOBILENET_OPERATIONS / idle_rate + decode.seconds
    above, explain = one.seconds / floor, one.ratio(why)
    share = machine.MOBILENET_OPERATIONS / image.processor_seconds / processor_rate
    against_floor = f"{above:.2f}x: {_ms(one)} against {1e3 * floor:.1f} ms ({_ms(decode)} of them decoding)"
    alone = f"{share:.0%} ({_ms(image)}, {1e3 * image.processor_seconds:.1f} ms of processor time)"
    against_predict = f"{explain:.2f}x ({_ms(why)} against {_ms(one)})"
    what = "image model alone, share of the matrix rate per second of processor time"
    return [
        _ratio_line(f"one product, text and picture, against {kind} `predict`", 15, *both, rate=False),
        Line("the same against the floor", "at most 1.4x", against_floor, above <= 1.4),
        Line(what, "at least 70 %", alone, share >= 0.7),
        Line("explanation of a product against its prediction", "at most 2x", against_predict, explain <= 2),
    ]


def _one_core(bundle: Path, rounds: int, quick: bool) -> list[Line]:
    """What needs processes that may use one core only: how the work scales, and fastText, which knows one thread."""
    if not hasattr(os, "sched_setaffinity"):
        reason = "not measured: this system binds no process to a core"
        return [Line("scaling over cores, fastText", "", reason)]
    cores, core = usable_cores(), sorted(os.sched_getaffinity(0))[:1]
    titles, lines = "titles of 22 words", []
    with contextlib.ExitStack() as stack:
        everywhere = stack.enter_context(worker("ours", bundle, quick=quick))
        alone = stack.enter_context(worker("ours", bundle, cores=core, quick=quick))
        for task, what, least in (("pairs", "catalog with pictures", 0.85), ("titles", titles, None)):
            every, one = _in_turn(rounds, (everywhere, task), (alone, task))
            share = every.ratio(one) / cores
            what = f"{what}, all {cores} cores: share of {cores} x the rate of one"
            figures = (
                f"{share:.0%} ({1 / every.seconds:,.0f} against {1 / one.seconds:,.0f} a second; "
                f"{every.processor_ratio(one):.0%} in processor time)"
            )
            target, met = (f"at least {100 * least:.0f} %", share >= least) if least else ("", None)
            lines.append(Line(what, target, figures, met))
        if importlib.util.find_spec("fasttext") is None:
            reason = "not measured: fastText is not installed"
            return [*lines, Line("texts against fastText", "at least 0.5x", reason)]
        fast = stack.enter_context(worker("fasttext", bundle, cores=core, quick=quick))
        for task, what, least in (("titles", titles, 0.5), ("mixed", "titles, most with a description", None)):
            what = f"{what} against fastText, one core each, cleaning counted"
            lines.append(_ratio_line(what, least, *_in_turn(rounds, (alone, task), (fast, task))))
        return lines


def _starts(bundle: Path, keras_bundle: Path, folder: Path, rounds: int, kind: str) -> list[Line]:
    photo = folder / "photo.jpg"
    photo.write_bytes(synthetic_data.photo())
    (ours, keras), peaks = startup.first_answers(bundle, keras_bundle, photo, rounds)
    megabytes, keras_megabytes = peaks["ours"] / 1e6, peaks["keras"] / 1e6
    app, empty = startup.first_pages(folder, rounds)
    imported = startup.imported_by_app()
    start = f"{ours.seconds:.2f} s and {megabytes:.0f} MB; Keras {keras.seconds:.1f} s and {keras_megabytes:.0f} MB"
    page = f"{empty.ratio(app):.2f}x ({app.seconds:.1f} s against {empty.seconds:.1f} s)"
    first = f"new process, import, bundle and first answer against {kind}"
    what = "app, from its start to the first page, against an empty Gradio app"
    small = ours.seconds < 0.6 and megabytes < 150
    return [
        _ratio_line(first, 30, ours, keras, rate=False),
        Line("the same, time and peak memory", "under 0.6 s and 150 MB", start, small),
        Line(what, "at most 1.15x", page, empty.ratio(app) <= 1.15),
        Line("training libraries that the app imports", "none", ", ".join(imported) or "none", not imported),
    ]


def _ratio_line(what: str, least: float | None, ours: Timing, theirs: Timing, *, rate: bool = True) -> Line:
    """As in "5.30x (5.10 to 6.00): 250 against 47 a second", or "25.3x (24.1 to 26.0): 7.1 ms against 180.2 ms"."""
    ratio, (low, high) = ours.ratio(theirs), ours.spread(theirs)
    digits, figures = 1, f"{_ms(ours)} against {_ms(theirs)}"
    if rate:
        digits, figures = 2, f"{1 / ours.seconds:,.0f} against {1 / theirs.seconds:,.0f} a second"
    found = (
        f"{ratio:.{digits}f}x ({low:.{digits}f} to {high:.{digits}f}): {figures}; "
        f"{ours.processor_ratio(theirs):.{digits}f}x in processor time"
    )
    return Line(what, f"at least {least:g}x" if least else "", found, ratio >= least if least else None)


def _ms(timing: Timing) -> str:
    return f"{1e3 * timing.seconds:,.1f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; see the module's text."""
    parser = command_parser("benchmarks.speed.serving", __doc__, bundle=True, rounds=ROUNDS)
    options = parser.parse_args(arguments)
    notes = machine.facts()
    rounds = 0 if options.quick else max(1, options.rounds)
    lines = measure_serving(options.bundle, rounds, options.quick)
    publish(format_lines("Serving", [*notes, f"- Rounds: {max(1, rounds)}"], lines), options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
