"""The review of a scored catalog's doubtful rows: a page of them, a category picked for each, and the labels file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from rakuten_models.app.catalog_job import ScoredCatalog, write_labels
from rakuten_models.app.catalog_summary import CatalogSummary
from rakuten_models.app.components import AppParts, read_script
from rakuten_models.app.handlers import data_of, guarded, visitor_of
from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator, mark
from rakuten_models.app.sessions import Session, SessionStore
from rakuten_models.app.views.elements import as_html, card_html, hint_html, message_html
from rakuten_models.product import Category

REVIEW_PAGE = 10


class ReviewPart:
    """The review's components, and the functions behind them.

    Attributes:
        components: What `of` gives values for.
    """

    def __init__(self, parts: AppParts, sessions: SessionStore) -> None:
        """Make and connect the components; the sessions hold what was scored, and the corrections."""
        self._categories = parts.classifier.categories
        self._sessions = sessions
        self._rows = gr.HTML("", js_on_load=read_script("review"), elem_id="review")
        self._count = gr.HTML("", elem_id="review-count")
        with gr.Row(visible=False) as self._buttons:
            previous = gr.Button(mark("previous"), size="md", min_width=100)
            following = gr.Button(mark("next"), size="md", min_width=100)
            label: Any = mark("download_corrections")
            self._labels = gr.DownloadButton(label, size="md", elem_id="corrections", min_width=220, interactive=False)
        self._page = gr.Number(0, precision=0, visible=False)
        self.components = [self._rows, self._count, self._buttons, self._labels, self._page]

        language = parts.language
        quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        inputs, turned = [self._page, language], [self._page, self._rows]
        previous.click(guarded(self._previous_page), inputs, turned, **quick)
        following.click(guarded(self._next_page), inputs, turned, **quick)
        # Any other trigger_mode drops a pick that is made before the one before it is answered.
        self._rows.select(
            guarded(self._correct), language, [self._labels, self._count], trigger_mode="multiple", **quick
        )
        language.change(guarded(self._again), [self._page, language], [self._page, self._rows, self._count], **quick)

    def of(self, session: Session, scored: ScoredCatalog, words: Translator) -> tuple[Any, ...]:
        """The components' values for a catalog that has just been scored."""
        summary = scored.summary
        return (
            review_html(summary, 0, session.corrections, self._categories, words),
            "",
            gr.update(visible=len(summary.doubtful) > 0),
            gr.update(value=None, interactive=False),
            0,
        )

    def _again(self, page: int | None, language: str, request: gr.Request) -> tuple[int, str, str]:
        """The same in the other language."""
        session = self._sessions.of(visitor_of(request))
        return *self._turned(int(page or 0), language, session), review_count_html(
            session.corrections, Translator(language)
        )

    def _previous_page(self, page: int | None, language: str, request: gr.Request) -> tuple[int, str]:
        return self._turned(int(page or 0) - 1, language, self._sessions.of(visitor_of(request)))

    def _next_page(self, page: int | None, language: str, request: gr.Request) -> tuple[int, str]:
        return self._turned(int(page or 0) + 1, language, self._sessions.of(visitor_of(request)))

    def _turned(self, page: int, language: str, session: Session) -> tuple[int, str]:
        """A page of the review, the nearest one if there is no such page."""
        if session.scored is None:
            return 0, ""
        summary = session.scored.summary
        page = min(max(page, 0), max(0, (len(summary.doubtful) - 1) // REVIEW_PAGE))
        return page, review_html(summary, page, session.corrections, self._categories, Translator(language))

    def _correct(self, language: str, event: gr.EventData, request: gr.Request) -> tuple[Any, Any]:
        """Note a picked category and renew the file of corrections."""
        data = data_of(event)
        session = self._sessions.of(visitor_of(request))
        number, code = data.get("row"), data.get("code")
        codes = {category.prdtypecode for category in self._categories}
        rows = session.scored.summary.doubtful if session.scored is not None else []
        if not isinstance(number, int) or number not in {row.number for row in rows}:
            return gr.skip(), gr.skip()
        if code is not None and code not in codes:
            return gr.skip(), gr.skip()
        with session.correcting:
            if code is None:
                session.corrections.pop(number, None)
            else:
                session.corrections[number] = code
            # Swept away where nothing was picked for long.
            session.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            labels = write_labels(session.folder, rows, session.corrections)
            count = review_count_html(session.corrections, Translator(language))
        return gr.update(value=None if labels is None else str(labels), interactive=labels is not None), count


def review_html(
    summary: CatalogSummary,
    page: int,
    corrections: Mapping[int, int],
    categories: Sequence[Category],
    words: Translator,
) -> str:
    """One page (from 0) of the doubtful rows, each with a list to pick the right category from.

    `corrections` holds the prdtypecode that was picked, by row number.
    """
    rows = summary.doubtful
    if not rows:
        return card_html(words("review_title"), f"<p>{as_html(words('review_none'))}</p>")
    first = page * REVIEW_PAGE
    shown = rows[first : first + REVIEW_PAGE]
    names = {category.prdtypecode: category.name(words.language) for category in categories}
    others = sorted(names, key=lambda code: names[code].casefold())
    items = []
    for row in shown:
        picked = corrections.get(row.number)
        # The most probable ones first.
        codes = dict.fromkeys([*(code for code, _ in row.top), *others])
        options = f'<option value="">{as_html(words("review_choose"))}</option>' + "".join(
            f'<option value="{code}"{" selected" if code == picked else ""}>{as_html(names.get(code, code))} '
            f"({code})</option>"
            for code in codes
        )
        guesses = "".join(
            f"<li>{as_html(names.get(code, code))} <b>{as_html(words.percent(probability))}</b></li>"
            for code, probability in row.top
        )
        problem = hint_html(translate_error(row.problem, words)) if row.problem else ""
        label = as_html(words("review_pick", row=row.number))
        items.append(
            f'<li class="review-row{" done" if picked is not None else ""}"><div><p class="hint">'
            f"{as_html(words('row'))} {words.number(row.number)}</p>"
            f'<p class="review-text">{as_html(row.text)}</p>{problem}</div>'
            f'<ol class="guesses">{guesses}</ol>'
            f'<select aria-label="{label}" data-row="{row.number}">{options}</select></li>'
        )
    range_shown = words("review_page", first=first + 1, last=first + len(shown), count=len(rows))
    if summary.to_review > len(rows):
        range_shown += ". " + words("review_rest", count=summary.to_review - len(rows))
    return card_html(
        words("review_title"),
        f'<p>{as_html(words("review_intro"))}</p>{hint_html(range_shown)}<ol class="review-rows">{"".join(items)}</ol>',
    )


def review_count_html(corrections: Mapping[int, int], words: Translator) -> str:
    """How many rows have been reviewed; "" for none."""
    if not corrections:
        return ""
    return message_html(words("review_count", count=len(corrections)))
