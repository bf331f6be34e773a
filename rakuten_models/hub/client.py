"""The hub's client: time limits, retries, and its errors as sentences."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rakuten_models.errors import HubError

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

ATTEMPTS = 4

# Doubled after every attempt: 0.5 + 1 + 2 seconds of waiting in all.
FIRST_PAUSE_SECONDS = 0.5

# No further attempt starts after this long, so that a network that swallows packets does not hold a user
# for minutes.
PATIENCE_SECONDS = 20.0

# For any answer at all, and between two pieces of one: the client's own requests would wait for ever.
ANSWER_SECONDS = 30.0

_REPO_ID = re.compile(r"[\w.\-]+/[\w.\-]+", re.ASCII)

_Result = TypeVar("_Result")

REQUEST_TIMEOUT_SECONDS = 10.0

_COMMIT = re.compile(r"[0-9a-f]{40}")


class IncompleteError(Exception):
    """The client reported success with files missing."""


class AlteredError(Exception):
    """Files came with other content than the hub lists for them."""


def open_client(endpoint: str | None, token: str | None) -> HfApi:
    """The hub's client, none of whose requests waits for ever.

    The client library has one transport for a whole process. Unless the program has given it another, it gets time
    limits here, and does not heed a hub that asks it to wait for long.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import _http

    if _http._GLOBAL_CLIENT_FACTORY is _http.default_client_factory:
        _http.set_client_factory(_limited_transport)
    return HfApi(endpoint=endpoint, token=token)


def _limited_transport() -> httpx2.Client:
    from huggingface_hub.utils._http import default_client_factory

    transport = default_client_factory()
    transport.timeout = ANSWER_SECONDS
    hooks = transport.event_hooks
    transport.event_hooks = {**hooks, "response": [*hooks.get("response", []), _refuse_long_waits]}
    return transport


def _refuse_long_waits(response: httpx2.Response) -> None:
    """Raise instead of letting the client sleep as long as a hub says, which may be a day."""
    seconds = _asked_to_wait(response)
    if response.status_code in (429, 503) and seconds > PATIENCE_SECONDS:
        raise HubError(
            f"The hub at {response.url.host} answered {response.status_code} and asks to come back in "
            f"{seconds:,.0f} s; try again then."
        )


def _asked_to_wait(response: httpx2.Response) -> float:
    """The seconds of a Retry-After header; 0 without one."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be the name of a repository, before the network is asked.

    Raises:
        HubError: It is not of the form user/name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo_id)
        valid = _REPO_ID.fullmatch(repo_id) is not None
    except HFValidationError:
        valid = False
    if not valid:
        raise HubError(
            f"{str(repo_id)!r} is no repository of the hub: expected user/name of letters, digits, '-', '_' "
            "and '.', such as anna/product-classifier; a folder on this machine must exist."
        )


def retried(action: Callable[[], _Result]) -> _Result:
    """Run an action that may be run twice; again after a fault that may pass, for a bounded time."""
    started = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        # The client raises what its transport, its threads and its own checks raise.
        except Exception as error:
            late = time.monotonic() - started > PATIENCE_SECONDS
            if attempt == ATTEMPTS or late or not _may_pass(error):
                raise
            pause = max(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _wanted_pause(error))
        time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def _wanted_pause(error: BaseException) -> float:
    """How long the hub asks to wait, in seconds; what is too long has become an error before."""
    from huggingface_hub.errors import HfHubHTTPError

    cause = _root_cause(error)
    return _asked_to_wait(cause.response) if isinstance(cause, HfHubHTTPError) else 0.0


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
    error: Exception,
    action: str,
    repo_id: str,
    revision: str,
    endpoint: str,
    token: str | None,
    hint: str = "",
) -> HubError:
    """Turn what went wrong into a sentence.

    Args:
        error: What the client raised.
        action: What was tried, as in "fetch" or "send".
        repo_id: user/name.
        revision: The branch, tag or commit that was asked for.
        endpoint: The hub's address.
        token: Kept out of the sentence.
        hint: A further sentence for when the hub cannot be had, with a space before it.

    Returns:
        The error to raise.

    Raises:
        Exception: `error` itself, if it is a sentence already or nothing of the hub's, such as a full disk.
    """
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    cause = _root_cause(error)
    give_token = "run `hf auth login`, set HF_TOKEN or pass a token"
    if isinstance(cause, HubError):
        raise cause
    if isinstance(cause, OfflineModeIsEnabled):
        return HubError(f"The network is switched off by HF_HUB_OFFLINE; unset it to {action} {repo_id!r}.")
    if isinstance(cause, (httpx2.TransportError, ConnectionError)):
        return HubError(
            f"The hub {endpoint} cannot be reached to {action} {repo_id!r} ({type(cause).__name__}): check "
            f"the network and the address, then try again.{hint}"
        )
    if isinstance(cause, GatedRepoError):
        return HubError(
            f"Repository {repo_id!r} is gated: ask for access at {endpoint}/{repo_id}, then {give_token} of "
            "the account that was let in."
        )
    if isinstance(cause, RepositoryNotFoundError):
        return HubError(
            f"The hub {endpoint} has no repository {repo_id!r}, or it is private: check the name, or "
            f"{give_token} that may read it."
        )
    if isinstance(cause, RevisionNotFoundError):
        return HubError(
            f"Repository {repo_id!r} has no revision {revision!r}: expected a branch, a tag or a commit; "
            f"they are listed at {endpoint}/{repo_id}/tree/main."
        )
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        said = " ".join((cause.server_message or cause.response.reason_phrase).split())[:300]
        if token:
            said = said.replace(token, "***")
        advice = "look at the message, then try again"
        if status in (401, 403):
            advice = f"the token is missing, wrong or without the right to it; {give_token} that has it"
        elif status == 412:
            advice = "somebody else is writing to it; try again when they are done"
        elif status >= 500 or status in (408, 429):
            advice = f"it did so again and again; try again later.{hint}".removesuffix(".")
        return HubError(
            f"The hub {endpoint} would not {action} {repo_id!r} and answered {status} ({said}): {advice}."
        )
    if isinstance(cause, json.JSONDecodeError):
        return HubError(f"What answers at {endpoint} is no model hub: check HF_ENDPOINT.")
    if isinstance(cause, AlteredError):
        return HubError(f"{cause}, again and again; nothing of it is used: try again later.{hint}")
    if isinstance(cause, IncompleteError) or (type(cause) is OSError and cause.errno is None):
        return HubError(
            f"The hub {endpoint} broke off again and again in the middle of {repo_id!r}: try again "
            f"later.{hint}"
        )
    if isinstance(cause, ValueError):
        said = " ".join(str(cause).split())[:300]
        return HubError(
            f"The hub client would not {action} {repo_id!r}: {said.replace(token, '***') if token else said}"
        )
    raise error


def is_private(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> bool:
    """Whether only those with a token may read a model repository.

    Args:
        repo_id: user/name.
        token: None is the one that `hf auth login` or HF_TOKEN left.
        endpoint: The hub's address; None is the client's own.

    Raises:
        HubError: No such repository, no access, no network, or the hub fails.
    """
    check_repo_id(repo_id)
    api = open_client(endpoint, token)
    try:
        information = retried(lambda: api.model_info(repo_id, timeout=REQUEST_TIMEOUT_SECONDS))
    except Exception as error:
        raise explained(error, "read", repo_id, "main", api.endpoint, token) from error
    return bool(information.private or information.gated)


def _same_content(path: Path, sibling: Any) -> bool:
    """Whether a file is the one the hub lists: git's own hash for a small file, SHA-256 for a large one."""
    if sibling is None or sibling.size != path.stat().st_size:
        return False
    content = path.read_bytes()
    if sibling.lfs is not None:
        return bool(sibling.lfs.sha256 == hashlib.sha256(content).hexdigest())
    return bool(
        sibling.blob_id
        == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    )
