"""What config.json of a bundle may hold: file names, settings, and the check of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from rakuten_models.bundle.strict_json import MAX_CODE, mapping, number, sequence, text, whole_number
from rakuten_models.errors import BundleError, shown
from rakuten_models.inference.calibration import Calibration
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Category

# Raised by one whenever an older reader would misread a newer bundle; a reader takes exactly its own version.
FORMAT_VERSION = 2

CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
CARD_FILE = "README.md"
METRICS_FILE = "metrics.json"

MODEL_NAMES = ("text", "image", "fusion")
KERAS_FILES = tuple(f"{name}_model.keras" for name in MODEL_NAMES)
SERVING_MODEL_FILES = tuple(f"{name}_model.tflite" for name in MODEL_NAMES)
PLOT_FILES = ("confusion_matrix.png", "reliability.png", "category_f1.png")

# Without one of these a bundle cannot answer; the card, the figures and the plots may still be missing while
# training is under way.
REQUIRED_FILES = (CONFIG_FILE, TOKENIZER_FILE, *SERVING_MODEL_FILES)
SERVING_FILES = (CARD_FILE, *REQUIRED_FILES, METRICS_FILE, *PLOT_FILES)
ALL_FILES = (*SERVING_FILES, *KERAS_FILES)
HASHED_FILES = (TOKENIZER_FILE, *SERVING_MODEL_FILES, *KERAS_FILES)

# Bytes, far above what training writes: a file beyond them is refused before it is read.
MAX_SIZES = {
    CONFIG_FILE: 16 << 20,
    TOKENIZER_FILE: 128 << 20,
    CARD_FILE: 16 << 20,
    METRICS_FILE: 64 << 20,
    **dict.fromkeys(PLOT_FILES, 64 << 20),
    **dict.fromkeys(SERVING_MODEL_FILES, 2 << 30),
    **dict.fromkeys(KERAS_FILES, 4 << 30),
}

MAX_CATEGORIES = 100_000
# Of a setting: 64 times what a text or a picture usually has, and still an array that fits into memory.
_MAX_COLUMNS, _MAX_PIXELS = 65_536, 4096

_MAX_CHECKED = 100
_TEMPERATURES = (1e-3, 1e3)

# The wanted precision behind `Prediction.decision`.
DEFAULT_PRECISION = "0.95"


@dataclass(frozen=True)
class BundleConfig:
    """What config.json holds.

    Attributes:
        categories: In the order of the models' output columns.
        text: How texts become ids.
        image: How pictures become pixels.
        calibration: By model name.
        thresholds: By wanted precision ("0.90", "0.95", ...): {"probability": the least probability to accept, or
            None if no threshold reaches that precision; "share_accepted": of the validation rows, 0 to 1;
            "precision_low": the lower end of the 95 % interval around the precision there, where it was noted}.
        library_versions: Of the libraries that wrote the bundle.
        files: By file name, {"sha256": 64 hex digits, "size": bytes}.
        self_check: {"products": [{"designation", "description", "image": base64 or None}], "probabilities": [[...]]}.
        training: Facts about the training run, for the card and for finding the test part again.
        format_version: See FORMAT_VERSION.
    """

    categories: tuple[Category, ...]
    text: TextSettings
    image: ImageSettings
    calibration: Mapping[str, Calibration]
    thresholds: Mapping[str, Mapping[str, float | None]]
    library_versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    self_check: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The content of config.json as plain values."""
        content = asdict(self)
        for values in content["calibration"].values():
            values["category_temperatures"] = list(values["category_temperatures"])
        return {
            "format_version": self.format_version,
            "model_type": "rakuten-product-classification",
            "categories": list(content.pop("categories")),
            "preprocessing": {"text": content.pop("text"), "image": content.pop("image")},
            **content,
        }

    @classmethod
    def from_json(cls, content: Any, file: str = CONFIG_FILE) -> BundleConfig:
        """Check and take over the content of a config.json.

        Raises:
            BundleError: Another format version, or a value that is missing or makes no sense.
        """
        if not isinstance(content, dict):
            raise BundleError("bundle.config_no_object", file=file)
        version = content.get("format_version")
        # True and 1.0 equal 1.
        if type(version) is not int or version != FORMAT_VERSION:
            newer = type(version) is int and version > FORMAT_VERSION
            code = "bundle.format_newer" if newer else "bundle.format_other"
            raise BundleError(code, file=file, version=shown(version), known=FORMAT_VERSION)
        try:
            config = cls(
                categories=tuple(
                    _category(entry, f"categories[{index}]")
                    for index, entry in enumerate(sequence(content["categories"], "categories", MAX_CATEGORIES))
                ),
                text=_settings(TextSettings, _part(content, "preprocessing", "text"), _MAX_COLUMNS),
                image=_settings(ImageSettings, _part(content, "preprocessing", "image"), _MAX_PIXELS),
                calibration={
                    name: _calibration(_part(content, "calibration", name), f"calibration.{name}")
                    for name in MODEL_NAMES
                },
                thresholds={
                    key: _threshold(values, key) for key, values in mapping(content["thresholds"], "thresholds").items()
                },
                library_versions={
                    text(name, "a library"): text(version, f"library_versions.{shown(name)}")
                    for name, version in mapping(content["library_versions"], "library_versions").items()
                },
                files={name: _facts(facts, name) for name, facts in mapping(content["files"], "files").items()},
                self_check=dict(mapping(content["self_check"], "self_check")),
                training=dict(mapping(content["training"], "training")),
            )
            _check_values(config, file)
            _check_self_check(config)
        except KeyError as error:
            raise BundleError("bundle.value_missing", file=file, name=error.args[0]) from error
        except ValueError as error:
            raise BundleError("bundle.value_wrong", file=file, reason=str(error)) from error
        return config


def _part(content: Mapping[str, Any], name: str, inner: str) -> Mapping[str, Any]:
    return mapping(mapping(content[name], name)[inner], f"{name}.{inner}")


def _category(entry: Any, name: str) -> Category:
    entry = mapping(entry, name)
    return Category(
        whole_number(entry["index"], f"{name}.index", 0, MAX_CATEGORIES),
        whole_number(entry["prdtypecode"], f"{name}.prdtypecode", -MAX_CODE, MAX_CODE),
        {
            text(language, f"a language in {name}", 35): text(words, f"{name}.names.{language}")
            for language, words in mapping(entry["names"], f"{name}.names").items()
        },
    )


def _calibration(values: Mapping[str, Any], name: str) -> Calibration:
    temperatures = sequence(values["category_temperatures"], f"{name}.category_temperatures", MAX_CATEGORIES)
    keys = "temperature", "confidence_power", "spread_power"
    return Calibration(
        **{key: number(values[key], f"{name}.{key}") for key in keys},
        category_temperatures=tuple(
            number(value, f"{name}.category_temperatures[{index}]") for index, value in enumerate(temperatures)
        ),
    )


def _threshold(values: Any, precision: str) -> dict[str, float | None]:
    name = f"thresholds.{shown(precision)}"
    return {
        text(key, f"a key in {name}"): None if value is None else number(value, f"{name}.{key}")
        for key, value in mapping(values, name).items()
    }


def _facts(facts: Any, name: str) -> dict[str, Any]:
    """A file's size and sha256, if the file is one that a bundle has: no path, and no other file."""
    if name not in HASHED_FILES:
        raise ValueError(f"files lists {shown(name)}, expected only {', '.join(HASHED_FILES)}")
    facts = mapping(facts, f"files.{name}")
    digest = text(facts["sha256"], f"files.{name}.sha256", 64)
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise ValueError(f"files.{name}.sha256 is {shown(digest)}, expected 64 hex digits")
    size = whole_number(facts["size"], f"files.{name}.size", 0, MAX_SIZES[name])
    return {"sha256": digest, "size": size}


def _check_self_check(config: BundleConfig) -> None:
    """Both lists may be missing: a bundle that is being built has no answers yet."""
    products = sequence(config.self_check.get("products", []), "self_check.products", _MAX_CHECKED)
    for index, product in enumerate(products):
        name = f"self_check.products[{index}]"
        product = mapping(product, name)
        for key in ("designation", "description"):
            text(product[key], f"{name}.{key}", 100_000, one_line=False)
        if product["image"] is not None:
            text(product["image"], f"{name}.image", MAX_SIZES[CONFIG_FILE])
    rows = sequence(config.self_check.get("probabilities", []), "self_check.probabilities", _MAX_CHECKED)
    for index, row in enumerate(rows):
        name = f"self_check.probabilities[{index}]"
        if len(sequence(row, name, MAX_CATEGORIES)) != len(config.categories):
            raise ValueError(f"{name} has {len(row)} entries for {len(config.categories)} categories")
        if any(not 0 <= number(value, name) <= 1 for value in row):
            raise ValueError(f"{name} holds a number that is no probability, expected 0 to 1")


def _settings(kind: type[Any], values: Mapping[str, Any], most: int) -> Any:
    """A settings dataclass from JSON; every field must be there, a whole number from 1, and no other."""
    expected = {entry.name for entry in fields(kind)}
    if set(values) != expected:
        difference = ", ".join(sorted(expected.symmetric_difference(values)))
        raise ValueError(f"{kind.__name__} has missing or unknown entries: {shown(difference)[1:-1]}")
    return kind(**{name: whole_number(value, f"{kind.__name__}.{name}", 1, most) for name, value in values.items()})


def _check_values(config: BundleConfig, file: str) -> None:
    def check(holds: bool, code: str, **values: Any) -> None:
        if not holds:
            raise BundleError(code, file=file, **values)

    count = len(config.categories)
    check(count >= 2, "bundle.too_few_categories", categories=count)
    in_order = [category.index for category in config.categories] == list(range(count))
    check(in_order, "bundle.categories_out_of_order")
    codes = {category.prdtypecode for category in config.categories}
    check(len(codes) == count, "bundle.category_twice")
    least, most = _TEMPERATURES
    for name, each in config.calibration.items():
        limits = {"name": name, "least": least, "most": most}
        allowed = least <= each.temperature <= most
        check(allowed, "bundle.temperature_out_of_range", temperature=each.temperature, **limits)
        for kind, power in (("confidence power", each.confidence_power), ("spread power", each.spread_power)):
            check(-2 <= power <= 2, "bundle.power_out_of_range", name=name, kind=kind, power=power)
        found = len(each.category_temperatures)
        code = "bundle.category_temperatures_do_not_fit"
        check(found in (0, count), code, name=name, temperatures=found, categories=count)
        allowed = all(least <= value <= most for value in each.category_temperatures)
        check(allowed, "bundle.category_temperature_out_of_range", **limits)
    known = DEFAULT_PRECISION in config.thresholds
    check(known, "bundle.threshold_missing", precision=DEFAULT_PRECISION)
    for precision, values in config.thresholds.items():
        facts = {"precision": shown(precision)}
        check("probability" in values, "bundle.threshold_empty", **facts)
        probability = values["probability"]
        allowed = probability is None or 0 <= probability <= 1
        check(allowed, "bundle.threshold_out_of_range", probability=probability, **facts)
