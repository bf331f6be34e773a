"""What a worker of a cluster needs on its machine: the bundle's files, and cores that no other worker of it uses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rakuten_models.bundle.config import CONFIG_FILE
from rakuten_models.bundle.folder import replace_folder, validate_bundle
from rakuten_models.errors import BatchError, BundleError
from rakuten_models.files import locked
from rakuten_models.inference.runtime import usable_cores

# A worker with more gains little: Python itself becomes what it waits for.
_CORES_A_WORKER = 4

# Of every node, for reading and writing: with none left, everything would wait for everything.
_CPUS_LEFT = 0.5

_FRACTIONS = (0.75, 0.5, 0.25, 0.1)


class ActorSize(NamedTuple):
    """How many workers there are, how many CPUs Ray books for each, and how many cores each may use."""

    workers: int
    cpus: float
    cores: int


def actor_size(nodes: Sequence[Mapping[str, Any]], workers: int | None = None) -> ActorSize:
    """How the workers are cut, so that all of them find room and every node keeps some CPU for reading and writing.

    Args:
        nodes: The resources of each node that is alive.
        workers: How many are wanted; None: one for every four cores.

    Raises:
        BatchError: The nodes have no room for so many.
    """
    cpus = [float(node.get("CPU", 0)) for node in nodes]
    cpus = [each for each in cpus if each >= _FRACTIONS[-1] + _CPUS_LEFT]
    wanted = workers or sum(max(1, round(each / _CORES_A_WORKER)) for each in cpus)
    for size in (*range(_CORES_A_WORKER, 0, -1), *_FRACTIONS):
        room = [int((each - _CPUS_LEFT + 1e-9) / size) for each in cpus]
        if wanted and sum(room) >= wanted:
            a_node = -(-wanted // len(cpus))
            return ActorSize(wanted, size, max(1, round(max(cpus) / a_node)))
    there = ", ".join(f"{each:g}" for each in cpus) or "no"
    raise BatchError("batch.no_room_for_workers", workers=workers or 1, cpus=there)


def bundle_on_this_machine(files: Mapping[str, bytes]) -> Path:
    """The folder with a bundle's files (content by name), written by the first worker of a machine that needs them.

    Raises:
        OSError: They cannot be written.
        BundleError: They are no bundle.
    """
    digest = hashlib.sha256(files[CONFIG_FILE]).hexdigest()[:16]
    # Nobody else can have put a bundle of this name there.
    home = Path(tempfile.gettempdir()) / f"rakuten-bundles-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    home.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and home.stat().st_uid != os.getuid():
        raise BatchError("batch.folder_of_other_user", folder=home)
    folder = home / digest
    with locked(home / f"{digest}.lock"):
        try:
            validate_bundle(folder)
        except BundleError:
            with replace_folder(folder) as writing:
                for name, content in files.items():
                    (writing / name).write_bytes(content)
            validate_bundle(folder)
    return folder


def take_cores(count: int) -> Any:
    """Keep this process and its threads to `count` cores (at least 1), other ones than its neighbours'.

    Returns:
        What has to be kept while the cores are in use; None where the machine has no more of them.
    """
    if not hasattr(os, "sched_setaffinity") or count >= usable_cores():
        return None
    cores = sorted(os.sched_getaffinity(0))
    home = Path(tempfile.gettempdir()) / f"rakuten-cores-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    for slot in range(len(cores) * 4):
        lock = contextlib.ExitStack()
        with contextlib.suppress(BlockingIOError):
            lock.enter_context(locked(home / str(slot), wait=False))
            os.sched_setaffinity(0, {cores[(slot * count + each) % len(cores)] for each in range(count)})
            return lock
    return None
