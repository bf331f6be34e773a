"""What README.md and docs/*.md tell people to type, typed; the files, links and pictures that they name are there."""

import functools
import itertools
import re
import shlex
import shutil
import subprocess
import sys

import huggingface_hub
import pandas
import pytest

from rakuten_models.app.examples import EXAMPLES_FOLDER
from tests.support.app_server import REPOSITORY_ROOT, app_environment

PAGES = [REPOSITORY_ROOT / "README.md", *sorted((REPOSITORY_ROOT / "docs").glob("*.md"))]
ADDRESS = "http://127.0.0.1:7860"
# What each block of Python prints in the end, by what only it holds.
PRINTED = {
    "gradio_client": r"\d+ 0\.\d+ (accept|review)\n.*'Piscine'.*\n.*catalog_scored\.csv.*'scored': 1",
    "heat_map_image": r"picture [+-]\d",
    "prediction.top(3)": r"0\.\d{3}\s+\d+  \w",
    "hf_hub_download": "",
}


def blocks(language):
    """Every block of code in a language: [(page's name, code)]."""
    return [
        (page.name, code)
        for page in PAGES
        for code in re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]


def command_lines():
    """Every line of a shell block, those that a backslash continues joined, without what sets variables before it."""
    for page, code in blocks("sh"):
        # Those with curl are run as a whole.
        for line in code.replace("\\\n", " ").splitlines() if "curl" not in code else ():
            words = shlex.split(re.sub(r"<[^>]+>", "NAME", line), comments=True)
            words = list(itertools.dropwhile(re.compile(r"[A-Z_]+=.*").fullmatch, words))
            if words:
                yield page, words


@pytest.fixture(scope="module")
def address(serve_app):
    return serve_app()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands run: with the example pictures in their place and a catalog."""
    shutil.copytree(EXAMPLES_FOLDER, tmp_path / "rakuten_models" / "app" / "examples")
    (tmp_path / "catalog.csv").write_text("designation\npiscine tubulaire\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_module(arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env=app_environment(PYTHONPATH=str(REPOSITORY_ROOT)),
        **options,
    )


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_runs_as_shown(page, code, folder, address, tiny_bundle, monkeypatch, capsys):
    (printed,) = (pattern for only, pattern in PRINTED.items() if only in code)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repo, name, revision: str(tiny_bundle / name))
    exec(compile(code.replace(ADDRESS, address), page, "exec"), {})
    assert re.search(printed, capsys.readouterr().out, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_every_endpoint_answers_curl_as_shown(address, folder):
    (script,) = (code for _, code in blocks("sh") if "curl" in code)
    script = script.replace(ADDRESS, address)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("event: complete") == 3
    assert '"prdtypecode"' in done.stdout and '"heat_map": [[' in done.stdout and '"scored": 1' in done.stdout


def scoring_commands():
    """The commands that score with the shipped bundle, need no cluster and no store of somebody's."""
    for page, words in command_lines():
        scores = words[1:3] in (["-m", "rakuten_models.batch"], ["-m", "rakuten_models.classify"])
        if scores and not any("://" in word or word in ("--address", "--bundle") for word in words):
            yield pytest.param(words[2:], id=f"{page}: {' '.join(words[3:])}")


@pytest.mark.parametrize("arguments", list(scoring_commands()))
def test_products_are_scored_as_shown(folder, arguments):
    if "ray" in arguments:
        pytest.importorskip("ray", reason="needs requirements-scale.txt")
    (folder / "parts").mkdir()
    table = pandas.DataFrame({"designation": ["piscine tubulaire", "livre"], "image": ["pool.jpg", None]})
    table.to_parquet(folder / "parts" / "1.parquet")
    shutil.copytree(EXAMPLES_FOLDER, folder / "pictures")
    shutil.make_archive(str(folder / "pictures"), "zip", folder / "pictures")
    done = run_module(arguments)
    assert done.returncode == 0, done.stderr
    if arguments[0] == "rakuten_models.batch":
        rows = 2 if "parts/*.parquet" in arguments else 1
        assert f"{rows} rows: {rows} scored" in done.stdout and "not scored, " not in done.stdout


@functools.cache
def help_of(module):
    if module == "app.py":
        command = [sys.executable, str(REPOSITORY_ROOT / "app.py"), "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return run_module([module, "--help"], cwd=REPOSITORY_ROOT, check=True).stdout


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(page, words, id=" ".join(words)[:60]) for page, words in command_lines()]
)
def test_every_command_exists_with_its_options(page, words):
    """Commands that take long, need a network or an account are not run; they and their options are there."""
    program = words[0].rpartition("/")[2].rpartition("\\")[2]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (REPOSITORY_ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        assert words[1] in targets
        return
    if program == "python" and words[1] == "-m" and words[2] != "venv":
        module, options = words[2], words[3:]
    elif program == "python" and words[1] == "app.py":
        module, options = words[1], words[2:]
    else:
        assert program in ("python", "pip", "hf")
        return
    known = help_of(module)
    for option in options:
        if option.startswith("--"):
            assert re.search(rf"{option}\b", known), f"{page}: {module} has no {option}"


def test_every_option_in_the_prose_exists():
    modules = ["app.py", "rakuten_models.classify", "rakuten_models.batch"]
    known = " ".join(map(help_of, [*modules, "training.train", "training.evaluate", "training.publish"]))
    # Its help needs Locust, which the tests do without.
    known += (REPOSITORY_ROOT / "benchmarks" / "load" / "__main__.py").read_text(encoding="utf-8")
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for option in re.findall(r"`[^`]*?(--[a-z][a-z-]+)", prose.replace("tensorboard --logdir", "")):
            assert re.search(rf"{option}(?![\w-])", known), f"{page.name}: {option}"


def test_every_file_that_is_named_is_there():
    page = (REPOSITORY_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folder = REPOSITORY_ROOT
    for line in page.split("\n## Where things are\n")[1].split("```")[1].strip("\n").splitlines():
        # Names have a dot or end in a slash; what follows them is prose.
        for name in itertools.takewhile(re.compile(r"Makefile|\S+\.\w+|\w+/").fullmatch, line.split()):
            path = (folder if line.startswith(" ") else REPOSITORY_ROOT) / name
            assert path.exists(), path
        if name.endswith("/") and not line.startswith(" "):
            folder = path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?:", target):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_the_readme_is_one_page():
    assert len((REPOSITORY_ROOT / "README.md").read_bytes()) <= 10_000
