"""Every check of a bundle's folder and of its config.json, with files that no model is in: fast, for `make mutants`."""

import base64
import dataclasses
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from rakuten_models.bundle.config import (
    ALL_FILES,
    CONFIG_FILE,
    HASHED_FILES,
    KERAS_FILES,
    MAX_SIZES,
    REQUIRED_FILES,
    SERVING_FILES,
    BundleConfig,
)
from rakuten_models.bundle.folder import (
    bundle_files,
    check_file,
    check_publishable,
    check_target,
    config_bytes,
    read_config,
    replace_folder,
    validate_bundle,
    write_config,
)
from rakuten_models.bundle.strict_json import parse_json
from rakuten_models.errors import BundleError, reason, shown
from rakuten_models.files import file_facts, write_atomically
from rakuten_models.inference.calibration import Calibration
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Category

AGAIN = "download or train the bundle again."

KIND = "config.json holds a value of the wrong kind"


def a_config(**changes):
    """Two categories and a self-check that nobody runs here."""
    products = [{"designation": "a", "description": "two\nlines", "image": base64.b64encode(b"x").decode()}]
    return dataclasses.replace(
        BundleConfig(
            categories=(Category(0, 10, {"en": "books", "fr": "livres"}), Category(1, -40, {})),
            text=TextSettings(),
            image=ImageSettings(),
            calibration={
                "text": Calibration(1.5, 0.5, -0.1, (0.9, 1.1)),
                "image": Calibration(),
                "fusion": Calibration(0.7, -2.0, 2.0, (1.0, 1.0)),
            },
            thresholds={
                "0.95": {"probability": 0.9, "share_accepted": 0.5},
                "0.99": {"probability": None, "share_accepted": 0.0},
            },
            library_versions={"numpy": "2"},
            self_check={"products": products, "probabilities": [[0.25, 0.75]]},
            training={"seed": 0, "note": None},
        ),
        **changes,
    )


@pytest.fixture
def folder(tmp_path):
    """A folder that passes every check of `validate_bundle`."""
    place = tmp_path / "bundle"
    place.mkdir()
    for name in ALL_FILES:
        (place / name).write_bytes(f"content of {name}".encode())
    write_config(place, a_config())
    return place


def sentence(call, *arguments, **named):
    with pytest.raises(BundleError) as caught:
        call(*arguments, **named)
    return str(caught.value)


def changed(change):
    content = json.loads(json.dumps(a_config().to_json()))
    change(content)
    return content


# config.json.


def test_config_is_written_and_read_as_it_is(folder):
    written = read_config(folder)
    assert written == a_config(files={name: file_facts(folder / name) for name in HASHED_FILES})
    assert BundleConfig.from_json(written.to_json()) == written
    text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    assert text == json.dumps(written.to_json(), indent=1, ensure_ascii=False) + "\n"
    assert json.loads(text)["model_type"] == "rakuten-product-classification"
    assert list(json.loads(text)) == [
        "format_version", "model_type", "categories", "preprocessing", "calibration", "thresholds",
        "library_versions", "files", "self_check", "training",
    ]  # fmt: skip


def test_writing_lists_only_the_files_that_are_there(folder):
    for name in KERAS_FILES:
        (folder / name).unlink()
    config = write_config(folder, a_config())
    assert set(config.files) == set(HASHED_FILES) - set(KERAS_FILES)
    assert config.files["tokenizer.json"] == {
        "sha256": hashlib.sha256(b"content of tokenizer.json").hexdigest(),
        "size": 25,
    }


def test_a_name_in_other_letters_is_written_as_it_is(folder):
    write_config(folder, a_config(training={"name": "été 😀"}))
    assert "été 😀" in (folder / CONFIG_FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format_version=4), "says format version 4, but this package reads version 2; update the "
         "rakuten_models package."),
        (lambda c: c.update(format_version=0), "says format version 0, but this package reads version 2; train or "
         "download a bundle of the present format."),
        (lambda c: c.update(format_version=True), "version True, but this package reads version 2; train or download"),
        (lambda c: c.update(format_version=3.0), "version 3.0, but this package reads version 2; train or download"),
        (lambda c: c.pop("format_version"), "says format version None,"),
        (lambda c: c.pop("categories"), f"config.json lacks 'categories'; {AGAIN}"),
        (lambda c: c["preprocessing"].pop("image"), f"config.json lacks 'image'; {AGAIN}"),
        (lambda c: c["files"].update({"tokenizer.json": {"size": 1}}), "config.json lacks 'sha256'"),
        (lambda c: c["self_check"]["products"][0].pop("image"), "config.json lacks 'image'"),
        (lambda c: c.update(categories={}), f"{KIND} (categories is {{}}, expected a list); {AGAIN}"),
        (lambda c: c.update(categories=[1]), f"{KIND} (categories[0] is 1, expected an object); {AGAIN}"),
        (lambda c: c["categories"][1].update(index=1.0), "(categories[1].index is 1.0, expected a whole number from 0 "
         "to 100000)"),
        (lambda c: c["categories"][1].update(index=True), "(categories[1].index is True,"),
        (lambda c: c["categories"][1].update(index=-1), "(categories[1].index is -1,"),
        (lambda c: c["categories"][1].update(index=100_001), "(categories[1].index is 100001,"),
        (lambda c: c["categories"][1].update(prdtypecode="4"), "(categories[1].prdtypecode is '4', expected a whole "
         "number from -9223372036854775807 to 9223372036854775807)"),
        (lambda c: c["categories"][1].update(prdtypecode=2**63), "prdtypecode is 9223372036854775808"),
        (lambda c: c["categories"][1].update(prdtypecode=-(2**63)), "prdtypecode is -9223372036854775808"),
        (lambda c: c["categories"][0].update(names=[]), "(categories[0].names is [], expected an object)"),
        (lambda c: c["categories"][0].update(names={"en": 5}), "(categories[0].names.en is 5, expected a text)"),
        (lambda c: c["categories"][0].update(names={"x" * 36: ""}), "(a language in categories[0] has 36 characters, "
         "expected at most 35)"),
        (lambda c: c["categories"][0].update(names={"en": "x" * 1001}), "(categories[0].names.en has 1001 characters, "
         "expected at most 1000)"),
        (lambda c: c["categories"][0].update(names={"en": "a\nb"}), "(categories[0].names.en is 'a\\nb', expected "
         "characters that can be shown)"),
        (lambda c: c["categories"][0].update(names={"en": "\ud800"}), "expected characters that can be shown"),
        (lambda c: c.update(categories=c["categories"][:1]), f"config.json lists 1 categories, at least 2 are needed; "
         f"{AGAIN}"),
        (lambda c: c["categories"].reverse(), f"config.json lists its categories out of order; {AGAIN}"),
        (lambda c: c["categories"][1].update(prdtypecode=10), f"config.json lists a prdtypecode twice; {AGAIN}"),
        (lambda c: c.update(preprocessing=[]), "(preprocessing is [], expected an object)"),
        (lambda c: c["preprocessing"].update(text=1), "(preprocessing.text is 1, expected an object)"),
        (lambda c: c["preprocessing"]["text"].pop("designation_tokens"), "(TextSettings has missing or unknown "
         "entries: designation_tokens)"),
        (lambda c: c["preprocessing"]["image"].update(colour=1, blur=2), "(ImageSettings has missing or unknown "
         "entries: blur, colour)"),
        (lambda c: c["preprocessing"]["image"].update(size=0), "(ImageSettings.size is 0, expected a whole number from "
         "1 to 4096)"),
        (lambda c: c["preprocessing"]["image"].update(size=4097), "(ImageSettings.size is 4097,"),
        (lambda c: c["preprocessing"]["text"].update(description_tokens=65_537), "(TextSettings.description_tokens is "
         "65537, expected a whole number from 1 to 65536)"),
        (lambda c: c.update(calibration=1), "(calibration is 1, expected an object)"),
        (lambda c: c["calibration"].pop("fusion"), f"config.json lacks 'fusion'; {AGAIN}"),
        (lambda c: c["calibration"].update(text=2), "(calibration.text is 2, expected an object)"),
        (lambda c: c["calibration"]["text"].pop("temperature"), f"config.json lacks 'temperature'; {AGAIN}"),
        (lambda c: c["calibration"]["text"].update(temperature=True), "(calibration.text.temperature is True, expected "
         "a number)"),
        (lambda c: c["calibration"]["text"].update(temperature="1"), "(calibration.text.temperature is '1', expected a "
         "number)"),
        (lambda c: c["calibration"]["text"].update(temperature=10**400), "expected a number)"),
        (lambda c: c["calibration"]["image"].update(temperature=0.0009), "config.json gives image the temperature "
         f"0.0009, 0.001 to 1000 is needed; {AGAIN}"),
        (lambda c: c["calibration"]["image"].update(temperature=1000.1), "gives image the temperature 1000.1"),
        (lambda c: c["calibration"]["image"].update(confidence_power=2.1), "config.json gives image the confidence "
         f"power 2.1, -2 to 2 is needed; {AGAIN}"),
        (lambda c: c["calibration"]["image"].update(confidence_power=-2.1), "gives image the confidence power -2.1"),
        (lambda c: c["calibration"]["text"].update(spread_power=-2.1), "config.json gives text the spread power -2.1, "
         f"-2 to 2 is needed; {AGAIN}"),
        (lambda c: c["calibration"]["image"].pop("spread_power"), "config.json lacks 'spread_power'"),
        (lambda c: c["calibration"]["text"]["category_temperatures"].append(1.0), "config.json gives text 3 "
         f"temperatures for 2 categories; {AGAIN}"),
        (lambda c: c["calibration"]["text"].update(category_temperatures=[0.0, 1.0]), "config.json gives a category of "
         f"text a temperature that is not 0.001 to 1000; {AGAIN}"),
        (lambda c: c["calibration"]["text"].update(category_temperatures=[1.0, None]),
         "(calibration.text.category_temperatures[1] is None, expected a number)"),
        (lambda c: c["calibration"]["text"].update(category_temperatures=2.0),
         "(calibration.text.category_temperatures is 2.0, expected a list)"),
        (lambda c: c["calibration"]["fusion"].pop("category_temperatures"), "config.json lacks "
         "'category_temperatures'"),
        (lambda c: c["calibration"]["image"].update(confidence_power=None), "(calibration.image.confidence_power is "
         "None, expected a number)"),
        (lambda c: c.update(thresholds=[]), "(thresholds is [], expected an object)"),
        (lambda c: c["thresholds"].pop("0.95"), f"config.json has no threshold for precision 0.95; {AGAIN}"),
        (lambda c: c["thresholds"].update({"0.9": 1}), "(thresholds.'0.9' is 1, expected an object)"),
        (lambda c: c["thresholds"].update({"0.9": {"probability": "x"}}), "(thresholds.'0.9'.probability is 'x', "
         "expected a number)"),
        (lambda c: c["thresholds"].update({"0.9": {"x" * 1001: 1}}), "(a key in thresholds.'0.9' has 1001 characters"),
        (lambda c: c["thresholds"].update({"0.9": {}}), f"config.json has no probability for precision '0.9'; {AGAIN}"),
        (lambda c: c["thresholds"]["0.95"].update(probability=1.1), f"config.json has the threshold 1.1 for precision "
         f"'0.95', 0 to 1 is needed; {AGAIN}"),
        (lambda c: c["thresholds"]["0.95"].update(probability=-0.1), "has the threshold -0.1 for"),
        (lambda c: c.update(library_versions=[]), "(library_versions is [], expected an object)"),
        (lambda c: c["library_versions"].update(keras=3), "(library_versions.'keras' is 3, expected a text)"),
        (lambda c: c["library_versions"].update({"x" * 1001: "3"}), "(a library has 1001 characters"),
        (lambda c: c.update(files=[]), "(files is [], expected an object)"),
        (lambda c: c["files"].update({"../x": 1}), f"(files lists '../x', expected only {', '.join(HASHED_FILES)})"),
        (lambda c: c["files"].update({"tokenizer.json": 1}), "(files.tokenizer.json is 1, expected an object)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": 1, "size": 1}}), "(files.tokenizer.json.sha256 is "
         "1, expected a text)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": "a" * 65, "size": 1}}), "(files.tokenizer.json."
         "sha256 has 65 characters, expected at most 64)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": "a" * 63, "size": 1}}), "expected 64 hex digits)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": "A" * 64, "size": 1}}), "(files.tokenizer.json."
         f"sha256 is '{'A' * 59}..., expected 64 hex digits)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": "a" * 64, "size": -1}}), "(files.tokenizer.json."
         "size is -1, expected a whole number from 0 to 134217728)"),
        (lambda c: c["files"].update({"tokenizer.json": {"sha256": "a" * 64, "size": 1 << 28}}), "size is 268435456"),
        (lambda c: c.update(self_check=[]), "(self_check is [], expected an object)"),
        (lambda c: c["self_check"].update(products={}), "(self_check.products is {}, expected a list)"),
        (lambda c: c["self_check"].update(products=[0] * 101), "(self_check.products has 101 entries, expected at most "
         "100)"),
        (lambda c: c["self_check"].update(products=[0]), "(self_check.products[0] is 0, expected an object)"),
        (lambda c: c["self_check"]["products"][0].update(designation=0), "(self_check.products[0].designation is 0, "
         "expected a text)"),
        (lambda c: c["self_check"]["products"][0].update(description=None), "products[0].description is None"),
        (lambda c: c["self_check"]["products"][0].update(description="x" * 100_001), "has 100001 characters, expected "
         "at most 100000)"),
        (lambda c: c["self_check"]["products"][0].update(image=1), "(self_check.products[0].image is 1, expected a "
         "text)"),
        (lambda c: c["self_check"].update(probabilities=1), "(self_check.probabilities is 1, expected a list)"),
        (lambda c: c["self_check"].update(probabilities=[[0.5, 0.5]] * 101), "(self_check.probabilities has 101"),
        (lambda c: c["self_check"].update(probabilities=[1]), "(self_check.probabilities[0] is 1, expected a list)"),
        (lambda c: c["self_check"].update(probabilities=[[1]]), "(self_check.probabilities[0] has 1 entries for 2 "
         "categories)"),
        (lambda c: c["self_check"].update(probabilities=[[1, "x"]]), "probabilities[0] is 'x', expected a number)"),
        (lambda c: c["self_check"].update(probabilities=[[1, 1.1]]), "(self_check.probabilities[0] holds a number that "
         "is no probability, expected 0 to 1)"),
        (lambda c: c["self_check"].update(probabilities=[[-0.1, 1]]), "holds a number that is no probability"),
        (lambda c: c.update(training=1), "(training is 1, expected an object)"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(change, words):
    said = sentence(BundleConfig.from_json, changed(change))
    assert words in said and said.startswith("config.json ") and said.endswith(".")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["categories"][0].update(prdtypecode=2**63 - 1),
        lambda c: c["categories"][0].update(prdtypecode=-(2**63) + 1),
        lambda c: c["categories"][0].update(names={"x" * 35: "y" * 1000}),
        lambda c: c["categories"][0].update(names={"en": "ligne de vêtements — 日本語"}),
        lambda c: c["preprocessing"]["image"].update(size=1),
        lambda c: c["preprocessing"]["image"].update(size=4096),
        lambda c: c["preprocessing"]["text"].update(description_tokens=65_536),
        lambda c: c["calibration"]["text"].update(temperature=0.001),
        lambda c: c["calibration"]["image"].update(temperature=1000, confidence_power=-2),
        lambda c: c["calibration"]["text"].update(confidence_power=2),
        lambda c: c["thresholds"]["0.95"].update(probability=0),
        lambda c: c["thresholds"]["0.95"].update(probability=1),
        lambda c: c["files"].update({"tokenizer.json": {"sha256": "0123456789abcdef" * 4, "size": 134_217_728}}),
        lambda c: c["self_check"].update(probabilities=[[0, 1]] * 100),
        lambda c: c["self_check"].update(products=[]),
        lambda c: c["self_check"].pop("probabilities"),
        lambda c: c["self_check"]["products"][0].update(description="x" * 100_000, image=None),
        lambda c: c.update(self_check={}),
        lambda c: c.update(something_new=1),
    ],
)
def test_what_makes_sense_is_taken(change):
    content = changed(change)
    config = BundleConfig.from_json(content)
    assert config.to_json() == {name: value for name, value in content.items() if name != "something_new"}


@pytest.mark.parametrize("content", [[1], "x", None, 5])
def test_config_is_an_object(content):
    assert sentence(BundleConfig.from_json, content, "PLACE") == f"PLACE holds no JSON object; {AGAIN}"


# JSON.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "it holds 'c' twice in one object"),
        (b"[NaN]", "it holds NaN, which is no number"),
        (b"[Infinity]", "it holds Infinity, which is no number"),
        (b"[-Infinity]", "it holds -Infinity, which is no number"),
        (b"[-1e999]", "it holds the number '-1e999', which is too large"),
        (b"[" * 34 + b"]" * 34, "it is nested deeper than 32"),
        (b'{"a":' * 33 + b"[1]" + b"}" * 33, "it is nested deeper than 32"),
        (b"[" * 200_000, "it is nested deeper than 32"),
        (b"\xff", "'utf-8' codec"),
        (b"{", "Expecting property name"),
    ],
)
def test_json_is_read_strictly(text, words):
    with pytest.raises(ValueError) as caught:
        parse_json(text)
    assert str(caught.value).startswith(words)


def test_json_that_is_in_order_is_taken():
    assert parse_json('{"a": [1, 2.5, null, true, "é"], "b": {"a": 1e308}}'.encode()) == {
        "a": [1, 2.5, None, True, "é"],
        "b": {"a": 1e308},
    }
    assert parse_json(b"[" * 33 + b"]" * 33)[0]


def test_values_are_shown_short():
    assert shown("x" * 57) == repr("x" * 57) and shown("é\n") == r"'é\n'"
    assert shown("x" * 59) == f"'{'x' * 59}..."
    assert shown("x" * 10_000_000) == f"'{'x' * 59}..."
    assert shown("\ud800") == r"'\ud800'" and shown([1] * 1000) == f"{[1] * 1000!r}"[:60] + "..."
    assert reason(ValueError("a\n  b\tc")) == "a b c"
    assert reason(ValueError("x" * 200)) == "x" * 200 and reason(ValueError("x" * 201)) == "x" * 200 + "..."


# The folder.


def test_a_folder_that_is_whole_passes(folder):
    config = read_config(folder)
    assert validate_bundle(folder) == validate_bundle(str(folder), require_keras=True) == config
    digest = hashlib.sha256((folder / CONFIG_FILE).read_bytes()).hexdigest()
    assert validate_bundle(folder, config_sha256=digest) == config
    assert (
        sentence(validate_bundle, folder, config_sha256="0" * 64)
        == f"{folder / CONFIG_FILE} was changed while the bundle was being loaded; load it again."
    )
    for name in KERAS_FILES:
        (folder / name).unlink()
    assert validate_bundle(folder) == config


@pytest.mark.parametrize("name", [name for name in REQUIRED_FILES if name != CONFIG_FILE])
def test_what_is_needed_must_be_there(folder, name):
    (folder / name).unlink()
    assert sentence(validate_bundle, folder) == f"The bundle {str(folder)!r} lacks {name}; {AGAIN}"


@pytest.mark.parametrize("name", KERAS_FILES)
def test_what_only_training_needs_must_be_there_for_training(folder, name):
    (folder / name).unlink()
    validate_bundle(folder)
    said = sentence(validate_bundle, folder, require_keras=True)
    assert said == f"The bundle {str(folder)!r} lacks {name}; {AGAIN}"


def test_a_file_that_is_absent_hides_none_that_was_altered(folder):
    (folder / "text_model.keras").unlink()
    (folder / "image_model.keras").write_bytes(b"another")
    assert "image_model.keras has 7 bytes" in sentence(validate_bundle, folder)


@pytest.mark.parametrize("name", HASHED_FILES)
def test_what_config_describes_must_be_that(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    assert sentence(validate_bundle, folder) == (
        f"{folder / name} has {len(content) - 1} bytes where config.json says {len(content)}; it is cut off or another "
        f"file: {AGAIN}"
    )
    (folder / name).write_bytes(b"C" + content[1:])
    assert sentence(validate_bundle, folder) == (
        f"{folder / name} is not the file that config.json describes (its sha256 differs); {AGAIN}"
    )
    content = json.loads((folder / CONFIG_FILE).read_text())
    del content["files"][name]
    (folder / CONFIG_FILE).write_text(json.dumps(content))
    assert sentence(validate_bundle, folder) == (f"{folder / name} is not listed in config.json; remove it, or {AGAIN}")


@pytest.mark.parametrize("name", ["README.md", "metrics.json", "reliability.png"])
def test_what_config_does_not_describe_may_be_anything_of_a_sensible_size(folder, name):
    (folder / name).write_bytes(b"")
    validate_bundle(folder)
    (folder / name).unlink()
    validate_bundle(folder)
    (folder / name).symlink_to(folder / "nowhere")
    assert f"{name} is a link to another place" in sentence(validate_bundle, folder)


@pytest.mark.parametrize("name", ALL_FILES)
def test_sizes_have_a_limit(folder, name):
    os.truncate(folder / name, MAX_SIZES[name])
    assert check_file(folder / name) == MAX_SIZES[name]
    os.truncate(folder / name, MAX_SIZES[name] + 1)
    most = f"{MAX_SIZES[name]:,}"
    expected = (
        f"{folder / name} has {MAX_SIZES[name] + 1:,} bytes, expected at most {most}; no bundle needs so many: {AGAIN}"
    )
    assert sentence(check_file, folder / name) == sentence(validate_bundle, folder) == expected


def test_the_limits_are_what_they_are_said_to_be():
    assert set(MAX_SIZES) == set(ALL_FILES)
    assert [MAX_SIZES[name] >> 20 for name in (CONFIG_FILE, "tokenizer.json", "README.md", "metrics.json")] == [
        16, 128, 16, 64,
    ]  # fmt: skip
    assert MAX_SIZES["text_model.tflite"] == 2 << 30 and MAX_SIZES["text_model.keras"] == 4 << 30


def test_links_lead_nowhere_but_into_the_hub_clients_cache(folder, tmp_path):
    path = folder / "README.md"
    content = path.read_bytes()
    (tmp_path / "README.md").write_bytes(content)
    path.unlink()
    path.symlink_to(tmp_path / "README.md")
    refused = f"{path} is a link to another place; a bundle holds plain files: put the file itself there."
    assert sentence(check_file, path) == refused
    path.unlink()
    path.symlink_to("metrics.json")
    assert sentence(check_file, path) == refused
    repository = tmp_path / "repository"
    snapshot = repository / "snapshots" / "1"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "blobs").mkdir()
    folder.rename(snapshot)
    path = snapshot / "README.md"
    path.unlink()
    (repository / "blobs" / "abc").write_bytes(content)
    path.symlink_to("../../blobs/abc")
    assert check_file(path) == len(content)
    # Not what lies deeper, and not the same folders under other names.
    (repository / "blobs" / "deep").mkdir()
    (repository / "blobs" / "deep" / "abc").write_bytes(content)
    path.unlink()
    path.symlink_to("../../blobs/deep/abc")
    assert "is a link to another place" in sentence(check_file, path)
    path.unlink()
    path.symlink_to("../../blobs/abc")
    (repository / "snapshots").rename(repository / "others")
    assert "is a link to another place" in sentence(check_file, repository / "others" / "1" / "README.md")


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert validate_bundle(tmp_path / "link") == validate_bundle(folder)


def test_only_plain_files_are_read(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").mkdir()
    assert sentence(validate_bundle, folder) == f"{folder / 'README.md'} is no plain file; {AGAIN}"


def test_what_is_no_bundle(tmp_path, folder):
    absent = tmp_path / "absent"
    said = f"The bundle folder {str(absent)!r} does not exist; check the path."
    assert sentence(read_config, absent) == sentence(validate_bundle, absent) == said
    said = f"The folder {str(tmp_path)!r} is no bundle: it holds no config.json; give a folder that training wrote."
    assert sentence(config_bytes, tmp_path) == said
    (folder / CONFIG_FILE).write_bytes(b"[")
    said = sentence(read_config, folder)
    assert said.startswith(f"{folder / CONFIG_FILE} is damaged (Expecting") and said.endswith(f"; {AGAIN}")
    (folder / CONFIG_FILE).write_bytes(b"[]")
    assert sentence(read_config, folder) == f"{folder / CONFIG_FILE} holds no JSON object; {AGAIN}"
    (folder / CONFIG_FILE).write_bytes(b'{"format_version": 2}')
    assert sentence(validate_bundle, folder).startswith(f"{folder / CONFIG_FILE} lacks ")


def test_names_in_the_bundles_own_order(folder):
    assert bundle_files(folder) == ALL_FILES == bundle_files(str(folder))
    (folder / "notes.txt").write_text("")
    for name in KERAS_FILES:
        (folder / name).unlink()
    assert bundle_files(folder) == SERVING_FILES


def test_a_bundle_without_card_or_figures_is_not_published(folder):
    check_publishable(folder)
    for name in ("README.md", "reliability.png"):
        (folder / name).unlink()
    assert sentence(check_publishable, folder) == (
        f"The bundle {str(folder)!r} lacks README.md, reliability.png, which every published bundle has; run "
        f"`python -m training.evaluate --bundle {folder} --catalog-dir CATALOG --update-bundle` first."
    )


def test_facts_of_a_long_file(tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / "file").write_bytes(content)
    assert file_facts(tmp_path / "file") == {"sha256": hashlib.sha256(content).hexdigest(), "size": 3 << 20}


def test_facts_without_the_newer_librarys_help(tmp_path, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)
    test_facts_of_a_long_file(tmp_path)


# Writing.


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_atomically(path, "é")
    assert path.read_bytes() == "é".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"

    seen = []

    def no_space(handle):
        seen.extend(each.name for each in tmp_path.iterdir())
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    assert path.read_bytes() == b"\x00\xff"
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]
    assert any(name.startswith(".file.json.") for name in seen) and len(seen) == 2


def test_several_may_write_a_file_at_a_time(tmp_path):
    path = tmp_path / "main"
    with ThreadPoolExecutor(4) as writers:
        contents = [str(number % 4) * 40 for number in range(200)]
        list(writers.map(lambda content: write_atomically(path, content, concurrent=True), contents))
    assert path.read_text() in contents and [each.name for each in tmp_path.iterdir()] == ["main"]


def test_a_folder_is_the_old_one_or_the_new_one(tmp_path):
    target = tmp_path / "deeper" / "bundle"
    with replace_folder(target) as staging:
        assert staging.parent == target.parent and staging.name.startswith(".bundle.writing-")
        assert not target.exists()
        (staging / CONFIG_FILE).write_text("one")
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    with replace_folder(str(target)) as staging:
        (staging / CONFIG_FILE).write_text("two")
        assert (target / CONFIG_FILE).read_text() == "one"
    assert (target / CONFIG_FILE).read_text() == "two"
    with pytest.raises(KeyboardInterrupt), replace_folder(target) as staging:
        (staging / CONFIG_FILE).write_text("three")
        raise KeyboardInterrupt
    assert (target / CONFIG_FILE).read_text() == "two"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def test_what_a_kill_left_is_put_back_or_cleared_away(tmp_path):
    target, previous = tmp_path / "bundle", tmp_path / ".bundle.previous"
    previous.mkdir()
    (previous / CONFIG_FILE).write_text("old")
    with pytest.raises(RuntimeError), replace_folder(target):
        assert (target / CONFIG_FILE).read_text() == "old"
        raise RuntimeError
    assert (target / CONFIG_FILE).read_text() == "old" and not previous.exists()
    previous.mkdir()
    with replace_folder(target) as staging:
        (staging / CONFIG_FILE).write_text("new")
    assert (target / CONFIG_FILE).read_text() == "new" and not previous.exists()


def test_a_swap_that_fails_half_way_is_undone(tmp_path):
    target = tmp_path / "bundle"
    target.mkdir()
    (target / CONFIG_FILE).write_text("old")
    with pytest.raises(FileNotFoundError), replace_folder(target) as staging:
        staging.rename(tmp_path / "gone")
        staging.with_name("x")
    assert (target / CONFIG_FILE).read_text() == "old"


def test_only_a_bundle_or_nothing_is_written_over(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("absent", "empty"):
        check_target(tmp_path / place)
    (tmp_path / "file").write_text("")
    said = f"{str(tmp_path / 'file')!r} is a file; give a folder for the bundle."
    assert sentence(check_target, str(tmp_path / "file")) == said
    said = f"The folder {str(tmp_path)!r} is not empty and no bundle; give a new or empty folder."
    assert sentence(check_target, tmp_path) == said
    with pytest.raises(BundleError), replace_folder(tmp_path):
        raise AssertionError
    (tmp_path / CONFIG_FILE).write_text("")
    check_target(tmp_path)
