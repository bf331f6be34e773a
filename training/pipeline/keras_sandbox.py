"""The process that loads untrusted `.keras` files first; see `rakuten_models.bundle.sandbox`.

    python -m training.pipeline.keras_sandbox FOLDER SHA256 SECONDS BYTES

Only `training.train --init` reads `.keras` files, and always in safe mode. Before Keras sees one it must be a plain,
uncompressed archive of exactly three members, whose config.json names no class but those that our models are made of
(no Lambda, no function, no class of somebody's package), and whose weights refer to no other file.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rakuten_models.bundle.config import KERAS_FILES
from rakuten_models.bundle.folder import validate_bundle
from rakuten_models.bundle.sandbox import sandbox_process
from rakuten_models.bundle.strict_json import parse_json
from rakuten_models.errors import BundleError, reason, shown

KERAS_SANDBOX = "training.pipeline.keras_sandbox"

# TensorFlow reserves far more addresses than it uses; its import is not counted in the seconds.
KERAS_SECONDS, KERAS_MEMORY_BYTES = 60.0, 24 << 30
MEMBERS = frozenset(("metadata.json", "config.json", "model.weights.h5"))
_MAX_CONFIG_BYTES = 64 << 20

_CLASSES = {
    "keras": {"DTypePolicy"},
    "keras.dtype_policies": {"QuantizedDTypePolicy"},
    "keras.initializers": {"Constant", "GlorotUniform", "Ones", "RandomUniform", "Zeros"},
    "keras.layers": {
        "Add", "Concatenate", "Conv2D", "Dense", "DepthwiseConv2D", "Embedding", "GlobalAveragePooling2D",
        "InputLayer", "Multiply", "ReLU", "Rescaling", "Subtract", "ZeroPadding2D",
    },
    "keras.quantizers": {"AbsMaxQuantizer", "Int8QuantizationConfig"},
    "keras.src.models.functional": {"Functional"},
    "keras.src.ops.core": {"Cast"},
    "keras.src.ops.nn": {"LogSoftmax"},
    "keras.src.ops.numpy": {
        "Add", "Concatenate", "Cumsum", "Equal", "Exp", "ExpandDims", "FloorDivide", "FullLike", "GetItem", "Greater",
        "LessEqual", "LogicalAnd", "Max", "Maximum", "Mod", "Multiply", "NotEqual", "OnesLike", "Pad", "Sqrt",
        "Squeeze", "Subtract", "Sum", "TrueDivide", "ZerosLike",
    },
    # Marks in the list of what a layer is called with.
    None: {"__keras_tensor__", "__slice__"},
}  # fmt: skip


def verify_bundle(folder: Path, config_sha256: str) -> None:
    """Check and load the three `.keras` files of a bundle whose config.json has this SHA-256.

    Raises:
        BundleError: What is wrong with them.
    """
    import keras

    validate_bundle(folder, require_keras=True, config_sha256=config_sha256)
    for name in KERAS_FILES:
        check_keras_file(folder / name)
        model = keras.saving.load_model(folder / name, compile=False, safe_mode=True)
        if not all(keras.ops.all(keras.ops.isfinite(weight)) for weight in model.weights):
            raise BundleError("training.weights_not_finite", path=folder / name)


def check_keras_file(path: Path) -> None:
    """Refuse a `.keras` file that is not like those that training writes, before Keras reads it.

    Raises:
        BundleError: Another or a compressed archive, a class that our models do not hold, or a link to another file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) != len(MEMBERS) or {member.filename for member in members} != MEMBERS:
                names = ", ".join(shown(member.filename) for member in members[:5])
                raise ValueError(f"it holds {names} and {len(members)} members in all, not {sorted(MEMBERS)}")
            for member in members:
                # Ours are stored as they are; a small file that swells to gigabytes is a bomb.
                if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                    raise ValueError(f"its {member.filename} is compressed, {member.file_size:,} bytes in all")
            if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
                raise ValueError(f"its config.json has more than {_MAX_CONFIG_BYTES:,} bytes")
            # Reading also checks the sums that the archive keeps of its members.
            for found in _classes(parse_json(archive.read("config.json"))):
                if found[1] not in _CLASSES.get(found[0], ()):
                    raise ValueError(f"its config.json names the class {shown('.'.join(map(str, found)))}")
            _check_weights(archive.read("model.weights.h5"))
    except (ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise BundleError("training.no_keras_file", path=path, reason=reason(error)) from error


def _classes(config: Any) -> Iterator[tuple[Any, Any]]:
    """The module and the name of every class that Keras would make."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                module, name = value.get("module"), value["class_name"]
                yield (module if isinstance(module, str) else None, name if isinstance(name, str) else "")
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _check_weights(data: bytes) -> None:
    import h5py

    def session(group: h5py.Group) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"its weights hold a link to another place, {shown(name)}")
            inner = group[name]
            if isinstance(inner, h5py.Group):
                session(inner)
            elif inner.external or inner.is_virtual:
                raise ValueError(f"its weights lie in another file, {shown(name)}")
            elif inner.nbytes > len(data):
                raise ValueError(f"its weights swell to {inner.nbytes:,} bytes, {shown(name)}")

    with h5py.File(io.BytesIO(data), "r") as weights:
        session(weights)


if __name__ == "__main__":
    sys.exit(sandbox_process(verify_bundle))
