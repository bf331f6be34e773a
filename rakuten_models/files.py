"""Files that are whole at every moment: atomic writes, locks, fsync, digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

WRITING = ".writing"

fcntl: ModuleType | None

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


def write_atomically(path: str | os.PathLike[str], content: str | bytes, *, concurrent: bool = False) -> None:
    """Write a file so that it is the old one or the new one at every moment; text as UTF-8; see `replaced_file`."""
    with replaced_file(Path(path), concurrent=concurrent) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def replaced_file(path: Path, *, concurrent: bool = False) -> Iterator[Any]:
    """Write a file under a temporary name and rename it once all of it is on the disk.

    The temporary name is always the same, so the next run replaces what a kill left; with `concurrent` it is one of
    its own, for files that several processes may write at a time.
    """
    writing = path.with_name(f".{path.name}{WRITING}{secrets.token_hex(8) if concurrent else ''}")
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
    """Rename a file, over another one if it is there, and flush the folder to the disk."""
    os.replace(source, target)
    sync_folder(target.parent)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder or a file, which is made; the lock goes with the process, however that ends.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is False.
    """
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def sync(stream: Any) -> None:
    """Flush a file's content to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def file_facts(path: Path) -> dict[str, Any]:
    """{"sha256": 64 hex digits, "size": bytes} of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "size": path.stat().st_size}
