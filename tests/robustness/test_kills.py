"""kill -9 at random moments of saving, downloading, publishing, scoring and training.

Children that do nothing else are killed by this process; then what is on the disk or on the hub must be whole or
absent, and the next run must end with the bytes of a run that nobody killed. The moments are drawn from a fixed seed,
but where a process is then depends on the machine: every run kills somewhere else.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.bundle.config import SERVING_FILES
from rakuten_models.bundle.folder import read_config, validate_bundle
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.errors import BundleError, HubError
from tests.conftest import tiny_settings
from tests.support.app_server import REPOSITORY_ROOT, app_environment
from tests.support.hub_server import HubServer, client_points_at
from tests.support.tiny_catalog import write_tiny_catalog

READY = "ready"


@contextlib.contextmanager
def child(script, *arguments, **variables):
    """A Python process that runs a script, after it has said that it is ready; killed at the end."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=REPOSITORY_ROOT,
            env=app_environment(**variables),
            stdout=subprocess.PIPE,
            # A pipe that nobody reads would hold a process that says much.
            stderr=errors,
            text=True,
            # What it starts itself goes with it.
            start_new_session=True,
        )
        try:
            assert process.stdout.readline().strip() == READY, said(errors)
            process.errors = errors
            yield process
        finally:
            kill(process)
            process.stdout.close()


def said(errors):
    """The end of what a process wrote on standard error."""
    errors.seek(0)
    return errors.read()[-3000:]


def kill(process):
    """Kill -9 for a process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def ended_well(process):
    """Wait for a process that nobody kills."""
    assert process.wait(600) == 0, said(process.errors)


def seconds_of(process):
    """What a process takes that nobody kills, from where it is ready: moments for a kill are drawn from that."""
    started = time.monotonic()
    ended_well(process)
    return time.monotonic() - started


def killed(process, seconds):
    """Wait so long, then kill -9: whether it was still at work."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return kill(process)


def contents(folder, names=SERVING_FILES):
    """The sha256 of each file by name."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two whole bundles that share no model file: the starter bundle, and one as large as that of other bytes."""
    folder = tmp_path_factory.mktemp("bundles")
    return [copy_of(STARTER_FOLDER, folder / str(number), number) for number in range(2)]


def copy_of(bundle, folder, number):
    """A bundle that answers the same and says something else of itself, models included."""
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["training"]["remark"] = f"number {number}"
    for name, facts in config["files"].items():
        path = folder / name
        if path.suffix == ".tflite" and path.is_file():
            # Behind its end a model's file may hold anything.
            with path.open("ab") as stream:
                stream.write(bytes([number]) * 16)
            facts["size"] = path.stat().st_size
            facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics["models"] = {name: config["files"][name]["sha256"] for name in metrics["models"]}
    for name, content in (("config.json", config), ("metrics.json", metrics)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


SAVE = f"""
import sys
from rakuten_models import ProductClassifier
one, other = map(ProductClassifier, sys.argv[1:3])
print("{READY}", flush=True)
while True:
    one.save_pretrained(sys.argv[3])
    other.save_pretrained(sys.argv[3])
"""


@pytest.mark.trust
def test_a_bundle_is_whole_or_absent_whenever_saving_is_killed(bundles, tmp_path, cases):
    target, generator = tmp_path / "bundle", random.Random(0)
    wholes = [contents(bundle) for bundle in bundles]
    kills = absent = 0
    for _ in range(cases(30)):
        with child(SAVE, *bundles, target) as process:
            kills += killed(process, generator.uniform(0, 0.5))
        if target.exists():
            assert contents(target) in wholes
            validate_bundle(target)
        else:
            absent += 1
            with pytest.raises(BundleError, match="neither a folder nor a hub id"):
                ProductClassifier.from_pretrained(target)
        if generator.random() < 0.3:
            ProductClassifier(bundles[0]).save_pretrained(target)
            assert contents(target) == wholes[0]
            assert os.listdir(tmp_path) == ["bundle"], "what a killed run left is taken away"
    assert kills
    print(f"save: {kills} kills, {absent} times no bundle")


DOWNLOAD = f"""
import sys
from rakuten_models import ProductClassifier, hub
print("{READY}", flush=True)
ProductClassifier.from_pretrained("anna/model", cache_dir=sys.argv[1])
"""

PUBLISH = f"""
import sys
from pathlib import Path
from training.publish import publish_bundle
print("{READY}", flush=True)
publish_bundle(Path(sys.argv[1]), "anna/model", tag=sys.argv[2] if len(sys.argv) > 2 else None)
"""


@pytest.fixture
def server(monkeypatch):
    with HubServer() as hub, client_points_at(hub, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


def hub_variables(hub):
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


@pytest.mark.trust
def test_a_download_that_is_killed_is_never_taken_for_whole(server, bundles, tmp_path, cases):
    revisions = [ProductClassifier(bundle).push_to_hub("anna/model") for bundle in bundles]
    generator, kills = random.Random(1), 0
    cache = tmp_path / "cache"
    # The first time the bundle is tried by another process as well.
    for name in ("first cache", "second cache"):
        with child(DOWNLOAD, tmp_path / name, **hub_variables(server)) as process:
            seconds = seconds_of(process)
    for number in range(cases(20)):
        if number % 4 == 0:
            shutil.rmtree(cache, ignore_errors=True)
        with child(DOWNLOAD, cache, **hub_variables(server)) as process:
            # The first early in the run, so that a slice kills one, too.
            kills += killed(process, generator.uniform(0, seconds) if number else seconds / 4)
        for name in ("main", revisions[1]):
            with contextlib.suppress(HubError):
                found = ProductClassifier.from_pretrained(
                    "anna/model", revision=name, cache_dir=cache, local_files_only=True
                )
                assert contents(found.folder) == contents(bundles[1]) and found.revision == revisions[1]
        if number % 4 == 3 or number + 1 == cases(20):
            found = ProductClassifier.from_pretrained("anna/model", cache_dir=cache)
            assert contents(found.folder) == contents(bundles[1])
            assert found.reproduce_self_check() < 1e-5
    assert kills
    print(f"download: {kills} kills")


@pytest.mark.trust
def test_every_published_revision_is_whole_whenever_publishing_is_killed(server, bundles, tmp_path, cases):
    generator, kills, landed = random.Random(2), 0, 0
    wholes = [contents_published(bundle, tmp_path) for bundle in bundles]
    with child(PUBLISH, bundles[0], **hub_variables(server)) as process:
        seconds = seconds_of(process)
    for number in range(cases(30)):
        if number % 3 == 0:
            server.reset()
        bundle = bundles[number % 2]
        with child(PUBLISH, bundle, **hub_variables(server)) as process:
            # The first early in the run, so that a slice kills one, too.
            kills += killed(process, generator.uniform(0, seconds) if number else seconds / 4)
        # A request that is on its way is answered whoever has died.
        time.sleep(0.1)
        repository = server.repositories.get(("model", "anna/model"))
        before = [] if repository is None else repository.history("main")[:-1]
        landed += len(before)
        for commit in before:
            files = {name: file.sha256 for name, file in commit.files.items() if name in SERVING_FILES}
            assert files in wholes, commit.title
        with child(PUBLISH, bundle, f"v{number}", **hub_variables(server)) as process:
            ended_well(process)
        repository = server.model("anna/model")
        after = repository.history("main")[:-1]
        # Once, even if the killed one had landed.
        assert len(after) - len(before) == (not before or wholes_of(before[0]) != wholes[number % 2])
        assert repository.tags[f"v{number}"] == repository.branches["main"] == after[0].sha
        assert wholes_of(after[0]) == wholes[number % 2]
        if number % 5 == 0:
            found = ProductClassifier.from_pretrained(
                "anna/model", revision=after[0].sha, cache_dir=tmp_path / f"cache-{number}"
            )
            assert found.reproduce_self_check() < 1e-5
    assert kills
    print(f"publish: {kills} kills, {landed} revisions looked at")


def wholes_of(commit):
    return {name: file.sha256 for name, file in commit.files.items() if name in SERVING_FILES}


def contents_published(bundle, tmp_path):
    """What publishing sends: the bundle's files, whose card names the repository."""
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch, client_points_at(hub, patch):
        patch.setenv("HF_TOKEN", hub.token)
        from training.publish import publish_bundle

        publish_bundle(bundle, "anna/model")
        return wholes_of(hub.model("anna/model").resolve("main"))


SCORE = f"""
import sys
from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
classifier = ProductClassifier.from_pretrained()
print("{READY}", flush=True)
score_catalog(sys.argv[1], sys.argv[2], classifier=classifier, chunk_rows=64)
"""


@pytest.mark.trust
@pytest.mark.parametrize("name", ["scored.csv", "scored"])
def test_no_scored_row_is_lost_or_doubled_whenever_scoring_is_killed(tmp_path, cases, name):
    source = tmp_path / "in.csv"
    lines = (f"piscine tubulaire {number},{'x ' * (number % 40)}\n" for number in range(1000))
    source.write_text("designation,description\n" + "".join(lines))
    score_catalog(source, tmp_path / "whole" / name, classifier=ProductClassifier.from_pretrained(), chunk_rows=64)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    generator, kills, runs = random.Random(name), 0, 0
    output = tmp_path / "killed" / name
    while kills < cases(30):
        with child(SCORE, source, output) as process:
            if killed(process, generator.uniform(0, 0.4)):
                kills += 1
                continue
            ended_well(process)
        check_scored(tmp_path / "killed", whole)
        shutil.rmtree(tmp_path / "killed")
        runs += 1
    with child(SCORE, source, output) as process:
        ended_well(process)
    check_scored(tmp_path / "killed", whole)
    print(f"batch to {name}: {kills} kills over {runs + 1} outputs")


def check_scored(folder, whole):
    """The files of a run that nobody killed, and no others."""
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == whole


TRAIN = f"""
import sys
from tests.robustness.test_kills import quick_settings
from training.train import train_bundle
print("{READY}", flush=True)
train_bundle(sys.argv[1], sys.argv[2], quick_settings(), backbone_weights=None, show=False, resume=True)
"""


def quick_settings():
    """Every stage of a training, none of which takes more than seconds."""
    from training.settings import SplitSettings

    split = SplitSettings(validation_fraction=0.25, test_fraction=0.25, minimum_pairs=0)
    settings = tiny_settings(split=split)
    return dataclasses.replace(settings, text=dataclasses.replace(settings.text.fast(), epochs=3))


@pytest.mark.trust
def test_training_that_is_killed_ends_with_the_bundle_of_one_that_is_not(tmp_path, cases):
    if cases(10) < 10:
        pytest.skip(
            "each kill costs a start of TensorFlow: make trust; tests/training/test_train.py stops runs without one"
        )
    catalog = write_tiny_catalog(tmp_path / "catalog", categories=4, layout="csv")
    started = time.monotonic()
    with child(TRAIN, catalog, tmp_path / "whole") as process:
        ended_well(process)
    # What a run takes from its start: moments are drawn from all of it.
    seconds = time.monotonic() - started
    generator, kills, bundles = random.Random(3), 0, 0
    output = tmp_path / "killed"
    while kills < cases(10):
        with child(TRAIN, catalog, output) as process:
            if killed(process, generator.uniform(0, 0.3 * seconds)):
                kills += 1
                print(f"train: killed {kills} times, has {sorted(os.listdir(tmp_path))}", flush=True)
                if output.exists():
                    # Whole, if not yet measured.
                    assert ProductClassifier.from_pretrained(output).reproduce_self_check() < 1e-5
                continue
            ended_well(process)
        check_trained(output, tmp_path / "whole")
        shutil.rmtree(output)
        bundles += 1
    with child(TRAIN, catalog, output) as process:
        ended_well(process)
    check_trained(output, tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["catalog", "killed", "whole"]
    print(f"train: {kills} kills over {bundles + 1} bundles")


def check_trained(bundle, whole):
    """The same models to the bit, the same settings, the same answers and figures.

    Of the fusion model only the answers: Keras numbers the layers that a process makes, and the file holds the names.
    """
    one, other = read_config(bundle), read_config(whole)
    for name in ("tokenizer.json", "text_model.tflite", "image_model.tflite"):
        assert one.files[name] == other.files[name], name
    for name in ("categories", "text", "image", "calibration", "thresholds", "self_check"):
        assert getattr(one, name) == getattr(other, name), name
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (bundle, whole)]
    for section in ("text", "image", "fusion", "served", "reference"):
        assert figures[0][section] == figures[1][section], section
