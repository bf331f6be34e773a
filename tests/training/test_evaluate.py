"""The evaluation command: which rows are judged, what comes out, what is refused and how."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from rakuten_models import ProductClassifier
from rakuten_models.bundle.config import PLOT_FILES, BundleConfig
from rakuten_models.bundle.folder import read_config, validate_bundle, write_config
from rakuten_models.cli import run_command
from rakuten_models.inference.calibration import Calibration
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Category, Prediction
from tests.support.tiny_catalog import write_tiny_catalog
from training.data.catalog import read_catalog
from training.data.split import split_catalog
from training.errors import EvaluationError
from training.evaluate import evaluate_predictions, main, score_catalog
from training.evaluation import report
from training.evaluation.evaluation_split import select_rows
from training.settings import SplitSettings

CATEGORIES = tuple(Category(index, code, {"en": f"shelf {code}"}) for index, code in enumerate((10, 40, 50)))

TWO_ROWS = "designation,prdtypecode\nun livre,10\nune piscine,2583\n"

SECTION_NAMES = ("text", "image", "fusion", "served")

SECTION_KEYS = {
    "rows", "accuracy", "weighted_f1", "macro_f1", "lowest_category_f1", "log_loss", "ece", "top3_accuracy",
    "top5_accuracy", "per_category", "confusion_matrix", "reliability", "coverage",
}  # fmt: skip


def prediction(text=None, image=None, both=None, decision="review"):
    """A prediction from the modalities that are there; `both` is fusion's answer."""

    def floats(values):
        return None if values is None else np.array(values, dtype=np.float32)

    answer = floats(both or text or image)
    category = None if answer is None else CATEGORIES[int(answer.argmax())]
    return Prediction(
        categories=CATEGORIES, category=category, probabilities=answer, text_probabilities=floats(text),
        image_probabilities=floats(image), decision=decision, error=None if category else "nothing",
    )  # fmt: skip


def config_trained_on(catalog, **facts):
    return BundleConfig(
        categories=CATEGORIES, text=TextSettings(), image=ImageSettings(), thresholds={},
        calibration=dict.fromkeys(("text", "image", "fusion"), Calibration()),
        training={"catalog_fingerprint": catalog.fingerprint(), **facts},
    )  # fmt: skip


def run(capsys, *arguments):
    """Runs the command as a user does; returns its exit status and what it wrote."""
    status = run_command(main, [str(argument) for argument in arguments])
    return status, capsys.readouterr()


def test_each_section_is_judged_on_the_rows_that_have_what_it_needs():
    predictions = [
        prediction(text=[0.8, 0.1, 0.1], decision="accept"),
        prediction(image=[0.1, 0.6, 0.3]),
        prediction(text=[0.2, 0.7, 0.1], image=[0.1, 0.1, 0.8], both=[0.2, 0.1, 0.7], decision="accept"),
        prediction(text=[0.1, 0.1, 0.8], image=[0.9, 0.05, 0.05], both=[0.3, 0.3, 0.4]),
        prediction(),  # nothing to classify
    ]
    found = evaluate_predictions(predictions, [0, 1, 2, 2, 0], CATEGORIES, {"0.95": {"probability": 0.65}})
    assert {name: section["rows"] for name, section in found.items()} == {
        "text": 3, "image": 3, "fusion": 2, "served": 5,
    }  # fmt: skip
    assert found["text"]["accuracy"] == pytest.approx(2 / 3)
    assert found["image"]["accuracy"] == pytest.approx(2 / 3)
    assert found["fusion"]["accuracy"] == 1.0
    assert found["served"]["accuracy"] == pytest.approx(4 / 5), "the row without an answer is wrong"
    assert found["served"]["unanswered"] == 1
    assert found["fusion"]["text_on_same_rows"]["accuracy"] == 0.5
    assert found["fusion"]["image_on_same_rows"]["weighted_f1"] == pytest.approx(2 / 3)
    assert found["fusion"]["image_on_same_rows"]["difference"] == pytest.approx(1 - 2 / 3)
    assert found["served"]["decision"] == {"rows": 2, "share_accepted": 0.4, "precision": 1.0}
    assert found["served"]["thresholds"]["0.95"]["share_accepted"] == 0.4
    json.dumps(found, allow_nan=False)


def test_a_catalog_without_pictures_leaves_image_and_fusion_empty():
    found = evaluate_predictions([prediction(text=[0.8, 0.1, 0.1])], [0], CATEGORIES, {})
    assert found["image"]["rows"] == found["fusion"]["rows"] == 0
    assert found["fusion"]["weighted_f1"] is None and found["fusion"]["text_on_same_rows"] is None
    table = report.format_table(found)
    assert "fusion minus" not in table and len({len(line) for line in table.splitlines()}) == 1


def test_rows_of_the_training_catalog_are_those_of_its_test_part(tiny_catalog):
    catalog = read_catalog(tiny_catalog)
    settings = SplitSettings(validation_fraction=0.15, test_fraction=0.15, seed=3)
    config = config_trained_on(catalog, split=split_catalog(catalog, settings).to_json())
    _, positions, split = select_rows(config, tiny_catalog)
    assert split.name == "grouped split, test part"
    assert positions.tolist() == split_catalog(catalog, settings).test.tolist()
    _, validation, split = select_rows(config, tiny_catalog, "validation")
    assert split.name.startswith("training catalog") and not set(validation) & set(positions)
    _, everything, split = select_rows(config, tiny_catalog, "all")
    assert split.name.startswith("training catalog") and len(everything) == catalog.table["gold_label"].sum()
    _, few, split = select_rows(config, tiny_catalog, limit=5)
    assert len(few) == 5 and set(few) <= set(positions) and split.name == "grouped split, test part, 5 rows of it"


def test_a_bundle_trained_on_a_subset_is_judged_on_that_subsets_test_part(tiny_catalog):
    subset = read_catalog(tiny_catalog, limit=120, seed=7)
    settings = SplitSettings(kind="plain", seed=7)
    config = config_trained_on(subset, split=split_catalog(subset, settings).to_json(), limit=120, seed=7)
    catalog, positions, split = select_rows(config, tiny_catalog)
    assert len(catalog) == 120 and split.name == "plain split, test part"
    assert positions.tolist() == split_catalog(subset, settings).test.tolist()


def test_a_bundle_without_a_test_part_asks_for_another_catalog(tiny_catalog):
    catalog = read_catalog(tiny_catalog)
    settings = SplitSettings(validation_fraction=0.2, test_fraction=0.0)
    config = config_trained_on(catalog, split=dataclasses.asdict(settings))
    with pytest.raises(EvaluationError, match="without a test part; give another catalog"):
        select_rows(config, tiny_catalog)


def test_labels_that_are_not_the_catalogs_own_judge_nothing(tiny_catalog, tmp_path):
    other = write_tiny_catalog(tmp_path, seed=1)
    config = config_trained_on(read_catalog(tiny_catalog), split={})
    catalog, positions, split = select_rows(config, other)
    assert split.name == "separate catalog"
    assert 0 < len(positions) < len(catalog)
    assert set(catalog.table["origin"].iloc[positions]) == {"gold"}


def test_command_writes_figures_and_plots(tiny_bundle, tmp_path, capsys):
    catalog = write_tiny_catalog(tmp_path / "catalog", seed=5, unreadable_image=True)
    output = tmp_path / "new folder" / "metrics.json"
    status, written = run(capsys, "--bundle", tiny_bundle, "--catalog-dir", catalog, "--output", output)
    assert status == 0, written.err
    assert sorted(os.listdir(output.parent)) == sorted([*PLOT_FILES, "metrics.json"])
    metrics = json.loads(output.read_text(encoding="utf-8"))
    assert metrics["split"] == "separate catalog" and not metrics["catalog"].startswith("/")
    for section in SECTION_NAMES:
        assert set(metrics[section]) >= SECTION_KEYS
    own = read_catalog(catalog).table["gold_label"]
    assert metrics["served"]["rows"] == own.sum() == len(own) - metrics["rows_without_own_label"]
    assert metrics["unreadable_images"] == 1
    for name in PLOT_FILES:
        with Image.open(output.parent / name) as picture:
            assert min(picture.size) > 300 and (output.parent / name).stat().st_size < 150_000
    lines = written.out.splitlines()
    for section in SECTION_NAMES:
        row = next(line for line in lines if line.startswith(f"{section} ")).split()
        figures = [f"{metrics[section][key]:.3f}" for key in ("accuracy", "weighted_f1", "macro_f1")]
        assert row[1:5] == [str(metrics[section]["rows"]), *figures]
    assert any("fusion minus text" in line for line in lines)
    assert "products/s" in written.err


def test_update_bundle_changes_figures_card_and_plots_and_nothing_else(tiny_bundle, tmp_path, capsys):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    for name in (*PLOT_FILES, "metrics.json", "README.md"):
        (bundle / name).unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    catalog = write_tiny_catalog(tmp_path / "catalog", seed=5, categories=5)
    status, written = run(
        capsys,
        "--bundle",
        bundle,
        "--catalog-dir",
        catalog,
        "--catalog-name",
        "five shelves",
        "--update-bundle",
        "--quiet",
    )
    assert status == 0 and written.out == written.err == ""
    after = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert set(after) - set(before) == {*PLOT_FILES, "metrics.json", "README.md"}
    assert all(after[name] == content for name, content in before.items())
    assert sorted(os.listdir(tmp_path)) == ["bundle", "catalog"], "no temporary folder is left"
    validate_bundle(bundle)
    metrics = json.loads(after["metrics.json"])
    card = after["README.md"].decode("utf-8")
    assert f"{metrics['served']['weighted_f1']:.3f}" in card and "five shelves" in card


def test_a_failed_update_leaves_the_bundle_as_it_was(tiny_bundle, tmp_path, monkeypatch):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}

    def disk_full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_plots", disk_full)
    with pytest.raises(OSError):
        report.update_bundle(bundle, {}, read_config(bundle))
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert os.listdir(tmp_path) == ["bundle"]


def test_scoring_in_portions_is_scoring_at_once(tiny_bundle, tiny_catalog, monkeypatch):
    classifier = ProductClassifier.from_pretrained(tiny_bundle)
    products = read_catalog(tiny_catalog).products()[:20]
    at_once = classifier.predict(products)
    monkeypatch.setattr("training.evaluate.CHUNK", 7)
    for one, other in zip(score_catalog(classifier, products), at_once, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)


def test_a_catalog_without_labels_gets_a_sentence(tiny_bundle, tmp_path, capsys):
    catalog = write_tiny_catalog(tmp_path, labels=False)
    status, written = run(capsys, "--bundle", tiny_bundle, "--catalog-dir", catalog)
    assert status == 2
    assert written.err.startswith(f"error: {catalog} has no labels, so there is nothing to compare with; add")


def test_labels_of_another_origin_alone_get_a_sentence(tiny_bundle, tmp_path, capsys):
    (tmp_path / "catalog.csv").write_text(
        "designation,prdtypecode,label_origin\nun livre,10,silver\nune table,1560,silver\n", encoding="utf-8"
    )
    status, written = run(capsys, "--bundle", tiny_bundle, "--catalog-dir", tmp_path)
    assert status == 2 and "no row to judge on" in written.err and "labels of its own" in written.err


def test_codes_that_the_bundle_does_not_know_are_named_and_counted(tiny_bundle, tmp_path, capsys):
    rows = "un livre,10\nune pompe,7777\nun tuyau,7777\nune vis,8888\n"
    (tmp_path / "catalog.csv").write_text(f"designation,prdtypecode\n{rows}", encoding="utf-8")
    output = tmp_path / "metrics.json"
    status, written = run(capsys, "--bundle", tiny_bundle, "--catalog-dir", tmp_path, "--output", output)
    assert status == 2 and not output.exists()
    assert "categories that the bundle does not know: 7777 (2 rows), 8888 (1 row); judge it" in written.err


def test_figures_from_training_rows_never_reach_a_bundle(tiny_bundle, tiny_catalog, tmp_path, capsys):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    catalog = read_catalog(tiny_catalog)
    settings = SplitSettings(validation_fraction=0.2, test_fraction=0.2)
    facts = {"catalog_fingerprint": catalog.fingerprint(), "split": dataclasses.asdict(settings)}
    write_config(bundle, dataclasses.replace(read_config(bundle), training=facts))
    status, written = run(capsys, "--bundle", bundle, "--catalog-dir", tiny_catalog, "--part", "all", "--update-bundle")
    assert status == 2 and "must come from rows it has not seen" in written.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--output", "{folder}"], "is a folder; give a file name in it."),
        (["--output", "{folder}/catalog.csv/metrics.json"], "cannot be written to"),
        (["--limit", "0"], "--limit is 0; give a number of rows, 1 or more."),
        (["--part", "validation"], "is another one; leave out --part to judge on all its rows."),
        (["--catalog-dir", "{folder}/nowhere"], "does not exist"),
        (["--bundle", "{folder}/nowhere"], "neither a folder nor a hub id"),
    ],
)
def test_refusals_are_one_sentence(tiny_bundle, tmp_path, capsys, arguments, sentence):
    (tmp_path / "catalog.csv").write_text(TWO_ROWS, encoding="utf-8")
    given = [argument.format(folder=tmp_path) for argument in arguments]
    status, written = run(capsys, "--bundle", tiny_bundle, "--catalog-dir", tmp_path, *given)
    assert status != 0
    assert sentence in written.err and written.err.count("\n") == 1 and "scoring" not in written.out


def test_a_folder_that_cannot_be_written_to_is_said_before_scoring(tiny_bundle, tmp_path, capsys):
    (tmp_path / "catalog.csv").write_text(TWO_ROWS, encoding="utf-8")
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere, so no folder can be locked")
    status, written = run(
        capsys, "--bundle", tiny_bundle, "--catalog-dir", tmp_path, "--output", folder / "metrics.json"
    )
    assert status == 2 and "cannot be written to" in written.err and "scoring" not in written.out
