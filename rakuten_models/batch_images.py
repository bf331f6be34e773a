"""Finds a catalog's pictures in a folder or a ZIP file, and never reads anything outside of it.

A row names its picture (a file name, or a path within the folder), or has the challenge's two numbers, whose
picture is image_<imageid>_product_<productid>.jpg. A ZIP is read where it lies: nothing is unpacked, no member's
name ever becomes a path on the disk, and a member that would grow beyond a limit is refused.
"""

from __future__ import annotations

import os
import posixpath
import re
import zipfile
from pathlib import Path

from rakuten_models.batch_csv import BatchError
from rakuten_models.product import ProductError

# One picture as a file; a product photo has a hundredth of it.
LARGEST_MEMBER = 50_000_000

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NUMBER = re.compile(r"\w{1,40}")


class FolderPictures:
    """The pictures of a folder and of the folders in it."""

    def __init__(self, folder: Path) -> None:
        """Only the path is kept; each picture is looked up when its row comes."""
        self._folder = folder
        self._real = folder.resolve()

    def named(self, name: str) -> str:
        """The path of the picture that a row names.

        Args:
            name: As in the catalog; where the folder has no such path, the file name alone is tried.

        Raises:
            ProductError: It leads out of the folder, is a URL, or is not there.
        """
        relative = _checked_name(name)
        for each in (relative, posixpath.basename(relative)):
            try:
                path = (self._folder / each).resolve()
                if path.is_relative_to(self._real) and path.is_file():
                    return str(path)
                inside = path.is_relative_to(self._real)
            except (OSError, ValueError, RuntimeError):  # too long a name, a NUL in it, links in a circle
                inside = True
            if not inside:
                raise ProductError(_leads_out(name))
        raise ProductError(f"The picture {name!r} is not in the images folder; check the path.")

    def by_numbers(self, imageid: str, productid: str) -> str | None:
        """The path of the challenge's picture of a product; None if there is none.

        Raises:
            ProductError: It is a link that leads out of the folder.
        """
        name = _numbered_name(imageid, productid)
        return self.named(name) if name and (self._folder / name).is_file() else None

    def close(self) -> None:
        """Nothing is open."""


class ZipPictures:
    """The pictures of a ZIP file, read into memory one by one. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Read the list of members.

        Raises:
            BatchError: The file is no ZIP.
        """
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise BatchError(
                f"{path} cannot be read as a ZIP file ({error}); pack the pictures again."
            ) from error
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

    def named(self, name: str) -> bytes:
        """The file of the picture that a row names.

        Args:
            name: As in the catalog; where the ZIP has no such path, the file name alone is tried.

        Raises:
            ProductError: It is not there, too large, encrypted or damaged.
        """
        relative = _checked_name(name)
        member = self._members.get(relative) or self._by_file_name.get(posixpath.basename(relative))
        if member is None:
            raise ProductError(f"The picture {name!r} is not in the ZIP file; check the name.")
        return self._read(member, name)

    def by_numbers(self, imageid: str, productid: str) -> bytes | None:
        """The file of the challenge's picture of a product; None if there is none.

        Raises:
            ProductError: It is too large, encrypted or damaged.
        """
        name = _numbered_name(imageid, productid)
        member = self._by_file_name.get(name) if name else None
        return None if member is None else self._read(member, name)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def _read(self, member: zipfile.ZipInfo, name: str) -> bytes:
        too_large = f"The picture {name!r} has more than {LARGEST_MEMBER // 1_000_000} MB; make it smaller."
        if member.file_size > LARGEST_MEMBER:
            raise ProductError(too_large)
        try:
            with self._archive.open(member) as stream:
                # The size in the list may be a lie; no more than the limit is ever unpacked.
                content = stream.read(LARGEST_MEMBER + 1)
        # A damaged, encrypted or unknown packing: every unpacker has errors of its own.
        except Exception as error:
            raise ProductError(
                f"The picture {name!r} cannot be read from the ZIP file ({error}); pack it again."
            ) from error
        if len(content) > LARGEST_MEMBER:
            raise ProductError(too_large)
        return content


def open_pictures(source: str | os.PathLike[str]) -> FolderPictures | ZipPictures:
    """The pictures of a folder or a ZIP file.

    Raises:
        BatchError: There is no such folder or file, or the file is no ZIP.
    """
    path = Path(source)
    if path.is_dir():
        return FolderPictures(path)
    if path.is_file():
        return ZipPictures(path)
    raise BatchError(f"{path} does not exist; give the folder or the ZIP file that holds the pictures.")


def _checked_name(name: str) -> str:
    """The name with forward slashes, relative and without detours."""
    if _URL.match(name):
        raise ProductError(f"The picture {name!r} is a URL; download the pictures and give their folder.")
    relative = posixpath.normpath(name.replace("\\", "/"))
    if relative == ".." or relative.startswith("../"):
        raise ProductError(_leads_out(name))
    return relative


def _leads_out(name: str) -> str:
    return f"The picture {name!r} leads out of the images folder; give a path within it."


def _numbered_name(imageid: str, productid: str) -> str | None:
    if not (_NUMBER.fullmatch(imageid) and _NUMBER.fullmatch(productid)):
        return None
    return f"image_{imageid}_product_{productid}.jpg"
