"""The app's addresses: what is served, what is not, and that no message makes it read a file or fetch a URL."""

import random
import re

import pytest

from rakuten_models.app.examples import EXAMPLES_FOLDER
from tests.support.app_client import FILE, SECRET, Listener, call, get_raw
from tests.support.app_server import REPOSITORY_ROOT

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
                # Instead of a text.
                ("classify", [file, "", None]),
            ):
                event, answer = call(web, endpoint, *data)
                assert event in ("error", "complete"), answer
                assert "secret" not in answer
                if event == "error":
                    assert re.search("upload|picture|null", answer), answer
        # The page's own functions, under their numbers.
        for number in functions.values() if url in (URLS[0].format(port=listener.port), URLS[-1]) else ():
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
def test_no_file_outside_is_read_for_a_message(web, app_folder, path, shape):
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
        for inside in ("root:x", "import gradio", SECRET, str(app_folder), str(REPOSITORY_ROOT)):
            assert inside not in answer.replace(path, ""), answer


def test_queued_functions_have_no_way_round_the_queue_and_others_no_name(web):
    answer = web.post("/gradio_api/run/classify", json={"data": ["canapé", "", None]})
    assert answer.status_code == 404
    for name in ("job", "predict", "load_demo", "__class__", "../config"):
        assert web.post(f"/gradio_api/call/{name}", json={"data": []}).status_code >= 400


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"data": 5}', b'{"data": {}}', b"\xff" * 50, b"[" * 100_000]
)
@pytest.mark.parametrize("path", ["queue/join", "call/classify", "run/predict", "cancel", "upload"])
def test_a_broken_message_is_no_traceback(web, body, path):
    answer = web.post(f"/gradio_api/{path}", content=body, headers={"content-type": "application/json"})
    assert "Traceback" not in answer.text and "site-packages" not in answer.text
