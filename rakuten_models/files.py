"""Files that are whole at every moment: atomic writes, locks, fsync, digests."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

WRITING = ".writing"

fcntl: ModuleType | None

try:
    import fcntl
except ImportError:  # Windows has no such locks; what a killed call was building then stays
    fcntl = None

# In the name of a folder that is being built beside its place.
_STAGING = ".writing-"


@contextlib.contextmanager
def replaced_file(path: Path) -> Iterator[Any]:
    """Write a file under another name and give it its own once all of it is on the disk.

    The other name is always the same, so that a kill leaves nothing which the next run would not replace.
    """
    writing = path.with_name(f".{path.name}{WRITING}")
    try:
        with writing.open("wb") as stream:
            yield stream
            sync(stream)
        move(writing, path)
    except BaseException:
        with contextlib.suppress(OSError):
            writing.unlink()
        raise


def move(source: Path, target: Path) -> None:
    """Give a file that is on the disk another name, which may be taken, and have that on the disk, too."""
    os.replace(source, target)
    sync_folder(target.parent)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file for the block; the lock goes with the process, however that ends.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is False.
    """
    with path.open("wb") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def sync(stream: Any) -> None:
    """Have a file's content on the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Have the renaming itself on the disk; some systems cannot, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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
