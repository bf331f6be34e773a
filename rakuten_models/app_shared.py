"""What the app's tabs share: their parts, words that Gradio translates, thresholds, and guarded handlers.

A handler must never end in "Error" or a traceback in the page: `guarded` turns what goes wrong into a
sentence, and `guard_upload` refuses paths that were not uploaded.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import GradioModel, GradioRootModel, ListFiles
from gradio.i18n import I18nData
from pydantic import ValidationError

from rakuten_models.app_disk import VisitorsDisk
from rakuten_models.app_sentences import UNEXPECTED, said
from rakuten_models.app_words import Words
from rakuten_models.classifier import ProductClassifier
from rakuten_models.classify import accept_threshold
from rakuten_models.page import EXAMPLES_FOLDER, problem_html
from rakuten_models.product import ACCEPT, REVIEW, Prediction, RakutenModelsError

MEGABYTE = 1024 * 1024
LARGEST_PICTURE = 20 * MEGABYTE
LARGEST_UPLOAD = 200 * MEGABYTE

NO_FILE = "This message holds no file; upload the file and send what the upload answers."
NO_VISIT = "This message names no visit (session_hash); use the page, or the endpoint /classify_batch."
NO_ROOM = "The app holds as many files as it may; try again in an hour, or send smaller ones."
NO_DATA_PICTURE = "The picture's data: address holds no picture; upload a JPEG, PNG, WebP or GIF file."

# Moves of the slider; a position within half a step of the bundle's own threshold means that threshold.
THRESHOLD_STEP = 0.001

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AppParts:
    """What every tab is built around.

    Attributes:
        classifier: Answers.
        bundle_name: A hub id or a folder's name, to show.
        language: The switch between "en" and "fr"; an input of every handler that writes HTML.
        threshold: The slider that moves the threshold for this visit, placed on the Model tab.
        disk: Knows how much room is left for visitors' files.
    """

    classifier: ProductClassifier
    bundle_name: str
    language: gr.Radio
    threshold: gr.Slider
    disk: VisitorsDisk

    @property
    def own_threshold(self) -> float | None:
        """The bundle's, 0 to 1; None if it accepts nothing."""
        return accept_threshold(self.classifier.config)


def slider_start(own_threshold: float | None) -> float:
    """Where the slider stands at first: the bundle's threshold in whole steps; 1 if it accepts nothing."""
    return 1.0 if own_threshold is None else round(own_threshold, 3)


def chosen_threshold(slider: float | None, own_threshold: float | None) -> tuple[float | None, bool]:
    """The threshold that holds for a visitor.

    Args:
        slider: Where the visitor's slider stands, 0 to 1.
        own_threshold: The bundle's.

    Returns:
        The threshold, and whether it is another than the bundle's own.
    """
    if slider is None or abs(slider - slider_start(own_threshold)) < THRESHOLD_STEP / 2:
        return own_threshold, False
    return float(slider), True


def decide(prediction: Prediction, threshold: float | None) -> Prediction:
    """The same prediction with the decision that another threshold makes."""
    if prediction.probability is None:
        return prediction
    accepted = threshold is not None and prediction.probability >= threshold
    return dataclasses.replace(prediction, decision=ACCEPT if accepted else REVIEW)


def mark(key: str) -> I18nData:
    """Words of a component, translated by Gradio in the browser; the key is one of app_words."""
    return _I18N(f"app.{key}")


_I18N = gr.I18n()


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
            raise sentence_error(str(error)) from error
        except Exception as error:
            _logger.exception("%s failed", handler.__name__)
            raise sentence_error(UNEXPECTED) from error

    return guard


def guarded_html(handler: Callable[..., str]) -> Callable[..., str]:
    """A handler that takes a `language` and gives HTML; what goes wrong becomes a sentence in that HTML's place."""
    signature = inspect.signature(handler)

    @functools.wraps(handler)
    def guard(*inputs: Any, **named: Any) -> str:
        try:
            html: str = guarded(handler)(*inputs, **named)
            return html
        except gr.Error as error:
            language = signature.bind(*inputs, **named).arguments["language"]
            return problem_html(said(str(error.message), Words(language)))

    return guard


def sentence_error(sentence: str) -> gr.Error:
    """An error that the page and a program show as this sentence."""
    return gr.Error(sentence, print_exception=False, title="")


class UploadError(RakutenModelsError):
    """What came in a file's place is no file that was uploaded here, or is too large."""


def visitor_of(request: gr.Request) -> str:
    """What tells one open page from another; hard to guess.

    Raises:
        gr.Error: The request belongs to no page; all such requests together must not be one visitor.
    """
    if not request.session_hash:
        raise sentence_error(NO_VISIT)
    return str(request.session_hash)


def guard_upload(component: gr.Image | gr.File) -> None:
    """Take over what a component makes of a message: the path of an uploaded file, readable or not.

    gr.Image's own opens the file before any function of ours sees it and fails with a bare "Error" where
    that goes wrong; and Gradio checks only those paths that come with its own mark of a file. A handler
    passes what it gets through `checked_upload` or `checked_picture`.
    """
    own: Callable[[Any], Any] = component.preprocess
    uploaded = functools.partial(_uploaded_file, component, own)
    component.preprocess = uploaded  # type: ignore[method-assign, assignment]  # this one component's only
    if component.data_model is not None:
        component.data_model = _said_of(component.data_model)


def checked_upload(file: str | UploadError | None) -> str | None:
    """The path of an uploaded file, None for nothing.

    Raises:
        UploadError: It was not uploaded, or is not here any longer.
    """
    if isinstance(file, UploadError):
        raise file
    return file


def checked_picture(image: str | UploadError | None) -> str | None:
    """The path of an uploaded picture, None for nothing.

    Raises:
        UploadError: As `checked_upload`, or it is as large as only a catalog's ZIP may be.
    """
    path = checked_upload(image)
    if path is not None and (size := Path(path).stat().st_size) > LARGEST_PICTURE:
        raise UploadError(
            f"The picture has {size / MEGABYTE:.1f} MB; upload one of at most {LARGEST_PICTURE // MEGABYTE} MB."
        )
    return path


def anything_given(designation: str | None, description: str | None, image: str | UploadError | None) -> bool:
    """Whether the inputs hold something to classify."""
    return bool((designation or "").strip() or (description or "").strip() or image)


def _said_of(data_model: type[GradioModel | GradioRootModel]) -> type[GradioModel | GradioRootModel]:
    """The same model of a message, which refuses another form with a sentence instead of the library's report."""

    def model_validate(cls: type, *values: Any, **settings: Any) -> GradioModel | GradioRootModel:
        try:
            return data_model.model_validate(*values, **settings)
        except ValidationError as error:
            raise sentence_error(NO_FILE) from error

    # Under the same name, which the page that documents the endpoints shows.
    return type(data_model.__name__, (data_model,), {"model_validate": classmethod(model_validate)})


def _uploaded_file(
    component: gr.Image | gr.File, preprocess: Callable[[Any], str | None], payload: Any
) -> str | UploadError | None:
    """The path of what was uploaded, None for nothing; an error is given, not raised, for the page to show it."""
    if isinstance(payload, ListFiles):
        payload = payload.root[0] if payload.root else None
    if payload is None:
        return None
    is_picture = isinstance(component, gr.Image)
    if not payload.path:
        try:
            return preprocess(payload)
        except (OSError, ValueError):
            return UploadError(NO_DATA_PICTURE if is_picture else NO_FILE)
    path = Path(payload.path).resolve()
    folders = [Path(folder).resolve() for folder in (component.GRADIO_CACHE, EXAMPLES_FOLDER)]
    if not any(path.is_relative_to(folder) for folder in folders) or not path.is_file():
        return UploadError(
            f"The {'picture' if is_picture else 'file'} is not here, or no longer; upload it again."
        )
    return str(path)
