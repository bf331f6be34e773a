"""The text side: what it reads, that padding changes nothing, that all its forms agree, that it learns."""

from __future__ import annotations

import dataclasses

import keras
import numpy
import pytest

from rakuten_models.preprocessing import TextSettings, encode_texts, load_tokenizer
from rakuten_models.product import Product
from rakuten_models.runtime import CompiledModel
from training import fit_text
from training.convert import save_and_compile
from training.models import TextModelSettings, build_text_model

TEXT = TextSettings(
    designation_tokens=16, description_tokens=32, designation_characters=64, description_characters=128
)
SETTINGS = fit_text.TextTrainingSettings(
    model=TextModelSettings(units=16, pair_rows=211, character_rows=499), minimum_word_count=1, epochs=30
)
WORDS = (
    ("piscine", "tubulaire", "ronde", "filtre", "liner", "bâche"),
    ("roman", "poche", "édition", "chapitre", "auteur", "tome"),
    ("console", "manette", "jeu", "pixel", "joystick", "cartouche"),
)
ODD = [
    Product(designation="x"),
    Product(description="Ein Roman über drei Brüder"),
    Product(designation="Piscine " * 60, description="<p>&Eacute;t&eacute; " * 200),
    Product(designation="日本語 の 本 ☂", description="ロマン"),
    Product(designation="!!! ???"),
]


def _products(count: int, seed: int) -> tuple[list[Product], numpy.ndarray]:
    """Products of three categories, each text three or four of its category's words and one of another's."""
    random = numpy.random.default_rng(seed)
    category_index = numpy.arange(count) % len(WORDS)
    products = []
    for category in category_index:
        words = [*random.choice(WORDS[category], 3), random.choice(WORDS[random.integers(len(WORDS))])]
        described = random.random() < 0.5
        products.append(
            Product(
                designation=" ".join(words).title(), description=" ".join(words[::-1]) if described else ""
            )
        )
    return products, category_index


def _fit(count: int = 60, progress=None, seed: int = 0):
    products, category_index = _products(count, 1)
    tokenizer = fit_text.train_tokenizer(
        [text for p in products for text in (p.designation, p.description)], SETTINGS
    )
    validation, validation_index = _products(30, 2)
    fitter = fit_text.TextFitter(
        products + validation,
        numpy.concatenate([category_index, validation_index]),
        numpy.ones(count + 30),
        tokenizer,
        TEXT,
        SETTINGS,
        categories=3,
        seed=seed,
    )
    network = fitter.fit(numpy.arange(count), numpy.arange(count, count + 30), progress)
    model = fitter.to_keras(network)
    return model, tokenizer, validation


@pytest.fixture(scope="module")
def fitted():
    """A model of 60 rows, its tokenizer, validation products, and what each epoch reported."""
    epochs: list[fit_text.TextEpoch] = []
    return *_fit(progress=epochs.append), epochs


def _run(model, products, tokenizer):
    return {
        name: numpy.asarray(value) for name, value in model(encode_texts(products, tokenizer, TEXT)).items()
    }


def test_learns_a_tiny_catalog(fitted):
    """Sixty rows are enough for three categories with words of their own."""
    epochs = fitted[3]
    passes = SETTINGS.epochs * (1 + SETTINGS.teachers)
    assert [epoch.epoch for epoch in epochs] == list(range(1, passes + 1))
    assert {epoch.epochs for epoch in epochs} == {passes}
    assert epochs[SETTINGS.epochs - 1].loss < epochs[0].loss
    assert epochs[-1].loss < epochs[-SETTINGS.epochs].loss
    assert epochs[-1].validation_f1 > 0.85


def test_same_seed_same_model(fitted):
    """The same seed gives the same numbers, another seed others."""
    first, again, other = fitted[0].get_weights(), _fit()[0].get_weights(), _fit(seed=1)[0].get_weights()
    assert all(numpy.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(numpy.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_graph_and_the_fit_agree(fitted):
    """The Keras model computes what was fitted: pooled rows of its tables, rectified, through the head."""
    model, tokenizer, validation, _ = fitted
    products = validation + ODD
    rows = fit_text._FeatureMatrix(tokenizer, TEXT, SETTINGS.model)(products)
    tables = []
    for name in fit_text._TABLES:
        values, scale = (
            numpy.asarray(weight, numpy.float32) for weight in model.get_layer(name).get_weights()
        )
        tables.append(values / scale.reshape(-1, 1))
    features = numpy.maximum(rows @ numpy.concatenate(tables), 0)
    head, bias = model.get_layer("logits").get_weights()
    found = _run(model, products, tokenizer)
    numpy.testing.assert_allclose(found["features"], features, atol=1e-5)
    numpy.testing.assert_allclose(found["logits"], features @ head + bias, atol=1e-4)


def test_logits_are_a_sum_over_what_was_read(fitted):
    """With the rectifier's pattern fixed, one vector a table row and the bias add up to the logits."""
    model, tokenizer, validation, _ = fitted
    found = _run(model, validation[:1], tokenizer)
    rows = fit_text._FeatureMatrix(tokenizer, TEXT, SETTINGS.model)(validation[:1])
    tables = []
    for name in fit_text._TABLES:
        values, scale = (
            numpy.asarray(weight, numpy.float32) for weight in model.get_layer(name).get_weights()
        )
        tables.append(values / scale.reshape(-1, 1))
    head, bias = model.get_layer("logits").get_weights()
    contributions = (rows.data[:, None] * numpy.concatenate(tables)[rows.indices]) @ (
        head * (found["features"][0] > 0)[:, None]
    )
    assert contributions.shape == (rows.nnz, 3)
    numpy.testing.assert_allclose(contributions.sum(axis=0) + bias, found["logits"][0], atol=1e-4)


def test_padding_and_neighbours_change_nothing(fitted):
    """A product's logits do not depend on the width of its arrays nor on the rows beside it."""
    model, tokenizer, validation, _ = fitted
    products = validation[:4] + ODD
    together = _run(model, products, tokenizer)["logits"]
    for row, product in enumerate(products):
        alone = encode_texts([product], tokenizer, TEXT)
        numpy.testing.assert_allclose(numpy.asarray(model(alone)["logits"])[0], together[row], atol=1e-5)
        wider = {name: numpy.pad(ids, [(0, 0), (0, 37)]) for name, ids in alone.items()}
        numpy.testing.assert_allclose(numpy.asarray(model(wider)["logits"])[0], together[row], atol=1e-5)


def test_reloads_in_safe_mode_and_compiles(fitted, tmp_path):
    """`.keras` loads in safe mode; `.tflite` takes the same names and any width, and agrees."""
    model, tokenizer, validation, _ = fitted
    products = validation + ODD
    assert save_and_compile(model, tmp_path, "text", encode_texts(products, tokenizer, TEXT)) <= 1e-4
    reloaded = keras.saving.load_model(tmp_path / "text_model.keras", safe_mode=True)
    assert {model_input.name for model_input in reloaded.inputs} == {"token_ids", "character_ids"}
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    compiled = CompiledModel(tmp_path / "text_model.tflite")
    compiled.check_signature({"token_ids", "character_ids"}, {"logits", "features"})
    for some in (products, products[:1], products[-1:], ODD[1:3]):
        inputs = encode_texts(some, tokenizer, TEXT)
        expected, found = reloaded(inputs), compiled(**inputs)
        for name in ("logits", "features"):
            numpy.testing.assert_allclose(found[name], numpy.asarray(expected[name]), atol=1e-5)
    # Eight bits a table value: a quarter of what 32 bits take; some 80 kB describe the two signatures.
    values = sum(layer.input_dim for layer in map(model.get_layer, fit_text._TABLES)) * SETTINGS.model.units
    assert (tmp_path / "text_model.tflite").stat().st_size < 2 * values + 90_000


@pytest.mark.parametrize("categories", [2, 3000])
def test_any_number_of_categories(categories):
    """Two categories or thousands: the shapes follow."""
    model = build_text_model(categories, 50, TEXT, SETTINGS.model)
    ids = {name: numpy.ones((2, 7), numpy.int32) for name in ("token_ids", "character_ids")}
    assert model(ids)["logits"].shape == (2, categories)


def test_hashes_stay_within_32_bits():
    """The largest ids and tables that are allowed give row numbers inside the tables."""
    settings = dataclasses.replace(SETTINGS.model, pair_rows=7_999_993, character_rows=7_999_993)
    inputs = fit_text.text_inputs()
    tables = fit_text.text_feature_rows(inputs, 262_000, TEXT, settings)
    graph = keras.Model(inputs, {name: rows for name, (_, rows, _) in tables.items()})
    random = numpy.random.default_rng(0)
    found = graph(
        {
            "token_ids": random.integers(261_000, 262_000, (4, 40)).astype(numpy.int32),
            "character_ids": random.integers(200, 256, (4, 40)).astype(numpy.int32),
        }
    )
    for name, (count, _, _) in tables.items():
        rows = numpy.asarray(found[name])
        assert rows.min() >= 0 and rows.max() < count


def test_text_is_read_up_to_its_part(fitted):
    """A long designation never runs into the description's columns; arrays are no wider than needed."""
    tokenizer = fitted[1]
    short = encode_texts([Product(designation="Piscine ronde")], tokenizer, TEXT)
    assert short["token_ids"].shape == (1, 16) and short["character_ids"].shape == (1, 64)
    long = encode_texts([Product(designation="roman " * 50, description="console")], tokenizer, TEXT)
    alone = encode_texts([Product(description="console")], tokenizer, TEXT)
    for name, start in (("token_ids", 16), ("character_ids", 64)):
        assert (long[name][0, :start] > 0).all()
        numpy.testing.assert_array_equal(long[name][0, start:], alone[name][0, start:])
