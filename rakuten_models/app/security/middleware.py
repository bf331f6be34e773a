"""What every request to the app and every answer of it goes through: which paths there are, sizes, origins, logins.

An ASGI middleware around Gradio's routes, of which the app needs some thirty and serves no others: no proxy, no
screen recorder, no functions of components, no files that are addresses of other machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from gradio.route_utils import FnIndexInferError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import JSONResponse

from rakuten_models.app.limits import MAX_PICTURE, MAX_UPLOAD, MEGABYTE
from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.app.security.gradio_patches import forget_call
from rakuten_models.app.security.headers import API, Answer
from rakuten_models.errors import Message

# A message may hold a picture as text (base64 needs 4/3 of it), and texts.
MAX_MESSAGE = MAX_PICTURE * 4 // 3 + 4 * MEGABYTE

# Around the file of an upload: its name and the form's own lines.
_FORM = MEGABYTE

# Of all messages together, as far as they declare their size, while they come in.
_MAX_INCOMING = 512 * MEGABYTE

_PATHS = re.compile(
    r"/(?:(?:config|login|theme\.css|logout|manifest\.json|favicon\.ico|robots\.txt)?/?$|(?:assets|static|svelte)/"
    r"|gradio_api/(?:(?:info|openapi\.json|app_id|token|user|login_check|startup-events|theme\.css|queue/join"
    r"|queue/data|queue/status|upload|upload_progress|cancel|reset)/?$|(?:call|run|api|heartbeat)/|file=))",
    re.DOTALL,
)

_TOOLS = re.compile(r"/gradio_api/mcp(?:/|$)")

# What a visitor meets before they have logged in.
_OPEN = re.compile(
    r"/(?:(?:login|theme\.css|logout|manifest\.json|favicon\.ico|robots\.txt)?/?$|(?:assets|static|svelte)/"
    r"|gradio_api/(?:login_check|user|token|startup-events)/?$)"
)

_PROTOCOL = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:|//|\\\\|/\\|\\/)", re.IGNORECASE)

_LOCAL_NAMES = ("localhost", "127.0.0.1", "0.0.0.0", "::1")

_TRIES = 10

_TRIES_SECONDS = 300.0

_MAX_ADDRESSES = 10_000

_logger = logging.getLogger(__name__)


class TooLargeError(Exception):
    """More came than was announced, or may come."""


class Guard:
    """The middleware.

    Args:
        app: What it stands before.
        disk: Knows whether there is room for an upload.
    """

    def __init__(self, app: Any, disk: DiskQuota) -> None:
        """Nothing has come yet."""
        self._app = app
        self._disk = disk
        self._incoming = 0
        self._wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request, or refuse it with a sentence."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = Answer(scope, send)
        with contextlib.ExitStack() as held:
            refusal = self._refusal(scope) or await self._admit(scope, held)
            if refusal is not None:
                await _refuse(scope, receive, send, *refusal)
                return
            if scope["path"].startswith(f"{API}file="):
                # Gradio answers a part of a file with the headers of the request itself.
                scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
            await self._pass_on(scope, receive, send)

    def _refusal(self, scope: dict[str, Any]) -> tuple[int, str] | None:
        """Why a request is refused whatever it holds: status and sentence; None if it is not."""
        path, headers, gradio_app = scope["path"], Headers(scope=scope), scope["app"]
        blocks = gradio_app.get_blocks()
        if not _PATHS.match(path) and not (blocks.mcp_server and _TOOLS.match(path)):
            return 404, Message("app.no_such_path")
        if path.startswith(f"{API}file=") and _PROTOCOL.match(path.partition("=")[2]):
            return 403, Message("app.url_refused")
        if _is_foreign(headers, strict=gradio_app.auth is not None):
            return 403, Message("app.foreign_origin")
        if gradio_app.auth is not None:
            if not _OPEN.match(path) and not _logged_in(scope):
                return 401, Message("app.not_logged_in")
            if path.startswith("/login") and self._tried_too_often(_address(scope)):
                return 429, Message("app.wait_to_log_in")
        queue = blocks._queue
        joins = path.startswith((f"{API}queue/join", f"{API}call/")) and scope["method"] == "POST"
        if joins and queue.max_size is not None and len(queue) >= queue.max_size:
            return 503, Message("app.crowded")
        return None

    async def _admit(self, scope: dict[str, Any], held: contextlib.ExitStack) -> tuple[int, str] | None:
        """Hold the room that a request's body needs, until `held` is left; otherwise why it is refused."""
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return None
        limit = _largest(scope)
        declared = Headers(scope=scope).get("content-length", "")
        size = int(declared) if declared.isdecimal() and len(declared) < 20 else limit
        if size > limit:
            return 413, Message("app.request_too_large", size=size / MEGABYTE, limit=limit // MEGABYTE)
        if _uploads(scope):
            address = _address(scope)
            # Behind a proxy on this machine, a share link's too, all visitors have its address: none is any one's.
            room = self._disk.reserve(size, None if _is_loopback(address) else address)
            granted = await asyncio.to_thread(held.enter_context, room)
            return None if granted else (507, Message("app.no_room"))
        if self._incoming + size > _MAX_INCOMING:
            return 503, Message("app.crowded")
        self._incoming += size
        held.callback(self._count_incoming, -size)
        return None

    def _count_incoming(self, size: int) -> None:
        self._incoming += size

    async def _pass_on(self, scope: dict[str, Any], receive: Any, send: Answer) -> None:
        limit = _largest(scope)
        received = 0

        async def bounded() -> dict[str, Any]:
            nonlocal received
            message: dict[str, Any] = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise TooLargeError
            return message

        try:
            await self._app(scope, bounded, send)
        except TooLargeError:
            await _end(scope, receive, send, 413, Message("app.request_grew", limit=limit // MEGABYTE))
        except ClientDisconnect:
            return
        except FnIndexInferError:
            await _end(scope, receive, send, 404, Message("app.no_such_path"))
        # Gradio's own code fails at much that no page sends, and would write each failure's traceback to the log.
        except Exception as error:
            _logger.warning("A request that no page sends failed (%s).", type(error).__name__)
            await _end(scope, receive, send, 400, Message("app.unexpected"))
        if scope["path"].startswith("/login") and scope["method"] == "POST" and send.status == 400:
            self._note_wrong(_address(scope))
        if scope["path"].startswith(f"{API}call/") and scope["method"] == "GET":
            forget_call(scope["app"], scope["path"].rstrip("/").rpartition("/")[2])

    def _tried_too_often(self, address: str) -> bool:
        tries = self._wrong.get(address, ())
        return sum(time.monotonic() - each < _TRIES_SECONDS for each in tries) >= _TRIES

    def _note_wrong(self, address: str) -> None:
        self._wrong.setdefault(address, deque(maxlen=_TRIES)).append(time.monotonic())
        if len(self._wrong) > _MAX_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]


def _is_foreign(headers: Headers, *, strict: bool) -> bool:
    """Whether another website's page sends this.

    An app on this machine answers no page from elsewhere. A public one may be used from other websites' scripts,
    unless it knows its visitors (`strict`), for then a browser sends along who they are.
    """
    origin = headers.get("origin")
    if origin is None:
        return False
    hosts = {_host_name(headers.get(name, "")) for name in ("host", "x-forwarded-host")} - {""}
    here = hosts & set(_LOCAL_NAMES)
    if not (strict or here):
        return False
    name = _host_name(urlsplit(origin).netloc)
    return name not in hosts and not (here and name in _LOCAL_NAMES)


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _logged_in(scope: dict[str, Any]) -> bool:
    gradio_app, cookies = scope["app"], cookie_parser(Headers(scope=scope).get("cookie", ""))
    kinds = ("access-token", "access-token-unsecure")
    return any(cookies.get(f"{kind}-{gradio_app.cookie_id}") in gradio_app.tokens for kind in kinds)


def _address(scope: dict[str, Any]) -> str:
    """Where a request comes from; behind a hosted Space's own server, what that says."""
    if os.environ.get("SPACE_ID"):
        forwarded = Headers(scope=scope).get("x-forwarded-for", "").partition(",")[0].strip()
        if forwarded:
            return forwarded[:64]
    client = scope.get("client")
    return str(client[0]) if client else ""


def _uploads(scope: dict[str, Any]) -> bool:
    return str(scope["path"]).startswith(f"{API}upload")


def _largest(scope: dict[str, Any]) -> int:
    """Bytes that a request may have."""
    return MAX_UPLOAD + _FORM if _uploads(scope) else MAX_MESSAGE


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _end(scope: dict[str, Any], receive: Any, send: Answer, status: int, sentence: str) -> None:
    """End an answer that failed: with a sentence, or where it has begun without more."""
    if send.begun:
        await send({"type": "http.response.body", "body": b""})
    else:
        await _refuse(scope, receive, send, status, sentence)


async def _refuse(scope: dict[str, Any], receive: Any, send: Any, status: int, sentence: str) -> None:
    headers = {"Connection": "close"} if status == 413 else {}
    if status in (429, 503):
        headers["Retry-After"] = "300" if status == 429 else "10"
    detail: Any = sentence
    if status == 401:
        # As Gradio says it, for its own page and client.
        detail = {"error": "Not authenticated", "auth_message": sentence}
    await JSONResponse({"detail": detail}, status, headers)(scope, receive, send)
