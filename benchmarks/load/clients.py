"""Locust's clients of the app: products made up here, sent through the endpoints that every program uses.

Half of what a client asks goes the way of gradio_client (a session, /queue/join and the session's event stream),
half the way of the README's curl example (/call/classify, whose event's stream is read). Each uploads pictures of
its own, no two with the same bytes.
"""

from __future__ import annotations

import itertools
import json
import random
import time
import uuid
from collections import Counter
from typing import Any, ClassVar

from locust import FastHttpUser, constant, task
from locust.exception import StopUser

from benchmarks import synthetic_data

_SECONDS = 120.0
_PHOTOS = [synthetic_data.photo(seed) for seed in range(8)]
_PRODUCTS = synthetic_data.catalog(200)
_numbers = itertools.count()


class ClientError(Exception):
    """The app answered otherwise than it should."""


class RefusedError(Exception):
    """The app said politely that it is busy."""


class Visitor(FastHttpUser):
    """One client, which asks again as soon as it is answered.

    Attributes:
        may_be_refused: Whether a polite refusal is expected, and waited out.
        refused: How often that was, of all clients.
        functions: The endpoints' numbers by their names, which every start of the app gives alike.
    """

    abstract = True
    wait_time = constant(0)
    connection_timeout = _SECONDS
    network_timeout = _SECONDS
    may_be_refused = False
    refused: Counter[int] = Counter()
    functions: ClassVar[dict[str, int]] = {}

    def on_start(self) -> None:
        """Find the endpoints' numbers, as gradio_client does, but once for all clients."""
        self._random = random.Random(next(_numbers))
        self._session = uuid.uuid4().hex
        if not self.functions:
            config = self._json("GET", "/config")
            self.functions.update({each["api_name"]: each["id"] for each in config["dependencies"]})

    @task(4)
    def text(self) -> None:
        """A product with a text."""
        self._timed("text", lambda: self._classify(self._texts(), None))

    @task(3)
    def picture(self) -> None:
        """A product with a picture."""
        self._timed("picture", lambda: self._classify(("", ""), self._upload()))

    @task(2)
    def both(self) -> None:
        """A product with both."""
        self._timed("both", lambda: self._classify(self._texts(), self._upload()))

    @task(1)
    def explain(self) -> None:
        """What spoke for a product's category."""
        self._timed("explain", self._explain)

    def _texts(self) -> tuple[str, str]:
        product = self._random.choice(_PRODUCTS)
        return product.designation, product.description

    def _classify(self, texts: tuple[str, str], picture: dict[str, Any] | None) -> None:
        answer = self._ask("classify", [*texts, picture])
        total = sum(each["probability"] for each in answer["probabilities"])
        if answer["error"] is not None or abs(total - 1) > 1e-3:
            raise ClientError(f"error {answer['error']}, probabilities add up to {total}")

    def _explain(self) -> None:
        answer = self._ask("explain", [*self._texts(), self._upload(), None])
        if not answer["words"] or not answer["heat_map"]:
            raise ClientError("an explanation without words or heat map")

    def _upload(self) -> dict[str, Any]:
        # Bytes after a JPEG's end change nothing but its hash.
        content = self._random.choice(_PHOTOS) + uuid.uuid4().bytes
        paths = self._json(
            "POST", "/gradio_api/upload", files={"files": ("photo.jpg", content, "image/jpeg")}
        )
        return {"path": paths[0], "meta": {"_type": "gradio.FileData"}}

    def _ask(self, endpoint: str, data: list[Any]) -> dict[str, Any]:
        if self._random.random() < 0.5:
            event = self._json("POST", f"/gradio_api/call/{endpoint}", json={"data": data})["event_id"]
            return self._called(self._text(f"/gradio_api/call/{endpoint}/{event}"))
        function = self.functions[endpoint]
        body = {"data": data, "fn_index": function, "session_hash": self._session}
        self._json("POST", "/gradio_api/queue/join", json=body)
        return self._joined(self._text(f"/gradio_api/queue/data?session_hash={self._session}"))

    def _called(self, stream: str) -> dict[str, Any]:
        for event, data in zip(stream.split("\n")[::3], stream.split("\n")[1::3], strict=False):
            if event == "event: complete":
                return json.loads(data.removeprefix("data: "))[0]
        raise ClientError(f"a stream that ends with {stream[-200:]!r}")

    def _joined(self, stream: str) -> dict[str, Any]:
        for line in stream.splitlines():
            if line.startswith("data: "):
                message = json.loads(line.removeprefix("data: "))
                if message["msg"] == "process_completed" and message["success"]:
                    return message["output"]["data"][0]
        raise ClientError(f"a stream that ends with {stream[-200:]!r}")

    def _json(self, method: str, path: str, **values: Any) -> Any:
        return json.loads(self._text(path, method, **values))

    def _text(self, path: str, method: str = "GET", **values: Any) -> str:
        with self.client.request(method, path, catch_response=True, name="-", **values) as response:
            # Only whole answers are counted, by `_timed`.
            response.success()
            status, text = response.status_code, response.text
        if status in (429, 503) and "detail" in (text or ""):
            raise RefusedError(text)
        if status != 200:
            raise ClientError(f"{method} {path.partition('?')[0]}: status {status}, {(text or '')[:200]!r}")
        return text

    def _timed(self, name: str, ask: Any) -> None:
        started, error = time.perf_counter(), None
        try:
            ask()
        except RefusedError as refusal:
            if self.may_be_refused:
                self.refused[503] += 1
                time.sleep(1 + self._random.random())
                return
            error = refusal
        except StopUser:
            raise
        # Whatever went wrong, this request failed, and the next is sent.
        except Exception as failure:
            error = failure
        self.environment.events.request.fire(
            request_type="product",
            name=name,
            response_time=1e3 * (time.perf_counter() - started),
            response_length=0,
            exception=error,
            context={},
        )


class CrowdVisitor(Visitor):
    """One of a crowd that is larger than the app's queue."""

    abstract = True
    may_be_refused = True
