"""Every benchmark, one after the other, into one report: what `make bench` runs.

    python -m benchmarks
    python -m benchmarks --train CATALOG --test CATALOG --bundle FOLDER      quality as well

Writes benchmarks/results.md with the machine, the versions, the date and the load of each part, and
benchmarks/growth.png. At its end stands benchmarks/tried.md: what was tried and not kept. About half an hour on two
cores without quality.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import ROOT, BenchmarkError, command_parser
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically

_FOLDER = Path(__file__).parent
RESULTS, PLOT, TRIED = _FOLDER / "results.md", "growth.png", _FOLDER / "tried.md"


def parts_of(options: argparse.Namespace) -> list[list[str]]:
    """The commands of all parts, in order, each without its --output."""
    quick = ["--quick"] if options.quick else []
    bundle = ["--bundle", str(options.bundle or STARTER_FOLDER)]
    plot = ["--plot", str(options.output.with_name(PLOT))]
    parts = [
        ["benchmarks.speed.serving", *bundle, *quick],
        ["benchmarks.speed.scaling_curves", *bundle, *quick, *plot],
        ["benchmarks.speed.training", *quick],
    ]
    if options.train and options.test:
        quality = ["benchmarks.quality", "--train", options.train, "--test", options.test]
        parts.append(quality + (bundle if options.bundle else []))
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts and write the report; see the module's text. If a part fails, the report stays as it was."""
    parser = command_parser("benchmarks", __doc__)
    parser.set_defaults(output=RESULTS)
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="default: the starter")
    parser.add_argument("--train", metavar="CATALOG", help="for quality: what all methods are fitted on")
    parser.add_argument("--test", metavar="CATALOG", help="for quality: what they are scored on")
    options = parser.parse_args(arguments)
    sections = [
        "# Results of `make bench`\n\nRatios are medians of paired rounds, in brackets the least and the largest. Each "
        "part says where and when it ran.\n"
    ]
    with tempfile.TemporaryDirectory() as name:
        for number, (module, *rest) in enumerate(parts_of(options)):
            part = Path(name) / f"{number}.md"
            print(f"running {module}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", module, *rest, "--output", str(part)]
            done = subprocess.run(command, cwd=ROOT)
            if done.returncode:
                raise BenchmarkError("benchmark.part_failed", part=module)
            sections.append(part.read_text(encoding="utf-8"))
    sections[2] += f"\n![Costs as work grows]({PLOT})\n"
    if TRIED.is_file():
        sections.append(TRIED.read_text(encoding="utf-8"))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.output, "\n".join(sections))
    print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
