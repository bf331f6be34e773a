"""What a bundle folder must be, and the sentence for each way in which it is not."""

import json
import shutil

import pytest

from rakuten_models import ProductClassifier
from rakuten_models.bundle.config import ALL_FILES, CONFIG_FILE, HASHED_FILES, KERAS_FILES, SERVING_FILES
from rakuten_models.bundle.folder import bundle_files, read_config, replace_folder, validate_bundle
from rakuten_models.errors import BundleError
from rakuten_models.files import file_facts


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def change_config(folder, change):
    content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    change(content)
    (folder / CONFIG_FILE).write_text(json.dumps(content), encoding="utf-8")


def one_category_less(content):
    """Everywhere in config.json, so that only the models know better."""
    content["categories"].pop()
    temperatures = [each["category_temperatures"] for each in content["calibration"].values()]
    for row in [*content["self_check"]["probabilities"], *temperatures]:
        del row[-1:]


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        ProductClassifier.from_pretrained(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_training_writes_exactly_the_files_of_a_bundle(tiny_bundle):
    assert sorted(path.name for path in tiny_bundle.iterdir()) == sorted(ALL_FILES)
    validate_bundle(tiny_bundle, require_keras=True)


def test_the_serving_part_is_complete_in_itself(bundle):
    for name in KERAS_FILES:
        (bundle / name).unlink()
    assert bundle_files(bundle) == SERVING_FILES
    ProductClassifier.from_pretrained(bundle).reproduce_self_check()
    with pytest.raises(BundleError, match="lacks text_model.keras"):
        validate_bundle(bundle, require_keras=True)


def test_config_survives_writing_and_reading(tiny_bundle):
    config = read_config(tiny_bundle)
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("name", HASHED_FILES)
def test_a_file_that_was_tampered_with_is_refused(bundle, name):
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{name} is not the file that config.json describes" in refusal(bundle)


@pytest.mark.parametrize("name", HASHED_FILES)
def test_a_truncated_file_is_refused(bundle, name):
    path = bundle / name
    path.write_bytes(path.read_bytes()[:-10])
    assert f"{name} has" in refusal(bundle) and "it is cut off or another file" in refusal(bundle)


@pytest.mark.parametrize("name", [name for name in HASHED_FILES if name not in KERAS_FILES])
def test_a_missing_file_is_refused(bundle, name):
    (bundle / name).unlink()
    assert f"lacks {name}" in refusal(bundle)


def test_swapped_models_are_refused_even_with_fitting_hashes(bundle):
    text, image = bundle / "text_model.tflite", bundle / "image_model.tflite"
    text_bytes = text.read_bytes()
    text.write_bytes(image.read_bytes())
    image.write_bytes(text_bytes)

    def fit_hashes(content):
        for path in (text, image):
            content["files"][path.name] = file_facts(path)

    change_config(bundle, fit_hashes)
    assert "text_model.tflite takes ['pixels']" in refusal(bundle)


def test_a_file_that_config_does_not_list_is_refused(bundle):
    change_config(bundle, lambda content: content["files"].pop("text_model.keras"))
    assert "text_model.keras is not listed in config.json" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format_version=3), "format version 3, but this package reads version 2; update the"),
        (lambda c: c.update(format_version="x"), "format version 'x'"),
        (lambda c: c.pop("calibration"), "lacks 'calibration'"),
        (
            lambda c: c["calibration"]["text"].update(temperature=0),
            "gives text the temperature 0.0, 0.001 to 1000 is needed",
        ),
        (lambda c: c["calibration"]["text"].update(confidence_power=9), "gives text the confidence power 9.0"),
        (lambda c: c["calibration"]["image"].update(temperature="warm"), "holds a value of the wrong kind"),
        (lambda c: c["categories"].reverse(), "categories out of order"),
        (lambda c: c["categories"][1].update(prdtypecode=10), "lists a prdtypecode twice"),
        (lambda c: c.update(categories=c["categories"][:1]), "lists 1 categories, at least 2"),
        (lambda c: c.update(categories=c["categories"][:-1]), "gives text 27 temperatures for 26 categories"),
        (lambda c: c["self_check"]["probabilities"][0].pop(), "has 26 entries for 27 categories"),
        (one_category_less, "27 outputs for 26 categories"),
        (lambda c: c["thresholds"].pop("0.95"), "has no threshold for precision 0.95"),
        (lambda c: c["thresholds"]["0.95"].update(probability=7), "has the threshold 7"),
        (lambda c: c["preprocessing"]["image"].update(size="big"), "ImageSettings.size is 'big'"),
        (lambda c: c["preprocessing"]["image"].pop("size"), "missing or unknown entries: size"),
        (lambda c: c["preprocessing"]["text"].update(color=1), "missing or unknown entries: color"),
    ],
)
def test_settings_that_make_no_sense_are_refused(bundle, change, words):
    change_config(bundle, change)
    assert words in refusal(bundle)


def test_other_contents_of_config_are_refused(bundle):
    for content, words in (("[1, 2]", "holds no JSON object"), ('{"format_version": 1', "is damaged"), ("\udcff", "")):
        (bundle / CONFIG_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
        assert words in refusal(bundle)
    (bundle / CONFIG_FILE).unlink()
    assert "is no bundle: it holds no config.json" in refusal(bundle)


def test_a_tokenizer_that_cannot_be_read_is_refused(bundle):
    (bundle / "tokenizer.json").write_text("{}")
    change_config(bundle, lambda c: c["files"].update({"tokenizer.json": file_facts(bundle / "tokenizer.json")}))
    assert "tokenizer.json cannot be read" in refusal(bundle)


def test_replacing_a_folder_is_all_or_nothing(tmp_path):
    target = tmp_path / "bundle"
    with replace_folder(target) as staging:
        (staging / CONFIG_FILE).write_text("one")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    with pytest.raises(KeyboardInterrupt), replace_folder(target) as staging:
        (staging / CONFIG_FILE).write_text("two")
        raise KeyboardInterrupt
    assert (target / CONFIG_FILE).read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]

    # As a kill in the moment of the swap leaves it.
    target.rename(tmp_path / ".bundle.previous")
    with pytest.raises(RuntimeError), replace_folder(target):
        raise RuntimeError
    assert (target / CONFIG_FILE).read_text() == "one"


def test_something_else_than_a_bundle_is_never_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not empty and no bundle"), replace_folder(tmp_path):
        pass
    with pytest.raises(BundleError, match="is a file"), replace_folder(tmp_path / "notes.txt"):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"
