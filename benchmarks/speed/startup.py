"""From nothing to a first answer, and from nothing to the app's first page: fresh processes, in turn.

Run as a program it answers one product and ends:

    python -m benchmarks.speed.startup BUNDLE PICTURE
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.machine import peak_memory
from benchmarks.speed.worker_pool import ROOT, Timing, WorkerError

TITLE = "Canapé d'angle convertible en tissu gris"

DESCRIPTION = "<p>Un canapé confortable pour 4 personnes, avec coffre de rangement.</p>"

_EMPTY_APP = (
    "import gradio as gr\nwith gr.Blocks(analytics_enabled=False) as demo:\n    gr.Markdown('empty')\n"
    "demo.launch(server_port={port}, server_name='127.0.0.1', quiet=True, ssr_mode=False)\n"
)

# Stops where the app would begin to listen, and says what has been imported by then.
_IMPORTS = (
    "import sys, rakuten_models; from rakuten_models.app.page import build_demo\n"
    "build_demo(rakuten_models.ProductClassifier.from_pretrained())\n"
    "print(sorted({'tensorflow', 'keras', 'torch'} & set(sys.modules)))"
)

_MAX_START_SECONDS = 120

_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


def first_answers(
    bundle: Path, keras_bundle: Path, photo: Path, rounds: int
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Time fresh processes that answer one product with text and picture, ours and Keras's in turn.

    Args:
        bundle: Ours.
        keras_bundle: With `.keras` files.
        photo: A picture's file.
        rounds: How many processes of each count; see `alternate`.

    Returns:
        By "ours" and "keras": the timing, and the largest peak of memory in bytes.
    """
    commands = {
        "ours": ["benchmarks.speed.startup", str(bundle), str(photo)],
        "keras": ["benchmarks.speed.keras_baseline", str(keras_bundle), str(photo)],
    }
    wall: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0.0)
    for number in range(rounds + 1):
        for name, arguments in commands.items():
            started = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **_QUIET},
                capture_output=True,
                text=True,
            )
            seconds = time.perf_counter() - started
            if done.returncode:
                raise WorkerError(f"{arguments[0]} failed: {done.stderr.strip()[-2000:]}")
            answer = json.loads(done.stdout.splitlines()[-1])
            peaks[name] = max(peaks[name], answer["peak"])
            if number or not rounds:
                wall[name].append(seconds)
                processor[name].append(answer["processor"])
    return {name: Timing(tuple(wall[name]), tuple(processor[name])) for name in commands}, peaks


def first_pages(folder: Path, rounds: int) -> dict[str, Timing]:
    """Time the app and an empty Gradio app from the start of the process to a whole first page, in turn.

    Args:
        folder: An empty one, in which they run.
        rounds: How many starts of each count; see `alternate`.

    Returns:
        By "app" and "empty": the timing; its processor seconds are not known and 0.
    """
    wall: dict[str, list[float]] = {"app": [], "empty": []}
    for number in range(rounds + 1):
        for name, found in wall.items():
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                port = listener.getsockname()[1]
            code = _EMPTY_APP.format(port=port)
            command = [sys.executable, *(["-c", code] if name == "empty" else [str(ROOT / "app.py")])]
            seconds = _seconds_to_page(command, folder, port)
            if number or not rounds:
                found.append(seconds)
    return {name: Timing(tuple(found), (0.0,) * len(found)) for name, found in wall.items()}


def imported_by_app() -> list[str]:
    """Which of tensorflow, keras and torch are imported when the app is ready to serve."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTS],
        cwd=ROOT,
        env={**os.environ, **_QUIET},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise WorkerError(f"The app cannot be built: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1].replace("'", '"'))


def _seconds_to_page(command: list[str], folder: Path, port: int) -> float:
    environment = {**os.environ, **_QUIET, "GRADIO_SERVER_PORT": str(port)}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    page.read()
                return time.perf_counter() - started
            except (urllib.error.URLError, ConnectionError) as error:
                if process.poll() is not None or time.perf_counter() - started > _MAX_START_SECONDS:
                    raise WorkerError(f"{command[1][:60]} showed no page: {error}") from error
                time.sleep(0.01)
    finally:
        process.terminate()
        process.wait(30)


def report_peak(answer: float) -> None:
    """Print what the process that measures a start reads."""
    print(json.dumps({"answer": answer, "peak": peak_memory(), "processor": time.process_time()}))


def main() -> int:
    """Answer one product."""
    from rakuten_models import Product, ProductClassifier

    classifier = ProductClassifier.from_pretrained(sys.argv[1])
    prediction = classifier.predict(Product(TITLE, DESCRIPTION, Path(sys.argv[2]).read_bytes()))
    report_peak(prediction.probability)
    return 0


if __name__ == "__main__":
    sys.exit(main())
