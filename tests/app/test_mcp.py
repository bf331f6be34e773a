"""The app as a tool server, asked by a real client of the protocol.

The library pins an older pydantic, so it lives in an environment of its own: requirements-mcp.txt, and pytest. The
starter bundle answers here, for that environment holds no training library.
"""

import ast
import asyncio
import base64

import pytest

pytest.importorskip("mcp", reason="mcp is not installed; see requirements-mcp.txt")

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from rakuten_models import Product
from rakuten_models.app.examples import EXAMPLES_FOLDER

PICTURE = EXAMPLES_FOLDER / "pool.jpg"


@pytest.fixture(scope="module")
def address(serve_app):
    return serve_app(None, "--mcp")


@pytest.fixture(scope="module")
def classifier(starter):
    return starter


def ask(address, *calls):
    """What an agent gets: the list of tools, and each call's (is an error, text)."""

    async def session():
        async with (
            streamable_http_client(f"{address}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            tools = (await client.list_tools()).tools
            results = [await client.call_tool(name, values) for name, values in calls]
            return tools, [(result.isError, result.content[0].text) for result in results]

    return asyncio.run(session())


def as_data(content, kind):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def test_every_action_is_a_described_tool(address):
    tools, _ = ask(address)
    assert {tool.name for tool in tools} == {"classify", "explain", "classify_batch"}
    for tool in tools:
        assert "Returns:" in tool.description and ",," not in tool.description
        for name, parameter in tool.inputSchema["properties"].items():
            assert parameter["description"], (tool.name, name)


def test_a_text_and_a_picture_are_answered_as_by_the_package(address, classifier):
    picture = as_data(PICTURE.read_bytes(), "image/jpeg")
    _, answers = ask(address, ("classify", {"designation": "Piscine tubulaire"}), ("classify", {"image": picture}))
    products = [Product("Piscine tubulaire"), Product(image=PICTURE)]
    for (failed, text), prediction in zip(answers, classifier.predict(products), strict=True):
        answer = ast.literal_eval(text)
        assert not failed and answer["prdtypecode"] == prediction.category.prdtypecode
        assert answer["probability"] == pytest.approx(prediction.probability, abs=1e-6)


def test_words_are_explained_and_a_catalog_is_scored(address):
    catalog = as_data(b'designation\npiscine tubulaire\n""\n', "text/csv")
    _, (explained, scored) = ask(
        address, ("explain", {"designation": "Piscine tubulaire"}), ("classify_batch", {"catalog": catalog})
    )
    assert not explained[0] and "'Piscine'" in explained[1]
    assert not scored[0] and "_scored.csv" in scored[1]


def test_what_is_wrong_is_said_in_a_sentence(address):
    _, answers = ask(
        address,
        ("classify", {}),
        ("explain", {"designation": "chaise", "prdtypecode": 99}),
        ("classify", {"image": "/etc/passwd"}),
        ("classify", {"image": "https://huggingface.co/picture.png"}),
    )
    assert "holds no text and no picture" in answers[0][1]
    assert answers[1][0] and "no category with the prdtypecode 99" in answers[1][1]
    assert answers[2][0] and "provide a url" in answers[2][1]
    # The library offers to fetch what an agent names; the app does not.
    assert answers[3][0] and "upload the file" in answers[3][1]
