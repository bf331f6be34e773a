"""The training command: resumable, repeatable, interruptible, and clear about what it cannot do."""

import dataclasses
import datetime
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rakuten_models import Product, ProductClassifier
from rakuten_models.bundle.config import ALL_FILES
from rakuten_models.bundle.folder import read_config
from rakuten_models.cli import run_command
from tests.conftest import tiny_settings
from tests.support.tiny_catalog import CATEGORY_WORDS, write_tiny_catalog
from training import errors, train
from training.data.catalog import read_catalog
from training.evaluation import prediction_cache
from training.pipeline import run
from training.progress import Progress
from training.settings import SplitSettings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def one_epoch(**changes):
    """The tiny settings without fine-tuning: the quickest run that goes through every stage."""
    settings = tiny_settings(**changes)
    return dataclasses.replace(settings, image=dataclasses.replace(settings.image.fast(), alpha=0.35))


def test_the_bundle_learned_its_catalog(tiny_bundle):
    metrics = json.loads((tiny_bundle / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["split"] == "grouped split, test part"
    # 27 categories: guessing is right once in 27.
    assert metrics["text"]["accuracy"] > 0.3
    classifier = ProductClassifier.from_pretrained(tiny_bundle)
    words = {code: " ".join(texts) for code, texts in CATEGORY_WORDS.items()}
    right = [p.category.prdtypecode for p in classifier.predict([Product(text) for text in words.values()])]
    assert np.mean(np.array(right) == list(words)) > 0.5


def test_config_tells_how_the_bundle_was_made(tiny_bundle):
    training = read_config(tiny_bundle).training
    assert training["seed"] == 0
    # The day in UTC, which elsewhere may be yesterday or tomorrow.
    age = datetime.date.today() - datetime.date.fromisoformat(training["date"])
    assert abs(age) <= datetime.timedelta(days=1)
    assert training["split"]["kind"] == "grouped"
    assert training["text"]["agreement"] <= 1e-4 and training["image"]["agreement"] <= 1e-4
    assert training["text"]["cross_fitted_folds"] == 2
    # Every row with a text and an own label is answered, not the validation part alone.
    assert training["text"]["validation_rows"] > training["split"]["validation"]
    assert training["image"]["validation_weighted_f1_before_rounding"] is not None
    # Nothing of the machine it was made on.
    assert str(Path(tiny_bundle).parent) not in json.dumps(training)


def test_another_shops_categories_a_catalog_without_test_part_and_resume(tmp_path, monkeypatch):
    catalog = write_tiny_catalog(tmp_path / "catalog", categories=5, layout="csv")
    settings = one_epoch(split=SplitSettings(validation_fraction=0.3, test_fraction=0, minimum_pairs=0))
    output = tmp_path / "bundle"

    # Killed in the middle of the image stage: the text stage is kept, and no bundle is there.
    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "fit_image_model", killed)
        with pytest.raises(KeyboardInterrupt):
            train.train_bundle(catalog, output, settings, backbone_weights=None, show=False)
    assert not output.exists()
    working_folder = tmp_path / ".bundle.training"
    text_model = (working_folder / "text_model.tflite").read_bytes()

    # With other settings the unfinished run is not taken over.
    with pytest.raises(errors.TrainingError, match="differs in settings"):
        other = dataclasses.replace(settings, seed=9)
        train.train_bundle(catalog, output, other, backbone_weights=None, resume=True, show=False)

    with monkeypatch.context() as patch:
        patch.setattr(run, "TextFitter", killed)
        train.train_bundle(catalog, output, settings, backbone_weights=None, resume=True, show=False)
    assert not working_folder.exists()
    assert (output / "text_model.tflite").read_bytes() == text_model
    assert sorted(path.name for path in output.iterdir()) == sorted(
        set(ALL_FILES) - {"metrics.json", "confusion_matrix.png", "reliability.png", "category_f1.png"}
    )
    assert "Not evaluated yet" in (output / "README.md").read_text(encoding="utf-8")
    assert len(ProductClassifier.from_pretrained(output).categories) == 5

    # The same seed gives the same bundle.
    again = train.train_bundle(catalog, tmp_path / "again", settings, backbone_weights=None, show=False)
    first, second = read_config(output), read_config(again)
    assert first.calibration == second.calibration and first.thresholds == second.thresholds
    assert first.self_check == second.self_check
    for one, other in zip(_answers(catalog, output), _answers(catalog, again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unlabelled_texts_change_the_text_model_and_are_counted(tmp_path, monkeypatch):
    catalog = write_tiny_catalog(tmp_path / "catalog", categories=3, layout="csv")
    more = tmp_path / "more.csv"
    more.write_text("text\n" + "".join(f"canapé numéro {number}\n" for number in range(30)) + "<br>\n")

    class Enough(Exception):
        """Ends a run once the text model is there."""

    def enough(*arguments, **options):
        raise Enough

    monkeypatch.setattr(run, "fit_image_model", enough)
    written = []
    for unlabelled in (None, more):
        output = tmp_path / f"bundle-{len(written)}"
        with pytest.raises(Enough):
            train.train_bundle(
                catalog, output, tiny_settings(), backbone_weights=None, unlabelled=unlabelled, show=False
            )
        folder = output.with_name(f".{output.name}.training")
        state = json.loads((folder / "state.json").read_text())
        written.append((state["identity"]["unlabelled_texts"], (folder / "text_model.tflite").read_bytes()))
    assert [count for count, _ in written] == [0, 30]
    assert written[0][1] != written[1][1]


def _answers(catalog, bundle):
    products = read_catalog(catalog).products()
    return [prediction.probabilities for prediction in ProductClassifier.from_pretrained(bundle).predict(products)]


def test_ctrl_c_leaves_no_bundle_and_says_how_to_go_on(tiny_catalog, tmp_path):
    output = tmp_path / "bundle"
    command = [sys.executable, "-m", "training.train", "--catalog-dir", str(tiny_catalog), "--output-dir", str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("grouped split"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "--resume goes on from there" in errors
    assert "Traceback" not in errors
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--catalog-dir", "no/such/folder"], "no/such/folder"),
        (["--limit", "0"], "limited to 0 rows"),
        (["--test-fraction", "2"], "fractions 0.1 and 2.0"),
        (["--backbone-weights", "no/such/file.h5", "--resume"], "no/such/file.h5 does not exist"),
    ],
)
def test_refusals_are_one_sentence(tiny_catalog, tmp_path, capsys, arguments, words):
    given = ["--catalog-dir", str(tiny_catalog), "--output-dir", str(tmp_path / "bundle"), *arguments]
    assert run_command(train.main, given) == 2
    written = capsys.readouterr().err
    assert words in written.splitlines()[-1]
    assert "Traceback" not in written
    assert not (tmp_path / "bundle").exists() and "text model" not in written


def test_an_output_folder_with_something_else_is_refused_before_training(tiny_catalog, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    given = ["--catalog-dir", str(tiny_catalog), "--output-dir", str(tmp_path)]
    assert run_command(train.main, given) == 2
    assert "is not empty and no bundle" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_catalog_without_pictures_or_labels_is_refused(tmp_path, capsys):
    catalog = tmp_path / "catalog.csv"
    catalog.write_text("designation,prdtypecode\n" + "".join(f"mot{n} chose{n},{n % 2}\n" for n in range(40)))
    given = ["--catalog-dir", str(catalog), "--output-dir", str(tmp_path / "bundle")]
    assert run_command(train.main, given) == 2
    assert "0 training rows have a picture" in capsys.readouterr().err
    catalog.write_text("designation\nchaise\ntable\n")
    assert run_command(train.main, given) == 2
    assert "has no labels" in capsys.readouterr().err


def test_curves_are_written(tmp_path):
    progress = Progress(tmp_path, show=False)
    progress.log("text", 1, {"loss": 1.0, "validation weighted F1": None})
    progress.step("text model", 1, 2)
    progress.close()
    assert list((tmp_path / "text").glob("events.out.tfevents.*"))
    assert progress.keras_callbacks("image")
    assert Progress(None).keras_callbacks("image") == []


def test_a_run_that_is_killed_while_it_measures_goes_on_from_there(tmp_path, monkeypatch):
    """No model is fitted again, no row that was answered is answered again, and the figures are the same."""
    catalog = write_tiny_catalog(tmp_path / "catalog", categories=4, layout="csv")
    settings = one_epoch(split=SplitSettings(validation_fraction=0.25, test_fraction=0.25, minimum_pairs=0))
    settings = dataclasses.replace(settings, text=settings.text.fast())
    whole = train.train_bundle(catalog, tmp_path / "whole", settings, backbone_weights=None, show=False)
    output, predict, asked = tmp_path / "killed", ProductClassifier.predict, []

    def counted(self, products):
        # The self-check of seven products is no evaluation.
        if len(products) != 7:
            if len(asked) == 1 and not (tmp_path / "resumed").exists():
                raise KeyboardInterrupt
            asked.append(len(products))
        return predict(self, products)

    monkeypatch.setattr(prediction_cache, "_BLOCK", 2)
    monkeypatch.setattr(ProductClassifier, "predict", counted)
    with pytest.raises(KeyboardInterrupt):
        train.train_bundle(catalog, output, settings, backbone_weights=None, show=False)
    (tmp_path / "resumed").touch()
    for name in ("TextFitter", "fit_image_model"):
        monkeypatch.setattr(run, name, lambda *given, **named: pytest.fail("fitted again"))
    monkeypatch.setattr(run.Validation, "fit_decision_parameters", lambda *given: pytest.fail("fitted again"))
    train.train_bundle(catalog, output, settings, backbone_weights=None, resume=True, show=False)
    metrics = [json.loads((bundle / "metrics.json").read_text()) for bundle in (whole, output)]
    assert sum(asked) == metrics[0]["served"]["rows"]
    for section in ("text", "image", "fusion", "served", "reference"):
        assert metrics[0][section] == metrics[1][section]
    assert not (tmp_path / ".killed.training").exists()
