"""What the app changes inside Gradio (6.31): where the library trusts a visitor further than this app does.

Every change is one name of Gradio's, replaced once for the process; tests/robustness/ shows each
at work, so that an upgrade which renames one of them fails there.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, queueing, route_utils, routes, utils
from gradio.exceptions import InvalidPathError
from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException

from rakuten_models.app.handlers import sentence_error
from rakuten_models.errors import Message

_logger = logging.getLogger(__name__)

# In one request; the page sends one file at a time.
MAX_FILES = 20

_MAX_FIELDS = 20

_MAX_FIELD = 1024 * 1024

# Of what Gradio keeps for its own monitoring page, which is off.
_MAX_EVENTS = 100

_folder: tempfile.TemporaryDirectory[str] | None = None

# glibc's number for the setting that MALLOC_ARENA_MAX sets (malloc.h, mallopt(3)).
_M_ARENA_MAX = -8

_MAX_ARENAS = 2


def own_upload_folder() -> Path:
    """The folder of this process's uploads and downloads, which nobody else's app serves; made once.

    Gradio's own default is one folder for all of a machine's apps, and each serves whatever lies in it. Inside
    GRADIO_TEMP_DIR where that is set.
    """
    global _folder
    if _folder is None:
        parent = os.environ.get("GRADIO_TEMP_DIR")
        if parent:
            Path(parent).mkdir(parents=True, exist_ok=True)
        _folder = tempfile.TemporaryDirectory(
            prefix="rakuten-uploads-", dir=parent, ignore_cleanup_errors=True
        )
        # Where Gradio looks for it, here and in its own modules' defaults.
        os.environ["GRADIO_TEMP_DIR"] = _folder.name
    return Path(_folder.name)


def take_over_gradio() -> None:
    """Fetch no URL that a visitor names, say nothing of the server's paths, bound a form and what fails may log."""
    processing_utils.async_ssrf_protected_get = _refuse_url
    if processing_utils._check_allowed.__module__ != __name__:
        # Gradio gives both arguments by place.
        checked = _without_paths(processing_utils._check_allowed)
        processing_utils._check_allowed = checked  # type: ignore[assignment]
    # Where Gradio looks the parser up at each request.
    route_utils.GradioMultiPartParser = BoundedForm  # type: ignore[misc]
    for module in (queueing, route_utils, routes, utils):
        module.traceback = _OneLine  # type: ignore[attr-defined]


def bound_memory(demo: gr.Blocks) -> None:
    """Keep next to nothing of what is over.

    Gradio would keep 10,000 events and add them up at each error, and it would keep the path of each file that ever was
    uploaded, in order to delete it; here `DiskQuota.sweep` deletes files, which needs no list.
    """
    demo._queue.ANALYTICS_MAX_EVENTS = _MAX_EVENTS
    # Of this one queue.
    demo._queue.compute_analytics_summary = lambda records: {}  # type: ignore[method-assign]
    demo.upload_file_set = _KeepsNothing()
    demo.temp_file_sets = []
    for block in demo.blocks.values():
        block.temp_files = _KeepsNothing()


class _KeepsNothing(set[str]):
    """Stands where Gradio collects the paths of files."""

    def add(self, path: str) -> None:
        """Do nothing."""

    def update(self, *paths: Iterable[str]) -> None:
        """Do nothing."""


async def _refuse_url(url: str) -> Any:
    raise sentence_error(Message("app.no_file"))


def _without_paths(check: Callable[[Any, bool], None]) -> Callable[[Any, bool], None]:
    def checked(path: Any, check_in_upload_folder: bool) -> None:
        try:
            check(path, check_in_upload_folder)
        except InvalidPathError as error:
            # The library's own words hold the folder that the app runs in.
            raise sentence_error(Message("app.file_gone")) from error

    return checked


class _OneLine:
    """Stands where Gradio's modules have the library `traceback`."""

    @staticmethod
    def print_exc() -> None:
        """One line for what failed; the traceback, which may hold what a visitor wrote, where somebody debugs."""
        error = sys.exc_info()[0]
        _logger.warning("A call failed inside Gradio (%s).", error.__name__ if error else "no error")
        _logger.debug("Where it failed:", exc_info=True)


class BoundedForm(route_utils.GradioMultiPartParser):
    """A form with files, of which Gradio bounds each file alone; leaves nothing behind when it breaks off."""

    def __init__(self, *values: Any, **settings: Any) -> None:
        """As Gradio's, with at most MAX_FILES files."""
        settings["max_files"] = min(settings.get("max_files", MAX_FILES), MAX_FILES)
        settings["max_fields"] = min(settings.get("max_fields", _MAX_FIELDS), _MAX_FIELDS)
        super().__init__(*values, **settings)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Refuse a field without a file that grows in memory.

        Raises:
            MultiPartException: It is larger than a field may be.
        """
        part = self._current_part
        if part.file is None:
            if len(part.data) + end - start > _MAX_FIELD:
                raise MultiPartException(Message("app.form_field_too_large", limit=_MAX_FIELD))
            part.data += data[start:end]
            return
        super().on_part_data(data, start, end)

    async def parse(self) -> Any:
        """As Gradio's; a request that breaks off leaves no file behind.

        Raises:
            MultiPartException: The form is too large, or none.
        """
        try:
            return await super().parse()
        except BaseException as error:
            for file in self._files_to_close_on_error:
                with contextlib.suppress(OSError):
                    file.close()
                Path(file.name).unlink(missing_ok=True)
            if isinstance(error, (AttributeError, LookupError, ValueError, FormParserError)):
                raise MultiPartException(Message("app.form_unreadable")) from error
            raise


def share_arenas() -> None:
    """Let all threads of this process share two of glibc's arenas; call it before threads start.

    By default there are up to eight a core, and what is freed in one serves no other: with the app's some thirty
    threads, memory would grow for as long as visitors come (benchmarks/load.md). MALLOC_ARENA_MAX, where it is set,
    stays as it is, and other C libraries stay as they are.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        # A C library that is not glibc has no such function.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _MAX_ARENAS)
