"""The app behind a login."""

import contextlib

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import expect

from rakuten_models.app import launch
from rakuten_models.app.security.login import LoginError, line_of, read_users
from rakuten_models.cli import run_command
from tests.support.app_client import PICTURE
from tests.support.app_server import free_port, running_app


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    file = tmp_path_factory.mktemp("login") / "users.txt"
    file.write_text(f"# Those who may\nanna:pass:word\n{line_of('bert', 'hé secret')}\n", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def closed_address(users, tmp_path_factory):
    with running_app(None, tmp_path_factory.mktemp("app"), "--auth-file", str(users)) as address:
        yield address


def test_the_page_asks_for_the_login(closed_address, browser):
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(closed_address)
        page.locator("input").nth(0).fill("anna")
        page.locator("input").nth(1).fill("pass:word")
        page.get_by_role("button", name="Login").click()
        page.get_by_label("Designation").fill("canapé")
        expect(page.locator(".verdict h2")).to_be_visible()
    finally:
        context.close()


# Ends with so many wrong passwords that the app takes none for a while.
def test_without_a_login_there_is_nothing_to_be_had(closed_address):
    with httpx.Client(base_url=closed_address, timeout=30) as web:
        assert web.get("/").status_code == 200 and '"components":[]' in web.get("/").text.replace(" ", "")
        for method, path in (
            ("GET", "/config"),
            ("GET", "/gradio_api/info"),
            ("POST", "/gradio_api/upload"),
            ("POST", "/gradio_api/queue/join"),
            ("GET", "/gradio_api/queue/data?session_hash=a"),
            ("POST", "/gradio_api/call/classify"),
            ("POST", "/gradio_api/run/predict"),
            ("POST", "/gradio_api/cancel"),
            ("GET", "/gradio_api/heartbeat/a"),
            ("GET", f"/gradio_api/file={PICTURE}"),
        ):
            assert web.request(method, path, json={} if method == "POST" else None).status_code == 401, path
        for name, password in (("anna", "wrong"), ("nobody", "pass:word"), ("bert", ""), ("", "")):
            answer = web.post("/login", data={"username": name, "password": password})
            assert answer.status_code in (400, 422)
        assert web.post("/login", data={"username": "anna", "password": "pass:word"}).status_code == 200
        assert web.get("/config").status_code == 200
        # With the browser's cookie, another website's page gets nothing all the same.
        assert web.get("/config", headers={"origin": "https://evil.example"}).status_code == 403
        with contextlib.closing(Client(closed_address, auth=("bert", "hé secret"), verbose=False)) as client:
            assert client.predict(designation="canapé", api_name="/classify")["prdtypecode"]
        web.cookies.clear()
        answers = [web.post("/login", data={"username": "anna", "password": "no"}).status_code for _ in range(12)]
        assert answers[-1] == 429 and 400 in answers


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("anna:x\n", 0o644, "chmod 600"),
        ("anna:x\n", 0o620, "chmod 600"),
        ("anna\n", 0o600, "Line 1 of"),
        ("anna:x\n:y\n", 0o600, "Line 2 of"),
        ("anna:\n", 0o600, "Line 1 of"),
        ("anna:x\nanna:secret2\n", 0o600, "names a user again"),
        ("anna:scrypt:1:2:3$x\n", 0o600, "has no hash of the form"),
        (f"anna:scrypt:9999999:99:99$salt${'0' * 64}\n", 0o600, "has no hash of the form"),
        ("# nobody\n", 0o600, "names no user"),
        (b"anna:\xff\n", 0o600, "UTF-8"),
        (None, 0o600, "does not exist"),
    ],
)
def test_a_wrong_file_of_users_ends_the_app_with_a_sentence(tmp_path, capsys, content, mode, said):
    file = tmp_path / "users.txt"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(mode)
    assert run_command(launch.main, ["--auth-file", str(file), "--port", str(free_port())]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "secret2" not in error


def test_a_users_line_is_checked_and_holds_no_password(users):
    belongs = read_users(users)
    assert belongs("bert", "hé secret") and belongs("anna", "pass:word")
    assert not belongs("bert", "hé Secret") and not belongs("anna", "") and not belongs("carl", "")
    assert "secret" not in line_of("bert", "hé secret")
    for name, password in (("a:b", "x"), ("", "x"), ("#a", "x"), ("a", "")):
        with pytest.raises(LoginError):
            line_of(name, password)


def test_agents_and_a_login_do_not_go_together(users, capsys, monkeypatch):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    assert run_command(launch.main, ["--mcp", "--auth-file", str(users), "--port", str(free_port())]) == 2
    assert "Agents cannot log in" in capsys.readouterr().err
