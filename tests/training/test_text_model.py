"""The text model: what it reads, that padding changes nothing, that all its forms agree, that it learns."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

from rakuten_models.inference.runtime import CompiledModel
from rakuten_models.preprocessing.text import TextSettings, encode_texts, load_tokenizer
from rakuten_models.product import Product
from training import settings
from training.pipeline.export import save_and_compile
from training.settings import TextModelSettings
from training.text import trainer
from training.text.attribution_model import build_text_explainer
from training.text.feature_matrix import TextMatrix
from training.text.features import CHECKS, TABLES, index_layer, index_name, text_feature_rows, text_hashes, text_inputs
from training.text.model import build_text_model
from training.text.ngram_vocabulary import NgramIndex, choose_ngrams
from training.text.tokenizer import train_tokenizer

TEXT = TextSettings(designation_tokens=16, description_tokens=32, designation_characters=64, description_characters=128)

SETTINGS = settings.TextTrainingSettings(
    model=TextModelSettings(units=16, pair_rows=211, pair_slots=503, character_rows=499, character_slots=1009),
    minimum_word_count=1,
    epochs=30,
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


def _products(count: int, seed: int) -> tuple[list[Product], np.ndarray]:
    """Products of three categories, each text three or four of its category's words and one of another's."""
    random = np.random.default_rng(seed)
    category_index = np.arange(count) % len(WORDS)
    products = []
    for category in category_index:
        words = [*random.choice(WORDS[category], 3), random.choice(WORDS[random.integers(len(WORDS))])]
        described = random.random() < 0.5
        products.append(
            Product(designation=" ".join(words).title(), description=" ".join(words[::-1]) if described else "")
        )
    return products, category_index


def _fit(count: int = 60, progress=None, seed: int = 0):
    products, category_index = _products(count, 1)
    tokenizer = train_tokenizer([text for p in products for text in (p.designation, p.description)], SETTINGS)
    validation, validation_index = _products(30, 2)
    fitter = trainer.TextFitter(
        trainer.LabelledTexts(
            products + validation, np.concatenate([category_index, validation_index]), np.ones(count + 30)
        ),
        tokenizer,
        TEXT,
        SETTINGS,
        categories=3,
        seed=seed,
    )
    network = fitter.fit(np.arange(count), np.arange(count, count + 30), progress)
    model = fitter.to_keras(network)
    return model, tokenizer, validation


@pytest.fixture(scope="module")
def fitted():
    """A model of 60 rows, its tokenizer, validation products, and what each epoch reported."""
    epochs: list[trainer.TextEpoch] = []
    return *_fit(progress=epochs.append), epochs


def _run(model, products, tokenizer):
    return {name: np.asarray(value) for name, value in model(encode_texts(products, tokenizer, TEXT)).items()}


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
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_graph_and_the_fit_agree(fitted):
    """The Keras model computes what was fitted: pooled rows of its tables, a network and a linear part."""
    model, tokenizer, validation, _ = fitted
    products = validation + ODD
    pooled = _matrix(model, tokenizer)(products) @ _tables(model)
    units = SETTINGS.model.units
    features = np.maximum(pooled[:, :units], 0)
    head, bias = model.get_layer("head").get_weights()
    found = _run(model, products, tokenizer)
    np.testing.assert_allclose(found["features"], features, atol=1e-5)
    assert pooled.shape[1] == units + 3 and np.abs(pooled[:, units:]).max() > 0.1
    np.testing.assert_allclose(found["logits"], features @ head + bias + pooled[:, units:], atol=1e-4)


def _tables(model) -> np.ndarray:
    """All tables stacked, as 8 bits hold them."""
    tables = []
    for name in TABLES:
        values, scale = (np.asarray(weight, np.float32) for weight in model.get_layer(name).get_weights())
        tables.append(values / scale.reshape(-1, 1))
    return np.concatenate(tables)


def _matrix(model, tokenizer) -> TextMatrix:
    """Products to the rows that a model would look up."""
    grams = {
        name: NgramIndex(model.get_layer(index_name(name)).get_weights()[0][:, 0], model.get_layer(name).input_dim)
        for name in TABLES[1:]
    }
    rows = {name: each.rows for name, each in grams.items()}
    return TextMatrix(tokenizer, TEXT, SETTINGS.model.with_rows(rows), grams)


def test_logits_are_a_sum_over_what_was_read(fitted):
    """With the rectifier's pattern fixed, one vector a table row and the bias add up to the logits."""
    model, tokenizer, validation, _ = fitted
    found = _run(model, validation[:1], tokenizer)
    rows = _matrix(model, tokenizer)(validation[:1])
    head, bias = model.get_layer("head").get_weights()
    direction = np.concatenate([head * (found["features"][0] > 0)[:, None], np.eye(3)])
    contributions = (rows.data[:, None] * _tables(model)[rows.indices]) @ direction
    assert contributions.shape == (rows.nnz, 3)
    np.testing.assert_allclose(contributions.sum(axis=0) + bias, found["logits"][0], atol=1e-4)


def test_padding_and_neighbours_change_nothing(fitted):
    """A product's logits do not depend on the width of its arrays nor on the rows beside it."""
    model, tokenizer, validation, _ = fitted
    products = validation[:4] + ODD
    together = _run(model, products, tokenizer)["logits"]
    for row, product in enumerate(products):
        alone = encode_texts([product], tokenizer, TEXT)
        np.testing.assert_allclose(np.asarray(model(alone)["logits"])[0], together[row], atol=1e-5)
        wider = {name: np.pad(ids, [(0, 0), (0, 37)]) for name, ids in alone.items()}
        np.testing.assert_allclose(np.asarray(model(wider)["logits"])[0], together[row], atol=1e-5)


def test_reloads_in_safe_mode_and_compiles(fitted, tmp_path):
    """`.keras` loads in safe mode; `.tflite` takes the same names and any width, and agrees."""
    model, tokenizer, validation, _ = fitted
    products = validation + ODD
    example = encode_texts(products, tokenizer, TEXT)
    assert save_and_compile(model, tmp_path, "text", example, build_text_explainer) <= 1e-4
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
            np.testing.assert_allclose(found[name], np.asarray(expected[name]), atol=1e-5)
    # Eight bits a table value: a quarter of what 32 bits take; some 100 kB describe the two signatures and indexes.
    layers = [model.get_layer(name) for name in TABLES]
    values = sum(layer.input_dim * layer.output_dim for layer in layers)
    assert (tmp_path / "text_model.tflite").stat().st_size < 2 * values + 110_000


@pytest.mark.parametrize("categories", [2, 3000])
def test_any_number_of_categories(categories):
    """Two categories or thousands: the shapes follow."""
    model = build_text_model(categories, 50, TEXT, SETTINGS.model)
    ids = {name: np.ones((2, 7), np.int32) for name in ("token_ids", "character_ids")}
    assert model(ids)["logits"].shape == (2, categories)
    # Thousands of columns beside 16 units would be nearly all of the model.
    assert model.get_layer("words").output_dim == 16 + (2 if categories == 2 else 0)


def test_hashes_stay_within_32_bits():
    """The largest ids that are allowed give hashes inside their range, and rows inside the tables."""
    inputs = text_inputs()
    hashes = text_hashes(inputs, TEXT, SETTINGS.model)
    index = {table: index_layer(table, SETTINGS.model) for table in hashes}
    rows = text_feature_rows(inputs, TEXT, SETTINGS.model, index)
    for table, layer in index.items():
        count = SETTINGS.model.rows()[table]
        entries = np.arange(SETTINGS.model.slots()[table]) % count * CHECKS + CHECKS - 1
        layer.set_weights([entries[:, None].astype(np.int32)])
    graph = keras.Model(inputs, {name: (*hashes[name][0], rows[name][0]) for name in index})
    random = np.random.default_rng(0)
    found = graph(
        {
            "token_ids": random.integers(261_000, 262_000, (4, 40)).astype(np.int32),
            "character_ids": random.integers(200, 256, (4, 40)).astype(np.int32),
        }
    )
    for name, (first, second, numbers) in found.items():
        for values in map(np.asarray, (first, second)):
            assert values.min() >= 0 and values.max() < 1 << 23 and len(np.unique(values)) > 20
        numbers = np.asarray(numbers)
        assert numbers.min() >= 0 and numbers.max() < SETTINGS.model.rows()[name]


def test_common_pairs_and_grams_have_rows_of_their_own():
    """What three texts have gets a row that nothing else gets; what fewer have gets none."""
    texts = ["rouge piscine ronde"] * 3 + ["bleu piscine carrée"] * 2
    products = [Product(designation=text) for text in texts]
    tokenizer = train_tokenizer(texts, SETTINGS)
    grams = choose_ngrams(products, tokenizer, TEXT, SETTINGS.model)
    rows = {table: each.rows for table, each in grams.items()}
    matrix = TextMatrix(tokenizer, TEXT, SETTINGS.model.with_rows(rows), grams)
    # "rouge piscine", "piscine ronde", and the empty row.
    assert rows["word_pairs"] == 3
    expected = {
        f" {word} "[start : start + length]
        for word in ("rouge", "piscine", "ronde")
        for length in (3, 4, 5)
        for start in range(len(word) + 3 - length)
    }
    assert rows["character_grams"] == len(expected) + 1
    first, last = matrix([products[0]]), matrix([products[-1]])
    assert first.nnz == 3 + 2 + len(expected)
    # Only the word "piscine" and its n-grams are common; the words have ids of their own all the same.
    shared = [" piscine "[start : start + length] for length in (3, 4, 5) for start in range(10 - length)]
    assert last.nnz == 3 + len({*shared} & expected)


def test_no_more_rows_than_asked_for_and_the_commonest_first():
    texts = ["alpha beta"] * 9 + ["gamma delta"] * 6 + ["epsilon zeta"] * 3
    products = [Product(designation=text) for text in texts]
    tokenizer = train_tokenizer(texts, SETTINGS)
    settings = dataclasses.replace(SETTINGS.model, pair_rows=3)
    grams = choose_ngrams(products, tokenizer, TEXT, settings)
    assert grams["word_pairs"].rows == 3
    matrix = TextMatrix(
        tokenizer,
        TEXT,
        settings.with_rows({table: each.rows for table, each in grams.items()}),
        dict(grams, character_grams=NgramIndex(np.zeros(1009, np.int32), 1)),
    )
    assert [matrix([Product(designation=text)]).nnz for text in ("alpha beta", "gamma delta", "epsilon zeta")] == [
        3,
        3,
        2,
    ]


def test_text_is_read_up_to_its_part(fitted):
    """A long designation never runs into the description's columns; arrays are no wider than needed."""
    tokenizer = fitted[1]
    short = encode_texts([Product(designation="Piscine ronde")], tokenizer, TEXT)
    assert short["token_ids"].shape == (1, 16) and short["character_ids"].shape == (1, 64)
    long = encode_texts([Product(designation="roman " * 50, description="console")], tokenizer, TEXT)
    alone = encode_texts([Product(description="console")], tokenizer, TEXT)
    for name, start in (("token_ids", 16), ("character_ids", 64)):
        assert (long[name][0, :start] > 0).all()
        np.testing.assert_array_equal(long[name][0, start:], alone[name][0, start:])
