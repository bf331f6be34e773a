"""From nothing to a first answer, and from nothing to the app's first page: fresh processes, in turn.

Run as a program it answers one product and ends:

    python -m benchmarks.speed.startup ours|keras BUNDLE PICTURE
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from benchmarks.machine import peak_memory
from benchmarks.report import ROOT, BenchmarkError
from benchmarks.speed.worker_pool import QUIET, Timing, alternate, run_python
from rakuten_models.product import Product

_TITLE = "Canapé d'angle convertible en tissu gris"
_DESCRIPTION = "<p>Un canapé confortable pour 4 personnes, avec coffre de rangement.</p>"
_EMPTY_APP = (
    "import gradio as gr\nwith gr.Blocks(analytics_enabled=False) as demo:\n    gr.Markdown('empty')\n"
    "demo.launch(server_name='127.0.0.1', quiet=True, ssr_mode=False)\n"
)

# Stops where the app would begin to listen, and says what has been imported by then.
_IMPORTS = (
    "import json, sys, rakuten_models; from rakuten_models.app.page import build_demo\n"
    "build_demo(rakuten_models.ProductClassifier.from_pretrained())\n"
    "print(json.dumps(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules))))"
)

_MAX_START_SECONDS = 120


def first_answers(
    bundle: Path, keras_bundle: Path, photo: Path, rounds: int
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Time fresh processes that answer one product with text and picture, ours and Keras's in turn.

    Returns:
        By "ours" and "keras": the timing, and the largest peak of memory in bytes.
    """
    peaks = {"ours": 0.0, "keras": 0.0}

    def start(kind: str, folder: Path) -> tuple[float, float]:
        started = time.perf_counter()
        found = run_python("-m", "benchmarks.speed.startup", kind, folder, photo)
        seconds = time.perf_counter() - started
        peaks[kind] = max(peaks[kind], found["peak"])
        return seconds, found["processor"]

    folders = {"ours": bundle, "keras": keras_bundle}
    return alternate({kind: functools.partial(start, kind, folders[kind]) for kind in folders}, rounds), peaks


def first_pages(folder: Path, rounds: int) -> dict[str, Timing]:
    """Time "app" and an "empty" Gradio app from a process's start to a whole first page, in turn; no processor time."""
    commands = {"app": [str(ROOT / "app.py")], "empty": ["-c", _EMPTY_APP]}
    return alternate(
        {name: functools.partial(_seconds_to_page, command, folder) for name, command in commands.items()},
        rounds,
    )


def imported_by_app() -> list[str]:
    """Which of tensorflow, keras and torch are imported when the app is ready to serve."""
    return run_python("-c", _IMPORTS)


def _seconds_to_page(command: list[str], folder: Path) -> tuple[float, float]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {**os.environ, **QUIET, "GRADIO_SERVER_PORT": str(port)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, **silent)
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    page.read()
                return time.perf_counter() - started, 0.0
            except OSError as error:
                if process.poll() is not None or time.perf_counter() - started > _MAX_START_SECONDS:
                    name = command[-1][:60]
                    raise BenchmarkError("benchmark.no_page", command=name, error=error) from error
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    """Answer one product; prints {"answer": probability, "peak": bytes, "processor": seconds}."""
    kind, bundle, picture = sys.argv[1:]
    product = Product(_TITLE, _DESCRIPTION, Path(picture).read_bytes())
    if kind == "keras":
        from benchmarks.speed.keras_baseline import KerasBaseline

        answer = float(KerasBaseline(Path(bundle))([product], batch_size=1).max())
    else:
        from rakuten_models import ProductClassifier

        answer = ProductClassifier.from_pretrained(bundle).predict(product).probability
    print(json.dumps({"answer": answer, "peak": peak_memory(), "processor": time.process_time()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
