"""Explanations: they add up to what the models said, and they point at the right words of the product's text."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from rakuten_models import Product, ProductClassifier, ProductError
from rakuten_models.bundle.folder import read_config, write_config
from rakuten_models.classify import main
from rakuten_models.errors import BundleError, ExplanationError, RakutenModelsError
from rakuten_models.inference import runtime
from rakuten_models.inference.explanation import (
    AGAINST_COLOUR,
    FOR_COLOUR,
    WordContribution,
    heat_map_image,
    highlight_segments,
)
from rakuten_models.inference.runtime import EXPLAINING, SERVING, CompiledModel
from rakuten_models.preprocessing.text import TextSettings, encode_texts, load_tokenizer
from training.data.catalog import read_catalog
from training.pipeline.export import _compile
from training.settings import TextModelSettings
from training.text.attribution_model import build_text_explainer
from training.text.features import index_layer, index_name, text_feature_rows, text_hashes, text_inputs
from training.text.model import build_text_model
from training.text.ngram_vocabulary import build_ngram_index

ODD_TEXTS = (
    "",
    "x",
    "Été d’hiver, 3,66 m !!!",
    "<p class='piscine'>Piscine &eacute;t&eacute;</p><br/>B&acirc;che&nbsp;noire &lt;b&gt;&amp;eacute;pais&lt;/b&gt;",
    "grà¢ce Â· l’Ã©tÃ© – ¿uvre",
    "😀 canapé 😀 ½ ﬁn ❶ İstanbul ¨x ５Ｇ 日本語 ☂",
    "pIn Ancient Persia: AT&T &notit; 5 < 6 & 7 > 3 <",
    "E\u0301te\u0301 zero\u200bwidth so\xadft \u200b tab\tnul\x00end half\ud800pair",
    "<script>var piscine = 1;</script>piscine<style>p{}</style>",
    "!!! ??? ... (piscine) -roman- « livre »",
    "<p>Livr&eacute;e avec la pompe d’origine</p> " * 120,
    "Ã©tÃ© \u200b d’un an " * 200,
)


@pytest.fixture(scope="module")
def products(tiny_catalog):
    """Rows of every kind, and texts of every kind with and without a picture."""
    rows = read_catalog(tiny_catalog).products()[:16]
    picture = next(product.image for product in rows if product.image)
    odd = [Product(one, other) for one, other in zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True)]
    return [*rows, *odd, Product(ODD_TEXTS[3], ODD_TEXTS[5], picture)]


def centred(logits):
    return logits - logits.mean(axis=-1, keepdims=True)


def served_text_logits(classifier, product):
    """What the bundle's text file itself says, asked beside the classifier."""
    tokenizer = load_tokenizer(classifier.folder / "tokenizer.json")
    inputs = encode_texts([product], tokenizer, classifier.config.text)
    return CompiledModel(classifier.folder / "text_model.tflite")(**inputs)["logits"][0]


def total(explanation):
    return explanation.base + sum(word.contribution for word in explanation.words)


@pytest.mark.parametrize("number", [None, 0, 13])
def test_words_and_base_add_up_to_the_served_logit(classifier, products, number):
    code = None if number is None else classifier.categories[number].prdtypecode
    for product in products:
        if classifier.predict([product])[0].text_probabilities is None:
            continue
        explanation = classifier.explain(product, code)
        logits = served_text_logits(classifier, product)
        scale = max(1.0, float(np.abs(logits).max()))
        assert explanation.text_score == pytest.approx(centred(logits)[explanation.category.index], abs=1e-4 * scale)
        assert total(explanation) == pytest.approx(explanation.text_score, abs=1e-4 * scale)


def test_every_column_is_what_a_plain_loop_says():
    """The compiled graph's figures beside the definition, spelled out row by row."""
    text = TextSettings(
        designation_tokens=6, description_tokens=8, designation_characters=24, description_characters=32
    )
    settings = TextModelSettings(units=8, pair_rows=53, pair_slots=211, character_rows=97, character_slots=211)
    keras.utils.set_random_seed(3)
    model = build_text_model(4, 30, text, settings)
    for weight in model.weights:
        if "float" in weight.dtype:
            weight.assign(np.random.default_rng(5).normal(size=weight.shape))
    random = np.random.default_rng(4)
    ids = {
        "token_ids": random.integers(0, 30, (3, 14)).astype(np.int32),
        "character_ids": random.choice([0, 32, 97, 98, 99], (3, 56), p=[0.1, 0.2, 0.3, 0.2, 0.2]).astype(np.int32),
    }
    inputs = text_inputs()
    hashes = {table: found for table, (found, _, _) in text_hashes(inputs, text, settings).items()}
    index = {table: index_layer(table, settings) for table in hashes}
    for table, (first, second) in keras.Model(inputs, hashes)(ids).items():
        keys = np.unique(np.asarray(first).astype(np.int64) * 2**23 + np.asarray(second))
        grams = build_ngram_index(keys, np.full(len(keys), 9), settings.rows()[table], 211)
        for layer in (index[table], model.get_layer(index_name(table))):
            layer.build(None)
            layer.set_weights([grams.index[:, None]])
    rows = keras.Model(inputs, text_feature_rows(inputs, text, settings, index))(ids)
    assert all((np.asarray(weights) != 0).sum() > 20 for _, weights in rows.values())
    answer = {name: np.asarray(value) for name, value in model(ids).items()}
    wanted = random.normal(size=(3, 4)).astype(np.float32)
    found = build_text_explainer(model)(
        {**ids, "features": answer["features"], "category_weights": wanted}, training=False
    )
    head, bias = model.get_layer("head").get_weights()
    direction = np.concatenate([(wanted @ head.T) * (answer["features"] > 0), wanted], axis=1)
    expected = {name: np.zeros(value.shape) for name, value in ids.items()}
    for name, lengths, key in (
        ("words", (1,), "token_ids"),
        ("word_pairs", (2,), "token_ids"),
        ("character_grams", settings.character_lengths, "character_ids"),
    ):
        table = model.get_layer(name).get_weights()[0]
        numbers, weights = (np.asarray(values) for values in rows[name])
        columns = ids[key].shape[1]
        for product, place in zip(*np.nonzero(weights), strict=True):
            worth = weights[product, place] * table[numbers[product, place]] @ direction[product]
            first, length = place % columns, lengths[place // columns]
            parts = [
                column
                for column in range(first, first + length)
                if ids[key][product, column] > (32 if key == "character_ids" else 0)
            ]
            expected[key][product, parts] += worth / len(parts)
    np.testing.assert_allclose(found["tokens"], expected["token_ids"], atol=1e-4)
    np.testing.assert_allclose(found["characters"], expected["character_ids"], atol=1e-4)
    np.testing.assert_allclose(found["base"][:, 0], wanted @ bias, atol=1e-5)
    everything = sum(np.asarray(values).sum(axis=1) for values in found.values())
    np.testing.assert_allclose(everything, (answer["logits"] * wanted).sum(axis=1), atol=1e-3)


def test_words_are_found_in_the_cleaned_text(classifier):
    explanation = classifier.explain(Product(ODD_TEXTS[3], "l’Ã©tÃ© à la piscine, 😀 3,66 m !!!"))
    assert explanation.texts == {
        "designation": "Piscine été Bâche noire épais",
        "description": "l'été à la piscine, 😀 3,66 m !!!",
    }
    assert [(word.field, word.text) for word in explanation.words] == [
        *(("designation", text) for text in ("Piscine", "été", "Bâche", "noire", "épais")),
        *(("description", text) for text in ("l", "été", "à", "la", "piscine", "😀", "3", "66", "m", "!!!")),
    ]


def test_a_word_belongs_to_its_field(classifier):
    """The same word counts less in the description, and is marked where it was read."""
    one = classifier.explain(Product("piscine", ""))
    other = classifier.explain(Product("", "piscine"), one.category.prdtypecode)
    assert [word.field for word in one.words + other.words] == ["designation", "description"]
    assert abs(one.words[0].contribution) > abs(other.words[0].contribution) > 0


def test_words_do_not_overlap_and_segments_cover_the_text(classifier, products):
    for product in products:
        if classifier.predict([product])[0].text_probabilities is None:
            continue
        explanation = classifier.explain(product)
        words = explanation.words
        for field in ("designation", "description"):
            own, text = [word for word in words if word.field == field], explanation.texts[field]
            assert all(word.text == text[word.start : word.end] != "" for word in own)
            assert all(one.end <= other.start for one, other in zip(own, own[1:], strict=False))
            segments = highlight_segments(text, own)
            assert "".join(segment for segment, _ in segments) == text
            assert [value for _, value in segments if value is not None] == [word.contribution for word in own]


def test_a_text_that_is_longer_than_what_is_read(classifier):
    """Words past the model's limits are not listed; the sum is that of what was read."""
    explanation = classifier.explain(Product("roman " * 500, "canapé d’angle " * 500))
    fields = [word.field for word in explanation.words]
    # 64 tokens; 1,024 bytes, which here reach further than 192 tokens.
    assert fields.count("designation") == 64 and 200 <= fields.count("description") <= 206
    assert max(word.end for word in explanation.words) < 1_040
    assert total(explanation) == pytest.approx(explanation.text_score, abs=1e-4)


def test_highlighting_nothing():
    assert highlight_segments("", ()) == []
    assert highlight_segments("ab", ()) == [("ab", None)]
    assert highlight_segments("ab", [WordContribution("designation", 0, 2, "ab", 1.5)]) == [("ab", 1.5)]


def test_heat_map_is_the_image_models_own(classifier, products):
    product = next(p for p in products if p.image)
    for category in (None, classifier.categories[5].prdtypecode):
        explanation = classifier.explain(Product(image=product.image), category)
        assert explanation.words == () and explanation.base is None and explanation.text_score is None
        assert explanation.heat_map.dtype == np.float32 and explanation.heat_map.ndim == 2
        assert explanation.heat_map.mean() == pytest.approx(explanation.image_score, abs=1e-5)
        assert explanation.score == explanation.image_part == explanation.image_score
        assert explanation.text_part is None
        logits = classifier._models.image([product.image])[0]["logits"][0]
        assert explanation.image_score == pytest.approx(centred(logits)[explanation.category.index], abs=1e-5)


def test_both_sides_add_up_to_the_fused_score(classifier, products):
    for product in [p for p in products if p.image and p.designation][:4]:
        fused = centred(classifier._models.run([product]).fusion["logits"][0])
        for category in (None, classifier.categories[20].prdtypecode):
            explanation = classifier.explain(product, category)
            assert explanation.words and explanation.heat_map is not None
            assert explanation.score == pytest.approx(explanation.text_part + explanation.image_part)
            assert explanation.score == pytest.approx(fused[explanation.category.index], abs=1e-4)


def test_the_prediction_is_the_one_that_predict_gives(classifier, products):
    for product in [p for p in products if p.designation or p.image][:6]:
        expected, found = classifier.predict(product), classifier.explain(product).prediction
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
        assert found.category == expected.category == classifier.explain(product).category


def test_another_category_gets_its_own_words(classifier):
    product = Product("piscine roman")
    first, second = (classifier.explain(product, category.prdtypecode) for category in classifier.categories[:2])
    assert (first.category, second.category) == tuple(classifier.categories[:2])
    assert first.prediction.category == second.prediction.category
    assert [w.contribution for w in first.words] != [w.contribution for w in second.words]
    # Centred: what speaks for one category speaks against others.
    every = [classifier.explain(product, c.prdtypecode).words[0].contribution for c in classifier.categories]
    assert sum(every) == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_explained(classifier, tmp_path):
    with pytest.raises(ExplanationError, match=r"no category with the prdtypecode 99; give one of 10, 40, .* more"):
        classifier.explain(Product("piscine"), 99)
    with pytest.raises(ProductError, match="holds no text and no picture"):
        classifier.explain(Product("<br>"))
    with pytest.raises(ProductError, match="wrap it"):
        classifier.explain("piscine")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ProductError, match="cannot be read as a picture"):
        classifier.explain(Product("piscine", image=tmp_path / "broken.jpg"))
    assert issubclass(ExplanationError, RakutenModelsError)


def test_heat_map_picture_has_the_models_geometry():
    """A wide red picture lies between two white bands; heat is blue at the left and orange at the right."""
    heat_map = np.zeros((4, 4), np.float32)
    heat_map[:, 0], heat_map[:, 3] = 2.0, -2.0
    drawn = heat_map_image(np.asarray(Image.new("RGB", (200, 100), "red")), heat_map)
    assert drawn.mode == "RGB" and drawn.size == (448, 448)
    pixels = np.asarray(drawn, np.int16)
    assert (pixels[50, 224] > 250).all() and (pixels[224, 224] < 100).all()
    for column, colour in ((0, FOR_COLOUR), (447, AGAINST_COLOUR)):
        others = np.abs(np.array([FOR_COLOUR, AGAINST_COLOUR]) - pixels[224, column]).sum(axis=1)
        assert tuple((FOR_COLOUR, AGAINST_COLOUR)[others.argmin()]) == colour
    flat = heat_map_image(np.full((500, 500, 3), 255, np.uint8), np.zeros((3, 3)))
    assert flat.size == (448, 448) and (np.asarray(flat) == 255).all()


def test_prediction_and_explanations_take_one_pass(classifier, products, monkeypatch):
    """At most four runs of a model and one decode for a prediction and its explanation; another category takes one."""
    counts = dict.fromkeys(("runs", "decodes"), 0)

    def counted(name, function):
        def wrapper(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return wrapper

    monkeypatch.setattr(CompiledModel, "_call", counted("runs", CompiledModel._call))
    monkeypatch.setattr(runtime, "decode_image", counted("decodes", runtime.decode_image))
    product = next(product for product in products if product.image and product.designation)
    explanation = classifier.explain(product)
    assert heat_map_image(explanation.picture, explanation.heat_map).size == (448, 448)
    assert counts == {"runs": 4, "decodes": 1}
    analysis = classifier.analyze(product)
    assert counts == {"runs": 7, "decodes": 2}
    for number, category in enumerate(classifier.categories[:3]):
        found, expected = (analysis.explain(category.prdtypecode), classifier.explain(product, category.prdtypecode))
        assert found.words == expected.words and found.score == expected.score
        assert counts == {"runs": 7 + 5 * (number + 1), "decodes": 3 + number}
    classifier.explain(Product(product.designation))
    assert counts == {"runs": 24, "decodes": 5}


def test_an_analysis_explains_the_text_where_the_picture_cannot_be_read(classifier):
    analysis = classifier.analyze(Product("piscine", image=b"no picture"))
    assert analysis.prediction.error.code == "product.picture_unreadable"
    explanation = analysis.explain()
    assert explanation.words and explanation.picture is None and explanation.heat_map is None


def test_a_text_model_without_the_second_signature_is_refused(tiny_bundle, tmp_path):
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    model = keras.saving.load_model(folder / "text_model.keras", compile=False)
    (folder / "text_model.tflite").write_bytes(_compile({SERVING: model}))
    write_config(folder, read_config(folder))
    with pytest.raises(BundleError, match=r"cannot be read as a compiled model \(.*explain"):
        ProductClassifier.from_pretrained(folder)


def test_the_second_signature_stores_no_table_twice(tmp_path):
    """It costs what its operations take to describe, whatever the tables' size."""
    settings = TextModelSettings(units=16, pair_rows=100_003, character_rows=100_003, linear_categories=0)
    model = build_text_model(27, 5_000, TextSettings(), settings)
    for name in ("words", "word_pairs", "character_grams"):
        model.get_layer(name).quantize("int8")
    one = len(_compile({SERVING: model}))
    both = len(_compile({SERVING: model, EXPLAINING: build_text_explainer(model)}))
    assert one > 205_000 * 16 and 0 < both - one < 90_000


def test_in_a_terminal(tiny_bundle, capsys):
    assert main(["--bundle", str(tiny_bundle), "--designation", "Piscine ronde", "--explain"]) == 0
    output = capsys.readouterr().out
    assert "Words for it: " in output and "Words against it: " in output and "Piscine " in output
    with pytest.raises(SystemExit):
        main(["--designation", "Piscine", "--explain", "--json"])
