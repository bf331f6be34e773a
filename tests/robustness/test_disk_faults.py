"""Disks that are full or cannot be written, at every write: real file systems, mounted small or read-only for it.

Whoever may not mount (no root, no Linux) gets these tests skipped. A full disk ends a command with one sentence and
exit status 1; what was there before is as it was, and with more space the same command does its work.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading

import pytest

from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.batch.__main__ import main as batch_command
from rakuten_models.bundle.folder import read_config, validate_bundle
from rakuten_models.cli import EXIT_SYSTEM_ERROR, run_command
from rakuten_models.hub import upload
from tests.robustness.test_kills import check_trained
from tests.support.app_server import REPOSITORY_ROOT, app_environment
from tests.support.hub_server import HubServer, client_points_at
from tests.support.tiny_catalog import write_tiny_catalog

PLENTY = 400 * 1024 * 1024


def _mount(*arguments):
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def mounted(folder, *arguments):
    """A file system at a folder; skips the test where this process may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform != "linux" or shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small or a read-only file system")
    done = _mount(*arguments, str(folder))
    if done.returncode:
        pytest.skip(f"this machine does not let root mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def small_disk(folder, size):
    """A disk of so many bytes."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={max(4096, size)}", "tmpfs")


def enlarge(folder):
    assert _mount("-o", f"remount,size={PLENTY}", str(folder)).returncode == 0


@contextlib.contextmanager
def read_only(folder):
    """The folder itself, which nobody can write into."""
    with mounted(folder, "--bind", "-o", "ro", str(folder)):
        yield


def contents(folder):
    """Every file below a folder by name, with its sha256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ends_with_a_sentence(capsys, main, arguments):
    """Whether a command did its work; if not, it must say in one sentence that the disk is full."""
    status = run_command(main, arguments)
    error = capsys.readouterr().err
    if status == 0:
        return True
    assert status == EXIT_SYSTEM_ERROR
    says_that_the_disk_is_full(error)
    return False


def says_that_the_disk_is_full(error):
    assert error.count("\n") == 1 and error.startswith("error: No space left on device"), error
    assert "free some space and run the command again" in error


def write_catalog(path, rows=400):
    lines = (f"piscine tubulaire {number},{'x' * (number % 90)}\n" for number in range(rows))
    path.write_text("designation,description\n" + "".join(lines))
    return path


@pytest.mark.trust
@pytest.mark.parametrize("name", ["scored.csv", "scored"])
def test_a_batch_on_a_full_disk_goes_on_when_there_is_space(starter, tmp_path, capsys, cases, name):
    def score(arguments):
        score_catalog(*arguments, classifier=starter, chunk_rows=40)

    source = write_catalog(tmp_path / "in.csv")
    score([source, tmp_path / "whole" / name])
    whole = contents(tmp_path / "whole")
    needed = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*")) + 40_000
    generator, failures = random.Random(name), 0
    for number in range(cases(100)):
        with small_disk(tmp_path / f"disk-{number}", generator.randrange(needed)) as disk:
            arguments = [source, disk / "out" / name]
            if not ends_with_a_sentence(capsys, score, arguments):
                failures += 1
                assert not (disk / "out" / "scored.csv").exists()
                enlarge(disk)
                assert ends_with_a_sentence(capsys, score, arguments)
            assert contents(disk / "out") == whole
    assert failures


@pytest.mark.trust
def test_a_bundle_that_does_not_fit_leaves_the_one_before(starter, tmp_path, cases):
    whole = contents(starter.folder)
    size = sum(path.stat().st_size for path in starter.folder.iterdir())
    earlier = tmp_path / "earlier"
    shutil.copytree(starter.folder, earlier)
    (earlier / "README.md").write_text("an earlier one")
    generator, failures = random.Random(0), 0
    for number in range(cases(100)):
        there = number % 2 == 0
        with small_disk(tmp_path / f"disk-{number}", generator.randrange(size) + there * size) as disk:
            target = disk / "bundle"
            if there:
                with contextlib.suppress(OSError):
                    shutil.copytree(earlier, target)
            before = contents(disk)
            try:
                starter.save_pretrained(target)
            except OSError as error:
                failures += 1
                assert error.strerror == "No space left on device"
                assert contents(disk) == before
                enlarge(disk)
                starter.save_pretrained(target)
            assert contents(target) == whole and os.listdir(disk) == ["bundle"]
            validate_bundle(target)
    assert failures


@pytest.fixture(scope="module")
def published(starter):
    """A hub with the starter bundle, and its revision."""
    with HubServer() as server, pytest.MonkeyPatch.context() as patch, client_points_at(server, patch):
        yield server, starter.push_to_hub("anna/model", token=server.token)


@pytest.mark.trust
def test_a_download_onto_a_full_disk_is_never_taken_for_whole(published, tmp_path, monkeypatch, cases):
    server, revision = published
    size = sum(len(file.content) for file in server.model("anna/model").resolve("main").files.values())
    generator = random.Random(0)
    with client_points_at(server, monkeypatch):
        for number in range(cases(50)):
            with small_disk(tmp_path / f"disk-{number}", generator.randrange(size)) as disk:
                for wanted in (None, revision):
                    with pytest.raises(OSError) as error:
                        ProductClassifier.from_pretrained("anna/model", revision=wanted, cache_dir=disk)
                    assert error.value.strerror == "No space left on device"
                    with pytest.raises(upload.HubError, match="is not whole in the cache"):
                        ProductClassifier.from_pretrained(
                            "anna/model", revision=wanted, cache_dir=disk, local_files_only=True
                        )
                enlarge(disk)
                classifier = ProductClassifier.from_pretrained("anna/model", cache_dir=disk)
                assert classifier.revision == revision
                assert classifier.reproduce_self_check() < 1e-5


@pytest.mark.trust
def test_publishing_from_a_full_disk_sends_nothing(published, starter, tmp_path, monkeypatch, capsys, cases):
    """The bundle is checked and copied to a temporary folder before the hub hears of it."""
    from training import publish

    server, _ = published
    generator = random.Random(0)
    size = sum(path.stat().st_size for path in starter.folder.iterdir())
    with client_points_at(server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", server.token)
        for number in range(cases(20)):
            before = len(server.requests)
            with small_disk(tmp_path / f"disk-{number}", generator.randrange(size)) as disk:
                monkeypatch.setattr(tempfile, "tempdir", str(disk))
                arguments = ["--bundle", str(starter.folder), "--repo-id", "anna/second"]
                assert not ends_with_a_sentence(capsys, publish.main, arguments)
                assert os.listdir(disk) == [] and len(server.requests) == before


@pytest.mark.trust
def test_figures_that_do_not_fit_leave_the_bundle_as_it_was(starter, tmp_path, cases):
    from training.evaluation.report import update_bundle, write_evaluation

    config = read_config(starter.folder)
    metrics = json.loads((starter.folder / "metrics.json").read_text())
    size = sum(path.stat().st_size for path in starter.folder.iterdir())
    generator = random.Random(0)
    for number in range(cases(20)):
        if number % 2:
            with small_disk(tmp_path / f"figures-{number}", generator.randrange(100_000)) as disk:
                with pytest.raises(OSError, match="No space left on device"):
                    write_evaluation(metrics, config.categories, disk / "metrics.json")
                for path in disk.iterdir():
                    assert path.suffix == ".png" and path.read_bytes().endswith(b"IEND\xaeB`\x82")
                enlarge(disk)
                write_evaluation(metrics, config.categories, disk / "metrics.json")
                assert json.loads((disk / "metrics.json").read_text())["served"] == metrics["served"]
            continue
        with small_disk(tmp_path / f"disk-{number}", size + 20_000 + generator.randrange(size)) as disk:
            bundle = shutil.copytree(starter.folder, disk / "bundle")
            before = contents(disk)
            with pytest.raises(OSError, match="No space left on device"):
                update_bundle(bundle, {**metrics, "split": "another"}, config)
            assert contents(disk) == before
            enlarge(disk)
            update_bundle(bundle, {**metrics, "split": "another"}, config)
            assert ProductClassifier(bundle).reproduce_self_check() < 1e-5
            assert json.loads((bundle / "metrics.json").read_text())["split"] == "another"


def test_folders_that_cannot_be_written_end_with_a_sentence(starter, tmp_path, capsys):
    source = write_catalog(tmp_path / "in.csv", 20)
    locked = tmp_path / "locked"
    saved = locked / "bundle"
    starter.save_pretrained(saved)
    before = contents(locked)
    with read_only(locked):
        for output in (locked / "out.csv", locked / "out", locked / "bundle"):
            arguments = [str(source), str(output), "--quiet"]
            status = run_command(batch_command, arguments)
            error = capsys.readouterr().err
            assert status in (1, 2) and error.count("\n") == 1 and error.startswith("error: ")
        for target in (saved, locked / "another"):
            with pytest.raises(OSError, match="Read-only file system"):
                starter.save_pretrained(target)
        # Reading needs no writing.
        assert ProductClassifier(saved).reproduce_self_check() < 1e-5
        assert contents(locked) == before
    starter.save_pretrained(saved)
    assert run_command(batch_command, [str(source), str(locked / "out.csv"), "--quiet"]) == 0


def test_a_cache_that_cannot_be_written_serves_what_it_holds(published, tmp_path, monkeypatch):
    server, revision = published
    full, empty = tmp_path / "full", tmp_path / "empty"
    empty.mkdir()
    with client_points_at(server, monkeypatch):
        # Not by name: the name has never been noted there.
        ProductClassifier.from_pretrained("anna/model", revision=revision, cache_dir=full)
        before = contents(full)
        with read_only(full), read_only(empty):
            for wanted in (revision, None, "main"):
                found = ProductClassifier.from_pretrained("anna/model", revision=wanted, cache_dir=full)
                assert found.revision == revision
            with pytest.raises(OSError, match="Read-only file system"):
                ProductClassifier.from_pretrained("anna/model", cache_dir=empty)
        assert contents(full) == before


TRAIN = """
import sys
from rakuten_models.cli import run_command
from tests.robustness.test_kills import quick_settings
from training.train import train_bundle

def train(arguments):
    train_bundle(*arguments, quick_settings(), backbone_weights=None, show=False, resume=True)

sys.exit(run_command(train, sys.argv[1:]))
"""


def trains(catalog, output):
    """Whether a training in a process of its own did its work; if not, it must say that the disk is full."""
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(catalog), str(output)],
        cwd=REPOSITORY_ROOT,
        env=app_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return True
    assert done.returncode == EXIT_SYSTEM_ERROR and "Traceback" not in done.stderr, done.stderr
    says_that_the_disk_is_full(done.stderr[done.stderr.rindex("error: ") :])
    return False


@pytest.mark.trust
def test_training_on_a_full_disk_goes_on_when_there_is_space(tmp_path, cases):
    """At whatever write it was full, the next run ends with the bundle of an undisturbed one."""
    if cases(10) < 10:
        pytest.skip("each full disk costs two starts of TensorFlow: make trust")
    catalog = write_tiny_catalog(tmp_path / "catalog", categories=4, layout="csv")
    usage = []
    whole = tmp_path / "whole"
    with small_disk(tmp_path / "roomy", PLENTY) as disk:
        with watching(lambda: usage.append(shutil.disk_usage(disk).used)):
            assert trains(catalog, disk / "bundle")
        shutil.copytree(disk / "bundle", whole)
    generator, failures = random.Random(0), 0
    for number in range(cases(10)):
        with small_disk(tmp_path / f"disk-{number}", generator.randrange(max(usage))) as disk:
            if not trains(catalog, disk / "bundle"):
                failures += 1
                if (disk / "bundle").exists():
                    # Whole, if not yet measured.
                    assert ProductClassifier(disk / "bundle").reproduce_self_check() < 1e-5
                enlarge(disk)
                assert trains(catalog, disk / "bundle")
            check_trained(disk / "bundle", whole)
            assert [path.name for path in disk.iterdir()] == ["bundle"]
    assert failures
    print(f"train: {failures} disks full, of {max(usage)} bytes or less")


@contextlib.contextmanager
def watching(look):
    """Look again and again, in a thread."""
    over = threading.Event()

    def watch():
        while not over.wait(0.01):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_training_and_its_commands_in_a_folder_that_cannot_be_written(starter, tmp_path, monkeypatch, capsys):
    from training import evaluate, publish, train

    catalog = write_tiny_catalog(tmp_path / "catalog", categories=4, layout="csv")
    locked = tmp_path / "locked"
    bundle = locked / "bundle"
    starter.save_pretrained(bundle)
    before = contents(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(locked))
    evaluated = ["--bundle", str(bundle), "--catalog-dir", str(catalog)]
    with read_only(locked):
        for main, arguments in (
            (train.main, ["--catalog-dir", str(catalog), "--output-dir", str(locked / "new"), "--fast"]),
            (evaluate.main, [*evaluated, "--update-bundle"]),
            (evaluate.main, [*evaluated, "--output", str(locked / "figures.json")]),
            # Which is copied to a temporary folder before the hub hears of it.
            (publish.main, ["--bundle", str(bundle), "--repo-id", "anna/model", "--token", "hf_none"]),
        ):
            status = run_command(main, arguments)
            error = capsys.readouterr().err.rpartition("\r")[2]
            assert status in (1, 2) and "error: " in error and "Traceback" not in error, error
            assert "locked" in error
    assert contents(tmp_path) == before
