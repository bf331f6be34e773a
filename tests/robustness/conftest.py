"""One app for all of these tests: the starter bundle, with a token of the hub in its environment."""

import sys

import httpx
import pytest

from tests.support.app_client import SECRET
from tests.support.app_server import REPOSITORY_ROOT, app_process


@pytest.fixture(scope="session")
def app_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="session")
def address(app_folder):
    command = [sys.executable, str(REPOSITORY_ROOT / "app.py")]
    with app_process(command, app_folder, HF_TOKEN=SECRET) as (address, _):
        yield address
    log = (app_folder / "app.log").read_text(encoding="utf-8")
    assert "Traceback" not in log and SECRET not in log and "my own secret" not in log


@pytest.fixture(scope="session")
def web(address):
    with httpx.Client(base_url=address, timeout=30) as web:
        yield web


@pytest.fixture(scope="session")
def functions(web):
    """The numbers of the page's own functions, by the names that Gradio gave them."""
    return {each["api_name"]: each["id"] for each in web.get("/config").json()["dependencies"]}
