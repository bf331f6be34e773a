"""The app: a page where anybody classifies products, and named endpoints for programs.

    python app.py                           on http://127.0.0.1:7860, with the starter bundle
    python app.py --bundle user/name        with a published bundle (or a folder)
    python app.py --compare user/other      with a tab that shows a second bundle's answer beside the first's
    python app.py --share                   with a public link for a week
    python app.py --mcp                     also as a tool server for agents
    python app.py --auth-file users.txt     for those alone whose user:password stands in that file (mode 600)

This is also the entry point of a hosted Space. A plain caller of rakuten_models: the answers are
ProductClassifier's, each tab is a module rakuten_models/app_tab_*.py.

Without --bundle the environment decides: RAKUTEN_MODEL_REPO (at RAKUTEN_MODEL_REVISION), else
RAKUTEN_BUNDLE (a folder), else the starter bundle. Without --compare: RAKUTEN_COMPARE_REPO (at
RAKUTEN_COMPARE_REVISION), a hub repository or a folder.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy
from starlette.middleware import Middleware

from rakuten_models import Product, ProductClassifier
from rakuten_models.app_disk import VisitorsDisk
from rakuten_models.app_gradio import bound_memory, own_upload_folder, take_over_gradio
from rakuten_models.app_guard import Guard
from rakuten_models.app_login import read_users
from rakuten_models.app_memory import share_arenas
from rakuten_models.app_shared import LARGEST_UPLOAD, THRESHOLD_STEP, AppParts, mark, slider_start
from rakuten_models.app_tab_catalog import CatalogTab
from rakuten_models.app_tab_classify import ClassifyTab
from rakuten_models.app_tab_compare import CompareTab
from rakuten_models.app_tab_model import ModelTab
from rakuten_models.app_words import Words, translations
from rakuten_models.classify import FOLDER_VARIABLE, REPOSITORY_VARIABLE, accept_threshold, load_classifier
from rakuten_models.command_line import run_command
from rakuten_models.page import EXAMPLES_FOLDER, STYLE_FILE, head_html
from rakuten_models.product import RakutenModelsError

try:
    # Only there on a ZeroGPU Space, which wants it imported before anything else uses a GPU.
    import spaces
except ImportError:
    spaces = None

COMPARE_VARIABLE = "RAKUTEN_COMPARE_REPO"
COMPARE_REVISION_VARIABLE = "RAKUTEN_COMPARE_REVISION"

# Two processors answer two visitors at a time; the others wait their turn, and a crowd is told to come back.
CONCURRENCY = 2
QUEUE_LENGTH = 64
# How often those who wait are told their place: telling all at each change costs the square of their number.
STATUS_SECONDS = 5
# So many pages' state is kept at a time; of the others, the one that lay idle longest is forgotten.
MOST_SESSIONS = 1000

# The language of Gradio's own words is the browser's. Its module can change it, and is found by its name
# among the files that the page has loaded; where that fails, only Gradio's own few words stay as they are.
_SPEAK = """
const speak = (language) => {
    document.documentElement.lang = language;
    const files = performance.getEntriesByType("resource").map((entry) => entry.name);
    const core = files.find((name) => /\\/core-[^/]*\\.js$/.test(name));
    if (core) import(core).then((module) => module.changeLocale && module.changeLocale(language)).catch(() => {});
};
"""
_FIRST_LANGUAGE = (
    "() => {"
    + _SPEAK
    + """
    let language = null;
    try { language = localStorage.getItem("rakuten-language"); } catch (error) {}
    if (language !== "en" && language !== "fr")
        language = (navigator.language || "en").toLowerCase().startsWith("fr") ? "fr" : "en";
    speak(language);
    return language;
}"""
)
_NEXT_LANGUAGE = (
    "(language) => {"
    + _SPEAK
    + """
    try { localStorage.setItem("rakuten-language", language); } catch (error) {}
    speak(language);
}"""
)

# Weight 700 and not Gradio's usual 600, whose bundled files lack most letters (gradio 6.31).
_FONTS = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
_MONO_FONTS = (gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace")


class AddressError(RakutenModelsError):
    """The page cannot be served on the wanted host and port."""


class ToolsError(RakutenModelsError):
    """The app cannot serve as a tool server."""


def launch_settings(disk: VisitorsDisk) -> dict[str, Any]:
    """What every start of the page has in common, whoever calls `launch`.

    Args:
        disk: Bounds what visitors may leave there.
    """
    theme = gr.themes.Base(
        primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=_FONTS, font_mono=_MONO_FONTS
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        body_background_fill="*neutral_50",
        block_border_width="1px",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_title_text_weight="700",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        input_border_color_focus="*primary_500",
        input_placeholder_color="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_large_text_weight="700",
    )
    return {
        "theme": theme,
        "css_paths": STYLE_FILE,
        "footer_links": ["api"],
        "i18n": gr.I18n(**translations()),
        "max_file_size": LARGEST_UPLOAD,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "pwa": False,
        # Our own sentences are shown all the same; what a library says of its insides is not.
        "show_error": False,
        "state_session_capacity": MOST_SESSIONS,
        "app_kwargs": {
            "middleware": [Middleware(Guard, disk=disk)],
            "lifespan": disk.swept,
            "openapi_url": None,
        },
    }


def build_demo(
    classifier: ProductClassifier,
    bundle_name: str | None = None,
    other: tuple[ProductClassifier, str] | None = None,
) -> gr.Blocks:
    """Build the page around a classifier.

    Args:
        classifier: Loaded; the page and the endpoints ask nothing else.
        bundle_name: To show; by default the name of the bundle's folder.
        other: A second classifier and its name, for the Compare tab.

    Returns:
        The page; `launch()` serves it with the app's own settings.
    """
    name = bundle_name or classifier.folder.name
    take_over_gradio()
    uploads = own_upload_folder()
    # Served as they are: a copy among the uploads would be deleted after an hour.
    gr.set_static_paths([EXAMPLES_FOLDER])

    def head(language: str) -> str:
        return head_html(classifier.categories, name, classifier.revision, Words(language))

    # Gradio's own variable, but off unless it says so.
    analytics = os.environ.get("GRADIO_ANALYTICS_ENABLED", "False") == "True"
    with gr.Blocks(title=Words()("title"), analytics_enabled=analytics) as demo:
        with gr.Row(elem_classes="top"):
            top = gr.HTML(head("en"))
            language = gr.Radio(
                [("English", "en"), ("Français", "fr")],
                value="en",
                label=mark("language"),
                elem_id="language",
                min_width=170,
                scale=0,
            )
        threshold = gr.Slider(
            0,
            1,
            slider_start(accept_threshold(classifier.config)),
            step=THRESHOLD_STEP,
            label=mark("threshold"),
            elem_id="threshold",
            render=False,
        )
        disk = VisitorsDisk(kept_files=functools.partial(_own_files, demo))
        disk.watch(uploads, sweep=True)
        parts = AppParts(classifier, name, language, threshold, disk)
        with gr.Tabs():
            with gr.Tab(mark("tab_classify"), id="classify"):
                classify = ClassifyTab(parts, demo.load)
            with gr.Tab(mark("tab_catalog"), id="catalog"):
                catalog = CatalogTab(parts)
            with gr.Tab(mark("tab_model"), id="model"):
                ModelTab(parts)
            if other is not None:
                CompareTab(parts, *other, classify.inputs)
        private = {"api_visibility": "private"}
        language.change(js=_NEXT_LANGUAGE, inputs=language, **private)
        language.change(head, language, top, queue=False, show_progress="hidden", **private)
        demo.load(js=_FIRST_LANGUAGE, outputs=language, **private)
        demo.unload(catalog.forget_visitor)
    # What is queued for the page is queued for programs, too.
    demo.queue(
        status_update_rate=STATUS_SECONDS,
        default_concurrency_limit=CONCURRENCY,
        max_size=QUEUE_LENGTH,
        api_open=False,
    )
    bound_memory(demo)
    demo.launch = functools.partial(demo.launch, **launch_settings(disk))
    return demo


def _own_files(demo: gr.Blocks) -> Iterator[str]:
    """The files among the uploads that are the page's own."""
    for component in demo.blocks.values():
        yield from getattr(component, "keep_in_cache", ())


def load_demo(
    source: str | None = None,
    revision: str | None = None,
    compare: str | None = None,
    compare_revision: str | None = None,
) -> gr.Blocks:
    """Load what is to be served, let it answer once, and build the page.

    Args:
        source: A folder or a hub id; None leaves the choice to the environment.
        revision: For a hub id.
        compare: A second bundle's folder or hub id; None leaves that to the environment, too.
        compare_revision: For a hub id.

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
    warm_up = Product("warm-up", "", numpy.full((224, 224, 3), 255, numpy.uint8))
    classifier.explain(warm_up)
    if other is not None:
        other[0].predict([warm_up])
    return build_demo(classifier, bundle_name, other)


def check_tools() -> None:
    """Find out whether the app could serve as a tool server.

    Raises:
        ToolsError: The library for it is missing.
    """
    if importlib.util.find_spec("mcp") is None:
        raise ToolsError(
            "--mcp needs a library that is not installed; install it with `pip install -r requirements.txt "
            "-r requirements-mcp.txt` in an environment of its own, or leave --mcp out."
        )


def check_address(host: str, port: int) -> None:
    """Find out whether the page could be served here.

    Raises:
        AddressError: It could not: the port is taken or not allowed, or the host is not this machine.
    """
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise AddressError(
            f"The page cannot be served on {host}:{port} ({reason}); stop the program that uses this address, or "
            "choose another with --port or --host."
        ) from error


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
    if options.mcp:
        check_tools()
        if options.auth_file:
            raise ToolsError("Agents cannot log in; give --mcp or --auth-file, not both.")
    belongs = read_users(options.auth_file) if options.auth_file else None
    demo = load_demo(options.bundle, options.revision, options.compare, options.compare_revision)
    # Gradio itself prints the public link, or why there is none.
    address = {"server_name": options.host, "server_port": options.port, "share": options.share}
    if options.mcp:
        address["mcp_server"] = True
    if belongs is not None:
        address["auth"] = _beside_others(belongs)
    # A platform stops the app with this signal: as Ctrl-C, so that no visitor's file is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    demo.launch(**address, quiet=True, prevent_thread_lock=True)
    print(f"Ready on http://{options.host}:{options.port}", flush=True)
    demo.block_thread()
    return 0


def _beside_others(belongs: Callable[[str, str], bool]) -> Callable:
    """The same check of a name and a password, in a thread: others are answered meanwhile."""

    async def check(name: str, password: str) -> bool:
        return await asyncio.to_thread(belongs, name, password)

    return check


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py", description="Serve the page that classifies products."
    )
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
        "--mcp",
        action="store_true",
        help="also serve every endpoint as a tool for agents, under /gradio_api/mcp",
    )
    parser.add_argument(
        "--auth-file",
        type=Path,
        metavar="FILE",
        help="ask for a name and a password; FILE has a line user:password for each (or a hash, from `python -m "
        "rakuten_models.app_login NAME`), and nobody else may read it (chmod 600)",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 1 to 65535")
    return int(text)


def __getattr__(name: str) -> Any:
    """`app.demo`, made when it is first asked for.

    A Space runs `python app.py`, which ends in `main`; but its platform, or `gradio app.py`, may instead
    import this module and launch its `demo`. Both find the same page, and a mere import loads nothing.
    """
    if name == "demo":
        return globals().setdefault("demo", load_demo())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if spaces is not None:

    @spaces.GPU
    def wanted_by_zero_gpu() -> None:
        """A ZeroGPU Space refuses to start without one marked function; ours need no GPU, so nothing calls it."""


if __name__ == "__main__":
    sys.exit(run_command(main))
