"""What a hosted Space is built from: the front matter, the requirements, and the app on every Python it may run on.

The installing tests take a minute each and need a package registry, so they run only when asked: `make space`.
"""

import re
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file
from packaging.requirements import Requirement

from rakuten_models.app.examples import EXAMPLES_FOLDER
from tests.support.app_server import REPOSITORY_ROOT, app_process
from training.publish import app_files, copy_app

REQUIREMENT_FILES = ("requirements.txt", "requirements-mcp.txt", "training/requirements.txt", "tests/requirements.txt")

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

MAX_MEMORY = 1_000_000_000

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


@pytest.fixture(scope="module", params=SPACE_PYTHONS)
def space(request, tmp_path_factory):
    """A folder with what a Space holds, and a Python with its requirements and nothing else."""
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} on this machine")
    folder = tmp_path_factory.mktemp("space")
    copy_app(REPOSITORY_ROOT, folder, app_files(REPOSITORY_ROOT, with_starter=True))
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    own_python = str(folder / "venv" / "bin" / "python")
    install(own_python, "-r", str(folder / "requirements.txt"))
    return folder, own_python


def install(python, *what):
    command = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*command, "install", "-qq", *what], check=True)
    subprocess.run([*command, "check"], check=True)


@pytest.mark.space
def test_requirements_alone_build_a_space_that_answers(space):
    folder, python = space
    started = time.monotonic()
    with app_process([python, "app.py"], folder) as (address, process):
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
    assert memory < MAX_MEMORY
    print(
        f"ready after {ready - started:.1f} s, first answer in {answered - asked:.2f} s, "
        f"peak memory {memory / 1e6:.0f} MB"
    )


@pytest.mark.space
def test_zero_gpu_accepts_the_app(space):
    """Its library reports a start only of an app with a marked function, and needs no GPU for that."""
    folder, python = space
    install(python, "spaces==0.51.3")
    asked = []

    class Device(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *values):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Device)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    device = f"http://127.0.0.1:{server.server_port}"
    variables = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": device}
    with app_process([python, "app.py"], folder, **variables) as (address, _):
        answer = Client(address, verbose=False).predict("Piscine tubulaire ronde", api_name="/classify")
    server.shutdown()
    assert asked == ["/startup-report"]
    assert answer["error"] is None
