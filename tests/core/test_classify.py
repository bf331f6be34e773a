"""The command `python -m rakuten_models.classify`: what it prints, and the sentence for everything that goes wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rakuten_models import Category, Prediction, ProductClassifier
from rakuten_models.app.examples import EXAMPLES_FOLDER
from rakuten_models.classifier import STARTER_FOLDER, load_classifier
from rakuten_models.classify import main, prediction_to_table
from rakuten_models.cli import run_command
from rakuten_models.errors import BundleError
from rakuten_models.formatting import decision_sentence, percent, prediction_to_json
from tests.support.app_server import BUNDLE_VARIABLES, REPOSITORY_ROOT, app_environment

PICTURE = EXAMPLES_FOLDER / "sofa.jpg"


@pytest.fixture(autouse=True)
def no_bundle_chosen(monkeypatch):
    for name in BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_table_names_category_decision_and_every_side(tiny_bundle, capsys):
    arguments = ["--bundle", str(tiny_bundle), "--designation", "canapé de salon", "--image", str(PICTURE)]
    assert main([*arguments, "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    classifier = ProductClassifier.from_pretrained(tiny_bundle)
    names = {category.name("en") for category in classifier.categories}
    assert lines[0] in names
    assert "prdtypecode" in lines[1] and ("accept" in lines[1] or "review" in lines[1])
    assert sum(line.startswith(lines[0]) for line in lines) == 2
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in ("text", "picture", "fusion")] == [
        "text",
        "picture",
        "fusion",
    ]
    assert lines[-1] == f"Bundle: {tiny_bundle.name}"


def test_json_is_what_the_classifier_says(tiny_bundle, capsys):
    assert main(["--bundle", str(tiny_bundle), "--image", str(PICTURE), "--json", "--language", "fr"]) == 0
    answer = json.loads(capsys.readouterr().out)
    classifier = ProductClassifier.from_pretrained(tiny_bundle)
    probabilities = [entry["probability"] for entry in answer["probabilities"]]
    assert len(probabilities) == len(classifier.categories)
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    best = next(category for category in classifier.categories if category.prdtypecode == answer["prdtypecode"])
    assert answer["probabilities"][0]["name"] == best.name("fr")
    assert answer["text"] is None and answer["image"]["prdtypecode"] == best.prdtypecode
    assert answer["image_weight"] == 1.0 and answer["error"] is None and answer["revision"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "There is nothing to classify; give --designation, --description or --image."),
        (["--designation", "  "], "There is nothing to classify; give --designation, --description or --image."),
        (["--designation", "sofa", "--image", "no such.jpg"], "The picture 'no such.jpg' does not exist"),
        (["--designation", "?!"], "holds no text and no picture"),
    ],
)
def test_bad_input_gets_one_sentence(tiny_bundle, capsys, arguments, sentence):
    assert run_command(main, ["--bundle", str(tiny_bundle), *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and sentence in output.err and output.err.count("\n") == 1


def test_unreadable_picture_is_an_error_even_beside_a_text(tiny_bundle, tmp_path, capsys):
    picture = tmp_path / "notes.jpg"
    picture.write_bytes(b"this is no picture")
    assert run_command(main, ["--bundle", str(tiny_bundle), "--designation", "sofa", "--image", str(picture)]) == 2
    assert "'notes.jpg'" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_top_is_a_positive_number(capsys, count):
    with pytest.raises(SystemExit) as end:
        main(["--designation", "sofa", "--top", count])
    assert end.value.code == 2
    assert "whole number of at least 1" in capsys.readouterr().err


def test_environment_chooses_the_bundle_repository_first(tiny_bundle, tmp_path, monkeypatch):
    asked = []

    def from_pretrained(source=None, *, revision=None, trusted):
        asked.append((source, revision))
        return ProductClassifier(tiny_bundle)

    monkeypatch.setattr(ProductClassifier, "from_pretrained", from_pretrained)
    load_classifier()
    monkeypatch.setenv("RAKUTEN_BUNDLE", str(tmp_path))
    load_classifier()
    monkeypatch.setenv("RAKUTEN_MODEL_REVISION", "v1")
    load_classifier()
    monkeypatch.setenv("RAKUTEN_MODEL_REPO", "someone/something")
    load_classifier()
    load_classifier("other/one", "main")
    assert asked == [
        (None, None),
        (str(tmp_path), None),
        (str(tmp_path), None),
        ("someone/something", "v1"),
        ("other/one", "main"),
    ]


def test_missing_folder_in_the_environment_is_never_asked_of_the_hub(monkeypatch):
    monkeypatch.setenv("RAKUTEN_BUNDLE", "bundles/mine")
    with pytest.raises(BundleError, match="RAKUTEN_BUNDLE names the folder 'bundles/mine', which does not exist"):
        load_classifier()


@pytest.mark.skipif(not (STARTER_FOLDER / "config.json").exists(), reason="the starter bundle is not there yet")
def test_without_a_choice_the_starter_bundle_answers(capsys):
    assert main(["--designation", "Piscine tubulaire ronde 3,66 m"]) == 0
    output = capsys.readouterr().out
    assert "prdtypecode 2583" in output and output.endswith("Bundle: starter bundle\n")


def test_command_runs_from_a_console_without_block_characters(tiny_bundle):
    environment = app_environment(PYTHONIOENCODING="ascii", RAKUTEN_BUNDLE=str(tiny_bundle))
    command = [sys.executable, "-m", "rakuten_models.classify", "--designation", "canapé", "--language", "fr"]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "prdtypecode" in done.stdout and "#" in done.stdout


def two_categories(probabilities: list[float], decision: str) -> Prediction:
    values = np.array(probabilities, np.float32)
    categories = (Category(0, 10, {"en": "Books", "fr": "Livres"}), Category(1, 7, {"en": "A rather long name"}))
    best = int(values.argmax())
    return Prediction(categories, categories[best], float(values[best]), values, values, None, 0.0, decision)


def test_table_is_aligned():
    table = prediction_to_table(two_categories([0.75, 0.25], "accept"), 0.5, "en", 2, "#")
    assert table.splitlines() == [
        "Books",
        "prdtypecode 10, probability 75.0%, accept",
        "Its probability reaches 50.0%, the level from which 95% of answers were right on validation products.",
        "",
        "Category                  Code  Probability",
        "Books                       10        75.0%  ##################",
        "A rather long name           7        25.0%  ######",
        "",
        "Model     Its own answer            Code  Probability",
        "text      Books                       10        75.0%",
    ]


def test_json_of_a_product_that_was_not_scored():
    answer = prediction_to_json(Prediction((), error="Nothing."), None)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["category"] is None and answer["probabilities"] == [] and answer["error"] == "Nothing."


def test_decision_in_words():
    assert "is below 80.0%" in decision_sentence(two_categories([0.6, 0.4], "review"), 0.8)
    assert "no level from which 95% of answers are right" in decision_sentence(two_categories([1, 0], "review"), None)


@pytest.mark.parametrize(
    ("probability", "shown"),
    [
        (0.0, "0.0%"),
        (0.0004, "<0.1%"),
        (0.0005, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.9999, ">99.9%"),
        (1.0, "100.0%"),
    ],
)
def test_percent_never_claims_certainty(probability, shown):
    assert percent(probability) == shown
