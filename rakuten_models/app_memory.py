"""How the C library hands out memory to the app's threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

# glibc's number for the setting that MALLOC_ARENA_MAX sets (malloc.h, mallopt(3)).
_M_ARENA_MAX = -8
_MOST_ARENAS = 2


def share_arenas() -> None:
    """Let all threads of this process share two of glibc's arenas; call it before threads start.

    By default there are up to eight a core, and what is freed in one serves no other: with the app's some thirty
    threads, memory would grow for as long as visitors come (benchmarks/load.md). MALLOC_ARENA_MAX, where it is set,
    stays as it is, and other C libraries stay as they are.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        # A C library that is not glibc has no such function.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _MOST_ARENAS)
