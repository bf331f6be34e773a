"""The sentences about a visitor's input: each is one that the package says, and each is said in French, too."""

import ast
import re
from pathlib import Path

import pytest

import rakuten_models
from rakuten_models import Product
from rakuten_models.app.i18n.errors import SENTENCES, translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.errors import templates

PACKAGE = Path(rakuten_models.__file__).parent

# Where what a visitor gives is read.
READERS = (
    "preprocessing/image.py",
    "catalog/columns.py",
    "catalog/csv_reader.py",
    "catalog/lines.py",
    "catalog/image_store.py",
    "catalog/jsonl_reader.py",
    "batch/scorer.py",
    "app/uploads.py",
    "app/limits.py",
)

# A page never gives these causes: folders, paths of the server, arrays and objects of Python, no visit.
NOT_OF_A_PAGE = (
    "This message names no visit (session_hash); use the page, or the endpoint /classify_batch.",
    "{} does not exist; check the path.",
    "{} is a folder; give the path of a picture.",
    "The picture is a {}; give a path, the file's bytes, a PIL image or an array.",
    "{} is an array of {} with shape {}; give uint8 values 0-255 of shape (height, width), (height, width, 3) or "
    "(height, width, 4).",
    "The picture {} is not in the images folder; check the path.",
    "{} does not exist; give the folder or the ZIP file that holds the pictures.",
    # The app reads pictures from no URL.
    "The picture {} did not arrive within {} s; score the row again later, or give it longer.",
    "The picture {} cannot be fetched ({}); check the URL and your access.",
)


def sentences_in(path):
    """The sentences with an advice that a module writes, what they fill in as {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Docstrings, and the parts of what is filled in.
    others = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Expr)
        for part in ast.walk(node)
        if part is not node
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in others:
            text = node.value
        else:
            continue
        if re.fullmatch(r"[A-Z{][^\n]+; [^\n]+\.", text):
            found.add(text)
    return found


def blank(template):
    """A template as `sentences_in` writes it."""
    return re.sub(r"{\w+(!r)?(:[^}]+)?}", "{}", template)


def in_french(sentence):
    return translate_error(sentence, Translator("fr"))


def test_every_translated_sentence_is_one_that_the_package_says():
    written = set().union(
        *(sentences_in(path) for path in PACKAGE.rglob("*.py") if path != PACKAGE / "app/i18n/errors.py")
    )
    written |= {blank(text).replace("The picture{}", "The picture") for text in templates("en").values()}
    # The picture's name is filled in as one with the words before it, and a plural's letter as well.
    written |= {re.sub(r"^{} ", "The picture ", text) for text in written}
    for english, _ in SENTENCES[1:]:
        wanted = blank(english.replace("{picture}", "The picture"))
        wanted = re.sub(r"expected {}\.$", "expected {}.", wanted)
        assert (
            wanted in written
            or wanted.replace("field ", "field{} ").replace("fields ", "field{} ") in written
        ), english


@pytest.mark.parametrize("reader", READERS)
def test_no_sentence_about_a_visitors_input_is_english_alone(reader):
    for sentence in sentences_in(PACKAGE / reader):
        if sentence in NOT_OF_A_PAGE:
            continue
        shown = sentence.replace("field{}", "fields").replace("{}", "7")
        if reader == "preprocessing/image.py":
            shown = shown.replace("7", "The picture 'a.jpg'", 1)
        assert not in_french(shown).startswith("En anglais"), sentence


def test_values_go_into_the_french():
    assert in_french("The picture 'a b.jpg' is empty (0 bytes); choose another picture.") == (
        "La photo 'a b.jpg' est vide (0 octet)\u00a0; choisissez-en une autre."
    )
    assert in_french("The picture is empty (0 bytes); choose another picture.").startswith(
        "La photo est vide"
    )
    assert in_french("x{y}.csv is UTF-16 text; save it as UTF-8.").startswith("x{y}.csv est du texte UTF-16")


def test_what_is_not_translated_says_that_it_is_english():
    assert in_french("The moon is too bright; wait.") == "En anglais\u00a0: The moon is too bright; wait."
    assert (
        translate_error("The moon is too bright; wait.", Translator("en")) == "The moon is too bright; wait."
    )


def test_real_mistakes_are_said_in_french(classifier, tmp_path):
    broken = tmp_path / "cassée.jpg"
    broken.write_bytes(b"this is no picture")
    empty = tmp_path / "vide.jpg"
    empty.write_bytes(b"")
    products = [Product(), Product(image=broken), Product("chaise", image=empty)]
    said_of = [in_french(prediction.error) for prediction in classifier.predict(products)]
    assert said_of[0].startswith("Le produit n'a ni texte ni photo")
    assert said_of[1].startswith("La photo 'cassée.jpg' n'est pas une image lisible")
    assert said_of[2].startswith("La photo 'vide.jpg' est vide")
