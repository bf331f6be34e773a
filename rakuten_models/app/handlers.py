"""Wraps the functions behind the page's events: errors become sentences, nothing of a visitor is logged."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from rakuten_models.app.i18n.errors import translate_error
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.views.elements import problem_html
from rakuten_models.errors import Message, RakutenModelsError

_logger = logging.getLogger(__name__)


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors become the sentence of a gr.Error without a title, never a bare "Error".

    Raises:
        gr.Error: With one sentence.
    """

    @functools.wraps(handler)
    def guard(*inputs: Any, **named: Any) -> Any:
        try:
            return handler(*inputs, **named)
        except gr.Error:
            raise
        except RakutenModelsError as error:
            raise sentence_error(error.message) from error
        except Exception as error:
            _logger.exception("%s failed", handler.__name__)
            raise sentence_error(Message("app.unexpected")) from error

    return guard


def guarded_html(handler: Callable[..., str]) -> Callable[..., str]:
    """A handler that takes a `language` and gives HTML; what goes wrong becomes a sentence instead."""
    signature = inspect.signature(handler)

    @functools.wraps(handler)
    def guard(*inputs: Any, **named: Any) -> str:
        try:
            html: str = guarded(handler)(*inputs, **named)
            return html
        except gr.Error as error:
            language = signature.bind(*inputs, **named).arguments["language"]
            return problem_html(translate_error(error.message, Translator(language)))

    return guard


def failure_html(error: Exception, key: str, words: Translator) -> str:
    """Why a file could not be used, after the label under a key; what is unexpected goes to the log."""
    if isinstance(error, RakutenModelsError):
        return problem_html(words(key, sentence=translate_error(error.message, words)))
    _logger.error("A catalog could not be used", exc_info=error)
    return problem_html(translate_error(Message("app.unexpected"), words))


def sentence_error(message: Message) -> gr.Error:
    """An error that the page and a program show as this sentence."""
    return gr.Error(message, print_exception=False, title="")


def data_of(event: gr.EventData) -> dict[str, Any]:
    """What a script of the page sent along; {} if that is no object."""
    return event._data if isinstance(event._data, dict) else {}


def visitor_of(request: gr.Request) -> str:
    """What tells one open page from another; hard to guess.

    Raises:
        gr.Error: The request belongs to no page; all such requests together must not be one visitor.
    """
    if not request.session_hash:
        raise sentence_error(Message("app.no_session"))
    return str(request.session_hash)
