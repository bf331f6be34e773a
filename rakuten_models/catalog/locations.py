"""Where a catalog and its pictures lie: in a local folder, or under a URL that fsspec knows (s3, gs, hf, https)."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from rakuten_models.errors import CatalogError

CHALLENGE_FILES = ("X_train_update.csv", "X_test_update.csv")

_FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}

URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a URL; file:// ones are not, being local paths in other words."""
    found = URL.match(str(location))
    return found is not None and found["scheme"].lower() not in ("file", "local")


def path_of(location: str | os.PathLike[str]) -> Any:
    """A location as a Path; that of a URL is a `upath.UPath`, which has the methods of one.

    Raises:
        CatalogError: What such URLs need is not installed.
    """
    if not is_url(location):
        found = URL.match(str(location))
        return Path(url2pathname(str(location)[found.end() :])) if found else Path(location)
    try:
        from upath import UPath

        path = UPath(location)
        path.fs  # noqa: B018  the scheme's library is imported here, and only here
    except ImportError as error:
        raise CatalogError("catalog.url_library_missing", url=location, reason=str(error)) from error
    except ValueError as error:
        raise CatalogError("catalog.url_unknown", url=location, reason=str(error)) from error
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
        CatalogError: There is none.
    """
    if is_url(source) and glob.has_magic(str(source)):
        return _catalog_files(source, _matching(source))
    path = path_of(source)
    if path.is_file():
        if path.suffix.lower() not in _FORMATS:
            raise CatalogError("catalog.other_kind", file=path)
        return (path.absolute(),)
    if path.is_dir():
        challenge = next((path / name for name in CHALLENGE_FILES if (path / name).is_file()), None)
        found = [challenge] if challenge else list(path.iterdir())
    elif glob.has_magic(str(source)):
        found = _matching(source)
    else:
        raise CatalogError("catalog.missing", file=path)
    return _catalog_files(source, found)


def _catalog_files(source: str | os.PathLike[str], found: Sequence[Path]) -> tuple[Path, ...]:
    # Hidden files, and those with an underscore in front, are notes that programs leave beside the parts.
    files = sorted(
        file
        for file in found
        if file.suffix.lower() in _FORMATS and not file.name.startswith((".", "_")) and file.is_file()
    )
    if not files:
        raise CatalogError("catalog.no_files", folder=source)
    return tuple(file.absolute() for file in files)
