"""The challenge's full size: time and memory of a training run, stage by stage, killed in each and resumed.

    python -m benchmarks.scale.full_training CATALOG FOLDER --backbone-weights FILE --output benchmarks/full_size.md
    python -m benchmarks.scale.full_training CATALOG FOLDER --rows 10000

Makes a catalog of 84,916 products from the one that is given (benchmarks/scale/synthetic_catalog.py), then runs
`training.train --fast` on it: catalog check, split, features, three models, bundle, evaluation. The run is killed
(kill -9) once in each long stage, at about its half, and started again with --resume. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import facts
from benchmarks.process_monitor import Stage, Watched, run_watched
from benchmarks.scale.synthetic_catalog import ROWS, write_full_catalog
from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError
from rakuten_models.files import write_atomically
from training.data.catalog import read_catalog

# What a line of training says has ended; the name of what comes next.
_STAGES = (
    ("catalog ", "split"),
    ("grouped split", "tokenizer and start"),
    ("text model:", "picture keys and start"),
    ("image model:", "fusion and calibration"),
    ("fusion model:", "bundle"),
    ("bundle:", "evaluation"),
)

# Where the run is killed: stage and share of its bar.
_KILLS = (
    ("near-duplicates", 0.5),
    ("texts", 0.5),
    ("text model", 0.5),
    ("pictures", 0.5),
    ("fusion and calibration", 5.0),
    ("evaluation", 60.0),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's text.

    Raises:
        RakutenModelsError: The catalog cannot be used, or training failed.
    """
    options = _parse(arguments)
    source = read_catalog(options.catalog)
    began = time.monotonic()
    catalog = write_full_catalog(source, options.folder / "catalog", options.rows)
    print(f"catalog: {time.monotonic() - began:.0f} s", flush=True)
    del source
    command = [
        sys.executable, "-m", "training.train", "--catalog-dir", str(catalog),
        "--output-dir", str(options.folder / "bundle"), "--fast", "--backbone-weights", options.backbone_weights,
    ]  # fmt: skip
    runs: list[Watched] = []
    lines = []
    kills = [] if options.no_kills else list(_KILLS)
    for kill in [*kills, None]:
        run = run_watched(command + (["--resume"] if runs else []), _STAGES, "catalog check", kill)
        if runs and kills:
            lines.append(_resumed(runs[-1], run))
            print(lines[-1], flush=True)
        runs.append(run)
        print(f"{'ended' if kill is None else f'killed in {kill[0]}'}: {_totals(runs)}", flush=True)
        if kill is None and run.status:
            raise RakutenModelsError(f"training ended with {run.status}: {' '.join(run.errors[-3:])}")
        if kill is not None and run.status == 0:
            print(f"  it had ended before it could be killed in {kill[0]}", flush=True)
            break
    write_atomically(options.output, _page(options.rows, runs, lines))
    print(f"written: {options.output}")
    return 0


def _resumed(killed: Watched, resumed: Watched) -> str:
    """Where a run was killed and where the next one went on, as a row of a table."""
    name, done, of = killed.last
    first, moment = resumed.seen.get(name, (done, 0.0))
    stage = list(killed.stages)[-1]
    if stage != name:
        return f"| {stage} | after {killed.stages[stage].seconds:.0f} s | its beginning | - |"
    kept = max(run.longest.get(name, 0.0) for run in (killed, resumed))
    return f"| {stage} | {done:,} of {of:,} | {first:,} after {moment:.0f} s | {kept:.0f} s |"


def _totals(runs: Sequence[Watched]) -> str:
    stages = [stage for run in runs for stage in run.stages.values()]
    return (
        f"{sum(stage.seconds for stage in stages) / 60:.1f} min, peak {_gb(max(s.resident for s in stages))} "
        f"resident, {_gb(max(s.anonymous for s in stages))} of it the process's own"
    )


def _page(rows: int, runs: Sequence[Watched], resumed: Sequence[str]) -> str:
    together: dict[str, Stage] = {}
    for run in runs:
        for name, stage in run.stages.items():
            total = together.setdefault(name, Stage())
            total.seconds += stage.seconds
            total.resident = max(total.resident, stage.resident)
            total.anonymous = max(total.anonymous, stage.anonymous)
    lines = [
        "# The challenge's full size",
        "",
        f"`training.train --fast` on {rows:,} products with a text and a picture of 500 x 500 pixels each, made from a "
        "smaller catalog (`python -m benchmarks.scale.full_training`). Quality means nothing here.",
        "",
        *facts(),
        "",
        f"In all: {_totals(runs)}, over {len(runs)} processes: each but the last was killed (kill -9).",
        "",
        "Resident counts the pages of mapped files, which the system may drop; own is what it cannot drop.",
        "",
        "| stage | seconds | peak resident | peak own |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {stage.seconds:,.0f} | {_gb(stage.resident)} | {_gb(stage.anonymous)} |"
            for name, stage in together.items()
        ),
        "",
    ]
    if resumed:
        lines += [
            "Killed and started again with `--resume`:",
            "",
            "| killed in | at | the next run's first sign of it | most that a kill can cost |",
            "| --- | --- | --- | --- |",
            *resumed,
            "",
        ]
    return "\n".join(lines)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale.full_training", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "catalog", type=Path, help="a catalog with texts and pictures to make the large one from"
    )
    parser.add_argument(
        "folder", type=Path, help="for the large catalog and its bundle; some 5 GB at full size"
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--backbone-weights", default="imagenet", metavar="FILE")
    parser.add_argument("--no-kills", action="store_true", help="let the run go through undisturbed")
    parser.add_argument("--output", type=Path, default=Path("full_size.md"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(run_command(main))
