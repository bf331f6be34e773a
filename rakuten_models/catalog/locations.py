"""Where a catalog and its pictures lie: in a local folder, or under a URL that fsspec knows (s3, gs, hf, https)."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from rakuten_models.errors import BatchError

CHALLENGE_FILES = ("X_train_update.csv", "X_test_update.csv")

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}

_EXPECTED = "a .csv, .jsonl or .parquet file, a folder of them, or a glob"

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is named by a URL, file:// ones excepted, which are local paths in other words."""
    found = _URL.match(str(place))
    return found is not None and found["scheme"].lower() not in ("file", "local")


def path_of(place: str | os.PathLike[str]) -> Any:
    """A place as a Path; that of a URL is a `upath.UPath`, which has the methods of one.

    Raises:
        BatchError: What such URLs need is not installed.
    """
    if not is_url(place):
        found = _URL.match(str(place))
        return Path(url2pathname(str(place)[found.end() :])) if found else Path(place)
    try:
        from upath import UPath

        path = UPath(place)
        path.fs  # noqa: B018  the scheme's library is imported here, and only here
    except ImportError as error:
        raise BatchError(
            f"{place} needs a library that is not installed ({error}); run `pip install .[scale]`, and what fsspec "
            "names for this kind of URL, such as s3fs or gcsfs."
        ) from error
    except ValueError as error:
        raise BatchError(f"{place} cannot be used ({error}); give a URL that fsspec knows.") from error
    return path


def _matching(pattern: str | os.PathLike[str]) -> list[Any]:
    """The paths that a glob finds, local or under a URL."""
    if not is_url(pattern):
        return [Path(each) for each in glob.glob(str(path_of(pattern)), recursive=True)]
    # A pattern is no path: what stands before its first star is one.
    path = path_of(str(pattern))
    return [path_of(path.fs.unstrip_protocol(each)) for each in path.fs.glob(str(pattern))]


def url_facts(path: Any) -> dict[str, Any]:
    """What changes when a file under a URL changes, by what its server says of it: its size, an ETag or a date."""
    return {"size": path.fs.size(path.path), "version": path.fs.ukey(path.path)}


def kind_of(file: Path) -> str:
    """What a catalog's file is by its name: "csv", "json" or "parquet"."""
    return _FORMATS[file.suffix.lower()]


def find_files(source: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The files of a catalog, in the order of their names.

    Args:
        source: A file, a folder or a glob; the challenge's folder stands for its X file.

    Raises:
        BatchError: There is none.
    """
    if is_url(source) and glob.has_magic(str(source)):
        return _catalog_files(source, _matching(source))
    path = path_of(source)
    if path.is_file():
        if path.suffix.lower() not in _FORMATS:
            raise BatchError(f"{path} is no catalog; expected {_EXPECTED}.")
        return (path.absolute(),)
    if path.is_dir():
        challenge = next((path / name for name in CHALLENGE_FILES if (path / name).is_file()), None)
        found = [challenge] if challenge else list(path.iterdir())
    elif glob.has_magic(str(source)):
        found = _matching(source)
    else:
        raise BatchError(f"{path} does not exist; expected {_EXPECTED}.")
    return _catalog_files(source, found)


def _catalog_files(source: str | os.PathLike[str], found: Sequence[Path]) -> tuple[Path, ...]:
    # Hidden files, and those with an underscore in front, are notes that programs leave beside the parts.
    files = sorted(
        file
        for file in found
        if file.suffix.lower() in _FORMATS and not file.name.startswith((".", "_")) and file.is_file()
    )
    if not files:
        raise BatchError(f"{source} holds no catalog; expected {_EXPECTED}.")
    return tuple(file.absolute() for file in files)
