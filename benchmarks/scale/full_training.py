"""The challenge's full size: time and memory of a training run, stage by stage, killed in each and resumed.

    python -m benchmarks.scale.full_training CATALOG FOLDER --backbone-weights FILE --output benchmarks/full_size.md
    python -m benchmarks.scale.full_training CATALOG FOLDER --rows 10000

Makes a catalog of 84,916 products from the one that is given: each row has a picture of that one, enlarged to 500 x 500
pixels and linked under another name, the picture's category, and texts put together from those of that category: the
first half of one designation and the second half of another's, and the same with the descriptions. Then runs
`training.train --fast` on it: catalog check, split, features, three models, bundle, evaluation. The run is killed
(kill -9) once in each long stage, at about its half, and started again with --resume. Linux only.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from benchmarks.machine import facts
from benchmarks.process_monitor import MonitoredRun, Stage, run_monitored
from benchmarks.report import BenchmarkError, command_parser, publish, table
from benchmarks.synthetic_data import PHOTO_SIDE
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from training.data.catalog import Catalog, read_catalog
from training.data.files import CHALLENGE_LABEL_FILE, CHALLENGE_TRAIN_FILE, IMAGE_FOLDERS

ROWS = 84_916

# What a line of training says has ended; the name of what comes next.
_STAGES = {
    "catalog ": "split", "grouped split": "tokenizer and start", "text model:": "picture keys and start",
    "image model:": "fusion and calibration", "fusion model:": "bundle", "bundle:": "evaluation",
}  # fmt: skip

# Where the run is killed: stage and share of its bar (above 1: seconds).
_KILLS = {
    "near-duplicates": 0.5, "texts": 0.5, "text model": 0.5, "pictures": 0.5,
    "fusion and calibration": 5.0, "evaluation": 60.0,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; see the module's text."""
    parser = command_parser("benchmarks.scale.full_training", __doc__, quick=False)
    parser.set_defaults(output=Path("full_size.md"))
    parser.add_argument("catalog", help="a catalog with texts and pictures to make the large one from")
    parser.add_argument("folder", type=Path, help="for the large catalog and its bundle; 5 GB at full size")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--backbone-weights", default="imagenet", metavar="FILE")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    catalog = write_full_catalog(read_catalog(options.catalog), options.folder / "catalog", options.rows)
    print(f"catalog: {time.monotonic() - began:.0f} s", flush=True)
    command = [
        sys.executable, "-m", "training.train", "--catalog-dir", str(catalog),
        "--output-dir", str(options.folder / "bundle"), "--fast", "--backbone-weights", options.backbone_weights,
    ]  # fmt: skip
    runs: list[MonitoredRun] = []
    resumed: list[list[str]] = []
    for kill in [*_KILLS.items(), None]:
        run = run_monitored([*command, *["--resume"] * bool(runs)], _STAGES.items(), "catalog check", kill)
        if runs:
            resumed.append(_resumed(runs[-1], run))
            print(*resumed[-1], sep=" | ", flush=True)
        runs.append(run)
        print(f"{f'killed in {kill[0]}' if kill else 'ended'}: {_totals(_stages(runs))}", flush=True)
        if kill is None and run.status:
            error = " ".join(run.errors[-3:])
            raise BenchmarkError("benchmark.training_failed", status=run.status, error=error)
        if kill is not None and run.status == 0:
            print(f"  it had ended before it could be killed in {kill[0]}", flush=True)
            break
    publish(_page(options.rows, runs, resumed), options.output)


def write_full_catalog(source: Catalog, folder: Path, rows: int = ROWS, seed: int = 0) -> Path:
    """Write the catalog in the challenge's layout into a folder; a whole one of so many rows there is left as it is.

    `source` has texts and pictures of every category that occurs. Returns the folder.
    """
    labels = folder / CHALLENGE_LABEL_FILE
    if labels.is_file() and sum(1 for _ in labels.open()) == rows + 1:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    originals, target = folder / "originals", folder / IMAGE_FOLDERS[CHALLENGE_TRAIN_FILE]
    originals.mkdir(parents=True)
    target.mkdir(parents=True)
    labelled = source.table["prdtypecode"].notna()
    groups = source.table[labelled & source.has_text].groupby("prdtypecode")
    texts = {code: [_halves(group["designation"]), _halves(group["description"])] for code, group in groups}
    pictures = source.table[(source.table["image"] != "") & source.table["prdtypecode"].isin(texts)]
    names = (originals / f"{number}.jpg" for number in range(len(pictures)))
    with ThreadPoolExecutor() as pool:
        list(pool.map(_enlarge, pictures["image"], names))
    random = np.random.default_rng(seed)
    # In turn, so that every picture occurs about as often.
    numbers = np.arange(rows) % len(pictures)
    codes = pictures["prdtypecode"].to_numpy()[numbers]
    fields = [[_recombined(halves, random) for halves in texts[code]] for code in codes]
    table = pandas.DataFrame(fields, columns=["designation", "description"])
    table = table.assign(productid=10_000_000 + table.index, imageid=20_000_000 + table.index)
    table.to_csv(folder / CHALLENGE_TRAIN_FILE)
    for row, number in enumerate(numbers):
        name = target / f"image_{20_000_000 + row}_product_{10_000_000 + row}.jpg"
        try:
            os.link(originals / f"{number}.jpg", name)
        except OSError:  # a file system without hard links
            shutil.copyfile(originals / f"{number}.jpg", name)
    # Last: a catalog with labels is a whole one.
    write_atomically(labels, pandas.DataFrame({"prdtypecode": codes}).to_csv())
    return folder


def _halves(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """First halves and second halves of texts, by words."""
    halves = [np.array_split(text.split(" "), 2) for text in texts]
    return [" ".join(first) for first, _ in halves], [" ".join(second) for _, second in halves]


def _recombined(halves: tuple[list[str], list[str]], random: np.random.Generator) -> str:
    first, second = halves
    return f"{first[random.integers(len(first))]} {second[random.integers(len(second))]}".strip()


def _enlarge(source: str, target: Path) -> None:
    with Image.open(source) as picture:
        square = picture.convert("RGB").resize((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.BICUBIC)
        square.save(target, "JPEG", quality=85)


def _resumed(killed: MonitoredRun, resumed: MonitoredRun) -> list[str]:
    """Where a run was killed and where the next one went on, as a row of a table."""
    name, done, total = killed.bar
    stage = list(killed.stages)[-1]
    if stage != name:
        return [stage, f"after {killed.stages[stage].seconds:.0f} s", "its beginning", "-"]
    first, moment = resumed.first_seen.get(name, (done, 0.0))
    longest = max(run.longest.get(name, 0.0) for run in (killed, resumed))
    return [stage, f"{done:,} of {total:,}", f"{first:,} after {moment:.0f} s", f"{longest:.0f} s"]


def _stages(runs: Iterable[MonitoredRun]) -> dict[str, Stage]:
    """The stages of all runs together, by name."""
    together: dict[str, Stage] = {}
    for run in runs:
        for name, stage in run.stages.items():
            together.setdefault(name, Stage()).add(stage.seconds, stage.resident, stage.anonymous)
    return together


def _totals(stages: dict[str, Stage]) -> str:
    total = Stage()
    for stage in stages.values():
        total.add(stage.seconds, stage.resident, stage.anonymous)
    peak = f"peak {_gb(total.resident)} resident, {_gb(total.anonymous)} of it the process's own"
    return f"{total.seconds / 60:.1f} min, {peak}"


def _page(rows: int, runs: Sequence[MonitoredRun], resumed: Sequence[Sequence[str]]) -> str:
    stages = _stages(runs)
    figures = [
        (name, f"{stage.seconds:,.0f}", _gb(stage.resident), _gb(stage.anonymous)) for name, stage in stages.items()
    ]
    lines = [
        "# The challenge's full size",
        "",
        f"`training.train --fast` on {rows:,} products with a text and a picture of 500 x 500 pixels each, made from a "
        "smaller catalog (`python -m benchmarks.scale.full_training`). Quality means nothing here.",
        "",
        *facts(),
        "",
        f"In all: {_totals(stages)}, over {len(runs)} processes: each but the last was killed (kill -9).",
        "",
        "Resident counts the pages of mapped files, which the system may drop; own is what it cannot drop.",
        "",
        *table(("stage", "seconds", "peak resident", "peak own"), figures),
        "",
    ]
    if resumed:
        head = ("killed in", "at", "the next run's first sign of it", "most that a kill can cost")
        lines += ["Killed and started again with `--resume`:", "", *table(head, resumed), ""]
    return "\n".join(lines)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    sys.exit(run_command(main))
