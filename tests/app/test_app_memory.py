"""How many of glibc's arenas the threads of a process use."""

import platform
import subprocess
import sys

import pytest

from tests.support.app_server import REPOSITORY_ROOT, app_environment

PROGRAM = """
import ctypes, sys, threading, zlib
from rakuten_models.app.security.gradio_patches import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
barrier = threading.Barrier(12)

def work():
    barrier.wait()
    # Allocates outside the interpreter's lock.
    for _ in range(20):
        zlib.compress(bytes(1 << 20))
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fdopen(1, b"w"))
library.malloc_info(0, stream)
library.fflush(stream)
"""


def arenas(how, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=REPOSITORY_ROOT,
        env=app_environment(**environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas")
def test_all_threads_share_two_arenas_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert arenas("default") > 2
    assert arenas("shared") <= 2
    assert arenas("shared", MALLOC_ARENA_MAX="5") in (3, 4, 5)
