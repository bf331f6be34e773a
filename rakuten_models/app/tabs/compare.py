"""The Compare tab: two bundles, or two revisions of one, on the product of the Classify tab."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from gradio.components import Component

from rakuten_models.app.components import AppParts, chosen_threshold
from rakuten_models.app.handlers import guarded_html
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.uploads import anything_given, checked_picture
from rakuten_models.app.views.elements import as_html
from rakuten_models.app.views.prediction import answer_html
from rakuten_models.classifier import ProductClassifier
from rakuten_models.product import Product


class CompareTab:
    """The tab with the answers of the app's bundle and of another; the product is that of the Classify tab."""

    def __init__(
        self, parts: AppParts, other: ProductClassifier, other_name: str, product_inputs: Sequence[Component]
    ) -> None:
        """Build the tab and answer each time that it is opened."""
        self._own_threshold = parts.own_threshold
        self._bundles = ((parts.classifier, parts.bundle_name), (other, other_name))
        with gr.Tab(mark("tab_compare"), id="compare") as tab:
            shown = gr.HTML("", elem_id="compare")
        gr.on(
            [tab.select, parts.language.change],
            guarded_html(self._compare),
            [*product_inputs, parts.language, parts.threshold],
            shown,
            api_visibility="private",
            concurrency_id="classify",
            show_progress="hidden",
        )

    def _compare(self, designation: str, description: str, image: str | None, language: str, slider: float) -> str:
        words = Translator(language)
        if not anything_given(designation, description, image):
            return f'<div class="answer empty"><p>{as_html(words("compare_empty"))}</p></div>'
        image = checked_picture(image)
        product = Product(designation, description, image)
        visitors, moved = chosen_threshold(slider, self._own_threshold)
        columns, codes = [], []
        for classifier, name in self._bundles:
            threshold = visitors if moved else classifier.threshold
            prediction = classifier.predict([product], threshold=threshold)[0]
            codes.append(prediction.category and prediction.category.prdtypecode)
            revision = f" <code>{as_html(classifier.revision[:7])}</code>" if classifier.revision else ""
            answer = answer_html(prediction, threshold, words, own_threshold=moved, chooses=False)
            columns.append(f'<div><h2 class="bundle-title">{as_html(name)}{revision}</h2>{answer}</div>')
        verdict = words("compare_same" if codes[0] == codes[1] else "compare_differ")
        return (
            f'<p class="intro">{as_html(words("compare_intro"))} <b>{as_html(verdict)}</b></p>'
            f'<div class="compare">{"".join(columns)}</div>'
        )
