"""What the tests of batches share."""

import http.server
import threading

import pytest

from rakuten_models.app.examples import EXAMPLES_FOLDER

PICTURE = (EXAMPLES_FOLDER / "pool.jpg").read_bytes()


@pytest.fixture
def picture_server():
    """A server with one picture, which never answers for "slow.jpg" and refuses "secret.jpg".

    Yields:
        The URL of its pictures.
    """
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            if name == "slow.jpg":
                stop.wait(30)
            codes = {"pool.jpg": 200, "secret.jpg": 403, "slow.jpg": 200}
            self.send_response(codes.get(name, 404))
            content = PICTURE if name == "pool.jpg" else b""
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/pictures"
        stop.set()
        server.shutdown()
