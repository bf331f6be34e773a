"""What the app keeps for each visitor while they score a catalog: a folder, rows, corrections; and forgets.

Every visitor has a folder of their own with a name that nobody can guess. It goes when they leave, when
nothing has happened in it for an hour, and when the app ends. All of them lie outside of what Gradio serves: a
visitor downloads a copy, under a name that holds its content's SHA-256.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from rakuten_models.app.catalog_job import ScoredCatalog
from rakuten_models.app.security.disk_quota import KEPT_SECONDS, DiskQuota

# Sessions at a time; of more, the one that lay idle longest is forgotten.
MAX_SESSIONS = 1000

# How often a running job is looked at, so that a cancelled one ends soon and the bar moves.
_LOOK_SECONDS = 0.2

Step = TypeVar("Step")

Result = TypeVar("Result")


@dataclass
class Session:
    """One visitor's catalog.

    Attributes:
        folder: For their files alone; there once something was scored.
        scored: The catalog that was scored last; None before.
        corrections: By row number, the prdtypecode that the visitor picked.
        correcting: Held while a pick is noted and the file of corrections is written; picks may overtake one another.
        cancelled: Set to stop the job that runs; None while none does.
        used: When something last happened (time.monotonic).
    """

    folder: Path
    scored: ScoredCatalog | None = None
    corrections: dict[int, int] = field(default_factory=dict)
    correcting: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event | None = None
    used: float = field(default_factory=time.monotonic)


class SessionStore:
    """All sessions; safe to use from several threads.

    Args:
        disk: Counts the visitors' files, and takes away what nobody has touched for an hour.
    """

    def __init__(self, disk: DiskQuota) -> None:
        """Make the folder that holds the visitors' folders; it goes when the process ends."""
        self._root = tempfile.TemporaryDirectory(prefix="rakuten-visits-", ignore_cleanup_errors=True)
        disk.watch(Path(self._root.name), sweep=True)
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, visitor: str) -> Session:
        """A visitor's session, begun now if there is none; idle ones are forgotten."""
        with self._lock:
            now = time.monotonic()
            for other, session in list(self._sessions.items()):
                if other != visitor and session.cancelled is None and now - session.used > KEPT_SECONDS:
                    self._drop(other)
            if visitor not in self._sessions:
                idle = [name for name, session in self._sessions.items() if session.cancelled is None]
                if len(self._sessions) >= MAX_SESSIONS and idle:
                    self._drop(min(idle, key=lambda name: self._sessions[name].used))
                self._sessions[visitor] = Session(Path(self._root.name) / secrets.token_hex(16))
            session = self._sessions[visitor]
            session.used = now
            return session

    def passing_folder(self) -> Path:
        """A new folder for one answer to a program, which has no session; it goes after a while."""
        return Path(tempfile.mkdtemp(dir=self._root.name))

    def job_folder(self, session: Session) -> Path:
        """An empty folder for a session's next job; the files of its last one go, and its corrections."""
        session.scored = None
        session.corrections = {}
        shutil.rmtree(session.folder, ignore_errors=True)
        session.folder.mkdir(mode=0o700, parents=True)
        return Path(tempfile.mkdtemp(dir=session.folder))

    def cancel(self, visitor: str) -> None:
        """Stop the visitor's job, if one runs."""
        session = self._sessions.get(visitor)
        if session is not None and session.cancelled is not None:
            session.cancelled.set()

    def forget(self, visitor: str) -> None:
        """Stop the visitor's job and delete all that was theirs."""
        self.cancel(visitor)
        with self._lock:
            self._drop(visitor)

    @contextlib.contextmanager
    def job(self, session: Session) -> Iterator[threading.Event | None]:
        """Hold the session's only job slot: gives the event that cancels the job, None if the slot is taken."""
        with self._lock:
            event = threading.Event() if session.cancelled is None else None
            if event is not None:
                session.cancelled = event
        try:
            yield event
        finally:
            if event is not None:
                # Whoever stops listening before the end (a closed page) stops the work, too.
                event.set()
                session.cancelled = None
                session.used = time.monotonic()

    def _drop(self, visitor: str) -> None:
        session = self._sessions.pop(visitor, None)
        if session is not None:
            shutil.rmtree(session.folder, ignore_errors=True)


@dataclass(frozen=True)
class Finished(Generic[Result]):
    """The end of a job: what its work returned."""

    result: Result


def in_background(work: Callable[..., Result]) -> Iterator[Step | Finished[Result] | None]:
    """Run work in a thread of its own; its argument `progress` is a function to call with each step.

    Yields:
        The latest step, None while there is no new one, and at the end Finished with the result.

    Raises:
        Exception: What the work raised.
    """
    steps: queue.SimpleQueue[Step] = queue.SimpleQueue()
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work(progress=steps.put))
        # Handed over to whoever waits for the result.
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="catalog", daemon=True).start()
    while wait([future], _LOOK_SECONDS).not_done:
        yield _latest(steps)
    yield _latest(steps)
    yield Finished(future.result())


def _latest(steps: queue.SimpleQueue[Step]) -> Step | None:
    latest = None
    while not steps.empty():
        latest = steps.get()
    return latest
