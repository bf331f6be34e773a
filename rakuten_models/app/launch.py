"""Starts the app: `python app.py`, or `load_demo` where a platform launches the page itself.

    python app.py                           on http://127.0.0.1:7860, with the starter bundle
    python app.py --bundle user/name        with a published bundle (or a folder)
    python app.py --compare user/other      with a tab that shows a second bundle's answer beside the first's
    python app.py --share                   with a public link for a week
    python app.py --mcp                     also as a tool server for agents
    python app.py --auth-file users.txt     for those alone whose user:password stands in that file (mode 600)

Without --bundle the environment decides: RAKUTEN_MODEL_REPO (at RAKUTEN_MODEL_REVISION), else
RAKUTEN_BUNDLE (a folder), else the starter bundle. Without --compare: RAKUTEN_COMPARE_REPO (at
RAKUTEN_COMPARE_REVISION), a hub repository or a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
import numpy as np

from rakuten_models.app.page import build_demo
from rakuten_models.app.security.gradio_patches import share_arenas
from rakuten_models.app.security.login import read_users
from rakuten_models.classifier import FOLDER_VARIABLE, REPOSITORY_VARIABLE, load_classifier
from rakuten_models.errors import RakutenModelsError
from rakuten_models.product import Product

COMPARE_VARIABLE = "RAKUTEN_COMPARE_REPO"

COMPARE_REVISION_VARIABLE = "RAKUTEN_COMPARE_REVISION"


class AddressError(RakutenModelsError):
    """The page cannot be served on the wanted host and port."""


class ToolsError(RakutenModelsError):
    """The app cannot serve as a tool server."""


def load_demo(
    source: str | None = None,
    revision: str | None = None,
    compare: str | None = None,
    compare_revision: str | None = None,
) -> gr.Blocks:
    """Load a bundle and maybe a second one (folders or hub ids; None: see above), answer once, and build the page.

    Raises:
        RakutenModelsError: A bundle cannot be loaded.
    """
    share_arenas()
    classifier, bundle_name = load_classifier(source, revision)
    other = None
    if not compare and (compare := os.environ.get(COMPARE_VARIABLE, "")):
        compare_revision = compare_revision or os.environ.get(COMPARE_REVISION_VARIABLE) or None
    if compare:
        other = load_classifier(compare, compare_revision)
    # The first run of a model prepares its memory; no visitor should wait for that.
    warm_up = Product("warm-up", "", np.full((224, 224, 3), 255, np.uint8))
    classifier.explain(warm_up)
    if other is not None:
        other[0].predict([warm_up])
    return build_demo(classifier, bundle_name, other)


def check_address(host: str, port: int) -> None:
    """Refuse a port that is taken or not allowed, and a host that is not this machine.

    Raises:
        AddressError: The page cannot be served there.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise AddressError("app.address_unusable", host=host, port=port, reason=reason) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C.

    Raises:
        RakutenModelsError: The bundle cannot be loaded.
        AddressError: The page cannot be served on this host and port.
        ToolsError: --mcp was given without the library for it, or with --auth-file.
        LoginError: The file of --auth-file cannot be used.
    """
    options = _parser().parse_args(arguments)
    # Said before the seconds of loading, not after them.
    check_address(options.host, options.port)
    if options.mcp and importlib.util.find_spec("mcp") is None:
        raise ToolsError("app.mcp_missing")
    if options.mcp and options.auth_file:
        raise ToolsError("app.agents_cannot_log_in")
    belongs = read_users(options.auth_file) if options.auth_file else None
    demo = load_demo(options.bundle, options.revision, options.compare, options.compare_revision)
    # Gradio itself prints the public link, or why there is none.
    address = {"server_name": options.host, "server_port": options.port, "share": options.share}
    if options.mcp:
        address["mcp_server"] = True
    if belongs is not None:

        async def check(name: str, password: str) -> bool:
            """In a thread: others are answered meanwhile."""
            return await asyncio.to_thread(belongs, name, password)

        address["auth"] = check
    # A platform stops the app with this signal: as Ctrl-C, so that no visitor's file is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo.launch(**address, quiet=True, prevent_thread_lock=True)
    print(f"Ready on http://{options.host}:{options.port}", flush=True)
    demo.block_thread()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python app.py", description="Serve the page that classifies products.")
    parser.add_argument(
        "--bundle",
        metavar="FOLDER|user/name",
        help=f"the models; default: ${REPOSITORY_VARIABLE}, else ${FOLDER_VARIABLE}, else the starter bundle",
    )
    parser.add_argument("--revision", help="of a hub repository: a branch, a tag, or a commit")
    parser.add_argument(
        "--compare",
        metavar="FOLDER|user/name",
        help=f"a second bundle for the Compare tab; default: ${COMPARE_VARIABLE}, else none",
    )
    parser.add_argument("--compare-revision", metavar="REVISION", help="of that hub repository")
    # A hosting platform says through these variables where it expects the page.
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument(
        "--host", default=host, help="where to listen; 0.0.0.0 for every network (default: %(default)s)"
    )
    parser.add_argument("--port", type=_port, default=port, help="default: %(default)s")
    parser.add_argument("--share", action="store_true", help="also make a public link that lasts a week")
    parser.add_argument(
        "--mcp", action="store_true", help="also serve every endpoint as a tool for agents, under /gradio_api/mcp"
    )
    parser.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="ask for a name and a password; FILE has a line user:password for each (or a hash, from `python -m "
        "rakuten_models.app.security.login NAME`), and nobody else may read it (chmod 600)",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 1 to 65535")
    return int(text)
