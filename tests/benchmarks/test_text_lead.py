"""The text model beside linear methods in cross-validation, on the tiny catalog."""

import re

import numpy as np
import pytest

from benchmarks.quality import text_lead
from benchmarks.quality.cross_validation import TextFolds
from rakuten_models.cli import run_command
from training.data.catalog import read_catalog, read_texts
from training.settings import TextTrainingSettings


class Remembers:
    """A baseline that says of each product which category most of its training rows have."""

    def __init__(self, rows):
        self.seen = {(product.designation, product.description) for product in rows.products}
        self.answer = np.bincount(rows.category_index, minlength=rows.categories).astype(float)
        self.asked = []

    def __call__(self, products):
        self.asked = [(product.designation, product.description) for product in products]
        return np.tile(self.answer, (len(products), 1))


@pytest.fixture(scope="module")
def catalog(tiny_catalog):
    return read_catalog(tiny_catalog)


def test_nobody_answers_a_row_that_it_was_fitted_on(catalog):
    rows, baselines = TextFolds(catalog, 0, 5), []

    def fit(training_rows):
        baselines.append(Remembers(training_rows))
        return baselines[-1]

    evaluated = rows.evaluated_rows(5)
    scores = rows.baseline_scores(fit, 5)
    gold_with_text = catalog.table["gold_label"].to_numpy(bool) & catalog.has_text
    assert len(baselines) == 5 and scores.shape == (len(evaluated), rows.categories)
    assert len(set(evaluated.tolist())) == len(evaluated) <= gold_with_text.sum()
    assert len(evaluated) > 0.9 * gold_with_text.sum(), "but for near-duplicates that were left out, all are answered"
    assert sum(len(baseline.asked) for baseline in baselines) == len(evaluated)
    for baseline in baselines:
        assert baseline.asked and not set(baseline.asked) & baseline.seen


def test_networks_answer_the_same_rows_in_the_same_order(catalog):
    rows = TextFolds(catalog, 0, 3)
    settings = TextTrainingSettings(teachers=0, epochs=30, pretrained_words=False)
    logits = rows.text_model_logits(settings, [], 2)
    truth = rows.category_index[rows.evaluated_rows(2)]
    assert logits.shape == (len(truth), rows.categories)
    assert (logits.argmax(axis=1) == truth).mean() > 0.3, "27 categories: guessing is right once in 27"


def test_texts_without_a_label_are_those_that_hold_something(catalog, tiny_catalog):
    texts = read_texts(tiny_catalog)
    assert len(texts) == catalog.has_text.sum() < len(catalog)
    assert all(product.designation or product.description for product in texts)


def test_command_says_who_leads_and_by_how_much(tiny_catalog, monkeypatch, capsys):
    quick = TextTrainingSettings(teachers=0, epochs=30, pretrained_words=False)
    monkeypatch.setattr(text_lead, "TextTrainingSettings", lambda: quick)
    arguments = ["--train", str(tiny_catalog), "--unlabelled", str(tiny_catalog)]
    assert run_command(text_lead.main, arguments) == 0
    printed = capsys.readouterr().out
    f1 = {name: float(value) for name, value in re.findall(r"^\| ([\w +-]+) \| (0\.\d{4}) \|", printed, re.M)}
    assert list(f1) == ["ours", "TF-IDF + LinearSVC", "TF-IDF + log-loss linear"]
    leads = re.findall(r"\| ([+-]\d\.\d{4}) \(([+-]\d\.\d{4}) to ([+-]\d\.\d{4})\) \|", printed)
    for (lead, low, high), theirs in zip(leads, list(f1.values())[1:], strict=True):
        assert float(lead) == pytest.approx(f1["ours"] - theirs, abs=2e-4)
        assert float(low) <= float(lead) <= float(high)


def test_a_catalog_that_is_not_there_is_one_sentence(tmp_path, capsys):
    assert run_command(text_lead.main, ["--train", str(tmp_path / "none")]) != 0
    assert "Traceback" not in capsys.readouterr().err
