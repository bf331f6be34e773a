"""What a hosted Space is built from: the front matter, the requirements, and the app on every Python it may run on.

The installing tests take a minute each and need a package registry, so they run only when asked: `make space`.
"""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file
from packaging.requirements import Requirement

from rakuten_models.page import EXAMPLES_FOLDER
from tests.app_server import REPOSITORY_ROOT, app_process
from training.publish import app_files

REQUIREMENT_FILES = (
    "requirements.txt",
    "requirements-mcp.txt",
    "training/requirements.txt",
    "tests/requirements.txt",
)
FRONT_MATTER = {
    "title",
    "emoji",
    "colorFrom",
    "colorTo",
    "sdk",
    "sdk_version",
    "python_version",
    "app_file",
    "license",
    "short_description",
    "suggested_hardware",
    "startup_duration_timeout",
}
SPACE_PYTHONS = ("3.10", "3.11", "3.12")
LARGEST_MEMORY = 1_000_000_000
SECONDS_TO_ANSWER = 5


def pinned(name):
    """A file's requirements as {name: requirement}; of several lines for a name the last."""
    lines = (REPOSITORY_ROOT / name).read_text(encoding="utf-8").splitlines()
    # As setuptools reads them: no "-r" lines, comments at a line's end.
    found = [Requirement(text) for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]
    return {requirement.name: requirement for requirement in found}


@pytest.mark.parametrize("name", REQUIREMENT_FILES)
def test_every_requirement_is_pinned_and_readable_by_the_package(name):
    assert all(re.fullmatch(r"==[\d.]+", str(requirement.specifier)) for requirement in pinned(name).values())


def test_the_front_matter_is_complete_and_agrees_with_the_requirements():
    text = (REPOSITORY_ROOT / "README.md").read_text(encoding="utf-8")
    matter = yaml.safe_load(text.split("---\n")[1])
    assert set(matter) == FRONT_MATTER
    assert matter["sdk"] == "gradio" and (REPOSITORY_ROOT / matter["app_file"]).is_file()
    assert matter["python_version"] in SPACE_PYTHONS
    # A hub refuses longer ones.
    assert len(matter["short_description"]) <= 60
    for name in ("requirements.txt", "requirements-mcp.txt"):
        assert str(pinned(name)["gradio"].specifier) == f"=={matter['sdk_version']}"


def find_python(version):
    """An interpreter of that version, of pyenv or on the search path; None if there is none."""
    # Pyenv's own first: what it puts on the search path runs only the versions that are switched on.
    of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    return str(of_pyenv[-1]) if of_pyenv else shutil.which(f"python{version}")


@pytest.mark.space
@pytest.mark.parametrize("version", SPACE_PYTHONS)
def test_requirements_alone_build_a_space_that_answers(version, tmp_path):
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    space = tmp_path / "space"
    for name in app_files(REPOSITORY_ROOT, with_starter=True):
        (space / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY_ROOT / name, space / name)
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    own_python = str(tmp_path / "venv" / "bin" / "python")
    for command in (["install", "-qq", "-r", "requirements.txt"], ["check"]):
        subprocess.run(
            [own_python, "-m", "pip", "--disable-pip-version-check", *command], cwd=space, check=True
        )
    started = time.monotonic()
    with app_process([own_python, "app.py"], space) as (address, process):
        ready = time.monotonic()
        client = Client(address, verbose=False)
        picture = handle_file(EXAMPLES_FOLDER / "pool.jpg")
        asked = time.monotonic()
        answer = client.predict("Piscine tubulaire ronde", "", picture, api_name="/classify")
        answered = time.monotonic()
        client.predict("Piscine tubulaire ronde", "", picture, api_name="/explain")
        status = Path(f"/proc/{process.pid}/status")
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    assert answer["error"] is None and 0 < answer["probability"] <= 1
    assert answered - asked < SECONDS_TO_ANSWER
    memory = int(peak.group(1)) * 1024 if peak else 0
    assert memory < LARGEST_MEMORY
    print(
        f"Python {version}: ready after {ready - started:.1f} s, first answer in {answered - asked:.2f} s, "
        f"peak memory {memory / 1e6:.0f} MB"
    )
