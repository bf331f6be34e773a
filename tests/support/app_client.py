"""Plain requests to a running app, as a hostile visitor may send them."""

import contextlib
import socket
import threading

from rakuten_models.app.examples import EXAMPLES_FOLDER

SECRET = "hf_" + "S3cretOfTheHub" * 3

PICTURE = EXAMPLES_FOLDER / "pool.jpg"

FILE = {"meta": {"_type": "gradio.FileData"}}


def upload(web, name="a.jpg", content=None, **settings):
    files = {"files": (name, PICTURE.read_bytes() if content is None else content)}
    return web.post("/gradio_api/upload", files=files, **settings)


def call(web, endpoint, *data, session=None):
    """What an endpoint answers: the event's name and its data."""
    body = {"data": list(data), **({"session_hash": session} if session else {})}
    posted = web.post(f"/gradio_api/call/{endpoint}", json=body)
    if posted.status_code != 200:
        return "refused", posted.text
    answer = web.get(f"/gradio_api/call/{endpoint}/{posted.json()['event_id']}").text
    return answer.partition("\n")[0].removeprefix("event: "), answer


def get_raw(address, path, method="GET", headers=()):
    """A request whose path no client has tidied up."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer.decode("utf-8", "replace")


class Listener:
    """Counts who connects to it on 127.0.0.1."""

    def __enter__(self):
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._count, daemon=True).start()
        return self

    def _count(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
                connection.close()

    def __exit__(self, *_):
        self._socket.close()
