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

# What is asked, and how often of ten times.
KINDS = {"text": 4, "picture": 3, "both": 2, "explain": 1}
_PHOTOS = [synthetic_data.photo(seed) for seed in range(8)]
_PRODUCTS = synthetic_data.catalog(200)
_numbers = itertools.count()


class ClientError(Exception):
    """The app answered otherwise than it should."""


class RefusedError(Exception):
    """The app said politely that it is busy."""


class Visitor(FastHttpUser):
    """One client, which asks again as soon as it is answered.

    `may_be_refused`: whether polite refusals are expected, and waited out; `refused`: how many all clients got.
    `functions`: the endpoints' numbers by their names, which every start of the app gives alike.
    """

    abstract = True
    wait_time = constant(0)
    connection_timeout = network_timeout = 120.0
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

    @task
    def product(self) -> None:
        """Ask about one product, and time the whole answer."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        started, error = time.perf_counter(), None
        try:
            self._check(kind)
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
            name=kind,
            response_time=1e3 * (time.perf_counter() - started),
            response_length=0,
            exception=error,
            context={},
        )

    def _check(self, kind: str) -> None:
        product = self._random.choice(_PRODUCTS)
        texts = ["", ""] if kind == "picture" else [product.designation, product.description]
        picture = None if kind == "text" else self._upload()
        if kind == "explain":
            answer = self._ask("explain", [*texts, picture, None])
            if not answer["words"] or not answer["heat_map"]:
                raise ClientError("an explanation without words or heat map")
        else:
            answer = self._ask("classify", [*texts, picture])
            total = sum(each["probability"] for each in answer["probabilities"])
            if answer["error"] is not None or abs(total - 1) > 1e-3:
                raise ClientError(f"error {answer['error']}, probabilities add up to {total}")

    def _upload(self) -> dict[str, Any]:
        # Bytes after a JPEG's end change nothing but its hash.
        content = self._random.choice(_PHOTOS) + uuid.uuid4().bytes
        files = {"files": ("photo.jpg", content, "image/jpeg")}
        paths = self._json("POST", "/gradio_api/upload", files=files)
        return {"path": paths[0], "meta": {"_type": "gradio.FileData"}}

    def _ask(self, endpoint: str, data: list[Any]) -> dict[str, Any]:
        if self._random.random() < 0.5:
            event = self._json("POST", f"/gradio_api/call/{endpoint}", json={"data": data})["event_id"]
            stream = self._text(f"/gradio_api/call/{endpoint}/{event}")
            _, complete, answer = stream.partition("event: complete\ndata: ")
            if complete:
                return json.loads(answer.splitlines()[0])[0]
        else:
            body = {"data": data, "fn_index": self.functions[endpoint], "session_hash": self._session}
            self._json("POST", "/gradio_api/queue/join", json=body)
            stream = self._text(f"/gradio_api/queue/data?session_hash={self._session}")
            for line in stream.splitlines():
                message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed" and message["success"]:
                    return message["output"]["data"][0]
        raise ClientError(f"a stream that ends with {stream[-200:]!r}")

    def _json(self, method: str, path: str, **values: Any) -> Any:
        return json.loads(self._text(path, method, **values))

    def _text(self, path: str, method: str = "GET", **values: Any) -> str:
        with self.client.request(method, path, catch_response=True, name="-", **values) as response:
            # Only whole answers are counted, by `product`.
            response.success()
            status, text = response.status_code, response.text or ""
        if status in (429, 503) and "detail" in text:
            raise RefusedError(text)
        if status != 200:
            raise ClientError(f"{method} {path.partition('?')[0]}: status {status}, {text[:200]!r}")
        return text


class CrowdVisitor(Visitor):
    """One of a crowd that is larger than the app's queue."""

    abstract = True
    may_be_refused = True
