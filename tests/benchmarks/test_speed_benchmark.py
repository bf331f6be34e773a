"""The speed benchmarks' whole paths with tiny work, and their parts where the right answer is known. No times."""

import importlib.util
import io
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as run_all
from benchmarks import machine, synthetic_data
from benchmarks.random_bundle import with_keras_files
from benchmarks.report import BenchmarkError
from benchmarks.speed import scaling_curves, serving, training
from benchmarks.speed.keras_baseline import KerasBaseline
from benchmarks.speed.worker_pool import Timing, worker
from rakuten_models.bundle.config import KERAS_FILES, SERVING_FILES
from rakuten_models.cli import run_command
from rakuten_models.preprocessing.text import TextSettings, encode_texts
from rakuten_models.product import Product
from training.settings import TextModelSettings, TextTrainingSettings
from training.text.trainer import LabelledTexts, TextFitter

pytestmark = pytest.mark.slow

# Of the text model for the training benchmark's own test.
SMALL = TextTrainingSettings(
    model=TextModelSettings(units=16, pair_rows=503, pair_slots=1009, character_rows=1009, character_slots=4001),
    batch_size=32,
    learning_rate=0.02,
    pretrained_words=False,
    teachers=0,
)

HAS_FASTTEXT = importlib.util.find_spec("fasttext") is not None


def table_rows(report):
    """The cells of each line of a report's table."""
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_serving_measures_every_line(tiny_bundle, tmp_path, capsys):
    output = tmp_path / "serving.md"
    arguments = ["--bundle", str(tiny_bundle), "--quick", "--output", str(output)]
    assert run_command(serving.main, arguments) == 0, capsys.readouterr().err
    report = output.read_text(encoding="utf-8")
    assert report in capsys.readouterr().out
    assert re.search(r"Date: \d{4}-\d\d-\d\d", report) and "ai-edge-litert 2." in report
    rows = table_rows(report)
    targets = [target for _, target, _, _ in rows]
    for target in ("15x", "1.4x", "70 %", "85 %", "5x", "20x", "0.5x", "2x", "30x", "0.6 s", "1.15x"):
        assert any(target in each for each in targets), target
    assert "none" in rows[-1][2], "the app imports no training library"
    assert "random weights" not in report, "the tiny bundle has .keras files of its own"
    unmeasured = sum("not measured" in found for _, _, found, _ in rows)
    assert unmeasured == (not HAS_FASTTEXT) or not hasattr(os, "sched_setaffinity")
    for _, target, _, verdict in rows:
        assert bool(target) == bool(verdict) or unmeasured


def test_both_routes_answer_the_same(tiny_bundle, classifier):
    """On plain texts and a picture of one colour the Keras route is the same, or there is nothing to compare."""
    file = io.BytesIO()
    Image.new("RGB", (96, 96), (200, 30, 60)).save(file, "PNG")
    products = [
        Product("canape bois salon", "coussin drap", file.getvalue()),
        Product("piscine pompe", "", file.getvalue()),
    ]
    expected = np.stack([prediction.probabilities for prediction in classifier.predict(products)])
    # A text of nothing but spaces is two bytes for the baseline and none for us: the first product alone is compared.
    found = KerasBaseline(tiny_bundle)(products, batch_size=1)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)


def test_missing_keras_files_are_replaced_by_models_of_the_same_shape(tiny_bundle, classifier, tmp_path):
    serving_part = tmp_path / "serving"
    serving_part.mkdir()
    for name in SERVING_FILES:
        if (tiny_bundle / name).is_file():
            (serving_part / name).write_bytes((tiny_bundle / name).read_bytes())
    folder, random_weights = with_keras_files(serving_part, tmp_path / "made")
    assert random_weights and all((folder / name).is_file() for name in KERAS_FILES)
    answers = KerasBaseline(folder).texts([Product("chaise")], batch_size=1)
    assert answers.shape == (1, len(classifier.categories))
    assert with_keras_files(tiny_bundle, tmp_path / "unused") == (tiny_bundle, False)


def test_a_ratio_is_the_median_of_the_pairs():
    slow, fast = Timing((4.0, 9.0, 30.0), (1.0, 1.0, 1.0)), Timing((2.0, 3.0, 1.0), (0.5, 0.7, 0.6))
    assert fast.ratio(slow) == 3.0 and fast.spread(slow) == (2.0, 30.0)
    assert fast.processor_ratio(slow) == pytest.approx(1 / 0.6)
    assert fast.seconds == 2.0 and fast.processor_seconds == 0.6


def test_a_worker_that_dies_is_an_error(tmp_path):
    with worker("ours", tmp_path / "nowhere") as run, pytest.raises(BenchmarkError, match="ended"):
        run("one")


def test_inputs_are_the_same_for_the_same_seed():
    first, second = (
        [(each.designation, each.description, each.image) for each in synthetic_data.catalog(5, pictures=2)]
        for _ in range(2)
    )
    assert first == second and len({image for *_, image in first}) == 2
    assert synthetic_data.texts(3, 8) != synthetic_data.texts(3, 8, seed=1)
    assert [len(text.split()) for text in synthetic_data.texts(3, [1, 5, 30])] == [1, 5, 30]
    assert Image.open(io.BytesIO(synthetic_data.photo(0, 700, 300))).size == (700, 300)


def test_the_matrix_rate_is_a_rate():
    wall, processor = machine.sgemm_rate(rounds=1)
    assert 1e8 < processor < 1e13 and 1e8 < wall < 1e13


def test_growth_measures_and_draws(tiny_bundle, tmp_path, capsys):
    output, plot = tmp_path / "growth.md", tmp_path / "new" / "growth.png"
    arguments = ["--bundle", str(tiny_bundle), "--quick", "--output", str(output), "--plot", str(plot)]
    assert run_command(scaling_curves.main, arguments) == 0, capsys.readouterr().err
    report = output.read_text(encoding="utf-8")
    for title in ("products", "words of one text", "megapixels of a photo", "categories", "rows of a catalog"):
        assert f"| {title}" in report
    assert re.search(r"against the shortest: \d\.\d\dx", report)
    assert Image.open(plot).size == (1100, 640)


def test_memory_is_judged_by_the_longest_and_the_shortest_catalog():
    found = scaling_curves.Growth("rows", "MB", [1, 2, 3], {"peak memory": [100.0, 200.0, 130.0]})
    assert "1.30x (at most 1.2x: missed)" in scaling_curves.format_growths([found])


def test_training_speed_measures_every_line(tmp_path, capsys):
    output = tmp_path / "training.md"
    assert run_command(training.main, ["--quick", "--output", str(output)]) == 0, capsys.readouterr().err
    rows = table_rows(output.read_text(encoding="utf-8"))
    targets = [target for _, target, _, _ in rows]
    assert targets == ["at least 5x", "", "equal or better", "at least 3x", "both"]
    assert rows[-1][2].startswith("used again") and rows[-1][2].endswith("after a change made again")


def test_labelled_texts_can_be_learned_from():
    products, truth = training.labelled_texts(600, 30)
    assert {len(product.description.split()) for product in products} == {30}
    own = [set(product.description.split()[-18:-6]) for product in products]
    shared = {True: [], False: []}
    for row in range(1, 600):
        for other in range(row):
            shared[bool(truth[row] == truth[other])].append(bool(own[row] & own[other]))
    assert np.mean(shared[True]) > 2 * np.mean(shared[False]), "a category has words of its own"


def test_the_keras_baseline_learns():
    """A baseline that is fed wrongly would be easy to beat."""
    products, truth = training.labelled_texts(270, 30)
    tokenizer = training.train_tokenizer([product.description for product in products], SMALL)
    encoded = encode_texts(products, tokenizer, TextSettings())
    fitter = TextFitter(
        LabelledTexts(products, truth, np.ones(270)), tokenizer, TextSettings(), SMALL, categories=training.CATEGORIES
    )
    baseline = training.keras_adam(fitter.untrained_model(), 20 * 9, SMALL)
    baseline.fit(encoded, truth, batch_size=SMALL.batch_size, epochs=20, verbose=0)
    assert (baseline.predict(encoded, verbose=0).argmax(axis=1) == truth).mean() > 0.8


def test_all_parts_are_one_report(tmp_path, monkeypatch, capsys):
    asked = []

    def run(command, **options):
        asked.append(command[2:])
        Path(command[-1]).write_text(f"## {command[2]}\n", encoding="utf-8")
        return subprocess.CompletedProcess(command, 0)

    # The parts themselves are what the other tests run.
    monkeypatch.setattr(run_all.subprocess, "run", run)
    output = tmp_path / "results.md"
    arguments = ["--quick", "--output", str(output), "--train", "a", "--test", "b", "--bundle", "c"]
    assert run_command(run_all.main, arguments) == 0
    modules = ["speed.serving", "speed.scaling_curves", "speed.training", "quality"]
    assert [part[0] for part in asked] == [f"benchmarks.{name}" for name in modules]
    assert asked[3][1:7] == ["--train", "a", "--test", "b", "--bundle", "c"]
    report = output.read_text(encoding="utf-8")
    positions = [report.index(f"## benchmarks.{name}") for name in modules]
    assert positions == sorted(positions) and positions[1] < report.index("](growth.png)") < positions[2]
    assert report.rstrip().endswith(run_all.TRIED.read_text(encoding="utf-8").rstrip())


def test_a_part_that_fails_leaves_the_report_alone(tmp_path, monkeypatch, capsys):
    output = tmp_path / "results.md"
    output.write_text("before", encoding="utf-8")
    monkeypatch.setattr(run_all.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 2))
    assert run_command(run_all.main, ["--quick", "--output", str(output)]) == 2
    assert "benchmarks.speed.serving failed" in capsys.readouterr().err and output.read_text() == "before"
