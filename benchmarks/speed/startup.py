"""From nothing to a first answer, and from nothing to the app's first page: fresh processes, in turn.

Run as a program it answers one product and ends:

    python -m benchmarks.speed.startup ours|keras BUNDLE PICTURE
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
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


def first_answers(bundle: Path, keras_bundle: Path, photo: Path, rounds: int) -> tuple[list[Timing], dict[str, float]]:
    """Time fresh processes that answer one product with text and picture, ours and Keras's in turn.

    Returns:
        Both timings, and by "ours" and "keras" the largest peak of memory in bytes.
    """
    peaks = {"ours": 0.0, "keras": 0.0}

    def start(kind: str, folder: Path) -> tuple[float, float]:
        started = time.perf_counter()
        found = run_python("-m", "benchmarks.speed.startup", kind, folder, photo)
        seconds = time.perf_counter() - started
        peaks[kind] = max(peaks[kind], found["peak"])
        return seconds, found["processor"]

    return alternate(rounds, partial(start, "ours", bundle), partial(start, "keras", keras_bundle)), peaks


def first_pages(folder: Path, rounds: int) -> list[Timing]:
    """Time the app and an empty one, in turn, from a process's start to a whole first page; no processor time."""
    commands = ([str(ROOT / "app.py")], ["-c", _EMPTY_APP])
    return alternate(rounds, *(partial(_seconds_to_page, command, folder) for command in commands))


def imported_by_app() -> list[str]:
    """Which of tensorflow, keras and torch are imported when the app is ready to serve."""
    return run_python("-c", _IMPORTS)


def _seconds_to_page(command: list[str], folder: Path) -> tuple[float, float]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
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
                    raise BenchmarkError("benchmark.no_page", command=command[-1][:60], error=error) from error
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
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


if __name__ == "__main__":
    main()
