"""The quality benchmark's whole path on the tiny catalog, and its parts where the right answer is known."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from benchmarks.quality import __main__ as quality
from benchmarks.quality.baseline import Baseline, TrainingRows, in_all_columns, out_of_fold_scores
from benchmarks.quality.comparison import CompareSettings
from benchmarks.quality.image_baselines import LogLinearPool
from benchmarks.quality.text_baselines import LINEAR_SVC, LOG_LOSS, FastText, linear_svc
from rakuten_models.cli import run_command
from rakuten_models.product import Product
from tests.support.tiny_catalog import CATEGORY_WORDS, write_tiny_catalog
from training.data.catalog import read_catalog
from training.evaluate import main as evaluate

pytestmark = pytest.mark.slow

HAS_FASTTEXT = importlib.util.find_spec("fasttext") is not None


@pytest.fixture(scope="module")
def run(tiny_bundle, tiny_catalog, tmp_path_factory):
    """One run: the report and its figures, and the catalog that was scored."""
    test = write_tiny_catalog(tmp_path_factory.mktemp("benchmark") / "test", seed=5)
    settings = CompareSettings(backbone_weights=None, show=False)
    report, figures = quality.compare(read_catalog(tiny_catalog), test, tiny_bundle, settings)
    return report, figures, test


def test_every_method_is_on_the_same_rows(run):
    report, figures, test = run
    own = read_catalog(test).table["gold_label"].to_numpy(bool)
    catalog = read_catalog(test)
    text, image = catalog.has_text[own], catalog.has_image[own]
    expected = {"text": text.sum(), "image": image.sum(), "fusion": (text & image).sum(), "served": own.sum()}
    for section, rows in expected.items():
        assert {values["rows"] for values in figures[section].values()} == {rows}
    assert len(figures["text"]) == 4 + HAS_FASTTEXT and len(figures["image"]) == 2
    assert len(figures["fusion"]) == 6, "two pools, the older project's, ours and its sides"
    assert list(figures["served"]) == ["ours"], "some rows have no text, so no text method can answer them all"
    for heading in ("### Text: ", "### Image: ", "### Fusion: ", "### Served: ", "### Known confusions"):
        assert report.count(heading) == 1
    for section in ("text", "image", "fusion"):
        for values in figures[section].values():
            assert values["training_seconds"] > 0 and values["products_a_second"] > 0 and values["megabytes"] > 0
    json.dumps(figures, allow_nan=False)


def test_baselines_learned_and_ours_is_what_evaluation_measures(run, tiny_bundle, tmp_path):
    _, figures, test = run
    for name in (LINEAR_SVC, LOG_LOSS):
        assert figures["text"][name]["weighted_f1"] > 0.3, "27 categories: guessing is right once in 27"
    output = tmp_path / "metrics.json"
    arguments = ["--bundle", str(tiny_bundle), "--catalog-dir", str(test), "--output", str(output), "--quiet"]
    assert run_command(evaluate, arguments) == 0
    metrics = json.loads(output.read_text(encoding="utf-8"))
    for section in ("text", "image", "fusion", "served"):
        for key in ("weighted_f1", "ece"):
            assert figures[section]["ours"][key] == pytest.approx(metrics[section][key], abs=1e-6)
    alone = metrics["fusion"]["text_on_same_rows"]
    assert figures["fusion"]["ours, text alone"]["weighted_f1"] == pytest.approx(alone["weighted_f1"])
    assert figures["known_confusions"]["ours, served"] == metrics["served"]["known_confusions"]


def test_report_ends_with_what_ours_is_beside_the_best(run):
    report, figures, _ = run
    light = {name: values["weighted_f1"] for name, values in figures["text"].items() if name != "ours"}
    assert f"of this run ({max(light, key=light.get)}): " in report
    assert "best single side of this run (ours, " in report
    assert "no comparison of methods" not in report, "the bundle was trained on this very catalog"
    assert ("fastText was left out" in report) == (not HAS_FASTTEXT)


def test_command_writes_what_evaluation_takes(tiny_bundle, tiny_catalog, tmp_path, monkeypatch, capsys, run):
    report, figures, test = run
    monkeypatch.setattr(quality, "compare", lambda *arguments: (report, figures))
    output = tmp_path / "new folder" / "quality.md"
    arguments = ["--train", str(tiny_catalog), "--test", str(test), "--bundle", str(tiny_bundle)]
    assert run_command(quality.main, [*arguments, "--output", str(output)]) == 0, capsys.readouterr().err
    assert report in capsys.readouterr().out and output.read_text(encoding="utf-8") == report
    before = output.with_suffix(".json")
    arguments = ["--bundle", str(tiny_bundle), "--catalog-dir", str(test), "--before", str(before)]
    assert run_command(evaluate, [*arguments, "--output", str(tmp_path / "metrics.json")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["before"] == {
        "method": LINEAR_SVC, "known_confusions": figures["known_confusions"][LINEAR_SVC],
    }  # fmt: skip


def test_without_a_bundle_one_is_trained_that_keeps_no_test_part(tiny_bundle, tiny_catalog, tmp_path, monkeypatch):
    asked = {}

    def train_bundle(catalog, folder, settings, **options):
        asked.update(catalog=catalog, settings=settings, **options)
        return tiny_bundle

    # The default settings take most of an hour, and the tiny ones are what the other tests train.
    monkeypatch.setattr(quality, "train_bundle", train_bundle)
    monkeypatch.setattr(quality, "compare", lambda train, test, bundle, settings: (str(bundle), {}))
    arguments = ["--train", str(tiny_catalog), "--test", "elsewhere", "--unlabelled", "more.csv", "--seed", "3"]
    output = tmp_path / "quality.md"
    assert run_command(quality.main, [*arguments, "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8") == str(tiny_bundle)
    assert asked["catalog"] == str(tiny_catalog) and asked["unlabelled"] == "more.csv"
    assert asked["settings"].split.test_fraction == 0 and asked["settings"].seed == 3


def test_refusals(tiny_bundle, tiny_catalog, tmp_path, capsys):
    few = write_tiny_catalog(tmp_path / "few", categories=3)
    pictures = tmp_path / "pictures.csv"
    image = next((few / "images" / "image_train").iterdir())
    pictures.write_text(f"image,prdtypecode\n{image},10\n{image},40\n", encoding="utf-8")
    for arguments, sentence in (
        (["--train", few, "--test", tiny_catalog, "--bundle", tiny_bundle], "has other categories than the bundle"),
        (["--train", tiny_catalog, "--test", tiny_catalog, "--bundle", tiny_bundle], "is the training catalog; give"),
        (["--train", tiny_catalog, "--test", pictures, "--bundle", tiny_bundle], "no row with a text and an own label"),
        (
            ["--train", few, "--test", few, "--bundle", tiny_bundle, "--unlabelled", few],
            "--unlabelled is for a bundle that is trained here",
        ),
    ):
        assert run_command(quality.main, [str(argument) for argument in arguments]) == 2
        assert sentence in capsys.readouterr().err


def text_rows(per_category=8):
    """Training rows of three categories, each with words of its own."""
    generator = np.random.default_rng(0)
    words = {code: CATEGORY_WORDS[code][0].split() for code in (10, 1560, 2583)}
    products = [
        Product(" ".join(generator.choice(words[code], 3)) + f" {number}")
        for number in range(per_category)
        for code in words
    ]
    count = len(products)
    return TrainingRows(products, np.arange(count) % 3, np.ones(count, bool), np.arange(count), 3, seed=0)


def test_out_of_fold_scores_never_saw_the_row():
    rows = dataclasses.replace(text_rows(), groups=np.arange(24) // 2)
    seen = {}

    def fit(chosen):
        def score(held):
            for row in held:
                seen[int(row)] = set(chosen.tolist())
            return np.repeat(held[:, None], 3, axis=1)

        return score

    scores = out_of_fold_scores(rows, fit)
    assert (scores[:, 0] == np.arange(24)).all() and set(seen) == set(range(24))
    for row, fitted_on in seen.items():
        assert not fitted_on & {row, row ^ 1}, "neither the row nor its near-duplicate"


def test_temperature_comes_from_gold_labels_alone():
    rows = dataclasses.replace(text_rows(), gold_label=np.arange(24) < 12)
    scores = np.where(np.eye(3, dtype=bool)[rows.category_index], 1.0, 0.0)
    scores[12:] *= -5.0  # wrong, and sure of it: were these heeded, the temperature would rise
    baseline = Baseline()
    baseline.finish_cross_validated(rows, scores)
    assert baseline.temperature == pytest.approx(0.05, abs=0.01), (
        "the lowest that is tried: all rows with gold labels are right"
    )
    np.testing.assert_allclose(np.exp(baseline.out_of_fold).sum(axis=1), 1.0)


def test_where_no_label_is_the_catalogs_own_all_rows_calibrate():
    rows = dataclasses.replace(text_rows(), gold_label=np.zeros(24, bool))
    assert rows.evaluated.all() and (rows.weights == 0.8).all()
    assert np.bincount(rows.fold(3)).tolist() == [8, 8, 8]


def test_scores_of_absent_categories_are_the_lowest():
    filled = in_all_columns(np.array([[0.5, -2.0]]), np.array([0, 3]), 4)
    assert filled.tolist() == [[0.5, -3.0, -3.0, -2.0]]
    two = in_all_columns(np.array([0.5]), np.array([1, 2]), 3)
    assert two.tolist() == [[-1.5, -0.5, 0.5]]


def test_linear_baseline_answers_with_probabilities():
    rows = text_rows()
    baseline = linear_svc(rows)
    answers = baseline([Product("canapé bois"), Product("piscine chlore")])
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0)
    assert answers.argmax(axis=1).tolist() == [1, 2]
    assert baseline.out_of_fold.shape == (24, 3) and baseline.megabytes() > 0.001


@pytest.mark.skipif(not HAS_FASTTEXT, reason="fastText is not installed (benchmarks/requirements.txt)")
def test_fasttext_answers_with_probabilities():
    baseline = FastText(text_rows(40))
    answers = baseline([Product("canapé bois"), Product("piscine chlore")])
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0)
    assert answers.argmax(axis=1).tolist() == [1, 2]
    assert baseline([]).shape == (0, 3)


class Known:
    """A baseline of known answers."""

    seconds = 1.5

    def __init__(self, answers):
        self._answers = answers

    def __call__(self, products):
        return self._answers

    def megabytes(self):
        return 2.0


@pytest.mark.parametrize(("text_knows", "weight"), [(True, 0.0), (False, 1.0)])
def test_pool_trusts_the_modality_that_knows(text_knows, weight):
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 200)
    knowing = np.log(np.where(np.eye(3, dtype=bool)[truth], 0.8, 0.1))
    guessing = np.log(generator.dirichlet(np.ones(3), 200))
    text, image = (knowing, guessing) if text_knows else (guessing, knowing)
    pool = LogLinearPool(Known(text), Known(image), text, image, truth)
    assert pool.image_weight == pytest.approx(weight, abs=0.15)
    answers = pool([])
    np.testing.assert_allclose(np.exp(answers).sum(axis=1), 1.0)
    assert (answers.argmax(axis=1) == truth).mean() > 0.95
    assert pool.megabytes() == 4.0 and pool.seconds >= 3.0
