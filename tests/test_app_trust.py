"""The app against those who mean it no good: other visitors, hostile requests, known holes of Gradio, and strangers' names."""

import contextlib
import csv
import io
import json
import os
import random
import re
import socket
import string
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

import app
from rakuten_models import app_disk
from rakuten_models.app_disk import DiskLimits, VisitorsDisk
from rakuten_models.app_gradio import MOST_FILES
from rakuten_models.app_guard import HEADERS
from rakuten_models.app_login import LoginError, line_of, read_users
from rakuten_models.app_scoring import write_labels
from rakuten_models.batch_images import open_pictures
from rakuten_models.command_line import run_command
from rakuten_models.page import EXAMPLES_FOLDER
from rakuten_models.product import ProductError, RakutenModelsError
from tests.app_server import REPOSITORY_ROOT, app_environment, app_process, free_port, running_app
from tests.screenshots import NO_BROWSER, find_browser, open_browser

needs_browser = pytest.mark.skipif(find_browser() is None, reason=NO_BROWSER)

SECRET = "hf_" + "S3cretOfTheHub" * 3
PICTURE = EXAMPLES_FOLDER / "pool.jpg"
FILE = {"meta": {"_type": "gradio.FileData"}}
HOSTILE = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>${alert(1)}{{alert(2)}}"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def address(tiny_bundle, place):
    command = [sys.executable, str(REPOSITORY_ROOT / "app.py")]
    secrets = {"HF_TOKEN": SECRET, "RAKUTEN_BUNDLE": str(tiny_bundle)}
    with app_process(command, place, **secrets) as (address, _):
        yield address


@pytest.fixture(scope="module")
def web(address):
    with httpx.Client(base_url=address, timeout=30) as web:
        yield web


@pytest.fixture(scope="module")
def functions(web):
    """The numbers of the page's own functions, by the names that Gradio gave them."""
    return {each["api_name"]: each["id"] for each in web.get("/config").json()["dependencies"]}


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


# --- What is served, and what is not ---


TRAVERSALS = [
    "/etc/passwd",
    "//etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "....//....//etc/passwd",
    "..\\..\\..\\etc\\passwd",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/dev/stdin",
    "file:///etc/passwd",
    "C:\\Windows\\win.ini",
    "/windows/win.ini",
    "\\\\127.0.0.1\\share\\x",
    "/etc/passwd%00.jpg",
    "/ETC/PASSWD",
    "~/.bashrc",
    "",
    ".",
    str(REPOSITORY_ROOT / "app.py"),
    str(EXAMPLES_FOLDER / ".." / "page.css"),
    str(EXAMPLES_FOLDER / "..%2f" / "page.css"),
    "rakuten_models/page.css",
]
# CVE-2023-51449 and 2024-1561, 2024-0964, 2024-47164, 2025-23042, 2026-28414 (paths); 2024-47166 (custom_component);
# 2024-1728 and 2024-51751 are tried with messages, below.
ROUTES = ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/"]


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


@pytest.mark.parametrize("route", ROUTES)
def test_no_path_leads_out(address, route):
    for path in TRAVERSALS:
        answer = get_raw(address, route + path.replace(" ", "%20"))
        status = int(answer.split()[1])
        assert status in (400, 403, 404, 405, 422), (route, path, answer[:300])
        for inside in ("root:x:", "import gradio", "HF_TOKEN", SECRET, ".answer"):
            assert inside not in answer, (route, path)


@pytest.mark.trust
def test_generated_paths_lead_nowhere(address, cases):
    random_ = random.Random(7)
    parts = ["..", "%2e%2e", "%252e", "etc", "passwd", "/", "//", "\\", "%5c", "%2f", "%00", "gradio", "proc", ":", "~"]
    parts += ["self", "environ", "C:", "?", "#", "%c0%af", ".", "uploads", "é", "..;", "file=", "http:"]
    for _ in range(cases(5000)):
        path = "".join(random_.choice(parts) for _ in range(random_.randint(1, 12)))
        answer = get_raw(address, random_.choice(ROUTES) + path)
        assert int(answer.split()[1]) >= 400, path
        assert "root:x:" not in answer and SECRET not in answer, path


UNSERVED = [
    # CVE-2024-47167 and others: Gradio as a proxy; 2024-1561, 2024-34511: functions of components.
    ("GET", "/gradio_api/proxy=http://127.0.0.1:{port}/"),
    ("GET", "/gradio_api/proxy=https://a.hf.space/"),
    ("POST", "/gradio_api/component_server"),
    # CVE-2024-47166, and what reads or writes files that visitors have no business with.
    ("GET", "/gradio_api/custom_component/1/client/component/..%2f..%2fapp.py"),
    ("GET", "/gradio_api/deep_link?session_hash=a"),
    ("GET", "/gradio_api/runs"),
    ("POST", "/gradio_api/run-history/connect"),
    ("GET", "/gradio_api/run-history/records"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/vibe-edit/"),
    ("GET", "/gradio_api/vibe-code/"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/profiling/traces"),
    ("POST", "/gradio_api/stream/0123/close"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/pwa_icon"),
    # The tool server, which is off unless asked for.
    ("GET", "/gradio_api/mcp/"),
    ("POST", "/gradio_api/mcp/sse"),
    # Old names of the same routes.
    ("POST", "/run/predict"),
    ("POST", "/api/predict"),
    ("GET", "/proxy=http://127.0.0.1:{port}/"),
    ("POST", "/component_server"),
    ("POST", "/upload"),
]


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


@pytest.mark.parametrize(("method", "path"), UNSERVED)
def test_routes_that_the_page_does_not_need_are_not_there(web, method, path):
    with Listener() as listener:
        answer = web.request(method, path.format(port=listener.port))
    assert answer.status_code == 404 and "has no such address" in answer.text
    assert listener.connections == 0


URLS = [
    "http://127.0.0.1:{port}/x.png",
    "http://localhost:{port}/x.png",
    "http://[::1]:{port}/x.png",
    "http://0x7f000001:{port}/x.png",
    "http://2130706433:{port}/",
    "http://127.1:{port}/x.png",
    "HTTP://127.0.0.1:{port}/x.png",
    " http://127.0.0.1:{port}/x.png",
    "http://user@127.0.0.1:{port}/",
    "https://127.0.0.1:{port}/x.png",
    "ftp://127.0.0.1:{port}/x.png",
    "//127.0.0.1:{port}/x.png",
    "http://169.254.169.254/latest/meta-data/",
    "http://metadata.google.internal/",
    # Gradio takes this host's addresses for public, whatever they are.
    "https://huggingface.co/x.png",
    "https://example.com/x.png",
]


@pytest.mark.parametrize("url", URLS)
def test_no_url_is_fetched(web, functions, url):
    """CVE-2024-4325, 2024-48052, 2024-47167, 2024-1183, 2026-28416: the server is sent elsewhere."""
    with Listener() as listener:
        url = url.format(port=listener.port)
        for file in ({"path": url, **FILE}, {"path": url}, {"url": url, **FILE}, {"path": "x", "url": url, **FILE}):
            for endpoint, data in (
                ("classify", ["", "", file]),
                ("explain", ["", "", file, None]),
                ("classify_batch", [file, None, "", "", ""]),
                # In the place of a text.
                ("classify", [file, "", None]),
            ):
                event, answer = call(web, endpoint, *data)
                assert event in ("error", "complete"), answer
                assert "secret" not in answer
                if event == "error":
                    assert re.search("upload|picture|null", answer), answer
        # The page's own functions, under their numbers.
        for number in functions.values():
            answer = web.post(
                "/gradio_api/run/predict",
                json={"fn_index": number, "data": [{"path": url, **FILE}] * 9, "session_hash": "abcdefghij"},
            )
            assert "secret" not in answer.text
        assert web.get(f"/gradio_api/file={url}").status_code in (400, 403)
        assert listener.connections == 0


def test_a_url_of_the_public_net_is_refused_and_not_tried(web):
    """Gradio would answer that it could not be reached."""
    for url in ("https://huggingface.co/x.png", "https://example.com/x.png"):
        event, answer = call(web, "classify", "", "", {"path": url, **FILE})
        assert event == "error" and "upload the file and send what the upload answers" in answer
        answer = web.get(f"/gradio_api/file={url}")
        assert answer.status_code == 403 and "fetches no address of another machine" in answer.text


OUTSIDE = ["/etc/passwd", str(REPOSITORY_ROOT / "app.py"), "../app.py", "app.log", "/proc/self/environ", "/dev/zero"]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize(
    "shape", [{}, FILE, {**FILE, "is_stream": True}, {**FILE, "orig_name": "a.svg"}, {"orig_name": "../../x.png"}]
)
def test_no_file_outside_is_read_for_a_message(web, place, path, shape):
    """CVE-2024-1728, 2024-4941, 2024-47868, 2024-51751, 2025-48889: a message names a file that was not uploaded."""
    file = {"path": path, **shape}
    for endpoint, data in (
        ("classify", ["", "", file]),
        ("explain", ["", "", file, None]),
        ("classify_batch", [file, None, "", "", ""]),
        ("classify_batch", [[file], file, "", "", ""]),
        ("classify", [file, [file], None]),
    ):
        event, answer = call(web, endpoint, *data)
        assert event == "error" or "probabilities" in answer
        for inside in ("root:x", "import gradio", SECRET, str(place), str(REPOSITORY_ROOT)):
            assert inside not in answer.replace(path, ""), answer


def test_an_uploads_name_stays_a_name(web, place):
    for name in ("../../../escaped.jpg", "/abs/escaped.jpg", "..\\..\\escaped.jpg", "a/../../escaped.jpg", ".escaped"):
        answer = upload(web, name)
        if answer.status_code == 200:
            path = Path(answer.json()[0]).resolve()
            assert path.is_relative_to((place / "uploads").resolve()) and path.is_file()
    outside = [path for path in place.rglob("*escaped*") if not path.resolve().is_relative_to(place / "uploads")]
    assert not outside and not list(place.parent.glob("*escaped*"))


def test_private_functions_have_no_name_and_queued_ones_no_way_round_the_queue(web, functions):
    for name in functions:
        if name not in ("classify", "explain", "classify_batch"):
            assert name.startswith("_") or "/" not in name
    answer = web.post("/gradio_api/run/classify", json={"data": ["canapé", "", None]})
    assert answer.status_code == 404
    for name in ("forget_visitor", "_score", "predict", "load_demo", "__class__", "../config"):
        assert web.post(f"/gradio_api/call/{name}", json={"data": []}).status_code >= 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"data": 5}', b'{"data": {}}', b"\xff" * 50, b"[" * 100_000])
@pytest.mark.parametrize("path", ["queue/join", "call/classify", "run/predict", "cancel", "upload"])
def test_a_broken_message_is_no_traceback(web, body, path):
    answer = web.post(f"/gradio_api/{path}", content=body, headers={"content-type": "application/json"})
    assert "Traceback" not in answer.text and "site-packages" not in answer.text


# --- Two visitors ---


def page_call(web, functions, name, session, *data, event_data=None):
    """One of the page's own functions, as a page calls it."""
    body = {"fn_index": functions[name], "data": list(data), "session_hash": session, "event_data": event_data}
    return web.post("/gradio_api/run/predict", json=body)


def test_a_message_without_a_visit_is_nobodys(web, functions):
    for name in ("_again", "_correct", "_choose_cell", "_stop"):
        numbers = {key: number for key, number in functions.items() if key.startswith(name)}
        for number in numbers.values():
            body = {"fn_index": number, "data": [0, "en"] if "again" in name else ["en"]}
            answer = web.post("/gradio_api/run/predict", json=body)
            assert answer.status_code >= 400, (name, answer.text)


def test_no_answer_names_another_visitors_event_session_or_file(web, address):
    mine = "mysessionmysession"
    path = upload(web, "mine.jpg", PICTURE.read_bytes() + b"mine").json()[0]
    posted = web.post(
        "/gradio_api/call/classify", json={"data": ["my secret", "", {"path": path, **FILE}], "session_hash": mine}
    ).json()["event_id"]
    for other in ("/config", "/", "/gradio_api/info", "/gradio_api/queue/status", "/gradio_api/app_id", "/gradio_api/user"):
        text = web.get(other).text
        assert mine not in text and path not in text and posted not in text and "my secret" not in text
    # Neither a guessed nor a neighbouring session or event gets it.
    for guess in (mine[:-1], mine.upper(), "", "null", "None", posted[:-1] + "0"):
        answer = web.get("/gradio_api/queue/data", params={"session_hash": guess}).text
        assert "my secret" not in answer and "prdtypecode" not in answer
        answer = web.get(f"/gradio_api/call/classify/{guess or 'x'}").text
        assert "prdtypecode" not in answer
    assert "prdtypecode" in web.get(f"/gradio_api/call/classify/{posted}").text


def test_a_folder_of_uploads_is_not_listed_and_a_name_is_not_guessed(web):
    path = Path(upload(web, "mine.csv", b"designation\nmy own secret\n").json()[0])
    assert re.fullmatch("[0-9a-f]{64}", path.parent.name)
    for guess in (path.parent, path.parent.parent, path.parent / "other.csv", path.parent.parent / ("0" * 64) / path.name):
        assert web.get(f"/gradio_api/file={guess}").status_code == 403
    answer = web.get(f"/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "private, no-store"


def test_the_apps_files_lie_in_folders_of_its_own(web, place):
    own = list((place / "uploads").iterdir())
    assert len(own) == 1 and own[0].name.startswith("rakuten-uploads-") and own[0].stat().st_mode & 0o077 == 0
    stranger = place / "uploads" / "of_another_app.txt"
    stranger.write_text("another app's")
    assert web.get(f"/gradio_api/file={stranger}").status_code == 403
    stranger.unlink()
