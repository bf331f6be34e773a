"""The benchmark's figures and tables, on answers whose quality is known."""

import json

import numpy as np
import pytest

from benchmarks.quality.tables import MethodResult, format_confusions, format_lead, format_section, section_metrics
from training.metrics import compute_metrics, weighted_f1

CODES = (10, 40, 2705)


@pytest.fixture(scope="module")
def case():
    """Truth of 300 rows, and answers of a good, a poor and an equally good method."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 300)
    logits = generator.normal(size=(300, 3))

    def answers(strength, threshold=None):
        scaled = np.exp(logits + strength * np.eye(3)[truth])
        return MethodResult(scaled / scaled.sum(axis=1, keepdims=True), 1.5, 12.0, 3456.0, threshold)

    return truth, {"poor": answers(0.5), "twin": answers(3.0), "ours": answers(3.0, threshold=0.9)}


def cells(lines, name):
    (line,) = [line for line in lines if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.split("|")[1:-1]]


def test_figures_are_those_of_the_measures(case):
    truth, answers = case
    found = section_metrics(answers, "ours", truth, CODES)
    json.dumps(found, allow_nan=False)
    expected = compute_metrics(answers["poor"].probabilities, truth, CODES)
    for key in ("rows", "weighted_f1", "macro_f1", "ece", "ece_calibrated", "lowest_category_30_rows"):
        assert found["poor"][key] == expected[key]
    lead = found["poor"]["lead"]
    predicted = {name: answer.probabilities.argmax(axis=1) for name, answer in answers.items()}
    assert lead["difference"] == pytest.approx(
        weighted_f1(truth, predicted["ours"], 3) - weighted_f1(truth, predicted["poor"], 3)
    )
    assert 0 < lead["low"] < lead["difference"] < lead["high"]
    assert found["twin"]["lead"] == {"difference": 0.0, "low": 0.0, "high": 0.0} and found["ours"]["lead"] is None
    confidence = answers["ours"].probabilities.max(axis=1)
    stored = found["ours"]["accepted_at_stored_threshold"]
    assert stored["share_accepted"] == np.mean(confidence >= 0.9)
    assert stored["precision"] == np.mean(predicted["ours"][confidence >= 0.9] == truth[confidence >= 0.9])
    assert found["poor"]["accepted_at_stored_threshold"] is None


def test_table_and_sentence(case):
    truth, answers = case
    found = section_metrics(answers, "ours", truth, CODES)
    lines = format_section("Text", found)
    assert lines[0] == "### Text: 300 rows"
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    poor, ours = cells(lines, "poor"), cells(lines, "ours")
    assert poor[1] == f"{found['poor']['weighted_f1']:.3f}" and poor[7:10] == ["1.5", "12", "3,456"]
    assert ours[-1] == "" and ours[6].endswith("%)") and poor[6] == ""
    lead = found["poor"]["lead"]
    assert poor[-1] == f"{lead['difference']:+.3f} ({lead['low']:+.3f} to {lead['high']:+.3f})"
    sentence = format_lead("text method", {"poor": found["poor"]})
    assert sentence.startswith("Ours is above the best text method of this run (poor): +")
    assert sentence.endswith("on the same 300 rows; the interval leaves out zero.")
    sentence = format_lead("text method", {"poor": found["poor"], "twin": found["twin"]})
    assert "is not above the best text method of this run (twin)" in sentence and "holds zero" in sentence


def test_confusions_by_method():
    groups = [{"prdtypecodes": [10, 2705], "rows": 7, "confused_share": 0.25, "f1": {"10": 0.5, "2705": 0.75}}]
    lines = format_confusions({"plain": groups, "ours": [{**groups[0], "confused_share": None}]})
    assert cells(lines, "10, 2705") == ["10, 2705", "7", "25.0%", "0.500, 0.750", "", "0.500, 0.750"]
    assert format_confusions({"plain": [], "ours": []}) == []
