"""Mutation testing of one module: changes its code a little at a time and counts the changes that its tests notice.

    python -m tools.mutants rakuten_models/bundle/folder.py tests/core/test_bundle_checks.py
    make mutants MODULE=rakuten_models/bundle/folder.py TESTS=tests/core/test_bundle_checks.py

The tool (mutmut) works on a copy of the package and of the tests in a temporary folder, so the repository stays as it
is. Every changed line runs the named tests again, so name fast ones that start no TensorFlow. Needs fork (Linux,
macOS). Ends with status 1 below the wanted share.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("rakuten_models", "tests")

WANTED_SHARE = 0.8

# A mutant that makes the tests run for so many times as long, or ends the process, was noticed, too.
NOTICED = ("killed", "timeout", "segfault")


class MutantsError(RakutenModelsError):
    """The mutants could not be made or run."""


def run_mutants(
    module: str, tests: Sequence[str], workers: int, parts: Sequence[str] = ()
) -> tuple[dict[str, int], list[str]]:
    """Make every mutant of a module and run the tests against each.

    Args:
        module: Path of the module, from the repository's root.
        tests: Test files, from the repository's root.
        workers: Processes at a time.
        parts: Names of mutants as the tool writes them, with wildcards; () for all.

    Returns:
        The number of mutants by outcome ("killed", "survived", ...), and each change that no test noticed as a diff.

    Raises:
        MutantsError: A file is missing, or the tests fail without any change.
    """
    absent = [name for name in (module, *tests) if not (ROOT / name).is_file()]
    if absent:
        raise MutantsError(f"There is no {', '.join(absent)} in {ROOT}; name files from there.")
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        for name in PACKAGES:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        (folder / "pyproject.toml").write_text(
            f"{settings}\n{_tool_settings(module, tests)}", encoding="utf-8"
        )
        done = _tool(folder, "run", "--max-children", str(workers), *parts)
        _tool(folder, "export-cicd-stats")
        figures = folder / "mutants" / "mutmut-cicd-stats.json"
        counts = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
        if not counts.get("total"):
            raise MutantsError(f"No mutant of {module} was made or run:\n{done.stdout[-3000:]}")
        survivors = [
            line.split(":")[0].strip()
            for line in _tool(folder, "results").stdout.splitlines()
            if line.rstrip().endswith((": survived", ": no tests"))
        ]
        return counts, [_tool(folder, "show", name).stdout.strip() for name in survivors]


def _tool_settings(module: str, tests: Sequence[str]) -> str:
    return (
        "[tool.mutmut]\n"
        'source_paths = ["rakuten_models"]\n'
        f"only_mutate = {json.dumps([module])}\n"
        f"pytest_add_cli_args_test_selection = {json.dumps(list(tests))}\n"
        'pytest_add_cli_args = ["-p", "no:cacheprovider"]\n'
        "use_git_change_detection = false\n"
        "track_dependencies = false\n"
    )


def _tool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Threads of the tokenizers library would not survive the fork.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": ""}
    return subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants and print the share that was noticed and what was not."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("module", help="such as rakuten_models/bundle/folder.py")
    parser.add_argument("tests", nargs="+", help="fast test files of it")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="(default: the processors)")
    parser.add_argument("--only", nargs="*", default=(), metavar="NAME", help="mutants by name, * allowed")
    choices = parser.parse_args(arguments)
    counts, missed = run_mutants(choices.module, choices.tests, choices.workers, choices.only)
    for diff in missed:
        print(diff, end="\n\n")
    judged = sum(counts[name] for name in (*NOTICED, "survived", "no_tests", "suspicious"))
    noticed = sum(counts[name] for name in NOTICED)
    share = noticed / judged if judged else 0.0
    print(
        f"{choices.module}: {noticed} of {judged} mutants noticed ({share:.1%}), {counts['survived']} survived, "
        f"{counts['no_tests']} without a test; at least {WANTED_SHARE:.0%} are wanted"
    )
    return 0 if share >= WANTED_SHARE else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
