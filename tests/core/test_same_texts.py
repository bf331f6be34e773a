"""The fast way from texts to ids and answers gives, bit for bit, what the plain way gives."""

import itertools
import random

import ftfy.badness
import ftfy.fixes
import numpy as np
import pytest

from rakuten_models.inference import runtime
from rakuten_models.preprocessing import cleaning
from rakuten_models.preprocessing import text as text_module
from rakuten_models.preprocessing.text import TextSettings, encode_cleaned, encode_texts
from rakuten_models.product import Product
from tests.support import reference_preprocessing

# Pieces of which awkward texts are made: every rule of cleaning, of the tokenizer and of the cuts has its own.
PIECES = (
    "chaise", "ÉTÉ", "l’été", "d'occasion", "cœur", "Œuvre", "naïf", "1,5", "3½", "²", "x_y", "№ 7", "ß", "İstanbul",
    "ﬁn", "&amp;", "&amp;eacute;", "&amp; nbsp;", "&#39;", "&lt;b&gt;", "<p>", "</p>", "<style>p {}</style>", "< 3",
    "<", "&", "DÃ©couvrez", "Ã ", "grà¢ce", "aà¢à¢b", "pã©age", "à²", "éÉ", "é€", "é»s", "Â·", "â€™", "c¿ur", "d¿un",
    "Crois¿E",
    "pIn", "-pÉté", "pPp", "\u00a0", "\u2003", "\u2028", "\x1c", "\x85", "\x92", "\t", "\n", "\u200b", "\xad", "\ufeff",
    "e\u0301", "a\u0308\u0323", "\u0301" * 9, "한국어", "日本語", "हिन्दी", "ไทย", "Ελλάς", "русский", "עברית",
    "🪑", "👩‍👩‍👧", "\ud83d", "°", "…", "–", "—", "`", "´", "′", "%", "€", "[PAD]", "[UNK]", "</script>", "" ,
)  # fmt: skip


def awkward_texts(count, most_pieces, seed):
    generator = random.Random(seed)
    return [
        "".join(
            generator.choice(PIECES) + generator.choice(("", " ", " ", "  "))
            for _ in range(generator.randint(0, most_pieces))
        )
        for _ in range(count)
    ]


def awkward_products(seed=0):
    short, long = awkward_texts(400, 40, seed), awkward_texts(400, 200, seed + 1)
    # Over what is read at first, with few words or few bytes that count in that part, and with a cut in many places.
    head = text_module._HEAD
    far = [
        "x" * (head + 30) + " chaise bleue",
        "é" * head + "a\u0301\u0323 bois",
        "a" + "\u0301" * (head + 10) + " bois",
        "- " * head + "table",
        *("mot " * 1200 + "z" * shift + "e\u0301 fin" for shift in range(6)),
        *("b" * shift + " chaise" * 900 for shift in range(8)),
        *("d" * shift + "e\u0301" * 5000 for shift in range(2)),
    ]
    products = [Product(first, second) for first, second in zip(short, long, strict=True)]
    return [*products, *(Product(text, "") for text in far), *(Product("", text) for text in far), Product()]


@pytest.mark.parametrize("seed", range(3))
def test_texts_are_cleaned_alike(seed):
    texts = [*awkward_texts(3000, 12, seed), *awkward_texts(100, 3000, seed)]
    for text in texts:
        assert cleaning.clean_text(text) == reference_preprocessing.clean_text(text), repr(text)


def test_no_broken_encoding_is_made_of_what_is_not_looked_at():
    """All neighbours of four: ftfy's patterns are two to five characters long, the longest of Cyrillic letters."""
    every = [chr(code) for code in range(0x3000)]
    harmless = [each for each in every if not cleaning._MAY_BE_BROKEN.search(each)]
    letters = [each for each in harmless if not each.isascii()]
    assert len(letters) == 18 and "é" in letters
    for neighbours in itertools.product([*letters, "a", "Z", " ", "-", "'", "?", "0"], repeat=4):
        text = "".join(neighbours)
        assert not ftfy.badness.is_bad(text), repr(text)
    assert ftfy.fixes.fix_c1_controls("".join(harmless)) == "".join(harmless)


@pytest.mark.parametrize("settings", [TextSettings(), TextSettings(5, 9, 16, 40)], ids=["usual", "short"])
def test_texts_become_the_same_ids(classifier, settings):
    products, tokenizer = awkward_products(), classifier._models.text.tokenizer
    for start in range(0, len(products), 7):
        some = products[start : start + 7]
        expected = reference_preprocessing.encode_texts(some, tokenizer, settings)
        for name, ids in encode_texts(some, tokenizer, settings).items():
            assert ids.dtype == expected[name].dtype
            np.testing.assert_array_equal(ids, expected[name])
        assert [text_module.has_text(product) for product in some] == [
            reference_preprocessing.has_text(product) for product in some
        ]


def test_no_product_at_all_is_no_row(classifier):
    encoded = encode_cleaned([], classifier._models.text.tokenizer, TextSettings())
    assert {name: ids.shape for name, ids in encoded.items()} == {"token_ids": (0, 64), "character_ids": (0, 256)}


def test_answers_in_groups_are_the_bits_of_answers_in_whole_width(classifier):
    """Sorted, cut to the longest of a few, on several threads: nothing of that may show."""
    products = [product for product in awkward_products(seed=3) if text_module.has_text(product)][::5]
    side = classifier._models.text
    logits = [
        side.model(**reference_preprocessing.encode_texts([product], side.tokenizer, side.settings))["logits"]
        for product in products
    ]
    assert 32 < len(products) <= 256, "several tasks, and one call of calibration"
    expected = classifier._models.calibrated("text", np.concatenate(logits))
    found = np.stack([prediction.probabilities for prediction in classifier.predict(products)])
    np.testing.assert_array_equal(found, expected)


def test_columns_are_only_cut_where_no_row_has_anything():
    ids = np.zeros((3, 40), np.int32)
    ids[1, 16] = 5
    assert runtime._cut_to_longest(ids, 16).shape == (3, 32)
    assert runtime._cut_to_longest(ids * 0, 16).shape == (3, 16)
    ids[2, 39] = 1
    assert runtime._cut_to_longest(ids, 16).shape == (3, 40), "never wider than it was"
