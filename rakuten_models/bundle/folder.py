"""A bundle's folder: reads and writes config.json, and checks all files before one is used; loads no model."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

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
from rakuten_models.bundle.strict_json import parse_json
from rakuten_models.errors import BundleError, reason
from rakuten_models.files import file_facts, locked, write_atomically

# In the name of a folder that is being built beside its target.
_STAGING = ".writing-"


def read_config(folder: str | os.PathLike[str]) -> BundleConfig:
    """Read and check a bundle's config.json, without looking at the other files.

    Raises:
        BundleError: The folder or the file is missing, or the file is wrong.
    """
    return _parse_config(Path(folder) / CONFIG_FILE, config_bytes(folder))


def config_bytes(folder: str | os.PathLike[str]) -> bytes:
    """The content of a bundle's config.json, whose sha256 names the bundle: it holds the sha256 of the other files.

    Raises:
        BundleError: The folder or the file is missing, or it is no file, or too large.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError("bundle.folder_missing", folder=str(folder))
    if not (folder / CONFIG_FILE).exists():
        raise BundleError("bundle.config_missing", folder=str(folder))
    check_file(folder / CONFIG_FILE)
    with (folder / CONFIG_FILE).open("rb") as handle:
        # Never more than was allowed, also of a file that grows.
        return handle.read(MAX_SIZES[CONFIG_FILE])


def _parse_config(path: Path, data: bytes) -> BundleConfig:
    try:
        content = parse_json(data)
    except ValueError as error:
        raise BundleError("bundle.config_damaged", file=path, reason=reason(error)) from error
    return BundleConfig.from_json(content, str(path))


def check_file(path: Path) -> int:
    """The size in bytes of a bundle's file, if it is a plain file in its folder and not too large.

    A link is followed only into the hub client's own cache, which keeps files under `blobs` and links to them. Another
    one could lead to any file of the user, which would be copied when the bundle is saved or published.

    Raises:
        BundleError: It is a link, a folder, a pipe or a device, or too large.
    """
    folder = path.parent.resolve()
    blobs = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else None
    real = path.resolve()
    if real != folder / path.name and real.parent != blobs:
        raise BundleError("bundle.file_is_link", file=path)
    facts = real.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BundleError("bundle.file_not_plain", file=path)
    if facts.st_size > MAX_SIZES[path.name]:
        raise BundleError("bundle.file_too_large", file=path, size=facts.st_size, limit=MAX_SIZES[path.name])
    return facts.st_size


def write_config(folder: str | os.PathLike[str], config: BundleConfig) -> BundleConfig:
    """Write config.json with the sha256 and size of the files that are in the folder; return what was written."""
    folder = Path(folder)
    files = {name: file_facts(folder / name) for name in HASHED_FILES if (folder / name).exists()}
    config = replace(config, files=files)
    write_atomically(folder / CONFIG_FILE, json.dumps(config.to_json(), indent=1, ensure_ascii=False) + "\n")
    return config


def validate_bundle(
    folder: str | os.PathLike[str], *, require_keras: bool = False, config_sha256: str | None = None
) -> BundleConfig:
    """Check a bundle folder: no file missing, altered or linked in, and settings in range.

    Parses config.json alone; of the other files only the sha256 is taken.

    Args:
        folder: A full bundle or its serving part.
        require_keras: Refuse a serving part, which has no `.keras` files.
        config_sha256: 64 hex digits: refuse every other config.json; None takes any.

    Returns:
        The bundle's config.

    Raises:
        BundleError: Says which file is missing or altered and what to do.
    """
    folder = Path(folder)
    data = config_bytes(folder)
    if config_sha256 is not None and hashlib.sha256(data).hexdigest() != config_sha256:
        raise BundleError("bundle.config_changed", file=folder / CONFIG_FILE)
    config = _parse_config(folder / CONFIG_FILE, data)
    for name in REQUIRED_FILES + (KERAS_FILES if require_keras else ()):
        if not (folder / name).exists():
            raise BundleError("bundle.file_missing", folder=str(folder), name=name)
    # All sizes before the first long read.
    sizes = {name: check_file(folder / name) for name in ALL_FILES if os.path.lexists(folder / name)}
    for name in HASHED_FILES:
        path = folder / name
        if name not in sizes:
            continue
        if name not in config.files:
            raise BundleError("bundle.file_not_listed", file=path)
        expected = config.files[name]
        if sizes[name] != expected["size"]:
            raise BundleError("bundle.file_size_differs", file=path, size=sizes[name], expected=expected["size"])
        if file_facts(path)["sha256"] != expected["sha256"]:
            raise BundleError("bundle.file_sha256_differs", file=path)
    return config


def bundle_files(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the bundle's files that are in a folder, in the bundle's own order."""
    return tuple(name for name in ALL_FILES if (Path(folder) / name).is_file())


def check_publishable(folder: str | os.PathLike[str]) -> None:
    """BundleError for a bundle without its card, metrics or plots: `from_pretrained` fetches them all from a hub."""
    absent = [name for name in SERVING_FILES if not (Path(folder) / name).is_file()]
    if absent:
        raise BundleError("bundle.not_publishable", folder=str(folder), files=", ".join(absent))


@contextlib.contextmanager
def replace_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Build a bundle folder beside the target and swap it in when it is whole.

    Yields an empty sibling folder, which becomes the target when the block ends well; otherwise the target stays as it
    was. A kill during the swap leaves the old folder under `.NAME.previous`; the next call puts it back and removes
    what a killed call was building.

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
    # What killed calls were building goes; what another process still builds is locked.
    for left in target.parent.glob(f".{glob.escape(target.name)}{_STAGING}*"):
        with contextlib.suppress(OSError), locked(left, wait=False):
            shutil.rmtree(left, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}{_STAGING}"))
    with contextlib.ExitStack() as stack:
        # Not every file system has locks.
        with contextlib.suppress(OSError):
            stack.enter_context(locked(staging, wait=False))
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


def check_target(target: str | os.PathLike[str]) -> None:
    """Refuse to write a bundle over something that is not one.

    Raises:
        BundleError: The target is a file, or a folder with something else than a bundle in it.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise BundleError("bundle.target_is_file", target=str(target))
    if target.is_dir() and any(target.iterdir()) and not (target / CONFIG_FILE).is_file():
        raise BundleError("bundle.target_no_bundle", target=str(target))
