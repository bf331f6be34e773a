"""How much memory a process and all that it started hold together, as long as it runs."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

_PAUSE_SECONDS = 0.25


def run_watched(command: Sequence[str], **options: object) -> tuple[int, str, str, int]:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        options: For subprocess.Popen.

    Returns:
        Its exit status, what it printed, what it said on standard error, and the most bytes that it and its descendants
        held at once, memory that they share counted once (0 where the system does not say).
    """
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_bytes(process.pid))
            time.sleep(_PAUSE_SECONDS)
        # What these runs print fits into a pipe.
        return process.returncode, process.stdout.read(), process.stderr.read(), peak


def tree_bytes(root: int) -> int:
    """The proportional memory (PSS) of a process and its descendants: the sum is what all of them take."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
