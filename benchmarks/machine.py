"""What this machine is and what it can do at most: its facts, its versions, and its matrix rate."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

import numpy as np

from rakuten_models.inference.runtime import usable_cores

# Multiplications and additions of MobileNetV2 (width 1, 224 pixels, no top) for one picture: 0.3 billion of each
# (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 4).
MOBILENET_OPERATIONS = 0.6e9
_MATRIX_SIDE = 1536
_LIBRARIES = (
    "numpy", "pillow", "tokenizers", "ai-edge-litert", "tensorflow-cpu", "keras", "gradio", "numba", "ray",
    "fasttext-community",
)  # fmt: skip


def sgemm_rate(rounds: int = 7) -> tuple[float, float]:
    """The best rates of a float32 matrix product: operations a second with all cores, and a second of processor time.

    Not the median: a limit of the machine is asked for, and other work can only hide it.
    """
    random = np.random.default_rng(0)
    first, second = random.random((2, _MATRIX_SIDE, _MATRIX_SIDE), np.float32)
    first @ second
    operations = 2.0 * _MATRIX_SIDE**3
    wall_rate = processor_rate = 0.0
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        first @ second
        wall_rate = max(wall_rate, operations / (time.perf_counter() - wall))
        processor_rate = max(processor_rate, operations / (time.process_time() - processor))
    return wall_rate, processor_rate


def facts() -> list[str]:
    """The machine, the versions, the date and the load, as lines of Markdown."""
    processor = _in_file("/proc/cpuinfo", r"model name\s*:\s*(.*\S)") or platform.processor() or "unknown processor"
    packages = importlib.metadata.distributions()
    installed = {each.name.lower().replace("_", "-"): each.version for each in packages}
    versions = (f"{name} {installed[name]}" if name in installed else f"no {name}" for name in _LIBRARIES)
    return [
        f"- Machine: {processor}, {usable_cores()} cores, {platform.system()} {platform.machine()}",
        f"- Versions: Python {platform.python_version()}, {', '.join(versions)}",
        f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"- Load when it began (processes that wanted to run, mean of 1 and 5 minutes): {load()}",
    ]


def load() -> str:
    """The load averages of 1 and 5 minutes; "unknown" where the system does not say."""
    return "{:.1f}, {:.1f}".format(*os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def peak_memory() -> int:
    """The most bytes of memory that this process ever held at once; 0 where the system does not say.

    Not `getrusage`: in a process that was just started it still holds the peak of the one that started it.
    """
    return int(_in_file("/proc/self/status", r"VmHWM:\s*(\d+)") or 0) * 1024


def _in_file(path: str, pattern: str) -> str | None:
    """What a pattern's group finds in a file of the system; None where there is no such file or line."""
    found = re.search(pattern, Path(path).read_text()) if Path(path).is_file() else None
    return found and found[1]
