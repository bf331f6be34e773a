"""The fusion model: one modality exactly, both better, few rows, and the same numbers in Keras and in the fit."""

import keras
import numpy as np
import pytest

from training.fusion.model import build_fusion_model
from training.fusion.trainer import fit_fusion
from training.settings import FusionSettings

CATEGORIES, TEXT_WIDTH, IMAGE_WIDTH = 4, 6, 5


def two_models(n, seed=0, text_signal=2.5, image_signal=1.5):
    """Outputs of two independent models for n rows of random categories."""
    generator = np.random.default_rng(seed)
    category_index = generator.integers(0, CATEGORIES, n)
    truth = np.eye(CATEGORIES)[category_index]
    text = {
        "logits": (text_signal * truth + generator.normal(size=truth.shape)).astype(np.float32),
        "features": generator.normal(size=(n, TEXT_WIDTH)).astype(np.float32),
    }
    image = {
        "logits": (image_signal * truth + generator.normal(size=truth.shape)).astype(np.float32),
        "features": generator.normal(size=(n, IMAGE_WIDTH)).astype(np.float32),
    }
    return text, image, category_index


def inputs(text, image, text_present, image_present):
    n = len(text["logits"])
    return {
        "text_features": text["features"] * text_present,
        "text_logits": text["logits"] * text_present,
        "image_features": image["features"] * image_present,
        "image_logits": image["logits"] * image_present,
        "text_present": np.full((n, 1), text_present, np.float32),
        "image_present": np.full((n, 1), image_present, np.float32),
    }


@pytest.fixture(scope="module")
def fitted():
    text, image, category_index = two_models(400)
    fitted = fit_fusion(text, image, category_index)
    return fitted.model, fitted.logits, fitted.report


def accuracy(logits, category_index):
    return (np.asarray(logits).argmax(axis=1) == category_index).mean()


def test_one_modality_gets_exactly_its_own_logits(fitted):
    model, _, _ = fitted
    text, image, _ = two_models(50, seed=1)
    for text_present, image_present, alone, weight in ((1, 0, text, 0.0), (0, 1, image, 1.0)):
        answer = model(inputs(text, image, text_present, image_present))
        np.testing.assert_array_equal(np.asarray(answer["logits"]), alone["logits"])
        np.testing.assert_array_equal(np.asarray(answer["image_weight"]), np.full((50, 1), weight, np.float32))


def test_fusion_beats_both_models_on_new_rows(fitted):
    model, out_of_fold, report = fitted
    text, image, category_index = two_models(600, seed=2)
    answer = model(inputs(text, image, 1, 1))
    best = max(accuracy(text["logits"], category_index), accuracy(image["logits"], category_index))
    assert accuracy(answer["logits"], category_index) > best + 0.02
    weights = np.asarray(answer["image_weight"])
    assert ((weights > 0) & (weights < 1)).all()
    assert report.rows == 400 and report.weighted_f1[report.gate] >= report.weighted_f1["text"]
    assert out_of_fold.shape == (400, CATEGORIES) and out_of_fold.dtype == np.float32


def test_a_useless_modality_never_makes_fusion_worse_than_the_better_one():
    text, image, category_index = two_models(120, seed=3, image_signal=0.0)
    report = fit_fusion(text, image, category_index).report
    chosen = report.gate.removesuffix(" only")
    assert report.weighted_f1[chosen] >= max(report.weighted_f1["text"], report.weighted_f1["image"])


def test_learns_when_to_trust_the_picture():
    """In half of the rows the picture's logits are sharp and right, in the other half flat noise."""
    text, image, category_index = two_models(800, seed=4, text_signal=1.5, image_signal=0.0)
    sharp = np.arange(800) % 2 == 0
    image["logits"] *= 0.3
    image["logits"][sharp] += 6.0 * np.eye(CATEGORIES, dtype=np.float32)[category_index[sharp]]
    image["features"][:, 0] = np.where(sharp, 2.0, -2.0)
    found = fit_fusion(text, image, category_index)
    model, report = found.model, found.report
    weights = np.asarray(model(inputs(text, image, 1, 1))["image_weight"])[:, 0]
    assert report.gate != "pool"
    assert weights[sharp].mean() > weights[~sharp].mean() + 0.1


def test_few_rows_give_the_default_gate_and_say_so():
    text, image, category_index = two_models(7)
    found = fit_fusion(text, image, category_index)
    model, out_of_fold, report = found.model, found.logits, found.report
    assert "Only 7 validation rows" in report.note and report.gate == "default"
    answer = model(inputs(text, image, 1, 1))
    np.testing.assert_allclose(np.asarray(answer["image_weight"]), 0.35, atol=1e-3)
    np.testing.assert_allclose(np.asarray(answer["logits"]), out_of_fold, atol=1e-4)
    empty = {"logits": np.zeros((0, 4), np.float32), "features": np.zeros((0, 6), np.float32)}
    assert fit_fusion(empty, empty, np.zeros(0, int)).logits.shape == (0, 4)


def test_keras_says_what_the_fit_computed():
    """Every gate's numbers, put into the Keras model, give the logits that NumPy computed while fitting."""
    from training.fusion.trainer import GateInputs, _fit, _Outputs, _to_keras

    text, image, category_index = two_models(150, seed=5)
    both = _Outputs.of(text, image)
    for gate_inputs in GateInputs:
        gate = _fit(both, category_index, gate_inputs, FusionSettings(signal_penalty=1.0, feature_penalty=1.0))
        answer = _to_keras(gate, both)(inputs(text, image, 1, 1))
        np.testing.assert_allclose(np.asarray(answer["logits"]), both.fused(gate), atol=1e-4)


def test_same_seed_same_gate(fitted):
    model, out_of_fold, _ = fitted
    text, image, category_index = two_models(400)
    found = fit_fusion(text, image, category_index)
    again = found.model
    np.testing.assert_array_equal(out_of_fold, found.logits)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_reloads_in_safe_mode_and_compiles(fitted, tmp_path):
    from rakuten_models.inference.runtime import CompiledModel
    from training.pipeline.export import save_and_compile

    model, _, _ = fitted
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    text, image, _ = two_models(9, seed=6)
    example = inputs(text, image, 1, 1)
    assert save_and_compile(copy, tmp_path, "fusion", example) < 1e-4
    keras.saving.load_model(tmp_path / "fusion_model.keras", safe_mode=True)
    compiled = CompiledModel(tmp_path / "fusion_model.tflite")
    for text_present, image_present, alone, weight in ((1, 0, text, 0.0), (0, 1, image, 1.0)):
        answer = compiled(**inputs(text, image, text_present, image_present))
        np.testing.assert_array_equal(answer["logits"], alone["logits"])
        np.testing.assert_array_equal(answer["image_weight"], np.full((9, 1), weight, np.float32))


def test_untrained_model_is_the_product_of_both_models():
    model = build_fusion_model(CATEGORIES, TEXT_WIDTH, IMAGE_WIDTH)
    text, image, _ = two_models(5)
    answer = model(inputs(text, image, 1, 1))
    expected = text["logits"] + image["logits"]
    probabilities = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(answer["logits"])), probabilities, atol=1e-5)
    np.testing.assert_allclose(np.asarray(answer["image_weight"]), 0.5, atol=1e-6)
