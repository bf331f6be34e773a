"""Load untrusted bundles in a limited process of their own before the caller's process loads them.

Hashes in config.json show damage, not malice: a crafted model can crash the process that maps it, take all memory, or
never end. So a bundle that is neither the starter bundle, nor a hub commit named by its 40 hex digits, nor trusted is
first loaded by another Python, which reproduces its self-check (`rakuten_models.sandbox_worker`). That stops crashes,
hangs and memory hogs, but the process has the same rights as this one.

A verified bundle is noted by the sha256 of its config.json, which holds those of its other files, and by the versions
of the libraries that read it: in this process, and as an empty file in the user's cache folder (RAKUTEN_CACHE_DIR, else
`rakuten-models` in XDG_CACHE_HOME or ~/.cache). So each bundle is verified once on a machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rakuten_models.bundle.folder import bundle_files, config_bytes, validate_bundle
from rakuten_models.errors import BundleError, Message, RakutenModelsError, reason

CACHE_VARIABLE = "RAKUTEN_CACHE_DIR"

# To import the libraries, and then to load and answer; each takes a third of a second on an idle machine. Where the
# start takes longer than usual, the rest may in proportion, but never more than six times as long.
START_SECONDS, SECONDS = 60.0, 10.0
_USUAL_START, MAX_TIMES = 1.0, 6.0

# Of address space, and besides so many times the bundle's files; the starter bundle (17 MB) takes 0.6 GB.
MEMORY_BYTES, _TIMES_THE_FILES = 3 << 30, 6

SANDBOX_WORKER = "rakuten_models.sandbox_worker"
_STARTED, _MAX_LINE = "started", 8000
_CORES = 4
_LIBRARIES = ("ai-edge-litert", "tokenizers", "numpy", "pillow", "keras", "h5py")
# Environment variables with these in their names are not passed on.
_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY")

_passed: set[str] = set()


def load_in_sandbox(
    folder: str | os.PathLike[str],
    module: str = SANDBOX_WORKER,
    *,
    seconds: float = SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> str:
    """Let another process load a bundle, unless these very files were verified before.

    Args:
        folder: The bundle's.
        module: What the other process runs; it ends in `sandbox_process`.
        seconds: After its libraries are imported, until it must have ended.
        memory_bytes: Its address space, beside six times the bundle's files, where the platform can limit that.

    Returns:
        The sha256 of the bundle's config.json: load this one and no other.

    Raises:
        BundleError: The bundle is wrong, or it crashed, stopped or overfilled the other process.
    """
    folder = Path(folder).resolve()
    digest = hashlib.sha256(config_bytes(folder)).hexdigest()
    note = _note(digest, module)
    if note not in _passed and not (_notes_folder() / note).is_file():
        # What is only damaged needs no other process to be refused.
        validate_bundle(folder, config_sha256=digest)
        sizes = [(folder / name).stat().st_size for name in bundle_files(folder)]
        _run(folder, module, digest, seconds, memory_bytes + _TIMES_THE_FILES * sum(sizes))
        mark_verified(folder, module, digest)
    _passed.add(note)
    return digest


def mark_verified(folder: str | os.PathLike[str], module: str = SANDBOX_WORKER, digest: str | None = None) -> None:
    """Note that a bundle was verified by a module, or was made here.

    `digest` is the sha256 of the config.json that was verified; None for the one that is there.
    """
    note = _note(digest or hashlib.sha256(config_bytes(folder)).hexdigest(), module)
    _passed.add(note)
    # Without a cache folder the next process verifies it again.
    with contextlib.suppress(OSError):
        _notes_folder().mkdir(parents=True, exist_ok=True)
        (_notes_folder() / note).touch()


def sandbox_process(attempt: Callable[[Path, str], None], arguments: Sequence[str] | None = None) -> int:
    """The other process: set limits, try, say how it ended.

    Args:
        attempt: Loads the bundle in a folder with a config.json of this sha256, and answers with it.
        arguments: Folder, sha256, seconds and bytes; None takes the process's own.

    Returns:
        The exit status: 0 if all went well. What is wrong is one line of JSON on standard output.
    """
    folder, digest, seconds, memory_bytes = sys.argv[1:] if arguments is None else arguments
    # What the bundle's parsers print must not look like our answer.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_this_process(float(seconds), int(memory_bytes))
    print(_STARTED, file=answers, flush=True)
    try:
        attempt(Path(folder), digest)
        problem = None
    except RakutenModelsError as error:
        problem = error.message
    except MemoryError:
        problem = Message("bundle.sandbox_memory", folder=folder)
    # The libraries that read the files raise nearly anything.
    except Exception as error:
        kind = type(error).__name__
        problem = Message("bundle.sandbox_failed", folder=folder, kind=kind, reason=reason(error))
    answer = problem and [problem.code, problem.values]
    print(json.dumps({"problem": answer}, default=str), file=answers, flush=True)
    # Without the libraries' own ends, which could hang.
    os._exit(0 if problem is None else 1)


def _limit_this_process(seconds: float, memory_bytes: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        # On a machine with many cores the threads' own memory alone would be gigabytes.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    try:
        import resource
    except ImportError:  # Windows has no such limits: time alone is limited there
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    # Also if the parent process is gone.
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, int(used + _CORES * seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # macOS refuses some of them.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (wanted, wanted))


def _run(folder: Path, module: str, digest: str, seconds: float, memory_bytes: int) -> None:
    package = importlib.util.find_spec(module.partition(".")[0])
    environment = {
        name: value for name, value in os.environ.items() if not any(word in name.upper() for word in _SECRETS)
    } | {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONFAULTHANDLER": ""}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder), digest, str(seconds), str(memory_bytes)],
            # `-m` imports from the folder it runs in: the package's, never the bundle's or the user's.
            cwd=Path(str(package and package.origin)).resolve().parent.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise BundleError("bundle.sandbox_not_started", folder=str(folder), reason=reason(error)) from error
    output = process.stdout
    assert output is not None
    lines: queue.Queue[str] = queue.Queue()

    def read_lines() -> None:
        """Put each line, cut to its limit, into the queue, and "" at the end."""
        with contextlib.suppress(OSError, ValueError):
            while line := output.readline(_MAX_LINE):
                lines.put(line.strip())
        lines.put("")

    reader = threading.Thread(target=read_lines, daemon=True)
    reader.start()
    began = time.monotonic()
    try:
        said = _next_line(lines, START_SECONDS)
        if said == _STARTED:
            seconds *= min(MAX_TIMES, max(1.0, (time.monotonic() - began) / _USUAL_START))
            said = _next_line(lines, seconds)
        if said is None:
            raise BundleError("bundle.sandbox_too_slow", folder=str(folder), seconds=seconds)
        if not said:
            # What it said ended, so it is about to end, too, with a status of its own.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(START_SECONDS)
    finally:
        process.kill()
        status = process.wait()
        reader.join(1)
        output.close()
    if not said:
        raise BundleError("bundle.sandbox_ended", folder=str(folder), end=_end(status))
    try:
        problem = json.loads(said)["problem"]
        message = problem and Message(problem[0], **problem[1])
    # Whatever a bundle made its process say.
    except Exception as error:
        raise BundleError("bundle.sandbox_no_answer", folder=str(folder)) from error
    if message:
        raise BundleError(message)


def _next_line(lines: queue.Queue[str], seconds: float) -> str | None:
    """The next line; "" after the last, None after so many seconds."""
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return None


def _end(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"by the signal {signal.Signals(-status).name}"
    return f"with the status {status}"


def _notes_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(CACHE_VARIABLE) or f"{caches}/rakuten-models").expanduser() / "tried"


def _note(digest: str, module: str) -> str:
    """The note's file name; another version of a library may read the same bytes otherwise."""
    facts = [digest, module, platform.python_version(), platform.machine()]
    for library in _LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            facts.append(f"{library} {version(library)}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
