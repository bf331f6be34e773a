"""What bandit, a scanner for known weaknesses, finds in the code that serves and trains."""

import json
import subprocess
import sys

import pytest

from tests.support.app_server import REPOSITORY_ROOT

pytest.importorskip("bandit", reason="bandit is not installed; see tests/requirements.txt")

# By file and rule: why it is none. All else of at least medium severity fails.
NO_WEAKNESS = {
    (
        "rakuten_models/app/security/middleware.py",
        "B104",
    ): "the name of an address in a comparison; nothing listens on it",
    ("rakuten_models/bundle/folder.py", "B103"): "a bundle's folder is for everybody to read, as any folder",
    (
        "training/evaluation/model_card.py",
        "B701",
    ): "the template becomes Markdown, whose values are escaped as Markdown",
}


def test_the_scanner_finds_nothing_that_has_no_reason():
    command = [sys.executable, "-m", "bandit", "-q", "-r", "app.py", "rakuten_models", "training", "-f", "json"]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    assert not report["errors"]
    found = {
        (each["filename"].removeprefix("./"), each["test_id"]): each["issue_text"]
        for each in report["results"]
        if each["issue_severity"] in ("MEDIUM", "HIGH")
    }
    assert {key: text for key, text in found.items() if key not in NO_WEAKNESS} == {}
