"""The publish command: a tiny bundle and the app, sent to a real hub on 127.0.0.1 and read back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import HfApi, RepoCard, snapshot_download

from rakuten_models import Product, ProductClassifier, errors
from rakuten_models.bundle.config import ALL_FILES, KERAS_FILES, SERVING_FILES
from rakuten_models.classifier import load_classifier
from rakuten_models.cli import run_command
from rakuten_models.hub import client
from tests.support.hub_server import StoredFile, client_points_at
from training import publish

PROJECT = Path(__file__).resolve().parents[2]

PRODUCTS = [Product("Piscine tubulaire ronde 3,66 m"), Product("Chaise longue", "en bois <b>clair</b>")]


@pytest.fixture
def hub_server(hub_server, monkeypatch, tmp_path):
    """A hub that every call in this process talks to, with anna's token and an empty cache."""
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with client_points_at(hub_server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", hub_server.token)
        yield hub_server


@pytest.fixture
def project(tmp_path):
    """A project of a few files: what the app needs, and what must stay at home."""
    files = {
        "README.md": "---\ntitle: Classifier\nemoji: 🛒\nsdk: gradio\nsdk_version: 6.31.0\n---\n# Été\n"
        "![The app](docs/app.png) ![elsewhere](https://host/x.png) ![gone](docs/gone.png)\n"
        '<img alt="second" src="docs/second.jpg" width="40">\n',
        "docs/app.png": "x",
        "docs/second.jpg": "x",
        "docs/other.png": "x",
        "app.py": "import rakuten_models\n",
        "requirements.txt": "gradio==6.31.0\n",
        "requirements.lock": "gradio==6.31.0 --hash=sha256:0\n",
        "LICENSE": "Apache\n",
        "rakuten_models/__init__.py": "",
        "rakuten_models/page.css": "a {}",
        "rakuten_models/__pycache__/page.cpython-311.pyc": "x",
        "rakuten_models/.hidden": "x",
        "rakuten_models/starter/config.json": "{}",
        "rakuten_models/starter/text_model.tflite": "abc",
        "training/train.py": "x",
        "tests/app/test_app.py": "x",
        ".git/config": "x",
    }
    for name, text in files.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text, encoding="utf-8")
    return tmp_path / "project"


def run(capsys, *arguments):
    """The command's exit status, what it printed, and what it printed on standard error."""
    status = run_command(publish.main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def files_of(repository, revision="main"):
    return set(repository.resolve(revision).files) - {".gitattributes"}


def test_a_bundle_goes_out_in_one_commit_and_answers_the_same(hub_server, tiny_bundle, capsys):
    status, out, err = run(capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model", "--tag", "v1")
    assert status == 0, err
    repository = hub_server.model("anna/model")
    revision = repository.branches["main"]
    assert len(repository.history("main")) == 2 and repository.tags == {"v1": revision}
    assert files_of(repository) == set(ALL_FILES)
    assert f"published: anna/model at revision {revision}" in out
    assert f'ProductClassifier.from_pretrained("anna/model", revision="{revision}")' in out
    assert f"RAKUTEN_MODEL_REPO=anna/model RAKUTEN_MODEL_REVISION={revision} python app.py" in out
    assert hub_server.token not in out + err

    local = ProductClassifier.from_pretrained(tiny_bundle)
    pinned = ProductClassifier.from_pretrained("anna/model", revision=revision)
    assert pinned.revision == revision
    # Only the serving part travels.
    assert {path.name for path in pinned.folder.iterdir()} == set(SERVING_FILES)
    hub_server.stop()
    offline = ProductClassifier.from_pretrained("anna/model", revision=revision, local_files_only=True)
    for other in (pinned, offline):
        for mine, theirs in zip(local.predict(PRODUCTS), other.predict(PRODUCTS), strict=True):
            np.testing.assert_array_equal(mine.probabilities, theirs.probabilities)


def test_the_printed_lines_load_the_bundle(hub_server, tiny_bundle, capsys):
    """Both ways to load it, run as they were printed: rakuten_models, and the hub client with plain Keras."""
    pytest.importorskip("keras")
    _, out, _ = run(capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model")
    lines = [line.strip() for line in out.splitlines() if line.startswith("    ") and "python app.py" not in line]
    names = {}
    exec("\n".join(lines), names)
    classifier = names["classifier"]
    assert classifier.revision == hub_server.model("anna/model").branches["main"]
    assert classifier.predict(names["Product"]("Piscine")).probability > 0
    for name in ("text_model", "image_model", "fusion_model"):
        assert names[name].output["logits"].shape[-1] == len(classifier.categories)
        assert type(names[name]).__module__.startswith("keras.")
    assert hub_server.leaked_tokens == 0


def test_a_serving_part_is_published_and_takes_old_keras_files_away(hub_server, tiny_bundle, capsys, tmp_path):
    run(capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model")
    repository = hub_server.model("anna/model")
    notes = {**repository.resolve("main").files, "NOTES.md": StoredFile(b"by hand", False)}
    repository.add("main", "Notes", notes)
    serving = tmp_path / "serving"
    ProductClassifier.from_pretrained(tiny_bundle).save_pretrained(serving)
    for name in KERAS_FILES:
        (serving / name).unlink()
    status, out, _ = run(capsys, "--bundle", serving, "--repo-id", "anna/model", "--revision", "serving")
    assert status == 0
    assert "this is the serving part alone" in out and "keras.saving" not in out
    assert files_of(repository, "serving") == {*SERVING_FILES, "NOTES.md"}
    assert files_of(repository, "main") == {*ALL_FILES, "NOTES.md"}


def test_a_private_bundle_needs_a_token(hub_server, tiny_bundle, capsys, monkeypatch):
    status, out, _ = run(
        capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model", "--private", "--token", hub_server.token
    )
    assert status == 0 and hub_server.token not in out
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(errors.HubError, match="has no repository 'anna/model', or it is private"):
        ProductClassifier.from_pretrained("anna/model")
    assert ProductClassifier.from_pretrained("anna/model", token=hub_server.token).revision is not None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "fusion_model.tflite").unlink(), "lacks fusion_model.tflite"),
        (lambda folder: (folder / "image_model.keras").write_bytes(b"other"), "image_model.keras has 5 bytes where"),
        (lambda folder: (folder / "metrics.json").unlink(), "lacks metrics.json, which every published bundle has"),
        (lambda folder: shutil.rmtree(folder), "does not exist; check the path"),
    ],
)
def test_a_bundle_that_is_not_right_is_not_sent(hub_server, tiny_bundle, capsys, tmp_path, spoil, sentence):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    spoil(folder)
    status, out, err = run(capsys, "--bundle", folder, "--repo-id", "anna/model")
    assert status == 2 and out == ""
    assert err.startswith("error: ") and sentence in err and "Traceback" not in err
    assert hub_server.repositories == {} and hub_server.requests == []


def test_a_bundle_that_answers_otherwise_than_it_says_is_not_sent(hub_server, tiny_bundle, capsys, tmp_path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for calibration in content["calibration"].values():
        calibration["temperature"] *= 3
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    status, _, err = run(capsys, "--bundle", folder, "--repo-id", "anna/model")
    assert status == 2 and "answers its own self-check otherwise" in err
    assert hub_server.requests == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "nothing to publish: give --bundle BUNDLE --repo-id user/name, or --space user/name"),
        (["--bundle", "b"], "--bundle needs --repo-id user/name"),
        (["--space", "anna/demo", "--tag", "v1"], "--tag needs --bundle"),
        (["--space", "anna/demo", "--revision", "v1"], "--revision needs --repo-id"),
    ],
)
def test_choices_that_do_not_fit_get_a_sentence(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stopped:
        publish.main(arguments)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_app_goes_to_a_space_with_the_starter_bundle(hub_server, project, capsys):
    commit = publish.publish_space("anna/demo", project_folder=project)
    space = hub_server.space("anna/demo")
    assert files_of(space) == {
        "README.md",
        "app.py",
        "requirements.txt",
        "LICENSE",
        "docs/app.png",
        "docs/second.jpg",
        "rakuten_models/__init__.py",
        "rakuten_models/page.css",
        "rakuten_models/starter/config.json",
        "rakuten_models/starter/text_model.tflite",
    }
    requirements = space.resolve("main").files["requirements.txt"].content
    assert requirements == (project / "requirements.lock").read_bytes()
    assert space.sdk == "gradio" and space.variables == {} and space.branches["main"] == commit
    assert space.resolve("main").files["README.md"].content == (project / "README.md").read_bytes()
    assert f"the app to {hub_server.endpoint}/spaces/anna/demo (revision {commit}); it serves the starter bundle" in (
        capsys.readouterr().out
    )


def test_a_space_is_pinned_to_a_model_and_freed_again(hub_server, project, capsys):
    publish.publish_space("anna/demo", project_folder=project)
    HfApi(token=hub_server.token).create_repo("anna/model")
    sha = hub_server.model("anna/model").branches["main"]
    publish.publish_space("anna/demo", repo_id="anna/model", revision=sha, project_folder=project)
    space = hub_server.space("anna/demo")
    assert space.variables == {"RAKUTEN_MODEL_REPO": "anna/model", "RAKUTEN_MODEL_REVISION": sha}
    assert not [name for name in files_of(space) if "starter" in name]
    card = RepoCard(space.resolve("main").files["README.md"].content.decode())
    assert card.data["models"] == ["anna/model"] and card.data["sdk_version"] == "6.31.0"
    assert card.data["preload_from_hub"] == [f"anna/model {','.join(SERVING_FILES)} {sha}"]
    assert "# Été" in card.text
    assert "HF_TOKEN" not in capsys.readouterr().out

    hub_server.model("anna/model").private = True
    publish.publish_space("anna/demo", repo_id="anna/model", revision=sha, project_folder=project)
    card = RepoCard(space.resolve("main").files["README.md"].content.decode())
    assert "preload_from_hub" not in card.data.to_dict()
    assert "anna/model is private or gated; add a secret HF_TOKEN" in capsys.readouterr().out

    publish.publish_space("anna/demo", project_folder=project)
    assert space.variables == {}
    assert "rakuten_models/starter/config.json" in files_of(space)


def test_a_hub_without_variables_leaves_them_to_the_user(hub_server, project, capsys):
    HfApi(token=hub_server.token).create_repo("anna/model")
    hub_server.fail("GET", "/api/spaces/anna/demo/variables", status=404)
    publish.publish_space("anna/demo", repo_id="anna/model", revision="a" * 40, project_folder=project)
    assert f"Do it by hand: set RAKUTEN_MODEL_REPO=anna/model and RAKUTEN_MODEL_REVISION={'a' * 40}" in (
        capsys.readouterr().err
    )
    assert "app.py" in files_of(hub_server.space("anna/demo"))


def test_an_app_that_is_not_whole_is_not_sent(hub_server, project):
    (project / "README.md").write_text("# No front matter\n", encoding="utf-8")
    with pytest.raises(errors.HubError, match=r"does not begin with a Space's front matter \(sdk: gradio\)"):
        publish.publish_space("anna/demo", project_folder=project)
    (project / "app.py").unlink()
    shutil.rmtree(project / "rakuten_models" / "starter")
    with pytest.raises(errors.HubError, match="lacks app.py, rakuten_models/starter/; run the command from a whole"):
        publish.publish_space("anna/demo", project_folder=project)
    assert hub_server.repositories == {}


def test_bundle_and_space_together_and_the_space_starts(hub_server, tiny_bundle, capsys, monkeypatch, tmp_path):
    """What lies in the Space runs by itself: its own modules, its own variables, nothing of training."""
    status, out, err = run(capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model", "--space", "anna/demo")
    assert status == 0, err
    revision = hub_server.model("anna/model").branches["main"]
    assert f"it serves anna/model at revision {revision}" in out
    space = Path(snapshot_download("anna/demo", repo_type="space", local_dir=tmp_path / "space"))
    program = (
        "import sys, pathlib, app, rakuten_models\n"
        "assert pathlib.Path(rakuten_models.__file__).is_relative_to(pathlib.Path.cwd()), "
        "rakuten_models.__file__\n"
        "assert app.demo is not None\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('training', 'tensorflow', "
        "'keras')]\n"
        "print('serves', rakuten_models.app.launch.load_classifier()[0].revision)"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HF_TOKEN")}
    environment.update(hub_server.space("anna/demo").variables, HF_ENDPOINT=hub_server.endpoint)
    environment.update(HF_HUB_DISABLE_XET="1", HF_HOME=str(tmp_path / "home"))
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=space, capture_output=True, text=True, check=False
    )
    assert result.stdout.endswith(f"serves {revision}\n"), result.stderr
    # The same from this process, as app.py reads the variables.
    for name, value in hub_server.space("anna/demo").variables.items():
        monkeypatch.setenv(name, value)
    assert load_classifier()[0].revision == revision


def test_a_space_for_a_model_that_is_there_already(hub_server, tiny_bundle, capsys):
    run(capsys, "--bundle", tiny_bundle, "--repo-id", "anna/model", "--tag", "v1")
    revision = hub_server.model("anna/model").tags["v1"]
    status, _, _ = run(capsys, "--space", "anna/demo", "--repo-id", "anna/model", "--revision", "v1")
    assert status == 0
    assert hub_server.space("anna/demo").variables["RAKUTEN_MODEL_REVISION"] == revision
    status, _, err = run(capsys, "--space", "anna/other", "--repo-id", "anna/nothing")
    assert status == 2 and "has no repository 'anna/nothing'" in err
    assert ("space", "anna/other") not in hub_server.repositories


def test_push_to_hub_sends_what_was_loaded_and_says_what_that_is(hub_server, tiny_bundle, caplog):
    whole = ProductClassifier.from_pretrained(tiny_bundle)
    revision = whole.push_to_hub("anna/model", tag="v1")
    assert hub_server.model("anna/model").tags == {"v1": revision}
    assert files_of(hub_server.model("anna/model")) == set(ALL_FILES)
    assert caplog.text == ""
    fetched = ProductClassifier.from_pretrained("anna/model", revision="v1")
    assert fetched.revision == revision
    fetched.push_to_hub("anna/serving", private=True)
    assert files_of(hub_server.model("anna/serving")) == set(SERVING_FILES)
    assert hub_server.model("anna/serving").private
    assert "Only the serving part is written" in caplog.text
