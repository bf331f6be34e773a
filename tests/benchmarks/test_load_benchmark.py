"""The load benchmark with few clients for a few seconds: that it measures and judges, not how fast anything is."""

import importlib.util
import subprocess
import sys

import pytest

from tests.support.app_server import REPOSITORY_ROOT

# Looked for, not imported: Locust replaces parts of the standard library in the process that imports it.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed; see benchmarks/requirements.txt"
)


def test_a_short_run_writes_its_table(tmp_path):
    output = tmp_path / "load.md"
    options = ["--seconds", "10", "--clients", "3", "--crowd", "80", "--crowd-seconds", "5", "--alone-seconds", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *options, "--output", output],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    # The memory of the first seconds grows, which is what a long run is for.
    assert done.returncode in (0, 1), done.stderr
    lines = {line.split("|")[1].strip(): line for line in output.read_text().splitlines() if line.count("|") == 5}
    for start in ("3 clients for", "a crowd of 80 clients", "one client after the crowd", "tracebacks"):
        assert any(name.startswith(start) and line.endswith("| met |") for name, line in lines.items()), lines
