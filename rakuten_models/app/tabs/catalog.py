"""The Catalog tab: a CSV or Parquet file in, the scored file out, and a review of its doubtful rows."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from rakuten_models.app import catalog_job
from rakuten_models.app.catalog_job import ScoredCatalog
from rakuten_models.app.components import AppParts, chosen_threshold, read_script
from rakuten_models.app.handlers import data_of, failure_html, guarded, sentence_error, visitor_of
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.sessions import Finished, Session, SessionStore, in_background
from rakuten_models.app.tabs.review import ReviewPart
from rakuten_models.app.uploads import checked_upload, guard_upload
from rakuten_models.app.views.catalog import metrics_html, preview_html, progress_html, summary_html
from rakuten_models.app.views.elements import card_html, message_html, problem_html
from rakuten_models.app.views.metrics import confusion_detail_html, confusion_html
from rakuten_models.catalog.columns import Columns
from rakuten_models.errors import BatchCancelled, Message

_COLUMNS = ("designation", "description", "image", "label")


class CatalogTab:
    """The tab's components, and the functions behind them."""

    def __init__(self, parts: AppParts) -> None:
        """Place the components inside the tab that is open, and connect them."""
        self._parts = parts
        self._sessions = SessionStore(parts.disk)
        self._intro = gr.HTML(_intro_html("en"))
        with gr.Row(equal_height=False):
            self._source, self._pictures = (
                gr.File(label=mark(f"catalog_{name}"), type="filepath", height=130, elem_id=f"catalog-{name}")
                for name in ("file", "pictures")
            )
        guard_upload(self._source)
        guard_upload(self._pictures)
        with gr.Row(visible=False, elem_id="columns") as self._column_row:
            self._columns = [
                gr.Dropdown([(mark("no_column"), "")], value="", label=label, allow_custom_value=True, min_width=160)
                for label in map(mark, (f"column_{name}" for name in _COLUMNS))
            ]
        with gr.Row():
            self._cancel = gr.Button(mark("cancel"), variant="secondary", scale=1, min_width=100, interactive=False)
            self._run = gr.Button(mark("score"), variant="primary", scale=3, min_width=160)
        self._progress = gr.HTML("", elem_id="catalog-progress")
        with gr.Column(visible=False) as self._results:
            label: Any = mark("download_scored")
            self._download = gr.DownloadButton(label, elem_id="scored")
            self._summary, self._measures = gr.HTML(""), gr.HTML("")
            self._matrix = gr.HTML("", js_on_load=read_script("confusion"))
            self._detail, self._preview = gr.HTML(""), gr.HTML("")
            self._review = ReviewPart(parts, self._sessions)
        self._connect()
        self._publish()

    def forget_visitor(self, request: gr.Request) -> None:
        """The visitor has left: nothing of theirs is kept."""
        self._sessions.forget(visitor_of(request))

    def _connect(self) -> None:
        language = self._parts.language
        own: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        quick = {**own, "queue": False}
        language.change(_intro_html, language, self._intro, **quick)
        self._source.change(
            self._recognise,
            [self._source, language],
            [self._progress, self._results, self._column_row, *self._columns],
            **quick,
        )
        cards = [self._summary, self._measures, self._matrix, self._detail, self._preview]
        self._shown = [self._results, self._download, *cards, *self._review.components]
        # Said at once: another visitor's catalog may have to be done first.
        scored = self._run.click(self._begin, language, [self._progress, self._run], **quick).then(
            self._score,
            [self._source, self._pictures, *self._columns, language, self._parts.threshold],
            [self._progress, self._run, self._cancel, *self._shown],
            # One catalog at a time leaves a processor for those who classify single products.
            concurrency_id="catalog",
            concurrency_limit=1,
            **own,
        )
        scored.failure(
            lambda language: (
                problem_html(translate_error(Message("app.crowded"), Translator(language))),
                gr.update(interactive=True),
            ),
            language,
            [self._progress, self._run],
            **quick,
        )
        self._cancel.click(self._stop, None, None, **quick)
        language.change(self._again, language, cards, **quick)
        self._matrix.select(guarded(self._choose_cell), language, self._detail, **quick)

    def _recognise(self, source: str | None, language: str) -> tuple[Any, ...]:
        """What the columns are, as soon as a file is there; what an earlier one gave is put away."""
        words = Translator(language)
        hidden = gr.update(visible=False)
        none = [gr.update(choices=[(words("no_column"), "")], value="")] * len(self._columns)
        try:
            source = checked_upload(source)
            if source is None:
                return "", hidden, hidden, *none
            header, columns = catalog_job.recognise(Path(source))
        except Exception as error:
            return failure_html(error, "file_unreadable", words), hidden, hidden, *none
        choices = [(words("no_column"), ""), *((name, name) for name in header)]
        chosen = [
            gr.update(choices=choices, value=name or "") for name in (getattr(columns, name) for name in _COLUMNS)
        ]
        message = message_html(words("columns_ready", columns=len(header)))
        return message, hidden, gr.update(visible=True), *chosen

    def _begin(self, language: str) -> tuple[str, Any]:
        return progress_html(0, None, 0, None, Translator(language)), gr.update(interactive=False)

    def _score(
        self,
        source: str | None,
        pictures: str | None,
        designation: str,
        description: str,
        image: str,
        label: str,
        language: str,
        slider: float,
        request: gr.Request,
    ) -> Iterator[tuple[Any, ...]]:
        """Score the catalog, moving the progress bar, and show what came out."""
        words = Translator(language)
        nothing = [gr.skip()] * len(self._shown)
        idle = [gr.update(interactive=True), gr.update(interactive=False)]
        failed = "file_unreadable"
        folder = None
        try:
            source, pictures = checked_upload(source), checked_upload(pictures)
            if source is None:
                yield problem_html(translate_error(Message("app.no_catalog"), words)), *idle, *nothing
                return
            columns = _chosen_columns(Path(source), designation, description, image, label)
            if not columns.has_product:
                yield problem_html(words("give_column")), *idle, *nothing
                return
            failed = "catalog_failed"
            session = self._sessions.of(visitor_of(request))
            with self._sessions.job(session) as cancelled:
                if cancelled is None:
                    yield problem_html(words("too_busy")), *idle, *nothing
                    return
                bar = progress_html(0, None, 0, None, words)
                hidden = [gr.update(visible=False), *nothing[1:]]
                yield bar, gr.update(interactive=False), gr.update(interactive=True), *hidden
                folder = self._sessions.job_folder(session)
                work = functools.partial(
                    catalog_job.score,
                    self._parts.classifier,
                    Path(source),
                    folder,
                    disk=self._parts.disk,
                    pictures=Path(pictures) if pictures else None,
                    columns=columns,
                    threshold=chosen_threshold(slider, self._parts.own_threshold)[0],
                    cancelled=cancelled.is_set,
                )
                for step in in_background(work):
                    if isinstance(step, Finished):
                        yield "", *idle, *self._results_of(session, step.result, words)
                    elif step is not None:
                        bar = progress_html(step.done, step.total, step.rate, step.seconds_left, words)
                        yield bar, gr.skip(), gr.skip(), *nothing
        except BatchCancelled:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            yield message_html(words("cancelled")), *idle, *nothing
        except gr.Error:
            raise
        except Exception as error:
            yield failure_html(error, failed, words), *idle, *nothing

    def _results_of(self, session: Session, scored: ScoredCatalog, words: Translator) -> tuple[Any, ...]:
        session.scored = scored
        session.corrections = {}
        return (
            gr.update(visible=True),
            str(scored.output),
            *self._cards_html(session, scored, words),
            *self._review.of(session, scored, words),
        )

    def _cards_html(self, session: Session, scored: ScoredCatalog, words: Translator) -> tuple[str, ...]:
        """Summary, measures, confusion matrix, its detail and first rows."""
        categories = self._parts.classifier.categories
        measures = matrix = detail = ""
        if scored.unmeasured:
            measures = card_html(words("measured"), message_html(translate_error(scored.unmeasured, words)))
        if scored.measures is not None:
            measures = metrics_html(scored.measures, words)
            measured = scored.measured_categories(categories)
            matrix = confusion_html(scored.measures.confusion_matrix, measured, words)
            detail = self._cell_html(session, None, None, words)
        summary = summary_html(scored.summary, categories, scored.seconds, scored.rate, words)
        return summary, measures, matrix, detail, preview_html(scored.summary.first, categories, words)

    def _again(self, language: str, request: gr.Request) -> tuple[str, ...]:
        """The same results in the other language."""
        session = self._sessions.of(visitor_of(request))
        if session.scored is None:
            return ("",) * 5
        return self._cards_html(session, session.scored, Translator(language))

    def _stop(self, request: gr.Request) -> None:
        self._sessions.cancel(visitor_of(request))

    def _choose_cell(self, language: str, event: gr.EventData, request: gr.Request) -> str:
        data = data_of(event)
        session = self._sessions.of(visitor_of(request))
        return self._cell_html(session, data.get("truth"), data.get("answer"), Translator(language))

    def _cell_html(self, session: Session, truth: int | None, answer: int | None, words: Translator) -> str:
        if session.scored is None or session.scored.measures is None:
            return ""
        categories = session.scored.measured_categories(self._parts.classifier.categories)
        return confusion_detail_html(session.scored.measures.confusion_matrix, categories, truth, answer, words)

    def _publish(self) -> None:
        """The endpoint `/classify_batch`."""
        classifier = self._parts.classifier

        def classify_batch(
            catalog: str | None,
            pictures: str | None = None,
            designation: str = "",
            description: str = "",
            image: str = "",
        ) -> tuple[str, dict[str, Any]]:
            """Score a whole catalog: one product a row of a CSV or Parquet file.

            Args:
                catalog: The CSV or Parquet file.
                pictures: A ZIP of the pictures that the catalog names; None if there are none.
                designation: The designation's column; "" to recognise all three columns by their names.
                description: The description's column; "" if absent.
                image: The column of the pictures' file names; "" if absent.

            Returns:
                the scored file: the rows as they were, with category, name, probability and decision
                the counts of rows, scored, failed and to_review, with seconds
            """
            catalog, pictures = checked_upload(catalog), checked_upload(pictures)
            if catalog is None:
                raise sentence_error(Message("app.no_catalog"))
            _, columns = catalog_job.recognise(Path(catalog))
            if designation or description or image:
                columns = _chosen_columns(Path(catalog), designation, description, image, columns.label)
            scored = catalog_job.score(
                classifier,
                Path(catalog),
                self._sessions.passing_folder(),
                disk=self._parts.disk,
                pictures=Path(pictures) if pictures else None,
                columns=columns,
                threshold=self._parts.own_threshold,
            )
            return str(scored.output), scored.counts()

        names = [gr.Textbox("", label=name, visible=False) for name in ("designation", "description", "image")]
        gr.on(
            [],
            guarded(classify_batch),
            [self._source, self._pictures, *names],
            [gr.File(visible=False), gr.JSON(visible=False)],
            api_name="classify_batch",
            concurrency_id="catalog",
        )


def _intro_html(language: str) -> str:
    return f'<p class="intro">{Translator(language)("catalog_intro")}</p>'


def _chosen_columns(
    source: Path, designation: str | None, description: str | None, image: str | None, label: str | None
) -> Columns:
    """The columns that somebody chose, "" or None for none; the challenge's own numbers stay recognised.

    Raises:
        RakutenModelsError: The file cannot be read as a catalog.
    """
    return dataclasses.replace(
        catalog_job.recognise(source)[1],
        designation=designation or None,
        description=description or None,
        image=image or None,
        label=label or None,
    )
