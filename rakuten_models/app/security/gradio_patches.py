"""Six patches of Gradio 6.31.0, which trusts a visitor further than this app does, and two settings of the process.

`patch_gradio` replaces what all pages of a process share (1 to 4), `patch_page` what one page has (5), and
`forget_call` clears up after a call (6). tests/app/test_gradio_patches.py fails when Gradio changes under one of them;
tests/robustness/ shows each at work.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils, route_utils
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

# Settings of Gradio's monitoring page, which is off: few events are kept, and never added up, which would take 2.6 ms
# of a core after each answer.
_MONITORING = {"GRADIO_ANALYTICS_MAX_EVENTS": "100", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12)}

# glibc's number for the setting that MALLOC_ARENA_MAX sets (malloc.h, mallopt(3)).
_M_ARENA_MAX = -8

_MAX_ARENAS = 2

_folder: tempfile.TemporaryDirectory[str] | None = None

_check_allowed = processing_utils._check_allowed


def patch_gradio() -> None:
    """Replace what all pages of this process share; may be called again."""
    for name, value in _MONITORING.items():
        os.environ.setdefault(name, value)
    # 1. The server fetches no URL that a visitor names (CVE-2024-4325, CVE-2024-48052, CVE-2026-28416).
    processing_utils.async_ssrf_protected_get = _refuse_url
    # 2. A refused path is not answered with the folder that the app runs in.
    processing_utils._check_allowed = _check_without_paths
    # 3. A form takes bounded memory and leaves no file behind (CVE-2024-8966, CVE-2024-10624).
    route_utils.GradioMultiPartParser = BoundedForm  # type: ignore[misc]  # looked up at each request
    # 4. Gradio prints tracebacks, which may hold what a visitor wrote.
    traceback.print_exc = _log_error


def patch_page(demo: gr.Blocks) -> None:
    """Replace what one page has."""
    # 5. The path of each file that ever was uploaded would stay in memory; `DiskQuota.sweep` needs no list.
    demo.upload_file_set = _KeepsNothing()
    demo.temp_file_sets = []
    for block in demo.blocks.values():
        block.temp_files = _KeepsNothing()


def forget_call(gradio_app: Any, event: str) -> None:
    """Drop what Gradio keeps of a call without a session, when its answer was sent.

    6. It would keep a whole page's state for an hour or more, and the call's messages for ever.
    """
    queue, states = gradio_app.get_blocks()._queue, gradio_app.state_holder
    # Of a call in a session, none of these bears the call's name.
    for kept in (
        states.session_data,
        states.time_last_used,
        queue.pending_event_ids_session,
        queue.pending_messages_per_session,
    ):
        if event in kept:
            del kept[event]


async def _refuse_url(url: str) -> Any:
    raise sentence_error(Message("app.no_file"))


def _check_without_paths(path: Any, check_in_upload_folder: bool) -> None:
    try:
        _check_allowed(path, check_in_upload_folder)
    except InvalidPathError as error:
        raise sentence_error(Message("app.file_gone")) from error


def _log_error(*values: Any, **settings: Any) -> None:
    """One line for what failed; the traceback where somebody debugs."""
    error = sys.exc_info()[0]
    _logger.warning("A call failed inside Gradio (%s).", error.__name__ if error else "no error")
    _logger.debug("Where it failed:", exc_info=True)


class _KeepsNothing(set[str]):
    """Stands where Gradio collects the paths of files."""

    def add(self, *paths: Any) -> None:
        """Do nothing."""

    update = add


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


def own_upload_folder() -> Path:
    """The folder of this process's uploads and downloads, which nobody else's app serves; made once.

    Gradio's default is one folder for all of a machine's apps, and each serves whatever lies in it. Inside
    GRADIO_TEMP_DIR where that is set.
    """
    global _folder
    if _folder is None:
        parent = os.environ.get("GRADIO_TEMP_DIR")
        if parent:
            Path(parent).mkdir(parents=True, exist_ok=True)
        _folder = tempfile.TemporaryDirectory(prefix="rakuten-uploads-", dir=parent, ignore_cleanup_errors=True)
        # Where Gradio looks for it, here and in its own modules' defaults.
        os.environ["GRADIO_TEMP_DIR"] = _folder.name
    return Path(_folder.name)


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
