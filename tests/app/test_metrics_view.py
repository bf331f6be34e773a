"""The Model page's HTML and the words: what a visitor reads, in both languages, whatever a bundle holds."""

import dataclasses
import json
import re

import pytest

from rakuten_models import Category
from rakuten_models.app.i18n.messages import _COMPONENT_KEYS, LABELS, Translator, translations
from rakuten_models.app.views.metrics import (
    at_threshold,
    category_f1_html,
    confusion_detail_html,
    confusion_html,
    loaded_html,
    precision_html,
    read_figures,
    reliability_html,
    section_of,
)

CATEGORIES = tuple(Category(index, 10 + index, {"en": f"Shelf {index}", "fr": f"Rayon {index}"}) for index in range(3))

MATRIX = [[8, 2, 0], [1, 3, 0], [0, 0, 5]]

CURVE = [
    {"probability": 0.9, "rows": 50, "share_accepted": 0.5, "precision": 0.98},
    {"probability": 0.5, "rows": 80, "share_accepted": 0.8, "precision": 0.9},
    {"probability": 0.2, "rows": 100, "share_accepted": 1.0, "precision": 0.8},
]

SECTION = {
    "rows": 19,
    "per_category": {
        "10": {"precision": 0.5, "recall": 0.25, "f1": 0.333, "support": 10},
        "11": {"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 4},
        "12": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
    },
    "reliability": [
        {"rows": 9, "confidence": 0.4, "accuracy": 0.5, "calibrated_low": 0.2, "calibrated_high": 0.6},
        {"rows": 10, "confidence": 0.9, "accuracy": 0.8, "calibrated_low": 0.7, "calibrated_high": 1.0},
    ],
    "ece": 0.1,
    "coverage": CURVE,
    "confusion_matrix": MATRIX,
}

HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{alert(3)}}\"'&"


@pytest.fixture(scope="module")
def figures(tiny_bundle):
    return read_figures(tiny_bundle)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_real_bundles_figures_become_every_plot(classifier, figures, language):
    words, section = Translator(language), section_of(figures, "served")
    html = loaded_html(classifier.config, "tiny", None, figures, words)
    assert words("weighted_f1") in html and words.number(section["rows"]) in html
    assert reliability_html(section, words).count("<circle") == len(section["reliability"])
    assert "<polyline" in precision_html(section, 0.5, True, words)
    assert confusion_html(section["confusion_matrix"], classifier.categories, words).count("<button") == 27**2
    with_rows = sum(values["support"] > 0 for values in section["per_category"].values())
    assert category_f1_html(section, classifier.categories, words).count("<li") == with_rows


def test_categories_are_listed_by_f1_and_those_without_rows_left_out():
    html = category_f1_html(SECTION, CATEGORIES, Translator())
    assert html.index("Shelf 1") < html.index("Shelf 0") and "Shelf 2" not in html
    assert "precision 50.0%, recall 25.0%, 10 products" in html


def test_the_curve_is_read_between_its_points():
    assert at_threshold(SECTION, 0.5) == pytest.approx((0.8, 0.9))
    assert at_threshold(SECTION, 0.7) == pytest.approx((0.65, 0.94))
    assert at_threshold(SECTION, 0.0) == pytest.approx((1.0, 0.8))
    assert at_threshold(SECTION, 0.95) is None


def test_moving_the_threshold_moves_mark_and_sentence():
    own = precision_html(SECTION, 0.5, True, Translator())
    assert "From 50.0% on (yours for this visit): 80.0% of the measured products" in own
    assert "90.0% of those answers are right" in own
    bundle = precision_html(SECTION, 0.9, False, Translator("fr"))
    assert "celui des modèles" in bundle and "98,0\u00a0%" in bundle
    assert "nearly none" in precision_html(SECTION, 0.99, True, Translator())


def test_a_cell_says_what_its_two_categories_are():
    words = Translator()
    assert (
        "2 of 10 products of “Shelf 0” (10) were answered “Shelf 1” (11). The other way round: 1 of 4."
        in confusion_detail_html(MATRIX, CATEGORIES, 0, 1, words)
    )
    assert "5 of 5 products of “Shelf 2” (12) were answered rightly" in confusion_detail_html(
        MATRIX, CATEGORIES, 2, 2, words
    )
    assert "«\u00a0Rayon 2\u00a0»" in confusion_detail_html(MATRIX, CATEGORIES, 2, 2, Translator("fr"))
    for nowhere in ((None, None), (99, 0), (-1, 0), ("0", "1")):
        assert "Choose a cell" in confusion_detail_html(MATRIX, CATEGORIES, *nowhere, words)


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"per_category": [], "reliability": 3 * [None], "coverage": [{}], "confusion_matrix": [[1]]},
        {"per_category": {"10": "x"}, "reliability": [{"confidence": "a"}], "confusion_matrix": "no"},
    ],
)
def test_figures_that_are_missing_or_odd_leave_their_plot_out(section):
    words = Translator()
    assert category_f1_html(section, CATEGORIES, words) == ""
    assert reliability_html(section, words) == ""
    assert "hold no such curve" in precision_html(section, 0.5, True, words)
    assert confusion_html(section.get("confusion_matrix"), CATEGORIES, words) == ""
    assert confusion_detail_html(section.get("confusion_matrix"), CATEGORIES, 0, 0, words) == ""


@pytest.mark.parametrize(
    ("noted", "shown"),
    [("2026-08-14", "2026-08-14"), (None, "not noted"), (20260814, "not noted"), (HOSTILE, "&lt;img src")],
)
def test_the_date_of_training_is_shown_where_a_bundle_notes_it(classifier, noted, shown):
    training = {name: value for name, value in classifier.config.training.items() if name != "date"}
    if noted is not None:
        training["date"] = noted
    config = dataclasses.replace(classifier.config, training=training)
    html = loaded_html(config, "tiny", None, {}, Translator())
    assert re.search(rf"Date of training</dt><dd>{re.escape(shown)}", html)


@pytest.mark.parametrize("content", [None, "", "[1]", "no json", "\x00"])
def test_a_bundle_without_figures_says_so(classifier, tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    figures = read_figures(tmp_path)
    assert figures == {}
    assert "holds no readable figures" in loaded_html(classifier.config, "tiny", None, figures, Translator())


def test_names_of_a_hostile_bundle_are_text(classifier):
    categories = tuple(Category(index, 10 + index, {"en": HOSTILE}) for index in range(3))
    words = Translator()
    for html in (
        loaded_html(classifier.config, HOSTILE, HOSTILE, {}, words),
        category_f1_html(SECTION, categories, words),
        confusion_html(MATRIX, categories, words),
        confusion_detail_html(MATRIX, categories, 0, 1, words),
    ):
        assert "<img" not in html and "${" not in html and "{{" not in html


def test_words_are_complete_in_both_languages():
    assert LABELS["en"].keys() == LABELS["fr"].keys()
    for key, english in LABELS["en"].items():
        french = LABELS["fr"][key]
        assert french, key
        assert set(re.findall(r"{(\w+)}", english)) <= set(re.findall(r"{(\w+)}", french)), key
    marks = translations()
    assert set(marks) == {"en", "fr"} and set(marks["en"]) == set(marks["fr"])
    assert len(marks["en"]) == len(set(_COMPONENT_KEYS))
    assert json.dumps(marks)


def test_numbers_are_written_as_the_language_writes_them():
    english, french = Translator("en"), Translator("fr")
    assert english.percent(0.9421) == "94.2%" and french.percent(0.9421) == "94,2\u00a0%"
    assert english.number(2789.5, 1) == "2,789.5" and french.number(2789.5, 1) == "2\u00a0789,5"
    assert english.duration(3.21) == "3.2 s" and french.duration(300) == "5 min"
    assert Translator("de").language == "en" and Translator(None).language == "en"
