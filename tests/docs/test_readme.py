"""What the README tells people to type, typed; and the files that it names, in their places."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys

import pandas
import pytest

from rakuten_models.app.examples import EXAMPLES_FOLDER
from tests.support.app_server import REPOSITORY_ROOT, app_environment

README = (REPOSITORY_ROOT / "README.md").read_text(encoding="utf-8")


def blocks(heading, language):
    """The code of a section in a language, block by block."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def address(serve_app):
    return serve_app()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands run: with the example pictures in their place and a catalog."""
    (tmp_path / "rakuten_models").mkdir()
    shutil.copytree(EXAMPLES_FOLDER, tmp_path / "rakuten_models" / "examples")
    (tmp_path / "catalog.csv").write_text("designation\npiscine tubulaire\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("heading", "printed"),
    [("Why this category", r"picture [+-]\d"), ("Use it from Python", r"0\.\d{3}\s+\d+  \w")],
)
def test_the_package_is_used_as_shown(folder, capsys, heading, printed):
    exec(blocks(heading, "python")[0], {})
    assert re.search(printed, capsys.readouterr().out)


def test_every_endpoint_answers_python_as_shown(address, folder, capsys):
    (code,) = blocks("The app", "python")
    exec(code.replace("http://127.0.0.1:7860", address), {})
    answer, words, counts = capsys.readouterr().out.splitlines()[-3:]
    assert re.fullmatch(r"\d+ 0\.\d+ (accept|review)", answer)
    assert "'Piscine'" in words
    assert "catalog_scored.csv" in counts and "'scored': 1" in counts


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_every_endpoint_answers_curl_as_shown(address, folder):
    curl = next(block for block in blocks("The app", "sh") if "curl" in block)
    script = curl.replace("http://127.0.0.1:7860", address)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("event: complete") == 3
    assert '"prdtypecode"' in done.stdout and '"heat_map": [[' in done.stdout and '"scored": 1' in done.stdout


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_large_catalog_is_scored_as_shown(folder, engine):
    """The commands that need no cluster and no store of somebody's."""
    if engine == "ray":
        pytest.importorskip("ray", reason="needs requirements-scale.txt")
    (folder / "parts").mkdir()
    table = pandas.DataFrame({"designation": ["piscine tubulaire", "livre"], "image": ["pool.jpg", None]})
    table.to_parquet(folder / "parts" / "1.parquet")
    shutil.copytree(EXAMPLES_FOLDER, folder / "pictures")
    lines = "".join(blocks("Catalogs larger than one machine", "sh")).splitlines()
    commands = [line for line in lines if "rakuten_models.batch" in line and "://" not in line]
    (command,) = [
        line for line in commands if ("--engine ray" in line) == (engine == "ray") and "--address" not in line
    ]
    arguments = shlex.split(command, comments=True)
    assert arguments[0] == ".venv/bin/python"
    done = subprocess.run(
        [sys.executable, *arguments[1:]],
        capture_output=True,
        text=True,
        env=app_environment(PYTHONPATH=str(REPOSITORY_ROOT)),
    )
    assert done.returncode == 0, done.stderr
    assert "2 rows: 2 scored" in done.stdout and "not scored, " not in done.stdout


def test_every_file_that_is_named_is_there():
    tree = README.split("\n## Files\n")[1].split("```")[1]
    folder = REPOSITORY_ROOT
    for line in tree.strip("\n").splitlines():
        # Names have a dot or end in a slash; what follows them is prose.
        for name in itertools.takewhile(re.compile(r"Makefile|\S+\.\w+|\w+/").fullmatch, line.split()):
            path = (folder if line.startswith(" ") else REPOSITORY_ROOT) / name
            assert list(path.parent.glob(path.name)), path
        if name.endswith("/") and not line.startswith(" "):
            folder = path
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (REPOSITORY_ROOT / picture).is_file(), picture
