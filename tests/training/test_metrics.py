"""The measures against scikit-learn, against sums done by hand, and at their edges."""

import json

import numpy as np
import pytest

from training.metrics import (
    calibration,
    category_metrics,
    compute_metrics,
    coverage,
    paired_category_differences,
    paired_difference,
    relative_to_band,
    weighted_f1,
)

sklearn_metrics = pytest.importorskip("sklearn.metrics")

CODES = (10, 40, 50, 1280, 2583)


def random_case(rows=400, seed=0):
    generator = np.random.default_rng(seed)
    categories = len(CODES)
    category_index = generator.integers(0, categories - 1, rows)  # the last category never occurs
    logits = generator.normal(size=(rows, categories))
    logits[np.arange(rows), category_index] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities, category_index


def test_agrees_with_scikit_learn():
    probabilities, truth = random_case()
    predicted = probabilities.argmax(axis=1)
    found = compute_metrics(probabilities, truth, CODES)
    columns = np.arange(len(CODES))
    occurring = np.unique(truth)
    assert found["rows"] == 400 and found["unanswered"] == 0
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert found["weighted_f1"] == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, average="weighted", zero_division=0)
    )
    assert found["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(truth, predicted, labels=occurring, average="macro", zero_division=0)
    )
    assert found["log_loss"] == pytest.approx(sklearn_metrics.log_loss(truth, probabilities, labels=columns))
    assert found["top3_accuracy"] == pytest.approx(
        sklearn_metrics.top_k_accuracy_score(truth, probabilities, k=3, labels=columns)
    )
    assert found["top5_accuracy"] == 1.0
    confusion = sklearn_metrics.confusion_matrix(truth, predicted, labels=columns)
    assert found["confusion_matrix"] == confusion.tolist()
    names = [str(code) for code in CODES]
    report = sklearn_metrics.classification_report(
        truth, predicted, labels=columns, target_names=names, output_dict=True, zero_division=0
    )
    for code in names:
        expected = {name.replace("f1-score", "f1"): value for name, value in report[code].items()}
        assert found["per_category"][code] == pytest.approx(expected)
    lowest = min((report[name]["f1-score"], int(name)) for name in names if report[name]["support"])
    assert (found["lowest_category_f1"], found["lowest_category"]) == pytest.approx(lowest)


def test_counts_done_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.25, 0.35, 0.4]])
    found = compute_metrics(probabilities, [0, 1, 1, 0], (10, 40, 50), thresholds={"0.95": {"probability": 0.65}})
    assert found["accuracy"] == 0.5
    # 10: 1 right of 2 predicted and 2 true; 40: 1 right of 1 predicted and 2 true
    assert found["per_category"]["10"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    assert found["per_category"]["40"]["f1"] == pytest.approx(2 / 3)
    assert found["per_category"]["50"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2), "category 50 does not occur in the truth"
    assert (found["lowest_category_f1"], found["lowest_category"]) == (0.5, 10)
    assert (found["lowest_category_f1_30_rows"], found["lowest_category_30_rows"]) == (None, None)
    assert found["confusion_matrix"] == [[1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.25]).mean())
    assert found["thresholds"]["0.95"] == {
        "probability": 0.65, "rows": 2, "share_accepted": 0.5, "precision": 1.0,
    }  # fmt: skip
    # four rows fill four bins of one row: |hit - confidence| each
    assert found["ece"] == pytest.approx((0.3 + 0.6 + 0.2 + 0.4) / 4)


def test_rows_without_an_answer_are_errors_that_nothing_accepts():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [np.nan, np.nan], [0.3, 0.7]])
    found = compute_metrics(
        probabilities, [0, 0, 0, 1], (10, 40), answered=[True, True, False, True],
        thresholds={"0.90": {"probability": 0.0}},
    )  # fmt: skip
    assert (found["rows"], found["unanswered"]) == (4, 1)
    assert found["accuracy"] == found["top3_accuracy"] == 0.75
    assert found["per_category"]["10"] == pytest.approx({"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert found["weighted_f1"] == pytest.approx(
        sklearn_metrics.f1_score([0, 0, 0, 1], [0, 0, -1, 1], labels=[0, 1], average="weighted")
    )
    assert found["thresholds"]["0.90"]["share_accepted"] == found["coverage"][-1]["share_accepted"] == 0.75
    assert sum(part["rows"] for part in found["reliability"]) == 3
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.7]).mean())


def test_bins_have_equal_mass_and_their_error_is_the_plain_sum():
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.2, 1.0, 1000)
    correct = generator.random(1000) < confidence - 0.1
    reliability, error, _ = calibration(confidence, correct)
    assert len(reliability) == 15 and {part["rows"] for part in reliability} == {66, 67}
    order = np.argsort(confidence)
    parts = np.array_split(order, 15)
    expected = sum(len(part) * abs(correct[part].mean() - confidence[part].mean()) for part in parts) / 1000
    assert error == pytest.approx(expected)


def test_calibrated_band_holds_a_calibrated_model_and_not_an_overconfident_one():
    generator = np.random.default_rng(2)
    confidence = generator.uniform(0.3, 1.0, 2000)
    inside = []
    for _ in range(60):
        correct = generator.random(2000) < confidence
        _, error, band = calibration(confidence, correct, simulations=200)
        inside.append(band["low"] <= error <= band["high"])
    assert np.mean(inside) > 0.85  # 95 % are expected
    _, error, band = calibration(confidence, generator.random(2000) < confidence - 0.1)
    assert error > band["high"]
    correct = confidence > 0.5
    assert calibration(confidence, correct, seed=3) == calibration(confidence, correct, seed=3)


def test_relative_to_the_band():
    band = {"low": 0.01, "mean": 0.015, "high": 0.02}
    found = [relative_to_band(value, band) for value in (0.005, 0.01, 0.015, 0.02, 0.025)]
    assert found == ["below", "within", "within", "within", "above"]
    assert relative_to_band(None, None) is None


def test_coverage_grows_to_all_rows_and_ends_at_accuracy():
    probabilities, truth = random_case()
    found = compute_metrics(probabilities, truth, CODES)
    points = found["coverage"]
    shares = [point["share_accepted"] for point in points]
    assert len(points) == 50 and shares == sorted(set(shares)) and shares[-1] == 1.0
    assert points[-1]["precision"] == pytest.approx(found["accuracy"])
    assert all(point["share_accepted"] == point["rows"] / 400 for point in points)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    for point in points:
        assert point["precision"] == pytest.approx(correct[confidence >= point["probability"]].mean())


def test_equal_confidences_are_accepted_together():
    points = coverage(np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, False, True, True]), 4)
    assert [point["rows"] for point in points] == [3, 4]


def test_no_rows_give_none_and_valid_json():
    thresholds = {"0.95": {"probability": 0.8}}
    found = compute_metrics(np.zeros((0, 3)), np.zeros(0, dtype=int), (10, 40, 50), thresholds=thresholds)
    assert found["rows"] == 0 and found["weighted_f1"] is None and found["ece"] is None
    assert found["coverage"] == [] and found["reliability"] == []
    assert found["thresholds"]["0.95"]["share_accepted"] is None
    json.dumps(found, allow_nan=False)


def test_result_is_json_without_nan():
    probabilities, truth = random_case(rows=7)
    json.dumps(compute_metrics(probabilities, truth, CODES), allow_nan=False)


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [
        (np.ones((2, 3)) / 3, [0]),  # another number of rows
        (np.ones((1, 2)) / 2, [0]),  # another number of categories
        (np.ones((1, 3)) / 3, [3]),  # a column that does not exist
        (np.full((1, 3), np.nan), [0]),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(probabilities, truth):
    with pytest.raises(ValueError):
        compute_metrics(probabilities, truth, (10, 40, 50))


def test_paired_difference():
    probabilities, truth = random_case()
    predicted = probabilities.argmax(axis=1)
    same = paired_difference(truth, predicted, predicted, len(CODES), draws=50)
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0}
    worse = np.where(np.arange(len(truth)) % 5 == 0, 4, predicted)
    found = paired_difference(truth, predicted, worse, len(CODES), draws=200)
    expected = weighted_f1(truth, predicted, len(CODES)) - weighted_f1(truth, worse, len(CODES))
    assert found["difference"] == pytest.approx(expected)
    assert 0 < found["low"] < found["difference"] < found["high"]


def test_differences_of_every_category_with_their_intervals():
    generator = np.random.default_rng(4)
    truth = generator.integers(0, 3, 300)
    # The first answer never names category 2; elsewhere both are right nine times in ten, on other rows.
    first, second = (np.where(generator.random(300) < 0.9, truth, generator.integers(0, 3, 300)) for _ in range(2))
    first = np.where(first == 2, 0, first)
    found = paired_category_differences(truth, first, second, 3, draws=200)
    f1 = [[values["f1"] for values in category_metrics(truth, each, [0, 1, 2])[0].values()] for each in (first, second)]
    assert [each["difference"] for each in found] == pytest.approx(np.subtract(*f1).tolist())
    assert found[2]["high"] < -0.8 and found[1]["low"] < 0 < found[1]["high"]
    assert all(each["low"] <= each["difference"] <= each["high"] for each in found)
