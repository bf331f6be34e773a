"""The app as a visitor meets it: `python app.py` in a process of its own, on a free port."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]

BUNDLE_VARIABLES = ("RAKUTEN_MODEL_REPO", "RAKUTEN_MODEL_REVISION", "RAKUTEN_BUNDLE")

SECONDS_TO_START = 180

SECONDS_TO_STOP = 60


class AppNotReady(RuntimeError):
    """The app could not be started."""


def app_environment(**variables: str) -> dict[str, str]:
    """This process's environment, with these of the variables that choose a bundle and no others."""
    environment = {name: value for name, value in os.environ.items() if name not in BUNDLE_VARIABLES}
    return {**environment, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", **variables}


@contextmanager
def running_app(bundle: Path | None, folder: Path, *arguments: str) -> Iterator[str]:
    """Start the app with this Python, wait until it says that it is ready, and stop it in the end.

    Args:
        bundle: The folder for RAKUTEN_BUNDLE; None for the starter bundle.
        folder: Where the app runs and its log goes: not the repository, so that no path may depend on that.
        arguments: More of them for the command.

    Yields:
        The page's address.

    Raises:
        AppNotReady: As `app_process`.
    """
    variables = {} if bundle is None else {"RAKUTEN_BUNDLE": str(bundle)}
    command = [sys.executable, str(REPOSITORY_ROOT / "app.py"), *arguments]
    with app_process(command, folder, **variables) as (address, _):
        yield address


@contextmanager
def app_process(command: list[str], folder: Path, **variables: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Start the app as a hosting platform does, which names the port in the environment.

    Args:
        command: A Python, an app.py, and arguments.
        folder: Where it runs and its log goes.
        variables: More of the environment.

    Yields:
        The page's address, and the process.

    Raises:
        AppNotReady: The app ended or was not ready within SECONDS_TO_START; holds its log.
    """
    port = free_port()
    environment = app_environment(GRADIO_TEMP_DIR=str(folder / "uploads"), GRADIO_SERVER_PORT=str(port), **variables)
    log = folder / "app.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + SECONDS_TO_START
        while f"Ready on {address}" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AppNotReady(f"The app did not become ready; its log says: {log.read_text().strip()}")
            time.sleep(0.1)
        yield address, process
    finally:
        process.terminate()
        try:
            # It deletes what visitors have left.
            process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
