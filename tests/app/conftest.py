"""The app with the tiny bundle, and its visitors."""

import contextlib
import re

import pytest
from gradio_client import Client


@pytest.fixture(scope="module")
def address(serve_app, tiny_bundle):
    return serve_app(tiny_bundle)


@pytest.fixture(scope="module")
def client(address):
    with contextlib.closing(Client(address, verbose=False)) as client:
        yield client


@pytest.fixture
def session(browser, address):
    """Opens the page as another visitor each time, on a tab.

    Fails in the end if a script failed in one of them or a page asked any other host for anything.
    """
    from playwright.sync_api import expect

    contexts, failures, requested = [], [], []

    def open_page(tab=None, **settings):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        expect(page.locator("#designation").get_by_role("textbox")).to_be_visible()
        if tab:
            page.get_by_role("tab", name=re.compile(tab)).click()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not failures
    assert not [url for url in requested if not url.startswith((address, "data:", "blob:"))]
