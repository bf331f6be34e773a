"""The hub's client: time limits, retries, and its errors as sentences."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rakuten_models.errors import HubError
from rakuten_models.files import file_facts

if TYPE_CHECKING:
    import httpx2
    import tenacity
    from huggingface_hub import HfApi

ATTEMPTS = 4

# Doubled after every attempt: 0.5 + 1 + 2 seconds of waiting in all.
FIRST_PAUSE_SECONDS = 0.5

# No further attempt starts after this long: a network may swallow packets.
PATIENCE_SECONDS = 20.0

# For any answer, and between two pieces of one: the client's own requests would wait for ever.
ANSWER_SECONDS = 30.0

REQUEST_TIMEOUT_SECONDS = 10.0

_REPO_ID = re.compile(r"[\w.\-]+/[\w.\-]+", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")

# Of an HTTP answer; any other from 500 on may pass, too.
_STATUS_CODES = {
    401: "hub.refused_token",
    403: "hub.refused_token",
    408: "hub.refused_again",
    412: "hub.refused_while_written",
    429: "hub.refused_again",
}

_Result = TypeVar("_Result")


class IncompleteError(Exception):
    """The client reported success with files missing."""


class AlteredError(Exception):
    """Files came with other content than the hub lists for them; `str(error)` names them."""


@contextlib.contextmanager
def open_client(
    action: str, repo_id: str, endpoint: str | None, token: str | None, revision: str = "main", hint: str = ""
) -> Iterator[HfApi]:
    """The hub's client with time limits, unless the program has set another transport for the process.

    What the client raises in the block becomes a HubError; for the arguments see `explained`.

    Raises:
        HubError: The name is not of the form user/name, or what went wrong in the block.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import _http

    check_repo_id(repo_id)
    if _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory:
        _http.set_client_factory(_limited_transport)
    api = HfApi(endpoint=endpoint, token=token)
    try:
        yield api
    except Exception as error:
        raise explained(error, action, repo_id, revision, api.endpoint, token, hint) from error


def _limited_transport() -> httpx2.Client:
    from huggingface_hub.utils._http import default_client_factory

    transport = default_client_factory()
    transport.timeout = ANSWER_SECONDS
    hooks = transport.event_hooks
    transport.event_hooks = {**hooks, "response": [*hooks.get("response", []), _refuse_long_waits]}
    return transport


def _refuse_long_waits(response: httpx2.Response) -> None:
    """Raise instead of letting the client sleep as long as a hub says, which may be a day."""
    seconds, status = _asked_to_wait(response), response.status_code
    if status in (429, 503) and seconds > PATIENCE_SECONDS:
        raise HubError("hub.asks_to_wait", host=response.url.host, status=status, seconds=seconds)


def _asked_to_wait(response: httpx2.Response) -> float:
    """The seconds of a Retry-After header; 0 without one."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def check_repo_id(repo_id: str) -> None:
    """HubError unless it is of the form user/name; asks no network."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
        valid = _REPO_ID.fullmatch(repo_id) is not None
    except HFValidationError:
        valid = False
    if not valid:
        raise HubError("hub.no_repository_name", repo_id=str(repo_id))


def retried(action: Callable[[], _Result]) -> _Result:
    """Run an action that may be run twice; again after a fault that may pass, for a bounded time."""
    # Imported here, for it imports asyncio, which a local bundle needs none of.
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_after_delay(PATIENCE_SECONDS),
        wait=_pause,
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    return retrying(action)


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next attempt: twice the last pause, or what the hub asks for if that is longer."""
    from huggingface_hub.errors import HfHubHTTPError

    pause: float = FIRST_PAUSE_SECONDS * 2 ** (state.attempt_number - 1)
    error = state.outcome.exception() if state.outcome else None
    cause = error and _root_cause(error)
    if isinstance(cause, HfHubHTTPError):
        # What is too long has become an error before.
        pause = max(pause, _asked_to_wait(cause.response))
    return pause


def _root_cause(error: BaseException) -> BaseException:
    """What the hub or the network did, below the client's own wrapping of it."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    # The client's ValueError says more than the answer it was made from.
    plain = (HfHubHTTPError, httpx2.TransportError, HubError, ValueError)
    while error.__cause__ is not None and not isinstance(error, plain):
        error = error.__cause__
    return error


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    cause = _root_cause(error)
    if isinstance(cause, HfHubHTTPError):
        # 412: the head moved while we sent; the next attempt reads it again.
        return cause.response.status_code >= 500 or cause.response.status_code in (408, 412, 429)
    if isinstance(cause, (httpx2.TransportError, json.JSONDecodeError, IncompleteError, AlteredError)):
        return True
    # The client's size check raises a bare OSError; a full disk has a number and does not pass.
    return type(cause) is OSError and cause.errno is None


def explained(
    error: Exception, action: str, repo_id: str, revision: str, endpoint: str, token: str | None, hint: str = ""
) -> HubError:
    """The error to raise for what the client raised.

    `action` is what was tried, as in "fetch" or "send"; `token` is kept out of the sentence; `hint` is a further
    sentence for when the hub cannot be had, with a space before it.

    Raises:
        Exception: `error` itself, if it is a sentence already or nothing of the hub's, such as a full disk.
    """
    import httpx2
    from huggingface_hub import errors

    cause = _root_cause(error)
    if isinstance(cause, HubError):
        raise cause
    status, said = 0, str(cause)
    if isinstance(cause, errors.HfHubHTTPError):
        status = cause.response.status_code
        said = cause.server_message or cause.response.reason_phrase
    said = " ".join(said.split())[:300]
    for kinds, code in (
        (errors.OfflineModeIsEnabled, "hub.offline"),
        ((httpx2.TransportError, ConnectionError), "hub.unreachable"),
        (errors.GatedRepoError, "hub.gated"),
        (errors.RepositoryNotFoundError, "hub.repository_missing"),
        (errors.RevisionNotFoundError, "hub.revision_missing"),
        (errors.HfHubHTTPError, _STATUS_CODES.get(status, "hub.refused_again" if status >= 500 else "hub.refused")),
        (json.JSONDecodeError, "hub.no_hub"),
        (AlteredError, "hub.altered"),
        (IncompleteError, "hub.incomplete"),
        (ValueError, "hub.client_refused"),
        # As in `_may_pass`.
        (OSError if type(cause) is OSError and cause.errno is None else (), "hub.incomplete"),
    ):
        if isinstance(cause, kinds):
            return HubError(
                code,
                action=action,
                repo_id=repo_id,
                revision=revision,
                endpoint=endpoint,
                hint=hint,
                cause=type(cause).__name__,
                status=status,
                said=said.replace(token, "***") if token else said,
                files=str(cause) if isinstance(cause, AlteredError) else "",
            )
    raise error


def is_private(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> bool:
    """Whether only those with a token may read a model repository; for the arguments see `upload_folder`.

    Raises:
        HubError: No such repository, no access, no network, or the hub fails.
    """
    with open_client("read", repo_id, endpoint, token) as api:
        information = retried(lambda: api.model_info(repo_id, timeout=REQUEST_TIMEOUT_SECONDS))
    return bool(information.private or information.gated)


def same_content(path: Path, sibling: Any) -> bool:
    """Whether a file is the one the hub lists: git's own hash for a small file, SHA-256 for a large one."""
    if sibling is None or sibling.size != path.stat().st_size:
        return False
    if sibling.lfs is not None:
        return bool(sibling.lfs.sha256 == file_facts(path)["sha256"])
    content = path.read_bytes()
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return bool(sibling.blob_id == digest.hexdigest())
