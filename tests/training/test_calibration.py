"""Temperatures and thresholds against cases whose answer is known."""

import numpy as np
import pytest

from rakuten_models.inference.calibration import Calibration, calibrate
from training.calibration import find_thresholds, fit_calibration, fit_offsets, fit_temperature


def test_temperature_recovers_the_one_that_made_the_labels():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5)).astype(np.float32) * 2
    probabilities = np.exp(logits / 1.7)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    category_index = (probabilities.cumsum(axis=1) < random.random((len(logits), 1))).sum(axis=1)
    assert abs(fit_temperature(logits, category_index) - 1.7) < 0.05


def _drawn(probabilities, random):
    """One category for each row, drawn with these probabilities."""
    return (probabilities.cumsum(axis=1) < random.random((len(probabilities), 1))).sum(axis=1).clip(0, 4)


@pytest.mark.parametrize(("confidence_power", "spread_power"), [(0.5, 0.0), (-0.2, 0.6), (0.3, -0.4)])
def test_calibration_recovers_all_it_was_made_with(confidence_power, spread_power):
    random = np.random.default_rng(0)
    logits = random.normal(size=(100_000, 5)).astype(np.float32) * random.uniform(0.5, 5, (100_000, 1))
    made_with = Calibration(1.6, confidence_power, spread_power, (0.7, 0.9, 1.0, 1.1, 1.6))
    found = fit_calibration(logits, _drawn(calibrate(logits, made_with), random))
    np.testing.assert_allclose(
        (found.confidence_power, found.spread_power), (confidence_power, spread_power), atol=0.05
    )
    # Only the products of the temperature and the categories' own count.
    np.testing.assert_allclose(
        found.temperature * np.array(found.category_temperatures),
        1.6 * np.array(made_with.category_temperatures),
        rtol=0.05,
    )


def test_calibration_without_rows_changes_nothing_and_few_rows_change_little():
    random = np.random.default_rng(0)
    logits = random.normal(size=(30, 5)).astype(np.float32) * 3
    truth = _drawn(calibrate(logits, Calibration()), random)
    assert fit_calibration(logits[:0], truth[:0]) == Calibration()
    found = fit_calibration(logits, truth)
    assert abs(found.confidence_power) < 0.4 and abs(found.spread_power) < 0.4
    assert 0.6 < min(found.category_temperatures) <= max(found.category_temperatures) < 1.7


def test_power_keeps_the_order_and_the_plain_temperature_is_the_power_0():
    logits = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32) * 4
    plain = np.exp(logits / 2.0)
    np.testing.assert_allclose(calibrate(logits, Calibration(2.0)), plain / plain.sum(axis=1, keepdims=True), rtol=1e-5)
    surest = calibrate(logits, Calibration()).max(axis=1, keepdims=True)
    scaled = np.exp(logits / (2.0 * surest**0.7))
    powered = calibrate(logits, Calibration(2.0, 0.7))
    np.testing.assert_allclose(powered, scaled / scaled.sum(axis=1, keepdims=True), rtol=1e-4)
    assert (powered.argsort(axis=1) == logits.argsort(axis=1)).all()


def test_spread_power_counts_with_the_standard_deviation_and_keeps_the_order():
    logits = np.random.default_rng(1).normal(size=(50, 5)).astype(np.float32) * 4
    surest = calibrate(logits, Calibration()).max(axis=1, keepdims=True)
    scaled = np.exp(logits / (2.0 * surest**0.7 * logits.std(axis=1, keepdims=True) ** 0.4))
    spread = calibrate(logits, Calibration(2.0, 0.7, 0.4))
    np.testing.assert_allclose(spread, scaled / scaled.sum(axis=1, keepdims=True), rtol=1e-4)
    assert (spread.argsort(axis=1) == logits.argsort(axis=1)).all()


def test_a_categorys_temperature_is_that_of_the_answers_in_it():
    logits = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32) * 4
    own = calibrate(logits, Calibration(2.0, 0.7, 0.4, (0.5, 1.0, 2.0)))
    for category, temperature in enumerate((0.5, 1.0, 2.0)):
        here = logits.argmax(axis=1) == category
        assert here.any()
        expected = calibrate(logits[here], Calibration(2.0 * temperature, 0.7, 0.4))
        np.testing.assert_allclose(own[here], expected, rtol=1e-5)


@pytest.mark.parametrize("spread_power", [-2.0, 2.0])
def test_logits_that_are_all_equal_say_nothing_whatever_the_power(spread_power):
    calibration = Calibration(0.1, 1.0, spread_power)
    np.testing.assert_allclose(calibrate(np.full((2, 5), 3.0, np.float32), calibration), 0.2)


def test_offsets_make_up_for_a_category_that_is_named_too_often():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 5)).astype(np.float32) * 2
    truth = _drawn(calibrate(logits, Calibration()), random)
    wrong = np.array([1.0, 0, 0, 0, -1.0], np.float32)
    offsets = fit_offsets(logits + wrong, truth)
    np.testing.assert_allclose(offsets, -wrong, atol=0.1)
    assert not fit_offsets(logits[:0], truth[:0]).any()


def test_temperature_without_rows_changes_nothing():
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, int)) == 1.0


def test_threshold_is_the_lowest_that_reaches_the_precision():
    # 100 rows, confidence falling from 1.0 to 0.505; the 10 least confident and nothing else are wrong.
    confidence = np.linspace(1.0, 0.505, 100).astype(np.float32)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.zeros(100, int)
    truth[90:] = 1
    thresholds = find_thresholds(probabilities, truth)
    assert thresholds["0.90"]["share_accepted"] == 1.0
    # 94 accepted rows hold 90 right ones: 0.957; 95 hold 90: 0.947.
    assert thresholds["0.95"]["share_accepted"] == 0.94
    assert 0.85 < thresholds["0.95"]["precision_low"] < 0.95
    assert thresholds["0.95"]["probability"] == float(confidence[93])
    accepted = confidence >= thresholds["0.99"]["probability"]
    assert (truth[accepted] == 0).mean() >= 0.99


def test_threshold_that_cannot_be_reached_is_none():
    probabilities = np.full((50, 2), 0.5, np.float32)
    thresholds = find_thresholds(probabilities, np.arange(50) % 2)
    assert thresholds["0.95"] == {"probability": None, "share_accepted": 0.0, "precision_low": None}
    assert find_thresholds(np.zeros((0, 2), np.float32), np.zeros(0, int))["0.95"]["probability"] is None


def test_equal_confidences_are_accepted_together():
    probabilities = np.array([[0.9, 0.1]] * 30 + [[0.8, 0.2]] * 30, np.float32)
    truth = np.array([0] * 30 + [0] * 15 + [1] * 15)
    assert find_thresholds(probabilities, truth)["0.90"]["share_accepted"] == 0.5
