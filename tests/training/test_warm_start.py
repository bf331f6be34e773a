"""Warm start from a bundle: columns and words keep their indices, weights are taken over, new ones come after them."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pandas
import pytest

from rakuten_models import Product, ProductClassifier
from rakuten_models.bundle.folder import read_config, write_config
from rakuten_models.cli import run_command
from rakuten_models.preprocessing.text import encode_texts, load_tokenizer
from tests.conftest import tiny_settings
from tests.support.tiny_catalog import CATEGORY_WORDS, write_tiny_catalog
from training import evaluate, train
from training.data.catalog import read_catalog
from training.errors import WarmStartError
from training.fusion.trainer import Gate
from training.image.linear_probe import LinearHead, fit_linear_head
from training.image.trainer import ImageRun, InitialImageModel, LabelledImages, fit_image_model
from training.pipeline.warm_start import load_initial_bundle
from training.settings import SplitSettings
from training.text.sparse_network import SparseNetwork
from training.text.trainer import LabelledTexts, TextFitter
from training.text.warm_start import TextWeights

pytestmark = pytest.mark.slow

CODES = list(CATEGORY_WORDS)


def quick(**changes):
    """One text network, a linear head: every stage in seconds."""
    settings = tiny_settings(
        split=SplitSettings(validation_fraction=0.25, test_fraction=0.25, minimum_pairs=0), **changes
    )
    return dataclasses.replace(
        settings,
        text=dataclasses.replace(settings.text, teachers=0, folds=0),
        image=dataclasses.replace(settings.image.fast(), alpha=0.35),
    )


def catalog_of(folder, codes, seed):
    """A catalog of some of the tiny categories."""
    path = write_tiny_catalog(folder, categories=max(CODES.index(code) for code in codes) + 1, layout="csv", seed=seed)
    table = pandas.read_csv(path, dtype=str, keep_default_na=False)
    table[table["prdtypecode"].isin(map(str, codes))].to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A bundle of the second, third and fourth category."""
    folder = tmp_path_factory.mktemp("before")
    catalog = catalog_of(folder / "catalog", CODES[1:4], seed=3)
    return train.train_bundle(catalog, folder / "bundle", quick(), backbone_weights=None, show=False)


@pytest.fixture(scope="module")
def after(before, tmp_path_factory):
    """The bundle that goes on from it: without the third category, with the first and the sixth."""
    folder = tmp_path_factory.mktemp("after")
    catalog = catalog_of(folder / "catalog", [CODES[0], CODES[1], CODES[3], CODES[5]], seed=4)
    bundle = train.train_bundle(catalog, folder / "bundle", quick(), backbone_weights=None, show=False, init=before)
    return catalog, bundle


def test_old_columns_stay_in_order_and_new_ones_follow(before, after, tmp_path):
    classifier = ProductClassifier.from_pretrained(after[1])
    codes = [category.prdtypecode for category in classifier.categories]
    assert codes == [*CODES[1:4], CODES[0], CODES[5]]
    training = read_config(after[1]).training
    assert training["init"]["categories"] == 3
    assert training["init"]["models"]["text_model.keras"] == (read_config(before).files["text_model.keras"]["sha256"])
    # It is a bundle like any other: answers, is saved, loads again.
    products = [Product(" ".join(CATEGORY_WORDS[code])) for code in codes]
    answers = [each.category.prdtypecode for each in classifier.predict(products)]
    assert answers[0] == codes[0] and answers[3:] == codes[3:]
    # Nothing of this category was in the second catalog: what the first has taught is still there.
    assert answers[1] == codes[1]
    classifier.save_pretrained(tmp_path / "copy")
    again = ProductClassifier.from_pretrained(tmp_path / "copy").predict(products)
    assert [each.category.prdtypecode for each in again] == answers


def test_words_keep_their_ids(before, after):
    old, new = (load_tokenizer(bundle / "tokenizer.json").get_vocab() for bundle in (before, after[1]))
    assert all(new[word] == number for word, number in old.items())
    assert len(new) > len(old) and sorted(new.values()) == list(range(len(new)))


def test_the_network_starts_as_the_bundle_answers(before, after):
    """Before the first step, the network gives the bundle's own logits for the bundle's categories."""
    catalog = read_catalog(before.parent / "catalog" / "catalog.csv")
    products = [product for product in catalog.products() if product.designation]
    tokenizer = load_tokenizer(after[1] / "tokenizer.json")
    settings, model = quick(), keras.saving.load_model(before / "text_model.keras", compile=False)
    start = load_initial_bundle(before, settings)
    fitter = TextFitter(
        LabelledTexts(products, np.zeros(len(products), int), np.ones(len(products))), tokenizer, settings.text_input,
        settings.text, categories=5, start=start.text,
    )  # fmt: skip
    numbers = start.text.initial_weights(
        fitter._word_vectors, tokenizer.get_vocab_size(), fitter.rows.sparse.shape[1], 5, np.array([0, 2, 3, 4])
    )
    assert numbers.frozen_categories.tolist() == [1]
    network = SparseNetwork(fitter._student_rows, 5, settings.text, 1.0, [0])
    network.start_from(numbers)
    linear = start.text.linear_part(fitter.rows.sparse.shape[1], tokenizer.get_vocab_size())
    assert linear.shape[1] == 3 and linear.any()
    network.linear = np.pad(linear, [(0, 0), (0, 2)])
    found = network.logits(fitter._student_rows)[:, :3]
    # Words of validation and test that only the new catalog has are known now.
    words = load_tokenizer(before / "tokenizer.json").get_vocab_size()
    known = (encode_texts(products, tokenizer, settings.text_input)["token_ids"] < words).all(axis=1)
    encoded = encode_texts(products, load_tokenizer(before / "tokenizer.json"), settings.text_input)
    expected = np.asarray(model(encoded)["logits"])
    assert known.sum() >= len(products) / 2
    # The encoder's part of a text is kept in 16 bits.
    np.testing.assert_allclose(found[known], expected[known], atol=0.02)


def test_a_category_without_rows_keeps_its_column(before, after):
    """The head's and the linear part's columns of the category that has no row are what they were."""
    old, new = (keras.saving.load_model(bundle / "text_model.keras", compile=False) for bundle in (before, after[1]))
    (old_head, old_bias), (new_head, new_bias) = (model.get_layer("head").get_weights() for model in (old, new))
    np.testing.assert_array_equal(new_head[:, 1], old_head[:, 1])
    # The linear part moves all biases; that of a category without rows moves as they do on average.
    assert abs(new_bias[1] - old_bias[1]) < 1.5
    assert not np.array_equal(new_head[:, 0], old_head[:, 0])
    old_linear, new_linear = (TextWeights.from_keras(model).linear_words for model in (old, new))
    known = len(old_linear)
    # Rounded to 8 bits a second time, in rows with other columns.
    np.testing.assert_allclose(new_linear[:known, 1], old_linear[:, 1], atol=0.01)
    assert np.abs(old_linear[:, 1]).max() > 0.05
    assert np.abs(new_linear[:known, 0] - old_linear[:, 0]).max() > 0.05


def test_the_image_head_starts_from_another_and_freezes_a_column():
    generator = np.random.default_rng(2)
    features = generator.normal(size=(300, 4)).astype(np.float32)
    truth = np.where(features[:, 0] > 0, 0, 2)
    kernel = generator.normal(size=(4, 3)).astype(np.float32)
    start = LinearHead(kernel, np.array([0.5, 1.0, -1.0], np.float32))
    given = (features, truth, np.ones(300, np.float32), (features, truth), 3)
    # Under a high penalty it stays where it started; under a low one it learns, and the frozen column does not.
    head = fit_linear_head(*given, (1e4,), start, np.array([1]))
    np.testing.assert_allclose(head.kernel, start.kernel, atol=1e-3)
    head = fit_linear_head(*given, (0.01,), start, np.array([1]))
    np.testing.assert_allclose(head.kernel[:, 1], start.kernel[:, 1], atol=1e-5)
    assert ((features @ head.kernel + head.bias).argmax(axis=1) == truth).mean() > 0.95
    assert head.bias[1] == pytest.approx(1.0, abs=1e-5)


def test_fine_tuning_freezes_a_column(before, tmp_path):
    """Through the whole fit: a category without a picture keeps its column to the last bit, the others learn."""
    settings = dataclasses.replace(quick().image, epochs=2, batch_size=4, augmentations=("plain",))
    images = [str(path) for path in sorted((before.parent / "catalog" / "pictures").iterdir())]
    start = load_initial_bundle(before, quick()).image(4)
    maps = start.get_layer("category_maps")
    kernel, bias = maps.get_weights()
    kernel[...] = np.random.default_rng(1).normal(size=kernel.shape)
    maps.set_weights([kernel, bias])
    model = fit_image_model(
        LabelledImages(images, np.arange(len(images)) % 2 * 2),
        LabelledImages(images[:4], np.array([0, 2, 0, 2])),
        quick().image_input,
        settings,
        ImageRun(tmp_path),
        categories=4,
        backbone_weights=None,
        start=InitialImageModel(start, known=3),
    ).model
    tuned, tuned_bias = model.get_layer("category_maps").get_weights()
    np.testing.assert_allclose(tuned[..., 1], kernel[..., 1], rtol=1e-5)
    assert tuned_bias[1] == pytest.approx(bias[1], abs=1e-5)
    assert np.abs(tuned_bias - bias)[[0, 2, 3]].max() > 1e-3


def test_the_image_model_is_taken_over_and_wider(before):
    start = load_initial_bundle(before, quick())
    model, old = start.image(5), keras.saving.load_model(before / "image_model.keras", compile=False)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    found, expected = model({"pixels": pixels}), old({"pixels": pixels})
    np.testing.assert_allclose(found["logits"][:, :3], expected["logits"], atol=1e-5)
    np.testing.assert_allclose(found["features"], expected["features"], atol=1e-6)
    assert found["category_maps"].shape == (2, 3, 3, 5)


def test_a_gate_says_nothing_of_new_categories():
    gate = Gate(1.0, 1.0, np.arange(5 + 2 + 2 + 3, dtype=float), 0.5, np.zeros(5), 0.0)
    wider = gate.for_categories(2, 4)
    assert wider.kernel.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 0, 0, 9, 10, 11]


def test_other_settings_are_refused_in_a_sentence(before, tmp_path, capsys):
    settings = quick()
    model = dataclasses.replace(settings.text.model, units=32)
    with pytest.raises(WarmStartError, match=r"other settings \(text.model is .*32"):
        load_initial_bundle(before, dataclasses.replace(settings, text=dataclasses.replace(settings.text, model=model)))
    serving = shutil.copytree(before, tmp_path / "serving", ignore=shutil.ignore_patterns("*.keras"))
    write_config(serving, read_config(serving))
    given = ["--catalog-dir", "none", "--output-dir", str(tmp_path / "new"), "--init"]
    for folder, words in ((serving, "is the serving part"), ("user/name", "is no folder")):
        assert run_command(train.main, [*given, str(folder)]) == 2
        written = capsys.readouterr().err
        assert words in written and "Traceback" not in written


def test_both_bundles_side_by_side(before, after, tmp_path, capsys):
    """The second bundle does not know two categories: their rows are wrong, and no row makes the command stop."""
    output = tmp_path / "comparison.json"
    given = ["--bundle", str(before), "--compare", str(after[1]), "--catalog-dir", str(after[0])]
    assert run_command(evaluate.main, [*given, "--output", str(output)]) == 0
    written = capsys.readouterr().out
    found = json.loads(output.read_text(encoding="utf-8"))
    test = read_config(after[1]).training["split"]["test"]
    assert found["served"]["rows"] == test
    for code in (CODES[0], CODES[5]):
        assert found["categories"][str(code)]["first_f1"] == 0
    assert set(found["surely_worse"]) <= set(found["worse"]) and CODES[5] in found["worse"]
    difference = found["served"]["difference"]
    assert difference["low"] <= difference["difference"] <= difference["high"] < 0
    assert "the second is better" in written and f"{CODES[5]}  " in written


def test_a_bundle_beside_itself_shows_no_difference(after, capsys):
    given = ["--bundle", str(after[1]), "--compare", str(after[1]), "--catalog-dir", str(after[0])]
    assert run_command(evaluate.main, given) == 0
    written = capsys.readouterr().out
    assert "+0.000 to +0.000" in written and "No category is worse" in written
    assert run_command(evaluate.main, [*given, "--update-bundle"]) == 2
    assert "holds its own figures only" in capsys.readouterr().err


def test_text_start_reads_rounded_and_plain_tables(before):
    model = keras.saving.load_model(before / "text_model.keras", compile=False)
    start = TextWeights.from_keras(model)
    values, scale = model.get_layer("words").get_weights()
    both = np.concatenate([start.words, start.linear_words], axis=1)
    np.testing.assert_allclose(both, values / scale.reshape(-1, 1), rtol=1e-6)
    assert start.words.shape[1] == model.output["features"].shape[-1]
