"""Finds a catalog's pictures in a folder, a ZIP file or under a URL, and never reads anything outside of it.

A row names its picture (a file name, or a path within the folder), or has the challenge's two numbers, whose
picture is image_<imageid>_product_<productid>.jpg. A ZIP is read where it lies: nothing is unpacked, no member's
name ever becomes a path on the disk, and a member that would grow beyond a limit is refused. A picture under a URL
(s3, gs, hf, https, ...) has a time limit, so that a server which does not answer holds up no other row.
"""

from __future__ import annotations

import os
import posixpath
import queue
import re
import struct
import threading
import zipfile
from pathlib import Path
from typing import Any

from rakuten_models.catalog.locations import URL, is_url, path_of
from rakuten_models.errors import CatalogError, ProductError

# One picture as a file; a product photo has a hundredth of it.
MAX_MEMBER = 50_000_000

# Of a ZIP; its list of members is read as a whole, and takes some ten times its size in memory.
MAX_MEMBERS = 500_000

# Bytes that stand before a member at least (ZIP specification 6.3, 4.3.7).
_MEMBER_HEADER = 30

MAX_LIST = 64_000_000

_NUMBER = re.compile(r"\w{1,40}")

# Until a picture under a URL has arrived, in seconds.
PICTURE_SECONDS = 30.0


class PictureStore:
    """Pictures that rows name; safe to use from several threads.

    Attributes:
        ahead: How many rows' pictures are worth reading at a time by one thread.
    """

    ahead = 1

    # Where the challenge's pictures may lie, and the code of the error for a picture that is nowhere.
    _folders: tuple[str, ...] = ("",)
    _missing = "not_in_folder"

    def named(self, name: str) -> str | bytes:
        """The picture that a row names: its path, or the file's bytes.

        Args:
            name: As in the catalog; where there is no such path, the file name alone is tried.

        Raises:
            ProductError: It leads out of the store, is a URL, is not there, or cannot be had.
        """
        relative = _checked_name(name)
        for each in dict.fromkeys((relative, posixpath.basename(relative))):
            found = self._find(each, name)
            if found is not None:
                return found
        raise _error(self._missing, name)

    def by_numbers(self, imageid: str, productid: str) -> str | bytes | None:
        """The challenge's picture of a product as `named` gives it; None if there is none.

        Raises:
            ProductError: It leads out of the store, or cannot be had.
        """
        name = numbered_name(imageid, productid)
        paths = (posixpath.join(folder, name) for folder in self._folders) if name else ()
        return next((found for path in paths if (found := self._find(path, path)) is not None), None)

    def close(self) -> None:
        """Let go of what is open."""

    def _find(self, relative: str, name: str) -> str | bytes | None:
        """What lies under a path that `_checked_name` made; None if nothing does. The name is for errors."""
        raise NotImplementedError


class FolderPictures(PictureStore):
    """The paths of pictures in a folder and the folders in it."""

    _folders = ("", "image_train", "image_test")

    def __init__(self, folder: Path) -> None:
        """Only the path is kept; each picture is looked up when its row comes."""
        self._folder = folder
        self._real = folder.resolve()

    def _find(self, relative: str, name: str) -> str | None:
        try:
            path = (self._folder / relative).resolve()
            found = path.is_file()
        except (OSError, ValueError, RuntimeError):  # too long a name, a NUL in it, links in a circle
            return None
        if not path.is_relative_to(self._real):
            raise _error("leads_out", name)
        return str(path) if found else None


class ZipPictures(PictureStore):
    """The pictures of a ZIP file, read into memory one by one."""

    _missing = "not_in_zip"

    def __init__(self, path: Any) -> None:
        """Read the list of members.

        Raises:
            CatalogError: The file is no ZIP, or has members that no sound ZIP has (`_check_members`).
        """
        stream = path.open("rb")
        try:
            _check_list(stream)
            self._archive = zipfile.ZipFile(stream)
            _check_members(self._archive)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error) as error:
            stream.close()
            raise CatalogError("catalog.zip_unreadable", file=path, reason=str(error)) from error
        self._stream = stream
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._by_file_name: dict[str, zipfile.ZipInfo | None] = {}
        for member in self._archive.infolist():
            if member.is_dir():
                continue
            name = posixpath.normpath(member.filename.replace("\\", "/"))
            file_name = posixpath.basename(name)
            self._members[name] = member
            # Two members of one file name: the name alone says too little.
            self._by_file_name[file_name] = None if file_name in self._by_file_name else member

    def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._stream.close()

    def _find(self, relative: str, name: str) -> bytes | None:
        member = self._members.get(relative) or self._by_file_name.get(relative)
        if member is None:
            return None
        if member.file_size > MAX_MEMBER:
            raise _too_large(name)
        try:
            with self._archive.open(member) as stream:
                # The size in the list may be a lie; no more than the limit is ever unpacked.
                content = stream.read(MAX_MEMBER + 1)
        # A damaged, encrypted or unknown packing: every unpacker has errors of its own.
        except Exception as error:
            raise _error("unreadable_in_zip", name, reason=str(error)) from error
        if len(content) > MAX_MEMBER:
            raise _too_large(name)
        return content


class UrlPictures(PictureStore):
    """The pictures under a URL, read into memory one by one."""

    # Most of the time is spent waiting for the server.
    ahead = 16

    def __init__(self, folder: Any, seconds: float) -> None:
        """Nothing is asked of the server yet; the folder is from `path_of`."""
        self._files = folder.fs
        self._root = folder.path.rstrip("/")
        self._seconds = seconds

    def _find(self, relative: str, name: str) -> bytes | None:
        if relative.startswith("/"):
            raise _error("leads_out", name)
        answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

        def read() -> None:
            try:
                answers.put(self._files.cat_file(f"{self._root}/{relative}", start=0, end=MAX_MEMBER + 1))
            # Every kind of server has errors of its own; whatever it is, the row gets the reason.
            except Exception as error:
                answers.put(error)

        # A read that hangs cannot be stopped, only left behind: a thread of a pool would be lost to the pool.
        threading.Thread(target=read, daemon=True, name="picture").start()
        try:
            answer = answers.get(timeout=self._seconds)
        except queue.Empty:
            raise _error("late", name, seconds=self._seconds) from None
        if isinstance(answer, FileNotFoundError):
            return None
        if isinstance(answer, Exception):
            reason = " ".join(str(answer).split()) or type(answer).__name__
            raise _error("not_fetched", name, reason=reason)
        if len(answer) > MAX_MEMBER:
            raise _too_large(name)
        return answer


def open_pictures(source: str | os.PathLike[str], seconds: float = PICTURE_SECONDS) -> PictureStore:
    """The pictures of a folder or a ZIP file, or those under a URL, each of which may take so many seconds.

    Raises:
        CatalogError: There is no such folder or file, or the file is no ZIP.
    """
    path = path_of(source)
    if is_url(path) and path.suffix.lower() != ".zip":
        return UrlPictures(path, seconds)
    if path.is_dir():
        return FolderPictures(path)
    if path.is_file():
        return ZipPictures(path)
    raise CatalogError("catalog.images_missing", path=path)


def _check_list(stream: Any) -> None:
    """Refuse a ZIP whose list of members is too long before it is read."""
    # The library has no other name for it, and reads the list as soon as it opens the file.
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    size = end[zipfile._ECD_SIZE] if end else 0  # type: ignore[attr-defined]
    if size > MAX_LIST:
        raise zipfile.BadZipFile(f"its list of members has {size} bytes")
    stream.seek(0)


def _check_members(archive: zipfile.ZipFile) -> None:
    """Refuse a bomb, whose members share their bytes, and a damaged list."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise zipfile.BadZipFile(f"it has {len(members)} members, more than {MAX_MEMBERS}")
    end = 0
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < end:
            raise zipfile.BadZipFile("its members lie over one another")
        if not member.filename:
            raise zipfile.BadZipFile("one of its members has no name")
        end = member.header_offset + _MEMBER_HEADER + member.compress_size


def _checked_name(name: str) -> str:
    """The name with forward slashes, relative and without detours."""
    if URL.match(name):
        raise _error("url", name)
    relative = posixpath.normpath(name.replace("\\", "/"))
    if relative == ".." or relative.startswith("../"):
        raise _error("leads_out", name)
    return relative


def _error(what: str, name: str, **values: Any) -> ProductError:
    """Why a row's picture cannot be had."""
    return ProductError(f"catalog.picture_{what}", name=name, **values)


def _too_large(name: str) -> ProductError:
    return _error("too_large", name, limit=MAX_MEMBER // 1_000_000)


def numbered_name(imageid: str, productid: str) -> str | None:
    """The file name of the challenge's picture of a product; None where a number is missing or none."""
    if not (_NUMBER.fullmatch(imageid) and _NUMBER.fullmatch(productid)):
        return None
    return f"image_{imageid}_product_{productid}.jpg"
