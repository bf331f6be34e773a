"""How much of the disk visitors may fill, all together and each, and when what they left there goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

GIGABYTE = 1024**3

KEPT_SECONDS = 3600.0

_SWEEP_SECONDS = 300.0

# The folders are walked through at most this often; in between, what comes is added up.
_WALK_SECONDS = 30.0

# Addresses whose uploads are remembered; beyond that the oldest is forgotten, and the limit for all still holds.
_MAX_ADDRESSES = 10_000


@dataclass(frozen=True)
class DiskLimits:
    """What may lie on the disk.

    Attributes:
        total: Bytes of all visitors together.
        files: Of all visitors together.
        visitor: Bytes that one address may upload within KEPT_SECONDS.
        spare: Bytes that stay free on the disk, whoever fills it.
    """

    total: int = 4 * GIGABYTE
    files: int = 100_000
    visitor: int = GIGABYTE
    spare: int = GIGABYTE


class DiskQuota:
    """The folders that visitors' files lie in. Safe to use from several threads.

    Args:
        limits: What may lie there.
        kept_files: Files that stay, whatever their age: the page's own.
    """

    def __init__(self, limits: DiskLimits | None = None, kept_files: Callable[[], Iterable[str]] = tuple) -> None:
        """No folder is watched yet."""
        self.limits = limits or DiskLimits()
        self._kept_files = kept_files
        self._folders: list[tuple[Path, bool]] = []
        self._lock = threading.Lock()
        # When the folders were walked through (time.monotonic), their bytes and files.
        self._walked: tuple[float | None, int, int] = (None, 0, 0)
        self._expected = 0
        # By address, when (time.monotonic) how many bytes were uploaded.
        self._uploads: dict[str, deque[tuple[float, int]]] = {}

    def watch(self, folder: Path, *, sweep: bool) -> None:
        """Count a folder's files.

        Args:
            folder: Wherever it is.
            sweep: Whether what lies in it goes after KEPT_SECONDS; otherwise its owner sees to that.
        """
        self._folders.append((folder, sweep))

    @contextlib.contextmanager
    def reserve(self, size: int, address: str | None = None) -> Iterator[bool]:
        """Hold so much room while something is written: gives whether there is that much.

        Args:
            size: Bytes, at most.
            address: Of the visitor who uploads it; None for what the app writes, or a proxy on this machine sends.
        """
        with self._lock:
            granted = self._has_room(size) and (address is None or self._may_send(address, size))
            if granted:
                self._expected += size
        try:
            yield granted
        finally:
            if granted:
                with self._lock:
                    self._expected -= size
                    walked, used, files = self._walked
                    self._walked = (walked, used + size, files + 1)

    def sweep(self) -> None:
        """Delete what has not changed for KEPT_SECONDS, and folders that are empty since then."""
        before = time.time() - KEPT_SECONDS
        kept = {os.path.realpath(file) for file in self._kept_files()}
        for top in [folder for folder, swept in self._folders if swept]:
            # One upload after the other: a list of all would take memory that stays with the process.
            with contextlib.suppress(OSError), os.scandir(top) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        _delete_old(entry.path, before, kept)
                        continue
                    for folder, _, files in os.walk(entry.path, topdown=False):
                        for name in files:
                            _delete_old(os.path.join(folder, name), before, kept)
                        _delete_old(folder, before, kept)

    @contextlib.asynccontextmanager
    async def swept(self, app: object) -> AsyncIterator[None]:
        """Sweep now and then, as long as the app runs."""

        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                await asyncio.to_thread(self.sweep)

        task = asyncio.create_task(again_and_again())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _has_room(self, size: int) -> bool:
        now = time.monotonic()
        if self._walked[0] is None or now - self._walked[0] > _WALK_SECONDS:
            self._walked = (now, *self._usage())
        _, used, files = self._walked
        limits = self.limits
        if used + self._expected + size > limits.total or files >= limits.files:
            return False
        free = (shutil.disk_usage(folder).free for folder, _ in self._folders)
        return all(each - self._expected - size >= limits.spare for each in free)

    def _usage(self) -> tuple[int, int]:
        """Bytes and files."""
        size = count = 0
        for folder, _ in self._folders:
            for inner, _, files in os.walk(folder):
                for name in files:
                    with contextlib.suppress(OSError):
                        size += os.lstat(os.path.join(inner, name)).st_size
                        count += 1
        return size, count

    def _may_send(self, address: str, size: int) -> bool:
        now = time.monotonic()
        sent = self._uploads.setdefault(address, deque())
        while sent and sent[0][0] < now - KEPT_SECONDS:
            sent.popleft()
        if sum(each for _, each in sent) + size > self.limits.visitor:
            return False
        sent.append((now, size))
        if len(self._uploads) > _MAX_ADDRESSES:
            del self._uploads[next(iter(self._uploads))]
        return True


def _delete_old(path: str, before: float, kept: set[str]) -> None:
    """Delete a file, or a folder that is empty, unless it is kept or has changed since a moment (time.time)."""
    with contextlib.suppress(OSError):
        # The time of the last renaming, too, which an upload ends with.
        status = os.lstat(path)
        if status.st_ctime >= before or os.path.realpath(path) in kept:
            return
        (os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink)(path)
