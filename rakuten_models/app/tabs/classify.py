"""The Classify tab: one product in, its answer and what spoke for it out; and the endpoints for programs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from rakuten_models.app.components import AppParts, chosen_threshold, read_script
from rakuten_models.app.examples import EXAMPLES, EXAMPLES_FOLDER, TEXT_PICTURE
from rakuten_models.app.handlers import data_of, guarded, guarded_html
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.uploads import UploadError, anything_given, checked_picture, guard_upload
from rakuten_models.app.views.elements import as_html, problem_html
from rakuten_models.app.views.explanation import explanation_to_json, why_html
from rakuten_models.app.views.prediction import answer_html, empty_html
from rakuten_models.errors import Message, RakutenModelsError
from rakuten_models.formatting import prediction_to_json
from rakuten_models.inference.explanation import Analysis
from rakuten_models.product import Product

# Brings the answer into view on a phone, where it lies below the inputs.
_SHOW = """() => {
    const part = document.getElementById("%s");
    if (window.innerWidth < 768 && part) part.scrollIntoView({behavior: "smooth", block: "start"});
}"""

# Products whose analysis is at hand for another category, language or the explanation that follows the answer.
_MAX_ANALYSES = 4

# Designation, description and picture, as the form gives them.
_Given = tuple[str, str, "str | UploadError | None"]


class ClassifyTab:
    """The tab's components, and the functions behind them.

    Attributes:
        inputs: Designation, description and picture; the Compare tab reads them, too.
    """

    def __init__(self, parts: AppParts, page_load: Callable[..., Any]) -> None:
        """Make the components inside the tab that is open, and connect them; `page_load` is the page's event."""
        self._parts = parts
        self._analyze = functools.lru_cache(_MAX_ANALYSES)(self._run_models)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                self._build_inputs()
            with gr.Column(scale=6, min_width=320):
                script = read_script("answer") + read_script("any_file")
                self._answer = gr.HTML(empty_html(), elem_id="answer", js_on_load=script)
                self._why = gr.HTML("", elem_id="why", js_on_load=read_script("answer"))
        # What `_choose` noted; None before.
        self._chosen = gr.State(None)
        self._connect(page_load)
        self._publish()

    def _build_inputs(self) -> None:
        label, hint = mark("designation"), mark("designation_hint")
        designation = gr.Textbox("", label=label, placeholder=hint, max_lines=1, max_length=2000, elem_id="designation")
        label, hint = mark("description"), mark("description_hint")
        description = gr.Textbox("", label=label, placeholder=hint, lines=3, max_lines=8, max_length=50_000)
        image = gr.Image(
            label=mark("picture"),
            type="filepath",
            image_mode=None,
            height=240,
            sources=["upload", "clipboard", "webcam"],
            buttons=["fullscreen"],
            alt_text=mark("picture_alt"),  # type: ignore[arg-type]  # translated here, too
            elem_id="picture",
        )
        guard_upload(image)
        self._designation = designation
        self.inputs: list[gr.Textbox | gr.Image] = [designation, description, image]
        with gr.Row():
            self._clear = gr.Button(mark("clear"), variant="secondary", scale=1, min_width=100)
            self._run = gr.Button(mark("classify"), variant="primary", scale=3, min_width=160)
        self._examples_title = gr.HTML(_examples_html("en"))
        with gr.Row(elem_classes="examples"):
            self._examples = [
                gr.Button(mark(key), icon=EXAMPLES_FOLDER / (file_name or TEXT_PICTURE), size="sm")
                for key, _, _, file_name in EXAMPLES
            ]

    def _connect(self, page_load: Callable[..., Any]) -> None:
        parts = self._parts
        # The page's own handlers give HTML; programs get values from the named endpoints.
        private: dict[str, Any] = {"api_visibility": "private"}
        own = {**private, "concurrency_id": "classify"}
        # The language of the invitation, where the form was empty when it was last looked at.
        invited = gr.State("en")
        seen = [*self.inputs, parts.language, parts.threshold, self._chosen, invited]
        shown = [self._answer, self._why]
        # One event for all that changes the answer, of which the last always counts: of several events, an early
        # one's answer could come after a late one's. The page's own start is among them, for what is typed before
        # goes unheard. Not `input`, which Gradio 6.31 gives for keys that write, but not for a paste or a deletion.
        changed_inputs = (*self.inputs, parts.language, parts.threshold)
        changes = (*(each.change for each in changed_inputs), page_load)
        changed = gr.on(
            changes, self._show, seen, [*shown, invited], trigger_mode="always_last", show_progress="hidden", **own
        )
        asked = gr.on(
            [self._designation.submit, self._run.click],
            functools.partial(self._show, asked=True),
            seen,
            [*shown, invited],
            show_progress="minimal",
            **own,
        )
        for event in (changed, asked):
            # The queue is full.
            event.failure(
                lambda language: (problem_html(translate_error(Message("app.crowded"), Translator(language))), ""),
                parts.language,
                shown,
                queue=False,
                **private,
            )
        # Filling the inputs changes them, which is answered.
        filled = [
            button.click(functools.partial(self._example, number), None, self.inputs, queue=False, **private)
            for number, button in enumerate(self._examples)
        ]
        for event in [*filled, asked]:
            event.then(js=_SHOW % "answer", **private)
        gr.on(
            [self._answer.select, self._why.select],
            self._choose,
            [*self.inputs, parts.language, parts.threshold],
            [self._chosen, self._why],
            show_progress="hidden",
            **own,
        ).then(js=_SHOW % "why", **private)
        parts.language.change(
            _examples_html, parts.language, self._examples_title, queue=False, show_progress="hidden", **private
        )
        self._clear.click(
            lambda language: ("", "", None, empty_html(Translator(language)), ""),
            parts.language,
            [*self.inputs, *shown],
            queue=False,
            **private,
        )

    def _run_models(self, designation: str, description: str, image: str | None, threshold: float | None) -> Analysis:
        """One pass of the models; a picture is named by its path, which holds its SHA-256."""
        return self._parts.classifier.analyze(Product(designation, description, image), threshold=threshold)

    def _show(
        self,
        designation: str,
        description: str,
        image: str | UploadError | None,
        language: str,
        slider: float,
        chosen: tuple[_Given, int | None] | None,
        invited: str | None,
        asked: bool = False,
    ) -> Iterator[tuple[Any, Any, Any]]:
        """The answer as soon as it is there, then why.

        `chosen` is from `_choose`; `invited` is the language of the invitation if the form was empty before; if it is
        empty now, a sentence says so where the answer was asked for, and an invitation stands there otherwise.
        """
        product = designation, description, image
        if not asked and not anything_given(*product):
            # The page's start must not put the invitation over the answer to an early click.
            nothing_new = gr.skip(), gr.skip(), gr.skip()
            yield nothing_new if invited == language else (empty_html(Translator(language)), "", language)
            return
        given = None if anything_given(*product) else gr.skip()
        yield guarded_html(self._answer_html)(product, language, slider), gr.skip(), given
        # A category is chosen for one product; the next one's own answer is explained.
        code = chosen[1] if chosen and chosen[0] == product else None
        yield gr.skip(), guarded_html(self._why_html)(product, language, slider, code), gr.skip()

    def _analysis(self, product: _Given, slider: float) -> tuple[Analysis, float | None, bool]:
        """The pass of the models, the threshold that holds, and whether the visitor set it."""
        designation, description, image = product
        threshold, own = chosen_threshold(slider, self._parts.own_threshold)
        return self._analyze(designation, description, checked_picture(image), threshold), threshold, own

    def _answer_html(self, product: _Given, language: str, slider: float) -> str:
        analysis, threshold, own = self._analysis(product, slider)
        return answer_html(analysis.prediction, threshold, Translator(language), own_threshold=own)

    def _why_html(self, product: _Given, language: str, slider: float, code: int | None) -> str:
        if not anything_given(*product):
            return ""
        try:
            return why_html(self._analysis(product, slider)[0].explain(code), Translator(language))
        except RakutenModelsError:
            # The answer above already says what is wrong with this product.
            return ""

    def _example(self, number: int) -> tuple[str, str, str | None]:
        _, designation, description, file_name = EXAMPLES[number]
        return designation, description, str(EXAMPLES_FOLDER / file_name) if file_name else None

    def _choose(
        self,
        designation: str,
        description: str,
        image: str | UploadError | None,
        language: str,
        slider: float,
        event: gr.EventData,
    ) -> tuple[tuple[_Given, int | None], str]:
        """Note which category was chosen in the list for which product, and explain that one."""
        product = designation, description, image
        code = data_of(event).get("code")
        return (product, code), guarded_html(self._why_html)(product, language, slider, code)

    def _publish(self) -> None:
        """The endpoints `/classify` and `/explain`."""
        parts = self._parts

        def classify(designation: str = "", description: str = "", image: str | None = None) -> dict[str, Any]:
            """Classify one product by its text, its picture, or both.

            Args:
                designation: The listing's title; "" if absent.
                description: The longer text, HTML allowed; "" if absent.
                image: A picture file; None if absent.

            Returns:
                prdtypecode and category (names by language)
                probability, decision ("accept" or "review") and threshold
                probabilities of all categories, the best first
                the best answers of text and image alone, and image_weight, the picture's share in the answer
                error, a sentence that says what is wrong, else null
            """
            image = checked_picture(image)
            # A program may send null for a text that it does not have.
            product = Product(designation or "", description or "", image)
            # In a list, a picture that cannot be read is a note beside the text's answer, not an exception.
            return prediction_to_json(parts.classifier.predict([product])[0], parts.own_threshold)

        def explain(
            designation: str = "", description: str = "", image: str | None = None, prdtypecode: int | None = None
        ) -> dict[str, Any]:
            """Explain one product's answer: the words and the parts of the picture that speak for a category.

            Args:
                designation: The listing's title; "" if absent.
                description: The longer text, HTML allowed; "" if absent.
                image: A picture file; None if absent.
                prdtypecode: The category to explain; None for the one that the models choose.

            Returns:
                prdtypecode, category (names by language) and probability of what was explained
                texts, cleaned as the model reads them, and their words with position and contribution
                text_score, to which base and all words add up
                heat_map (rows of numbers) of the picture, whose mean is image_score
                score of the model that answered, with text_part and image_part; null where text or picture is absent
            """
            image = checked_picture(image)
            product = Product(designation or "", description or "", image)
            return explanation_to_json(parts.classifier.explain(product, prdtypecode))

        values = gr.JSON(visible=False)
        code = gr.Number(None, label="prdtypecode", precision=0, visible=False)
        # As it comes: the explanation says better than Gradio what is no code.
        code.preprocess = lambda payload: payload  # type: ignore[method-assign]  # this one component's only
        gr.on([], guarded(classify), self.inputs, values, api_name="classify", concurrency_id="classify")
        gr.on([], guarded(explain), [*self.inputs, code], values, api_name="explain", concurrency_id="classify")


def _examples_html(language: str) -> str:
    return f'<h2 class="examples-title">{as_html(Translator(language)("examples"))}</h2>'
