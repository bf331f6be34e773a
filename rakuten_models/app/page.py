"""Builds the page around a classifier: the head, the tabs, the language switch."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any, cast

import gradio as gr

from rakuten_models.app.components import THRESHOLD_STEP, AppParts, read_script, slider_start
from rakuten_models.app.examples import EXAMPLES_FOLDER
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.launch_settings import launch_settings
from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.app.security.gradio_patches import own_upload_folder, patch_gradio, patch_page
from rakuten_models.app.tabs.catalog import CatalogTab
from rakuten_models.app.tabs.classify import ClassifyTab
from rakuten_models.app.tabs.compare import CompareTab
from rakuten_models.app.tabs.model import ModelTab
from rakuten_models.app.views.prediction import head_html
from rakuten_models.classifier import ProductClassifier

# Two processors answer two visitors at a time; the others wait their turn, and a crowd is told to come back.
CONCURRENCY = 2

QUEUE_LENGTH = 64

# How often those who wait are told how many are before them: telling all at each change costs the number's square.
STATUS_SECONDS = 5


def build_demo(
    classifier: ProductClassifier, bundle_name: str | None = None, other: tuple[ProductClassifier, str] | None = None
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
    patch_gradio()
    uploads = own_upload_folder()
    # Served as they are: a copy among the uploads would be deleted after an hour.
    gr.set_static_paths([EXAMPLES_FOLDER])

    def head(language: str) -> str:
        return head_html(classifier.categories, name, classifier.revision, Translator(language))

    # Gradio's own variable, but off unless it says so.
    analytics = os.environ.get("GRADIO_ANALYTICS_ENABLED", "False") == "True"
    with gr.Blocks(title=Translator()("title"), analytics_enabled=analytics) as demo:
        with gr.Row(elem_classes="top"):
            top = gr.HTML(head("en"))
            choices = [("English", "en"), ("Français", "fr")]
            language = gr.Radio(choices, value="en", label=mark("language"), elem_id="language", min_width=170, scale=0)
        start, label = slider_start(classifier.threshold), mark("threshold")
        threshold = gr.Slider(0, 1, start, step=THRESHOLD_STEP, label=label, elem_id="threshold", render=False)
        disk = DiskQuota(kept_files=functools.partial(_own_files, demo))
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
        private: dict[str, Any] = {"api_visibility": "private"}
        language.change(js=read_script("next_language"), inputs=language, **private)
        language.change(head, language, top, queue=False, show_progress="hidden", **private)
        demo.load(js=read_script("first_language"), outputs=language, **private)
        demo.unload(catalog.forget_visitor)
    # What is queued for the page is queued for programs, too.
    demo.queue(
        status_update_rate=STATUS_SECONDS, default_concurrency_limit=CONCURRENCY, max_size=QUEUE_LENGTH, api_open=False
    )
    patch_page(demo)
    demo.launch = functools.partial(demo.launch, **launch_settings(disk))
    return cast(gr.Blocks, demo)


def _own_files(demo: gr.Blocks) -> Iterator[str]:
    """The files among the uploads that are the page's own."""
    for component in demo.blocks.values():
        yield from getattr(component, "keep_in_cache", ())
