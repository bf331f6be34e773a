"""The app: a page where anybody classifies one product, and the endpoint `/classify` for programs.

    python app.py                           on http://127.0.0.1:7860, with the starter bundle
    python app.py --bundle user/name        with a published bundle (or a folder)
    python app.py --share                   with a public link for a week

This is also the entry point of a hosted Space. A plain caller of rakuten_models: the answers are
ProductClassifier's, the words and the HTML are in rakuten_models/page.py.

Without --bundle the environment decides: RAKUTEN_MODEL_REPO (at RAKUTEN_MODEL_REVISION), else
RAKUTEN_BUNDLE (a folder), else the starter bundle.
"""

from __future__ import annotations

import argparse
import functools
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy

from rakuten_models import Prediction, Product, ProductClassifier
from rakuten_models.classify import (
    FOLDER_VARIABLE,
    REPOSITORY_VARIABLE,
    accept_threshold,
    load_classifier,
    prediction_to_json,
)
from rakuten_models.command_line import run_command
from rakuten_models.page import EXAMPLES, EXAMPLES_FOLDER, STYLE_FILE, answer_html, empty_html, head_html
from rakuten_models.product import RakutenModelsError

try:
    # Only there on a ZeroGPU Space, which wants it imported before anything else uses a GPU.
    import spaces
except ImportError:
    spaces = None

# Two processors answer two visitors at a time; the others wait their turn, and a crowd is told to come back.
CONCURRENCY = 2
QUEUE_LENGTH = 64
HOUR = 3600

# Brings the answer into view on a phone, where it lies below the inputs.
_SHOW_ANSWER = """() => {
    const answer = document.getElementById("answer");
    if (window.innerWidth < 768 && answer) answer.scrollIntoView({behavior: "smooth", block: "start"});
}"""

# Weight 700 and not Gradio's usual 600, whose bundled files lack most letters (gradio 6.31).
_FONTS = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
_MONO_FONTS = (gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace")


class AddressError(RakutenModelsError):
    """The page cannot be served on the wanted host and port."""


def uploaded_file(picture: gr.Image, payload: Any) -> str | None:
    """The path of an uploaded picture, readable or not.

    Takes the place of gr.Image's own `preprocess`, which opens the file before any function of ours sees it
    and fails with a bare "Error" where that goes wrong; the classifier says in a sentence what is the matter.

    Args:
        picture: The component that it was uploaded to.
        payload: What the browser or a program sent: Gradio's ImageData, or None.

    Raises:
        gr.Error: No picture, or the path of another file on this machine. (Gradio checks only those paths
            that come with its own mark of a file.)
    """
    if payload is None or not payload.path:
        try:
            return gr.Image.preprocess(picture, payload)
        except (OSError, ValueError) as error:
            message = "The picture's data: address holds no picture; upload a JPEG, PNG, WebP or GIF file."
            raise gr.Error(message, print_exception=False) from error
    path = Path(payload.path).resolve()
    folders = [Path(folder).resolve() for folder in (picture.GRADIO_CACHE, EXAMPLES_FOLDER)]
    if not any(path.is_relative_to(folder) for folder in folders):
        message = "This picture was not uploaded; upload the file and send what the upload answers."
        raise gr.Error(message, print_exception=False)
    return str(path)


def launch_settings() -> dict[str, Any]:
    """What every start of the page has in common, whoever calls `launch`."""
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
        "max_file_size": "20mb",
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "show_error": True,
    }


def build_demo(classifier: ProductClassifier, bundle_name: str | None = None) -> gr.Blocks:
    """Build the page around a classifier.

    Args:
        classifier: Loaded; the page and the endpoint ask nothing else.
        bundle_name: To show; by default the name of the bundle's folder.

    Returns:
        The page; `launch()` serves it with the app's own settings.
    """
    threshold = accept_threshold(classifier.config)
    # Served as they are: a copy in Gradio's cache would be deleted after an hour.
    gr.set_static_paths([EXAMPLES_FOLDER])

    def predict(designation: str | None, description: str | None, image: str | None) -> Prediction:
        # A program may send null for a text that it does not have.
        product = Product(designation or "", description or "", image)
        # In a list, a picture that cannot be read is a note beside the text's answer, not an exception.
        return classifier.predict([product])[0]

    def classify(designation: str = "", description: str = "", image: str | None = None) -> dict[str, Any]:
        """Classify one product by its text, its picture, or both.

        Args:
            designation: The listing's title; "" if absent.
            description: The longer text, HTML allowed; "" if absent.
            image: A picture file; None if absent.

        Returns:
            prdtypecode, category (names by language), probability, decision ("accept" or "review"),
            threshold, image_weight, probabilities of all categories, best answers of text and image alone;
            where something is wrong, "error" says what.
        """
        return prediction_to_json(predict(designation, description, image), threshold)

    def show(designation: str, description: str, image: str | None) -> str:
        return answer_html(predict(designation, description, image), threshold)

    def show_example(number: int) -> tuple[str, str, str | None, str]:
        _, designation, description, file_name = EXAMPLES[number]
        image = str(EXAMPLES_FOLDER / file_name) if file_name else None
        return designation, description, image, show(designation, description, image)

    with gr.Blocks(title="Product classifier", analytics_enabled=False, delete_cache=(HOUR, HOUR)) as demo:
        gr.HTML(head_html(classifier.categories, bundle_name or classifier.folder.name, classifier.revision))
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                hint = "The listing's title, in any language"
                designation = gr.Textbox("", label="Designation", placeholder=hint, max_lines=1)
                hint = "The longer text, if there is one"
                description = gr.Textbox("", label="Description", placeholder=hint, lines=3, max_lines=8)
                image = gr.Image(
                    label="Picture",
                    type="filepath",
                    image_mode=None,
                    height=240,
                    sources=["upload", "clipboard", "webcam"],
                    buttons=["fullscreen"],
                    alt_text="The product's picture",
                )
                image.preprocess = functools.partial(uploaded_file, image)
                with gr.Row():
                    clear = gr.Button("Clear", variant="secondary", scale=1, min_width=100)
                    run = gr.Button("Classify", variant="primary", scale=3, min_width=160)
                gr.HTML('<p class="examples-title">Examples</p>')
                with gr.Row(elem_classes="examples"):
                    example_buttons = [
                        gr.Button(label, icon=EXAMPLES_FOLDER / file_name if file_name else None, size="sm")
                        for label, _, _, file_name in EXAMPLES
                    ]
            with gr.Column(scale=6, min_width=320):
                answer = gr.HTML(empty_html(), elem_id="answer")

        inputs = [designation, description, image]
        # The page's own handlers give HTML; programs get values from `/classify`.
        own = {"api_visibility": "private", "show_progress": "minimal", "concurrency_id": "classify"}
        answered = [gr.on([designation.submit, run.click], show, inputs, answer, **own)]
        for number, button in enumerate(example_buttons):
            handler = functools.partial(show_example, number)
            answered.append(button.click(handler, None, [*inputs, answer], **own))
        for event in answered:
            event.then(js=_SHOW_ANSWER, api_visibility="private")
        nothing = ("", "", None, empty_html())
        clear.click(lambda: nothing, None, [*inputs, answer], api_visibility="private", queue=False)
        values = gr.JSON(visible=False)
        gr.on([], classify, inputs, values, api_name="classify", concurrency_id="classify")
    demo.queue(default_concurrency_limit=CONCURRENCY, max_size=QUEUE_LENGTH)
    demo.launch = functools.partial(demo.launch, **launch_settings())
    return demo


def load_demo(source: str | None = None, revision: str | None = None) -> gr.Blocks:
    """Load a bundle, let it answer once, and build the page.

    Args:
        source: A folder or a hub id; None leaves the choice to the environment.
        revision: For a hub id.

    Raises:
        RakutenModelsError: The bundle cannot be loaded.
    """
    classifier, bundle_name = load_classifier(source, revision)
    # The first run of a model prepares its memory; no visitor should wait for that.
    classifier.predict([Product("warm-up", "", numpy.full((224, 224, 3), 255, numpy.uint8))])
    return build_demo(classifier, bundle_name)


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
    """
    options = _parser().parse_args(arguments)
    # Said before the seconds of loading, not after them.
    check_address(options.host, options.port)
    demo = load_demo(options.bundle, options.revision)
    # Gradio itself prints the public link, or why there is none.
    address = {"server_name": options.host, "server_port": options.port, "share": options.share}
    demo.launch(**address, quiet=True, prevent_thread_lock=True)
    print(f"Ready on http://{options.host}:{options.port}", flush=True)
    demo.block_thread()
    return 0


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
    # A hosting platform says through these variables where it expects the page.
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    parser.add_argument(
        "--host", default=host, help="where to listen; 0.0.0.0 for every network (default: %(default)s)"
    )
    parser.add_argument("--port", type=_port, default=port, help="default: %(default)s")
    parser.add_argument("--share", action="store_true", help="also make a public link that lasts a week")
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
