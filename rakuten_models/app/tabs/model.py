"""The Model tab: what is loaded, its figures as plots, and the threshold that a visitor may move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from rakuten_models.app.components import AppParts, chosen_threshold, read_script, slider_start
from rakuten_models.app.handlers import data_of, guarded, guarded_html
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.views.metrics import (
    SECTIONS,
    category_f1_html,
    confusion_detail_html,
    confusion_html,
    loaded_html,
    precision_html,
    read_figures,
    reliability_html,
    section_of,
)


class ModelTab:
    """The tab's components, and the functions behind them."""

    def __init__(self, parts: AppParts) -> None:
        """Place the components inside the tab that is open, and connect them."""
        self._parts = parts
        self._figures = read_figures(parts.classifier.folder)
        present = [name for name in SECTIONS if section_of(self._figures, name).get("rows")]
        start = present[0] if present else SECTIONS[0]
        plots = self._plots(start, "en")
        threshold = slider_start(parts.own_threshold)

        loaded = gr.HTML(self._loaded("en"))
        section = gr.Radio(
            [(mark(name), name) for name in present or [start]],
            value=start,
            label=mark("figures_of"),
            visible=len(present) > 1,
            elem_classes="section-choice",
        )
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                precision = gr.HTML(self._precision(start, threshold, "en"))
                parts.threshold.render()  # type: ignore[no-untyped-call]  # Gradio's own lacks its types
            with gr.Column(min_width=320):
                reliability = gr.HTML(plots[0])
        matrix = gr.HTML(plots[1], js_on_load=read_script("confusion"), elem_id="confusion")
        detail = gr.HTML(plots[2], elem_id="confusion-detail")
        f1 = gr.HTML(plots[3])

        own: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        chosen = [section, parts.language]
        parts.language.change(self._loaded, parts.language, loaded, **own)
        gr.on(
            [section.change, parts.language.change],
            guarded(self._plots),
            chosen,
            [reliability, matrix, detail, f1],
            **own,
        )
        gr.on(
            [section.change, parts.language.change, parts.threshold.change],
            guarded_html(self._precision),
            [section, parts.threshold, parts.language],
            precision,
            trigger_mode="always_last",
            **own,
        )
        matrix.select(guarded(self._choose_cell), chosen, detail, **own)

    def _section(self, name: str) -> Mapping[str, Any]:
        return section_of(self._figures, name)

    def _loaded(self, language: str) -> str:
        classifier, name = self._parts.classifier, self._parts.bundle_name
        return loaded_html(classifier.config, name, classifier.revision, self._figures, Translator(language))

    def _precision(self, name: str, slider: float, language: str) -> str:
        threshold, own = chosen_threshold(slider, self._parts.own_threshold)
        return precision_html(self._section(name), 1.0 if threshold is None else threshold, own, Translator(language))

    def _detail(self, name: str, language: str, truth: int | None = None, answer: int | None = None) -> str:
        matrix = self._section(name).get("confusion_matrix")
        categories = self._parts.classifier.categories
        return confusion_detail_html(matrix, categories, truth, answer, Translator(language))

    def _plots(self, name: str, language: str) -> tuple[str, str, str, str]:
        words, section, categories = (Translator(language), self._section(name), self._parts.classifier.categories)
        return (
            reliability_html(section, words),
            confusion_html(section.get("confusion_matrix"), categories, words),
            self._detail(name, language),
            category_f1_html(section, categories, words),
        )

    def _choose_cell(self, name: str, language: str, event: gr.EventData) -> str:
        data = data_of(event)
        return self._detail(name, language, data.get("truth"), data.get("answer"))
