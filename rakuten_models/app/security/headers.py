"""The headers of every answer: what a browser may do with it, and who may show it; and a key for the page's scripts."""

from __future__ import annotations

import re
import secrets
from typing import Any

from starlette.datastructures import MutableHeaders

API = "/gradio_api/"

# A hosted Space is shown inside a page of huggingface.co.
_FRAMES = "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"

# `share` serves the page's scripts from Gradio's own storage.
_SHARED_SCRIPTS = "https://gradio.s3-us-west-2.amazonaws.com"

_FEATURES = (
    "camera=(self), clipboard-read=(self), clipboard-write=(self), fullscreen=(self), accelerometer=(), bluetooth=(), "
    "display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), "
    "serial=(), usb=()"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": _FEATURES,
    "Cross-Origin-Resource-Policy": "same-site",
}


class Answer:
    """Sends an answer on with the headers that every answer has; in a page, scripts get the page's own key.

    Attributes:
        begun: Whether anything was sent.
        status: Of the answer; 0 before.
    """

    def __init__(self, scope: dict[str, Any], send: Any) -> None:
        """Nothing is sent yet."""
        self._path = scope["path"]
        self._shared = bool(scope["app"].get_blocks().share)
        self._send = send
        self._start: dict[str, Any] | None = None
        self._page = b""
        self._nonce = ""
        self.begun = False
        self.status = 0

    async def __call__(self, message: dict[str, Any]) -> None:
        """Send one part of the answer on."""
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            self._add(headers)
            message["headers"] = headers.raw
            if self._nonce:
                # Until the page is whole, and its length is known.
                self._start = message
                return
        elif self._start is not None and message["type"] == "http.response.body":
            self._page += message.get("body", b"")
            if message.get("more_body"):
                return
            page = re.sub(rb"<script(?=[\s>])", b"<script nonce=" + self._nonce.encode(), self._page)
            MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(page))
            await self._send(self._start)
            self._start, message = None, {"type": "http.response.body", "body": page}
        await self._send(message)

    def _add(self, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers[name] = value
        if headers.get("content-type", "").startswith("text/html"):
            self._nonce = secrets.token_hex(16)
            headers["Content-Security-Policy"] = _page_policy(self._nonce, self._shared)
            headers["Cache-Control"] = "no-store"
        elif self._path.startswith(API):
            headers["Content-Security-Policy"] = "default-src 'none'; sandbox; frame-ancestors 'none'"
            if self._path.startswith(f"{API}file="):
                headers["Cache-Control"] = "private, no-store"
                disposition = headers.get("content-disposition", "attachment")
                headers["Content-Disposition"] = re.sub(r"^inline", "attachment", disposition)
        else:
            headers["Content-Security-Policy"] = _FRAMES


def _page_policy(nonce: str, shared: bool) -> str:
    """What the page may load and run: its own files, and no script that stands in its HTML or in an attribute.

    Gradio makes functions of the strings that a page's events hold, hence 'unsafe-eval'; its components set styles.
    """
    scripts = f" {_SHARED_SCRIPTS}" if shared else ""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'{scripts}",
            f"style-src 'self' 'unsafe-inline'{scripts}",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob: mediastream:",
            f"font-src 'self' data:{scripts}",
            "connect-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            _FRAMES,
        )
    )
