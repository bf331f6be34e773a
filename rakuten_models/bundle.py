"""The bundle: one folder with three models, the tokenizer, the settings, the figures and the card.

This module names the files once, reads and writes config.json, and checks a folder before anything in it is used.
It never loads a model. Everything it refuses, it refuses with a sentence: which file, what is wrong, what to do.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rakuten_models.preprocessing import ImageSettings, TextSettings
from rakuten_models.product import Category, RakutenModelsError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no such locks; what a killed call was building then stays
    fcntl = None

# Raised by one whenever an older reader would misread a newer bundle; a reader takes exactly its own version.
FORMAT_VERSION = 1

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

# In the name of a folder that is being built beside its place.
_STAGING = ".writing-"

# The wanted precision behind `Prediction.decision`.
DEFAULT_PRECISION = "0.95"


class BundleError(RakutenModelsError):
    """A bundle folder that is incomplete, altered, of another format, or contradicts itself."""


@dataclass(frozen=True)
class BundleConfig:
    """What config.json holds.

    Attributes:
        categories: In the order of the models' output columns.
        text: How texts become ids.
        image: How pictures become pixels.
        temperatures: By model name; see `rakuten_models.runtime.calibrate`.
        confidence_powers: By model name; see there.
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
    temperatures: Mapping[str, float]
    confidence_powers: Mapping[str, float]
    thresholds: Mapping[str, Mapping[str, float | None]]
    library_versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    self_check: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, Any]:
        """The content of config.json as plain values."""
        return {
            "format_version": self.format_version,
            "model_type": "rakuten-product-classification",
            "categories": [
                {"index": category.index, "prdtypecode": category.prdtypecode, "names": dict(category.names)}
                for category in self.categories
            ],
            "preprocessing": {"text": asdict(self.text), "image": asdict(self.image)},
            "temperatures": dict(self.temperatures),
            "confidence_powers": dict(self.confidence_powers),
            "thresholds": {precision: dict(values) for precision, values in self.thresholds.items()},
            "library_versions": dict(self.library_versions),
            "files": {name: dict(facts) for name, facts in self.files.items()},
            "self_check": dict(self.self_check),
            "training": dict(self.training),
        }

    @classmethod
    def from_json(cls, content: Any, place: str = CONFIG_FILE) -> BundleConfig:
        """Check and take over the content of a config.json.

        Raises:
            BundleError: Another format version, or a value that is missing or makes no sense.
        """
        if not isinstance(content, dict):
            raise BundleError(f"{place} holds no JSON object; download or train the bundle again.")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            advice = (
                "update the rakuten_models package"
                if isinstance(version, int) and version > FORMAT_VERSION
                else "train or download a bundle of the present format"
            )
            raise BundleError(
                f"{place} says format version {version!r}, but this package reads version {FORMAT_VERSION}; {advice}."
            )
        try:
            config = cls(
                categories=tuple(
                    Category(int(entry["index"]), int(entry["prdtypecode"]), dict(entry["names"]))
                    for entry in content["categories"]
                ),
                text=_settings(TextSettings, content["preprocessing"]["text"]),
                image=_settings(ImageSettings, content["preprocessing"]["image"]),
                temperatures={name: float(content["temperatures"][name]) for name in MODEL_NAMES},
                confidence_powers={name: float(content["confidence_powers"][name]) for name in MODEL_NAMES},
                thresholds={str(key): dict(value) for key, value in content["thresholds"].items()},
                library_versions=dict(content["library_versions"]),
                files={str(name): dict(facts) for name, facts in content["files"].items()},
                self_check=dict(content["self_check"]),
                training=dict(content["training"]),
            )
        except KeyError as error:
            raise BundleError(
                f"{place} lacks {error.args[0]!r}; download or train the bundle again."
            ) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"{place} holds a value of the wrong kind ({error}); download or train the bundle again."
            ) from error
        _check_values(config, place)
        return config


def _settings(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A settings dataclass from JSON; every field must be there, with its own type, and no other."""
    expected = {entry.name for entry in fields(kind)}
    if set(values) != expected:
        difference = ", ".join(sorted(expected.symmetric_difference(values)))
        raise ValueError(f"{kind.__name__} has missing or unknown entries: {difference}")
    default = kind()
    for name, value in values.items():
        if type(value) is not type(getattr(default, name)):
            raise ValueError(
                f"{kind.__name__}.{name} is {value!r}, expected {type(getattr(default, name)).__name__}"
            )
    return kind(**values)


def _check_values(config: BundleConfig, place: str) -> None:
    advice = "download or train the bundle again."
    if len(config.categories) < 2:
        raise BundleError(
            f"{place} lists {len(config.categories)} categories, at least 2 are needed; {advice}"
        )
    if [category.index for category in config.categories] != list(range(len(config.categories))):
        raise BundleError(f"{place} lists its categories out of order; {advice}")
    if len({category.prdtypecode for category in config.categories}) != len(config.categories):
        raise BundleError(f"{place} lists a prdtypecode twice; {advice}")
    for name, temperature in config.temperatures.items():
        if not (math.isfinite(temperature) and temperature > 0):
            raise BundleError(
                f"{place} gives {name} the temperature {temperature}, a positive number is needed; {advice}"
            )
    for name, power in config.confidence_powers.items():
        if not -2 <= power <= 2:
            raise BundleError(
                f"{place} gives {name} the confidence power {power}, -2 to 2 is needed; {advice}"
            )
    if DEFAULT_PRECISION not in config.thresholds:
        raise BundleError(f"{place} has no threshold for precision {DEFAULT_PRECISION}; {advice}")
    for precision, values in config.thresholds.items():
        probability = values.get("probability")
        if probability is not None and not (isinstance(probability, (int, float)) and 0 <= probability <= 1):
            raise BundleError(
                f"{place} has the threshold {probability!r} for precision {precision}, 0 to 1 is needed; {advice}"
            )


def read_config(folder: str | os.PathLike[str]) -> BundleConfig:
    """Read and check a bundle's config.json, without looking at the other files.

    Raises:
        BundleError: The folder or the file is missing, or the file is wrong.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise BundleError(f"The bundle folder {str(folder)!r} does not exist; check the path.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"The folder {str(folder)!r} is no bundle: it holds no {CONFIG_FILE}; give a folder that training wrote."
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({error}); download or train the bundle again.") from error
    return BundleConfig.from_json(content, str(path))


def write_config(folder: str | os.PathLike[str], config: BundleConfig) -> BundleConfig:
    """Write config.json with the sha256 and size of the files that are in the folder; return what was written."""
    folder = Path(folder)
    files = {name: file_facts(folder / name) for name in HASHED_FILES if (folder / name).exists()}
    config = replace(config, files=files)
    write_atomically(folder / CONFIG_FILE, json.dumps(config.to_json(), indent=1, ensure_ascii=False) + "\n")
    return config


def validate_bundle(folder: str | os.PathLike[str], *, require_keras: bool = False) -> BundleConfig:
    """Check a bundle folder: nothing missing, nothing altered, settings that make sense.

    Args:
        folder: A full bundle or its serving part.
        require_keras: Refuse a serving part, which has no `.keras` files.

    Returns:
        The bundle's config.

    Raises:
        BundleError: Says which file is missing or altered and what to do.
    """
    folder = Path(folder)
    config = read_config(folder)
    needed = REQUIRED_FILES + (KERAS_FILES if require_keras else ())
    for name in needed:
        if not (folder / name).is_file():
            raise BundleError(f"The bundle {str(folder)!r} lacks {name}; download or train the bundle again.")
    for name in HASHED_FILES:
        path = folder / name
        if not path.exists():
            continue
        if name not in config.files:
            raise BundleError(
                f"{path} is not listed in {CONFIG_FILE}; remove it, or download or train the bundle again."
            )
        expected = config.files[name]
        found = path.stat().st_size
        if found != expected.get("size"):
            raise BundleError(
                f"{path} has {found} bytes where {CONFIG_FILE} says {expected.get('size')}; it is cut off or another "
                "file: download or train the bundle again."
            )
        if file_facts(path)["sha256"] != expected.get("sha256"):
            raise BundleError(
                f"{path} is not the file that {CONFIG_FILE} describes (its sha256 differs); download or train the "
                "bundle again."
            )
    return config


def bundle_files(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the bundle's files that are in a folder, in the bundle's own order."""
    return tuple(name for name in ALL_FILES if (Path(folder) / name).is_file())


def check_publishable(folder: str | os.PathLike[str]) -> None:
    """Refuse to publish a bundle without its card, figures or plots, which nobody could load from a hub.

    Raises:
        BundleError: Names what is missing.
    """
    absent = [name for name in SERVING_FILES if not (Path(folder) / name).is_file()]
    if absent:
        raise BundleError(
            f"The bundle {str(folder)!r} lacks {', '.join(absent)}, which every published bundle has; run "
            f"`python -m training.evaluate --bundle {folder} --catalog-dir CATALOG --update-bundle` first."
        )


def file_facts(path: Path) -> dict[str, Any]:
    """{"sha256": 64 hex digits, "size": bytes} of a file."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256") if hasattr(hashlib, "file_digest") else _digest(handle)
    return {"sha256": digest.hexdigest(), "size": path.stat().st_size}


def _digest(handle: Any) -> Any:
    """`hashlib.file_digest` for Python 3.10, which lacks it."""
    digest = hashlib.sha256()
    while block := handle.read(1 << 20):
        digest.update(block)
    return digest


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is the old one or the new one at every moment, never a half."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes a file only its owner may read; a bundle is read by others too.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def replace_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Build a bundle folder beside its place and swap it in when it is whole.

    Yields an empty sibling folder. When the block ends well it takes the target's place; when it fails or is
    interrupted it is removed and the target is as it was. A kill in the moment of the swap leaves the old folder
    under `.NAME.previous`, from where the next call puts it back; the folder that a killed call was building goes then,
    too.

    Raises:
        BundleError: The target is a file, or a folder with something else than a bundle in it.
    """
    target = Path(target).absolute()
    previous = target.with_name(f".{target.name}.previous")
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if previous.exists():
        if target.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(target)
    _remove_left_behind(target)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}{_STAGING}"))
    lock = _lock_of(staging)
    try:
        yield staging
        os.chmod(staging, 0o755)
        if target.exists():
            target.rename(previous)
        staging.rename(target)
        shutil.rmtree(previous, ignore_errors=True)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if previous.exists() and not target.exists():
            previous.rename(target)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _remove_left_behind(target: Path) -> None:
    """Take away what killed calls for the same target were building; what another process still builds stays."""
    for staging in target.parent.glob(f".{glob.escape(target.name)}{_STAGING}*"):
        lock = _lock_of(staging)
        if lock is not None:
            shutil.rmtree(staging, ignore_errors=True)
            os.close(lock)


def _lock_of(folder: Path) -> int | None:
    """A file descriptor that holds a folder's lock, which goes with the process; None if it cannot be had."""
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if handle is not None:
            os.close(handle)
        return None
    return handle


def check_target(target: str | os.PathLike[str]) -> None:
    """Refuse to write a bundle over something that is not one.

    Raises:
        BundleError: The target is a file, or a folder with something else than a bundle in it.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise BundleError(f"{str(target)!r} is a file; give a folder for the bundle.")
    if target.is_dir() and any(target.iterdir()) and not (target / CONFIG_FILE).is_file():
        raise BundleError(
            f"The folder {str(target)!r} is not empty and no bundle; give a new or empty folder."
        )
