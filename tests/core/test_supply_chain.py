"""What a Space installs is pinned, hashed, listed and licensed; and the package is whole without the repository.

The slow ones build wheel and sdist, install each in an environment of its own and use it there: `make package`.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rakuten_models.app.examples import EXAMPLES_FOLDER

ROOT = Path(__file__).resolve().parents[2]

LOCK, SBOM, LICENSES = ROOT / "requirements.lock", ROOT / "sbom.json", ROOT / "LICENSES-DEPENDENCIES.md"

ENTRY = re.compile(r"(\S.*?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")

SPACE_PYTHONS = ("3.10", "3.11", "3.12")

# The Python that README.md's front matter names, on the machine of a Space.
SPACE = {
    "python_version": "3.12",
    "python_full_version": "3.12.12",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}


def locked(environment):
    """{canonical name: version} of what requirements.lock installs on a Python and a machine."""
    found = {}
    for line, _ in ENTRY.findall(LOCK.read_text(encoding="utf-8")):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = requirement.specifier
            name = canonicalize_name(requirement.name)
            assert name not in found, "one version a name, or the marker of one of them is wrong"
            found[name] = version.version
    return found


def environment(python):
    return {**SPACE, "python_version": python, "python_full_version": f"{python}.12"}


def test_every_package_of_the_lock_is_pinned_and_hashed():
    text = LOCK.read_text(encoding="utf-8")
    entries = ENTRY.findall(text)
    # Nothing else in it: no index, no option, no address, no comment.
    assert "".join(f"{requirement} \\\n{hashes}" for requirement, hashes in entries) == text
    for requirement, _ in entries:
        assert re.fullmatch(r"==[\w.]+", str(Requirement(requirement).specifier)), requirement
        assert Requirement(requirement).url is None
    assert len(entries) > 50


@pytest.mark.parametrize("python", SPACE_PYTHONS)
def test_the_lock_is_up_to_date_with_the_requirements(python):
    """Every line of requirements.txt that holds on this Python is in it, in its version."""
    found = locked(environment(python))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(text) for line in lines if (text := re.sub(r"(^|\s)#.*", "", line).strip())]
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            version = found[canonicalize_name(requirement.name)]
            assert str(requirement.specifier) == f"=={version}", requirement.name


def test_the_lock_holds_the_whole_tree():
    """Everything that its packages ask for, as far as they are installed here, is in it in a version that they take."""
    here = {
        **SPACE,
        "python_version": "{}.{}".format(*sys.version_info),
        "python_full_version": "{}.{}.{}".format(*sys.version_info),
    }
    found = locked(here)
    seen = 0
    for name in found:
        try:
            asked = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, asked):
            if requirement.marker is None or requirement.marker.evaluate({**here, "extra": ""}):
                version = found.get(canonicalize_name(requirement.name))
                assert version is not None, f"{name} needs {requirement}"
                # Of another version of `name` than the lock's, only the name counts.
                if importlib.metadata.version(name) == found[name]:
                    assert requirement.specifier.contains(version, prereleases=True), f"{name} needs {requirement}"
                    seen += 1
    assert seen > 50


def test_a_package_that_was_swapped_is_not_installed(tmp_path):
    """By the hashes, with the installer itself: the same name and version, other bytes."""
    wheel = tmp_path / "groovy-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("groovy/__init__.py", "")
        archive.writestr("groovy-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: groovy\nVersion: 0.1.2\n")
        archive.writestr(
            "groovy-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\nRoot-Is-Purelib: true\n"
        )
        archive.writestr("groovy-0.1.2.dist-info/RECORD", "")
    (entry,) = [text for text in re.findall(ENTRY, LOCK.read_text("utf-8")) if text[0].startswith("groovy==")]
    for hashes, status in ((entry[1], 1), ("", 0)):
        (tmp_path / "lock").write_text(entry[0] + " \\\n" + hashes if hashes else entry[0] + "\n", encoding="utf-8")
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--no-index",
                "--find-links",
                tmp_path,
                "--target",
                tmp_path / "site",
            ]
            + ["--no-deps", "-r", tmp_path / "lock"],
            capture_output=True,
            text=True,
            env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
        )
        assert done.returncode == status, done.stderr
    assert (tmp_path / "site" / "groovy").is_dir()


def test_the_bill_of_materials_and_the_licences_are_those_of_the_lock():
    """Which licences are allowed is checked when the table is written (pyproject.toml, make sbom)."""
    sbom = json.loads(SBOM.read_text(encoding="utf-8"))
    assert sbom["bomFormat"] == "CycloneDX" and all(each["purl"] for each in sbom["components"])
    listed = {canonicalize_name(each["name"]): each["version"] for each in sbom["components"]}
    rows = re.findall(r"^\| (\S+) +\| (\d\S*) +\| (.*?) +\|$", LICENSES.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == {canonicalize_name(name): version for name, version, _ in rows} == locked(SPACE)
    allowed = re.search(r'allow-only = """\n(.*?)"""', (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL)
    assert {license for *_, license in rows} <= set(re.split(r";\s*", allowed[1].strip()))


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does; knows one vulnerability, of the package in `bad`."""

    bad = ""
    status = 200

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {
            "id": "GHSA-xxxx-yyyy-zzzz",
            "summary": "It does as it is told.",
            "affected": [
                {
                    "package": {"name": self.bad, "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}],
                }
            ],
        }
        answer = json.dumps({"vulns": [known]} if asked["package"]["name"] == self.bad else {}).encode()
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *values):
        pass


def audited(options):
    """What `make audit` does, without setting up its environment anew."""
    installed = ["VENV=" + sys.prefix, "-o", sys.prefix + "/tests-installed"]
    command = ["make", "--no-print-directory", *installed, "audit", f"ARGS={options}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("bad", "answer", "status", "said"),
    [
        ("", 200, 0, "No known vulnerabilities found"),
        ("gradio", 200, 2, r"gradio\s+6\.31\.0\s+GHSA-xxxx-yyyy-zzzz\s+99\.0"),
        ("", 503, 0, "audit skipped: its source"),
    ],
)
def test_the_audit_tells_findings_from_none(bad, answer, status, said):
    handler = type("Handler", (Osv,), {"bad": bad, "status": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = audited(f"--osv-url http://127.0.0.1:{server.server_port}/v1/query")
        server.shutdown()
    assert done.returncode == status, done.stderr
    assert re.search(said, done.stdout + done.stderr)


def test_the_audit_is_skipped_with_a_reason_where_nobody_answers():
    done = audited("--osv-url http://127.0.0.1:9/v1/query")
    assert done.returncode == 0 and re.fullmatch(r"audit skipped: [^\n]+ cannot be reached[^\n]*\.\n", done.stdout)


def test_an_audit_that_cannot_be_made_is_an_error(tmp_path):
    done = audited(f"-r {tmp_path / 'none.lock'}")
    assert done.returncode == 2 and "ERROR" in done.stderr and "skipped" not in done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The sdist, and the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.mark.space
def test_wheel_and_sdist_hold_what_they_need_and_nothing_else(archives):
    with zipfile.ZipFile(archives[".whl"]) as wheel:
        names = wheel.namelist()
    tracked = subprocess.run(
        ["git", "ls-files", "rakuten_models"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {name for name in names if ".dist-info/" not in name} == set(tracked)
    with tarfile.open(archives[".gz"]) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    for name in ("requirements.txt", "requirements-mcp.txt", "requirements-scale.txt", "training/requirements.txt"):
        assert name in inside
    assert "tests/requirements.txt" in inside and set(tracked) <= inside


@pytest.mark.space
@pytest.mark.parametrize("kind", [".whl", ".gz"])
def test_the_installed_package_works_without_the_repository(archives, kind, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "catalog.csv").write_text("designation\nPiscine tubulaire ronde\n", encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(program, *arguments):
        done = subprocess.run(
            [tmp_path / "venv" / "bin" / program, *arguments], cwd=folder, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run("python", "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", LOCK)
    run("python", "-m", "pip", "--disable-pip-version-check", "install", "-q", archives[kind])
    run("python", "-m", "pip", "check")
    script = (
        "import rakuten_models, sys\n"
        "from rakuten_models import Product, ProductClassifier\n"
        f"classifier = ProductClassifier.from_pretrained()\n"
        f"product = Product('Piscine tubulaire ronde', '', {str(EXAMPLES_FOLDER / 'pool.jpg')!r})\n"
        "print(classifier.predict(product).category.prdtypecode, classifier.explain(product).words[0].text)\n"
        "print(rakuten_models.__file__, classifier.reproduce_self_check() < 1e-3)"
    )
    first, second = run("python", "-c", script).splitlines()
    assert first == "2583 Piscine"
    assert second.startswith(str(tmp_path)) and second.endswith("True")
    for command in (["rakuten-classify"], ["python", "-m", "rakuten_models.classify"]):
        answer = json.loads(run(*command, "--designation", "Piscine tubulaire ronde", "--json"))
        assert answer["prdtypecode"] == 2583
    run("python", "-m", "rakuten_models.batch", "catalog.csv", "scored.csv")
    assert "2583" in (folder / "scored.csv").read_text(encoding="utf-8")


def test_no_file_says_where_packages_come_from():
    """That is the installer's own choice; the only address is the bill of materials' schema."""
    for path in (LOCK, LICENSES, *ROOT.glob("*requirements*.txt"), *ROOT.glob("*/requirements.txt")):
        text = path.read_text(encoding="utf-8").replace("s3://, gs://, hf://, https://", "")
        assert "://" not in text and not re.search(r"^--?[a-z]", text, re.MULTILINE), path.name
    assert re.findall(r"\w+://[^/]+", SBOM.read_text(encoding="utf-8")) == ["http://cyclonedx.org"]
