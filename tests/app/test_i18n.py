"""The error messages that a visitor can meet: each is said in French, too, with the same values."""

import json
import string
from pathlib import Path

import pytest

import rakuten_models
from rakuten_models import Product
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.errors import Message

# Without training's, which are there once it is imported.
ENGLISH = json.loads(
    (Path(rakuten_models.__file__).parent / "errors" / "messages" / "en.json").read_text(encoding="utf-8")
)

# What the page's visitors never meet: commands, folders, URLs, paths of the server, arrays and objects of Python.
NOT_OF_A_PAGE = {
    "catalog.images_missing",
    "catalog.missing",
    "catalog.no_files",
    "catalog.other_columns",
    "catalog.picture_late",
    "catalog.picture_not_fetched",
    "catalog.picture_not_in_folder",
    "catalog.several_kinds",
    "catalog.unreadable_for_worker",
    "catalog.url_library_missing",
    "catalog.url_unknown",
    "product.field_no_text",
    "product.nothing_given",
    "product.picture_is_folder",
    "product.picture_missing",
    "product.picture_wrong_array",
    "product.picture_wrong_type",
    "product.wrong_type",
}

# Raised where a visitor's catalog is scored and its labels are compared; the rest of batch. is about the command.
BATCH = {"batch.labels_empty", "batch.labels_no_numbers", "batch.no_picture_column", "batch.row_no_pictures_given"}

# The others of app. are about the command, or answers to programs.
APP = {
    "app.crowded",
    "app.data_address_no_picture",
    "app.file_gone",
    "app.no_catalog",
    "app.no_file",
    "app.no_room",
    "app.picture_gone",
    "app.unexpected",
    "app.upload_too_large",
}

OF_A_PAGE = sorted(
    BATCH | APP | {code for code in ENGLISH if code.startswith(("catalog.", "product."))} - NOT_OF_A_PAGE
)


def value_names(template):
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def in_french(sentence):
    return translate_error(sentence, Translator("fr"))


@pytest.mark.parametrize("code", OF_A_PAGE)
def test_every_message_that_a_visitor_can_meet_is_said_in_french(code):
    names = value_names(ENGLISH[code])
    french = in_french(Message(code, **dict.fromkeys(names, 1234)))
    assert not french.startswith("En anglais") and french != Message(code, **dict.fromkeys(names, 1234))


def test_values_go_into_the_french():
    assert in_french(Message("product.picture_empty", name=" 'a b.jpg'")) == (
        "La photo 'a b.jpg' est vide (0 octet)\u00a0; choisissez-en une autre."
    )
    assert in_french(Message("product.picture_empty", name="")).startswith("La photo est vide")
    assert in_french(Message("catalog.utf_16", file="x{y}.csv")).startswith("x{y}.csv est du texte UTF-16")
    assert in_french(Message("app.upload_too_large", size=20.5, limit=20)).startswith("La photo fait 20,5 Mo")
    assert "a 12\u00a0345 colonnes" in in_french(Message("catalog.too_many_columns", file="a", count=12345, limit=1))
    line = Message("catalog.line_nul", line=1)
    assert in_french(Message("catalog.header_problem", file="a.csv", problem=line)) == (
        "a.csv\u00a0: La ligne 1 du fichier contient un caractère NUL\u00a0; retirez-le."
    )


def test_what_is_not_translated_says_that_it_is_english():
    assert in_french("The moon is too bright; wait.") == "En anglais\u00a0: The moon is too bright; wait."
    assert translate_error("The moon is too bright; wait.", Translator("en")) == "The moon is too bright; wait."


def test_real_mistakes_are_said_in_french(starter, tmp_path):
    broken = tmp_path / "cassée.jpg"
    broken.write_bytes(b"this is no picture")
    empty = tmp_path / "vide.jpg"
    empty.write_bytes(b"")
    products = [Product(), Product(image=broken), Product("chaise", image=empty)]
    said_of = [in_french(prediction.error) for prediction in starter.predict(products)]
    assert said_of[0].startswith("Le produit n'a ni texte ni photo")
    assert said_of[1].startswith("La photo 'cassée.jpg' n'est pas une image lisible")
    assert said_of[2].startswith("La photo 'vide.jpg' est vide")
