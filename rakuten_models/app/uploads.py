"""Checks what a visitor uploads before anything reads it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import GradioModel, GradioRootModel, ListFiles
from pydantic import ValidationError

from rakuten_models.app.examples import EXAMPLES_FOLDER
from rakuten_models.app.handlers import sentence_error
from rakuten_models.app.limits import MAX_PICTURE, MEGABYTE
from rakuten_models.errors import Message, RakutenModelsError


class UploadError(RakutenModelsError):
    """What came instead of a file is no file that was uploaded here, or is too large."""


def guard_upload(component: gr.Image | gr.File) -> None:
    """Let a component give the path of an uploaded file, readable or not, or an UploadError.

    gr.Image's own opens the file, and fails with a bare "Error" where that goes wrong; Gradio checks only paths that
    come with its own mark of a file. A handler passes what it gets through `checked_upload` or `checked_picture`.
    """
    own: Callable[[Any], Any] = component.preprocess
    uploaded = functools.partial(_uploaded_file, component, own)
    component.preprocess = uploaded  # type: ignore[method-assign, assignment]  # this one component's only
    if component.data_model is not None:
        component.data_model = _with_sentence(component.data_model)


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
    if path is not None and (size := Path(path).stat().st_size) > MAX_PICTURE:
        raise UploadError("app.upload_too_large", size=size / MEGABYTE, limit=MAX_PICTURE // MEGABYTE)
    return path


def anything_given(designation: str | None, description: str | None, image: str | UploadError | None) -> bool:
    """Whether the inputs hold something to classify."""
    return bool((designation or "").strip() or (description or "").strip() or image)


def _with_sentence(data_model: type[GradioModel | GradioRootModel]) -> type[GradioModel | GradioRootModel]:
    """The same model of a message, which refuses another form with a sentence instead of the library's report."""

    def model_validate(cls: type, *values: Any, **settings: Any) -> GradioModel | GradioRootModel:
        try:
            return data_model.model_validate(*values, **settings)
        except ValidationError as error:
            raise sentence_error(Message("app.no_file")) from error

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
            return UploadError("app.data_address_no_picture" if is_picture else "app.no_file")
    path = Path(payload.path).resolve()
    folders = [Path(folder).resolve() for folder in (component.GRADIO_CACHE, EXAMPLES_FOLDER)]
    if not any(path.is_relative_to(folder) for folder in folders) or not path.is_file():
        return UploadError("app.picture_gone" if is_picture else "app.file_gone")
    return str(path)
