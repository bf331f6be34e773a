"""The public interface: any mix of products, and the same answer however it is asked for."""

import shutil
import threading

import keras
import numpy as np
import pytest
from PIL import Image

from rakuten_models import Category, Product, ProductClassifier, ProductError
from rakuten_models.bundle.config import KERAS_FILES, TOKENIZER_FILE
from rakuten_models.bundle.folder import bundle_files
from rakuten_models.classifier import self_check_product
from rakuten_models.errors import BundleError
from rakuten_models.inference.calibration import calibrate
from rakuten_models.preprocessing.image import read_image
from rakuten_models.preprocessing.text import encode_texts, load_tokenizer
from training.data.catalog import read_catalog


@pytest.fixture(scope="module")
def products(tiny_catalog):
    """Forty products with a text, a picture, or both."""
    return read_catalog(tiny_catalog).products()[:40]


def assert_same(one, other, tolerance=1e-6):
    assert one.error == other.error
    for name in ("probabilities", "text_probabilities", "image_probabilities"):
        first, second = getattr(one, name), getattr(other, name)
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_allclose(first, second, atol=tolerance)
    if one.image_weight is not None:
        assert abs(one.image_weight - other.image_weight) <= tolerance


def test_a_prediction_says_all_that_it_promises(classifier, products):
    product = next(p for p in products if p.image and p.designation)
    prediction = classifier.predict(product)
    assert isinstance(prediction.category, Category)
    assert prediction.category.name("fr") != prediction.category.name("en")
    assert isinstance(prediction.probability, float)
    assert prediction.probabilities.dtype == np.float32
    assert prediction.probabilities.shape == (len(classifier.categories),) == (27,)
    assert abs(float(prediction.probabilities.sum()) - 1) < 1e-5
    assert prediction.probability == pytest.approx(prediction.probabilities.max())
    assert 0 <= prediction.image_weight <= 1
    assert prediction.decision in ("accept", "review")
    assert prediction.error is None
    top = prediction.top(3)
    assert top[0] == (prediction.category, prediction.probability)
    assert [value for _, value in top] == sorted((value for _, value in top), reverse=True)
    assert len(prediction.top(100)) == 27


def test_one_at_a_time_is_batched_is_reordered(classifier, products):
    batched = classifier.predict(products)
    for product, prediction in zip(products, batched, strict=True):
        assert_same(classifier.predict(product), prediction)
    for prediction, other in zip(reversed(batched), classifier.predict(products[::-1]), strict=True):
        assert_same(prediction, other)


def test_many_products_are_answered_in_order(classifier, products):
    many = classifier.predict(products * 15)
    assert len(many) == 600
    for position in (0, 255, 256, 599):
        assert_same(many[position], classifier.predict(products[position % 40]))


def test_one_side_gives_exactly_that_sides_answer(classifier, products):
    product = next(p for p in products if p.image and p.designation)
    both = classifier.predict(product)
    text = classifier.predict(Product(product.designation, product.description))
    image = classifier.predict(Product(image=product.image))
    assert (text.image_weight, image.image_weight) == (0.0, 1.0)
    assert text.image_probabilities is None and image.text_probabilities is None
    np.testing.assert_array_equal(text.probabilities, text.text_probabilities)
    np.testing.assert_array_equal(image.probabilities, image.image_probabilities)
    np.testing.assert_allclose(both.text_probabilities, text.probabilities, atol=1e-6)
    np.testing.assert_allclose(both.image_probabilities, image.probabilities, atol=1e-6)


def test_saved_and_reloaded_is_the_same(classifier, products, tmp_path):
    saved = ProductClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "copy"))
    assert bundle_files(saved.folder) == bundle_files(classifier.folder)
    for one, other in zip(classifier.predict(products), saved.predict(products), strict=True):
        assert_same(one, other, tolerance=0)


def test_saving_a_serving_part_says_so(classifier, tiny_bundle, tmp_path, caplog):
    part = shutil.copytree(tiny_bundle, tmp_path / "part", ignore=shutil.ignore_patterns("*.keras"))
    ProductClassifier.from_pretrained(part).save_pretrained(tmp_path / "copy")
    assert "Only the serving part is written" in caplog.text
    assert not any((tmp_path / "copy" / name).exists() for name in KERAS_FILES)
    caplog.clear()
    classifier.save_pretrained(tmp_path / "whole")
    assert not caplog.text


def test_keras_files_load_without_our_code_and_agree_with_what_serves(classifier, tiny_bundle):
    models = [keras.saving.load_model(tiny_bundle / name, compile=False, safe_mode=True) for name in KERAS_FILES]
    config = classifier.config
    tokenizer = load_tokenizer(tiny_bundle / TOKENIZER_FILE)
    for entry in config.self_check["products"]:
        product = self_check_product(entry)
        served = classifier.predict(product)
        outputs = {}
        if product.designation:
            outputs["text"] = models[0](encode_texts([product], tokenizer, config.text), training=False)
            found = calibrate(np.asarray(outputs["text"]["logits"]), config.calibration["text"])[0]
            np.testing.assert_allclose(found, served.text_probabilities, atol=1e-4)
        if product.image:
            outputs["image"] = models[1]({"pixels": read_image(product.image, config.image)[None]}, training=False)
            found = calibrate(np.asarray(outputs["image"]["logits"]), config.calibration["image"])[0]
            np.testing.assert_allclose(found, served.image_probabilities, atol=1e-4)
        if len(outputs) == 2:
            sides = {
                f"{side}_{name}": np.asarray(outputs[side][name]) for side in outputs for name in ("features", "logits")
            }
            one = np.ones((1, 1), np.float32)
            fused = models[2]({**sides, "text_present": one, "image_present": one}, training=False)
            found = calibrate(np.asarray(fused["logits"]), config.calibration["fusion"])[0]
            np.testing.assert_allclose(found, served.probabilities, atol=1e-4)
            assert float(fused["image_weight"][0, 0]) == pytest.approx(served.image_weight, abs=1e-4)


def test_self_check_is_reproduced_and_notices_another_answer(classifier, tiny_bundle):
    assert classifier.reproduce_self_check() <= 1e-6
    changed = ProductClassifier.from_pretrained(tiny_bundle)
    changed.config.self_check["probabilities"][0][0] += 0.01
    with pytest.raises(BundleError, match=r"its own self-check otherwise .* differs by 0\.0100"):
        changed.reproduce_self_check()


def test_a_bad_product_raises_alone_and_stays_in_its_place_in_a_list(classifier, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(ProductError, match=r"'broken.jpg' cannot be read as a picture"):
        classifier.predict(Product("Chaise", image=broken))
    with pytest.raises(ProductError, match="holds no text and no picture"):
        classifier.predict(Product())
    with pytest.raises(ProductError, match="The designation is a NoneType; give a string"):
        classifier.predict(Product(None))

    text, image_only, empty, wrong, good = classifier.predict(
        [Product("Chaise", image=broken), Product(image=broken), Product("?"), "Chaise", Product("Chaise")]
    )
    assert "cannot be read" in text.error
    np.testing.assert_allclose(text.probabilities, good.probabilities, atol=1e-6)
    assert good.error is None
    for prediction, words in (
        (image_only, "cannot be read"),
        (empty, "no text and no picture"),
        (wrong, "A str was given"),
    ):
        assert words in prediction.error
        assert prediction.category is prediction.probability is prediction.probabilities is None
        assert prediction.decision == "review"
        assert prediction.top(3) == []


def test_no_products_give_no_predictions(classifier):
    assert classifier.predict([]) == []


def test_threads_get_the_answers_of_their_own_products(classifier, products):
    expected = classifier.predict(products)
    found = [None] * 4

    def work(number):
        found[number] = [classifier.predict(product) for product in products[number::4]]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        for one, other in zip(found[number], expected[number::4], strict=True):
            assert_same(one, other)


def test_decision_follows_the_threshold(classifier, products):
    threshold = classifier.config.thresholds["0.95"]["probability"]
    for prediction in classifier.predict(products):
        accepted = threshold is not None and prediction.probability >= threshold
        assert prediction.decision == ("accept" if accepted else "review")


def test_a_picture_in_any_form_gets_the_same_answer(classifier, products):
    path = next(p.image for p in products if p.image)
    with Image.open(path) as image, open(path, "rb") as file:
        forms = [path, file.read(), image.copy(), np.asarray(image.convert("RGB"))]
    answers = classifier.predict([Product(image=form) for form in forms])
    # Only a file lets the decoder skip detail; the tiny pictures are too small for that to differ.
    for answer in answers[1:]:
        assert_same(answers[0], answer, tolerance=1e-3)


@pytest.mark.parametrize(
    ("source", "revision", "words"),
    [
        ("no/such/folder", None, "is neither a folder nor a hub id"),
        ("not a hub id", None, "is neither a folder nor a hub id"),
        ("", None, "is neither a folder nor a hub id"),
        (".", "main", "revisions belong to hub repositories"),
        (".", None, "is no bundle: it holds no config.json"),
    ],
)
def test_sources_that_cannot_be_loaded(source, revision, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=words):
        ProductClassifier.from_pretrained(source, revision=revision)


def test_another_threshold_changes_decisions_alone(classifier):
    product = Product("canapé de salon")
    before = classifier.predict(product)
    own = classifier.threshold
    assert before.decision == ("accept" if own is not None and before.probability >= own else "review")
    for threshold, decision in ((0.0, "accept"), (before.probability, "accept"), (1.01, "review")):
        for after in (
            classifier.predict(product, threshold=threshold),
            classifier.predict([product], threshold=threshold)[0],
            classifier.explain(product, threshold=threshold).prediction,
        ):
            assert after.decision == decision
            np.testing.assert_array_equal(after.probabilities, before.probabilities)
