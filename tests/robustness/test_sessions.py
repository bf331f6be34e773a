"""Two visitors share nothing, and no answer or log holds a secret."""

import contextlib
import subprocess
import sys

from playwright.sync_api import expect

from tests.support.app_client import FILE, PICTURE, SECRET, Listener, call, upload
from tests.support.app_server import REPOSITORY_ROOT, app_environment, free_port


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
    for other in (
        "/config",
        "/",
        "/gradio_api/info",
        "/gradio_api/queue/status",
        "/gradio_api/app_id",
        "/gradio_api/user",
    ):
        text = web.get(other).text
        assert mine not in text and path not in text and posted not in text and "my secret" not in text
    # Neither a guessed nor a neighbouring session or event gets it.
    for guess in (mine[:-1], mine.upper(), "null", "None", posted[:-1] + "_"):
        answer = web.get("/gradio_api/queue/data", params={"session_hash": guess}).text
        assert "my secret" not in answer and "prdtypecode" not in answer
        answer = web.get(f"/gradio_api/call/classify/{guess or 'x'}").text
        assert "prdtypecode" not in answer
    assert "prdtypecode" in web.get(f"/gradio_api/call/classify/{posted}").text


def test_two_browsers_share_nothing(address, browser, tmp_path):
    """Inputs, pictures, catalogs, corrections, thresholds and files of one visitor beside another's."""
    seen = {}
    with contextlib.ExitStack() as stack:
        pages = {}
        for name in ("anna", "bert"):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            stack.callback(context.close)
            page = pages[name] = context.new_page()
            seen[name] = []
            # All answers but the stream that says how long a page is open.
            page.on("response", lambda answer, name=name: "/heartbeat/" in answer.url or seen[name].append(answer))
            page.goto(address)
        for name, page in pages.items():
            page.get_by_label("Designation").fill(f"{name} typed this canapé")
            expect(page.locator(".why .marked")).to_contain_text(name)
            page.get_by_role("tab", name="Catalog").click()
            file = tmp_path / f"{name}.csv"
            file.write_text(f"designation\n{name} scored this canapé\n{name} and this\n", encoding="utf-8")
            page.locator("#catalog-file input[type=file]").set_input_files(file)
            expect(page.get_by_label("Designation column")).to_have_value("designation")
        anna, bert = pages.values()
        anna.get_by_role("tab", name="Model").click()
        anna.locator("#threshold input[type=number]").fill("1")
        anna.locator("#threshold input[type=number]").press("Enter")
        for page in pages.values():
            page.get_by_role("tab", name="Catalog").click()
            page.get_by_role("button", name="Score the catalog").click()
            expect(page.locator(".scored-title")).to_be_visible(timeout=30_000)
        # A threshold of 1 leaves both rows to Anna; what she picks is hers.
        expect(anna.locator(".review-rows select")).to_have_count(2)
        anna.locator(".review-rows select").first.select_option("1560")
        expect(anna.locator("#review-count")).to_have_text("Rows reviewed: 1")
        expect(bert.locator("#review-count")).to_have_text("")
        assert "anna" not in bert.content() and "bert" not in anna.content()
        bert.get_by_role("tab", name="Model").click()
        assert bert.locator("#threshold input[type=number]").first.input_value() != "1"
        texts = {name: "".join(_body(answer) for answer in answers) for name, answers in seen.items()}
    assert "anna" in texts["anna"] and "bert" in texts["bert"]
    assert "anna" not in texts["bert"] and "bert" not in texts["anna"]
    assert SECRET not in "".join(texts.values())


def _body(answer):
    try:
        return answer.text()
    # Streams that have not ended, and pictures.
    except Exception:
        return ""


def test_the_hubs_token_is_nowhere(web, app_folder, tmp_path):
    """CVE-2023-34239, 2024-0964 and others end at what the environment holds; here the app was asked for anything."""
    for path in (
        "/",
        "/config",
        "/gradio_api/info",
        "/theme.css",
        "/gradio_api/queue/status",
        "/gradio_api/openapi.json",
    ):
        assert SECRET not in web.get(path).text
    call(web, "classify", "canapé", "", {"path": "/proc/self/environ", **FILE})
    call(web, "classify_batch", {"path": upload(web, "a.csv", b"\xff\xfe").json()[0], **FILE}, None, "", "", "")
    assert SECRET not in (app_folder / "app.log").read_text(encoding="utf-8")


def test_a_failed_download_does_not_say_the_token(tmp_path):
    with Listener() as listener:
        environment = app_environment(
            HF_TOKEN=SECRET,
            HF_ENDPOINT=f"http://127.0.0.1:{listener.port}",
            HF_HOME=str(tmp_path),
            HF_HUB_DISABLE_XET="1",
            HF_DEBUG="0",
        )
        environment["HF_HUB_OFFLINE"] = "0"
        done = subprocess.run(
            [sys.executable, "app.py", "--bundle", "someone/private", "--port", str(free_port())],
            cwd=REPOSITORY_ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 2 and listener.connections
    assert SECRET not in done.stdout + done.stderr and done.stderr.count("error: ") == 1


def test_the_log_names_no_visitor_and_holds_no_traceback(address, app_folder):
    log = (app_folder / "app.log").read_text(encoding="utf-8")
    assert "Traceback" not in log and "my own secret" not in log and "canap" not in log
