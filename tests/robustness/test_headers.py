"""Response headers, foreign origins, and texts that want to be HTML."""

import csv
import re

import pytest
from playwright.sync_api import expect

from rakuten_models.app.security.headers import HEADERS
from tests.support.app_client import PICTURE, SECRET, upload

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>${alert(1)}{{alert(2)}}'

# No tag, so that it stays in the cleaned text.
UNCLOSED = "<img src=x onerror=window.hacked=1"


def test_whatever_a_visitor_writes_shows_as_text(address, browser, tmp_path):
    """CVE-2021-43831, 2024-8021 and the like: a title, a description, file names, columns and cells as HTML."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    violations, dialogs = [], []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: "Content Security Policy" in message.text and violations.append(message.text))
    try:
        page.goto(address)
        page.get_by_label("Designation").fill(f"canapé {HOSTILE} {UNCLOSED}")
        page.get_by_label("Description").fill(HOSTILE)
        # As the models read it, without tags.
        expect(page.locator(".why .marked").first).to_have_text(f"canapé ${{alert(1)}}{{{{alert(2)}}}} {UNCLOSED}")
        broken = tmp_path / "<img src=x onerror=window.hacked=1> ${alert(1)}.jpg"
        broken.write_bytes(b"no picture")
        page.locator("#picture input[type=file]").set_input_files(broken)
        expect(page.locator(".note")).to_contain_text("cannot be read as a picture")
        page.get_by_role("tab", name="Catalog").click()
        catalog = tmp_path / "<img src=x onerror=window.hacked=1>.csv"
        with catalog.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([HOSTILE, "<b onmouseover=alert(3)>photo", "code"])
            writer.writerow([f"chaise {HOSTILE}", HOSTILE, "<i>10</i>"])
            writer.writerow([f"table {HOSTILE}", "a.jpg", "10"])
            writer.writerow([HOSTILE, HOSTILE, HOSTILE, HOSTILE])
        page.locator("#catalog-file input[type=file]").set_input_files(catalog)
        choose = page.get_by_label("Designation column")
        choose.fill(HOSTILE)
        choose.press("Enter")
        for label, column in (("Picture column", "<b onmouseover=alert(3)>photo"), ("Label column", "code")):
            page.get_by_label(label).fill(column)
            page.get_by_label(label).press("Enter")
        page.get_by_role("button", name="Score the catalog").click()
        expect(page.locator(".scored-title")).to_be_visible(timeout=30_000)
        expect(page.locator("body")).to_contain_text("<i>10</i>")
        expect(page.locator("#catalog-file")).to_contain_text("onerror")
        page.get_by_label("Français").check()
        expect(page.locator(".scored-title")).to_contain_text("Produits")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None and not dialogs
        for element in ("script:not([nonce])", "[onerror]", "[onmouseover]", "img[src=x]"):
            found = page.locator(f".gradio-container {element}").count()
            assert found == 0, element
        assert not violations
        # Were it to get into the page, it would not run there either.
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=2\">')")
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None and violations
    finally:
        context.close()


def check_headers(answer, *, page=False):
    for name, value in HEADERS.items():
        assert answer.headers[name] == value, (answer.url, name)
    policy = answer.headers["content-security-policy"]
    if page:
        assert "'unsafe-inline'" not in policy.partition("style-src")[0]
        assert "https://huggingface.co" in policy.partition("frame-ancestors")[2]
        assert "x-frame-options" not in answer.headers
    assert not re.search(r"\d+\.\d+", answer.headers.get("server", "")), "a version in the server's name"


def test_every_answer_has_the_headers(web):
    path = upload(web, "a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>").json()[0]
    check_headers(web.get("/"), page=True)
    script = re.search(r'src="\./(assets/[^"]+\.js)"', web.get("/").text)[1]
    for address in ("/config", "/gradio_api/info", "/theme.css", f"/{script}", "/gradio_api/nothing", "/nothing"):
        check_headers(web.get(address))
    file = web.get(f"/gradio_api/file={path}")
    check_headers(file)
    assert file.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in file.headers["content-security-policy"]
    picture = web.get(f"/gradio_api/file={upload(web).json()[0]}", headers={"range": "bytes=0-3", "x-inner": SECRET})
    assert picture.status_code == 200 and "x-inner" not in picture.headers and picture.content == PICTURE.read_bytes()
    check_headers(web.post("/gradio_api/call/classify", json={"data": ["a", "", None]}))


def test_the_page_may_use_the_camera_and_the_clipboard_and_no_other_device(address, browser):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(address)
        allowed = "(name) => document.featurePolicy.allowsFeature(name)"
        used, unused = ("camera", "clipboard-read", "fullscreen"), ("microphone", "geolocation", "usb")
        assert [page.evaluate(allowed, name) for name in (*used, *unused)] == [True] * 3 + [False] * 3
        # A page from elsewhere may not show the app inside itself.
        page.goto("data:text/html,<iframe></iframe>")
        page.locator("iframe").evaluate("(frame, address) => { frame.src = address; }", address)
        page.wait_for_timeout(1000)
        assert page.frames[-1].locator("gradio-app").count() == 0
    finally:
        context.close()


FOREIGN = [
    "http://evil.example",
    "https://huggingface.co",
    "null",
    "http://127.0.0.1.evil.example",
    "file://",
    "http://localhost.evil",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_no_other_website_uses_an_app_on_this_machine(web, origin):
    """CVE-2024-1727, 2024-47084, 2025-5320: a page from elsewhere sends its visitors' browsers here."""
    headers = {"origin": origin}
    assert upload(web, headers=headers).status_code == 403
    for method, path in (
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/call/classify"),
        ("GET", "/config"),
        ("GET", "/gradio_api/info"),
    ):
        answer = web.request(method, path, headers=headers, json={"data": []} if method == "POST" else None)
        assert answer.status_code == 403 and "another website" in answer.text
        assert "access-control-allow-origin" not in answer.headers
    preflight = web.options("/gradio_api/queue/join", headers={**headers, "access-control-request-method": "POST"})
    assert "access-control-allow-origin" not in preflight.headers


def test_the_apps_own_page_is_no_other_website(web, address):
    for origin in (address, address.replace("127.0.0.1", "localhost")):
        assert web.get("/config", headers={"origin": origin}).status_code == 200
