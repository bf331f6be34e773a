"""The app started for real and called as programs call it, and the page's HTML read as a visitor reads it."""

import json
import re
import shutil
import subprocess
import sys

import httpx
import numpy as np
import pytest
from gradio_client import handle_file

import app
from rakuten_models import Category, Prediction, Product, ProductClassifier
from rakuten_models.app import launch
from rakuten_models.app.examples import EXAMPLES, EXAMPLES_FOLDER
from rakuten_models.app.page import build_demo
from rakuten_models.app.views.prediction import answer_html, head_html
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError
from rakuten_models.inference import runtime
from rakuten_models.inference.runtime import CompiledModel
from tests.support.app_server import BUNDLE_VARIABLES, REPOSITORY_ROOT, app_environment, free_port


def assert_same_answer(answer: dict, classifier: ProductClassifier, product: Product) -> None:
    prediction = classifier.predict(product)
    assert answer["prdtypecode"] == prediction.category.prdtypecode
    assert answer["category"] == {"en": prediction.category.name("en"), "fr": prediction.category.name("fr")}
    assert answer["probability"] == pytest.approx(prediction.probability, abs=1e-6)
    assert answer["decision"] == prediction.decision
    assert answer["image_weight"] == pytest.approx(prediction.image_weight, abs=1e-6)
    assert len(answer["probabilities"]) == len(classifier.categories)
    assert answer["error"] is None


def test_text_is_classified(client, classifier):
    answer = client.predict(designation="canapé de salon", api_name="/classify")
    assert_same_answer(answer, classifier, Product("canapé de salon"))
    assert answer["text"]["prdtypecode"] == answer["prdtypecode"] and answer["image"] is None


def test_picture_is_classified(client, classifier):
    picture = EXAMPLES_FOLDER / "pool.jpg"
    answer = client.predict(image=handle_file(picture), api_name="/classify")
    assert_same_answer(answer, classifier, Product(image=picture))
    assert answer["text"] is None and answer["image"]["prdtypecode"] == answer["prdtypecode"]


def test_both_are_classified(client, classifier):
    picture = EXAMPLES_FOLDER / "controller.jpg"
    answer = client.predict("manette", "sans fil", handle_file(picture), api_name="/classify")
    assert_same_answer(answer, classifier, Product("manette", "sans fil", picture))
    assert answer["text"] is not None and answer["image"] is not None and 0 < answer["image_weight"] < 1


def test_empty_input_gets_a_sentence(client):
    answer = client.predict(api_name="/classify")
    assert answer["error"] == "The product holds no text and no picture; give a designation or a picture."
    assert answer["prdtypecode"] is None and answer["decision"] == "review"


@pytest.mark.parametrize(("content", "said"), [(b"this is no picture", "picture"), (b"", "empty (0 bytes)")])
def test_unreadable_picture_gets_a_sentence_and_the_texts_answer(client, tmp_path, content, said):
    picture = tmp_path / "broken.jpg"
    picture.write_bytes(content)
    alone = client.predict(image=handle_file(picture), api_name="/classify")
    assert "'broken.jpg'" in alone["error"] and said in alone["error"] and alone["category"] is None
    beside_text = client.predict(designation="canapé", image=handle_file(picture), api_name="/classify")
    assert beside_text["error"] == alone["error"] and beside_text["image_weight"] == 0.0


def call(address: str, *data, endpoint: str = "classify") -> str:
    """What an endpoint answers to a program that talks HTTP."""
    event = httpx.post(f"{address}/gradio_api/call/{endpoint}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{address}/gradio_api/call/{endpoint}/{event}", timeout=20).text


@pytest.mark.parametrize("marks", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_no_file_of_the_server_can_be_named_as_a_picture(address, marks):
    answer = call(address, "", "", {"path": str(REPOSITORY_ROOT / "app.py"), **marks})
    assert answer.startswith("event: error") and re.search("is not here, or no longer|was not uploaded", answer)
    assert httpx.get(f"{address}/gradio_api/file={REPOSITORY_ROOT / 'app.py'}").status_code == 403


@pytest.mark.parametrize("payload", [5, "pool.jpg", [], {"path": 5}, {"path": "http://127.0.0.1:1/"}])
@pytest.mark.parametrize("endpoint", ["classify", "classify_batch"])
def test_what_is_no_file_gets_a_sentence(address, endpoint, payload):
    values = ["chaise", "", payload] if endpoint == "classify" else [payload, None, "", "", ""]
    answer = call(address, *values, endpoint=endpoint)
    assert answer.startswith("event: error")
    assert "upload the file and send" in answer or "upload it again" in answer


@pytest.mark.parametrize("code", ["abc", 2.5, 1e300, [1], "x" * 1000])
def test_what_is_no_code_gets_a_sentence(address, code):
    answer = call(address, "chaise", "", None, code, endpoint="explain")
    assert "know no category with the prdtypecode" in answer and len(answer) < 400


def test_a_picture_inside_the_message_is_read_or_refused_with_a_sentence(address):
    answer = call(address, "", "", {"url": "data:image/png;base64,aGVsbG8="})
    assert "address holds no picture; upload a JPEG, PNG, WebP or GIF file." in answer


def test_missing_texts_may_be_null(address):
    assert "holds no text and no picture" in call(address, None, None, None)


PARAMETERS = {
    "/classify": [("designation", ""), ("description", ""), ("image", None)],
    "/explain": [("designation", ""), ("description", ""), ("image", None), ("prdtypecode", None)],
    "/classify_batch": [("catalog", None), ("pictures", None), ("designation", ""), ("description", ""), ("image", "")],
}


def test_every_action_is_a_named_endpoint_and_nothing_else_is_public(client):
    endpoints = client.view_api(return_format="dict", print_info=False)
    assert not endpoints["unnamed_endpoints"]
    found = {
        name: [(each["parameter_name"], each["parameter_default"]) for each in endpoint["parameters"]]
        for name, endpoint in endpoints["named_endpoints"].items()
    }
    assert found == PARAMETERS


def test_a_category_is_explained(client, classifier):
    answer = client.predict(designation="canapé de salon", api_name="/explain")
    prediction = classifier.predict(Product("canapé de salon"))
    assert answer["prdtypecode"] == prediction.category.prdtypecode
    assert answer["probability"] == pytest.approx(prediction.probability, abs=1e-6)
    text = "canapé de salon"
    assert answer["words"] and all(text[word["start"] : word["end"]] == word["text"] for word in answer["words"])
    assert answer["heat_map"] is None
    other = next(each for each in classifier.categories if each.prdtypecode != answer["prdtypecode"])
    answer = client.predict(
        image=handle_file(EXAMPLES_FOLDER / "pool.jpg"), prdtypecode=other.prdtypecode, api_name="/explain"
    )
    assert answer["category"]["en"] == other.name("en") and len(answer["heat_map"]) == len(answer["heat_map"][0])


@pytest.mark.parametrize(
    ("values", "sentence"), [({}, "holds no text and no picture"), ({"designation": "chaise", "prdtypecode": 99}, "99")]
)
def test_what_cannot_be_explained_gets_a_sentence(client, values, sentence):
    with pytest.raises(Exception, match=sentence):
        client.predict(**values, api_name="/explain")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl_reaches_an_endpoint(address):
    def curl(*arguments):
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    data = json.dumps({"data": ["canapé de salon", "", None]})
    event = json.loads(curl(f"{address}/gradio_api/call/classify", "-H", "Content-Type: application/json", "-d", data))
    answer = curl("-N", f"{address}/gradio_api/call/classify/{event['event_id']}")
    assert answer.startswith("event: complete") and '"prdtypecode"' in answer


def test_an_answer_with_its_explanation_takes_one_pass_of_the_models(no_bundle_chosen, monkeypatch):
    """Through the page's own function and its queue, as the browser calls it."""
    runs, decoded = [], []
    run, decode = CompiledModel._call, runtime.decode_image

    def counted_run(model, signature, inputs):
        runs.append((model.path.name, signature))
        return run(model, signature, inputs)

    def counted_decode(image, size):
        decoded.append(image)
        return decode(image, size)

    monkeypatch.setattr(CompiledModel, "_call", counted_run)
    monkeypatch.setattr(runtime, "decode_image", counted_decode)
    demo = launch.load_demo(None)
    runs.clear()
    decoded.clear()
    _, address, _ = demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        with httpx.Client(base_url=f"{address}gradio_api", timeout=20) as web:
            functions = {each["api_name"]: each["id"] for each in demo.config["dependencies"]}
            files = {"files": ("pool.jpg", (EXAMPLES_FOLDER / "pool.jpg").read_bytes())}
            picture = {"path": web.post("/upload", files=files).json()[0], "meta": {"_type": "gradio.FileData"}}

            def call_page(name, *data, **more):
                body = {"fn_index": functions[name], "data": data, "session_hash": "0123456789a", **more}
                web.post("/queue/join", json=body).raise_for_status()
                return web.get("/queue/data", params={"session_hash": "0123456789a"}).text

            answer = call_page("_show", "piscine", "ronde", picture, "en", 0.5, None, "en")
            assert "verdict" in answer and 'class=\\"heat' in answer
            assert sorted(runs) == [
                ("fusion_model.tflite", "serving_default"),
                ("image_model.tflite", "serving_default"),
                ("text_model.tflite", "explain"),
                ("text_model.tflite", "serving_default"),
            ]
            assert len(decoded) == 1
            runs.clear()
            given = ["piscine", "ronde", picture, "fr", 0.5]
            other = call_page("_choose", *given, event_data={"code": 1560})
            assert "1560" in other and runs == [("text_model.tflite", "explain")] and len(decoded) == 1
    finally:
        demo.close()


def test_repository_comes_before_the_folder_and_a_failed_load_ends_the_app(tiny_bundle, tmp_path):
    environment = app_environment(
        RAKUTEN_MODEL_REPO="someone/nothing", RAKUTEN_BUNDLE=str(tiny_bundle), HF_HOME=str(tmp_path)
    )
    command = [sys.executable, "app.py", "--port", str(free_port())]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=environment, capture_output=True, text=True, timeout=60)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert done.returncode == 2 and done.stdout == ""
    assert len(errors) == 1 and errors[0].startswith("error: ") and "someone/nothing" in errors[0]


def test_a_tool_server_without_its_library_ends_the_app_with_the_command_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert run_command(launch.main, ["--mcp", "--port", str(free_port())]) == 2
    assert "-r requirements-mcp.txt` in an environment of its own" in capsys.readouterr().err


@pytest.fixture
def no_bundle_chosen(monkeypatch):
    for name in BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_wrong_folder_ends_the_app(no_bundle_chosen, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RAKUTEN_BUNDLE", str(tmp_path / "absent"))
    assert run_command(launch.main, ["--port", str(free_port())]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: RAKUTEN_BUNDLE names the folder") and output.err.count("\n") == 1
    assert output.out == ""


def test_taken_port_ends_the_app_before_anything_is_loaded(address, capsys):
    assert run_command(launch.main, ["--bundle", "not even looked at", "--port", address.rpartition(":")[2]]) == 2
    error = capsys.readouterr().err
    assert "in use" in error and "choose another with --port or --host" in error and error.count("\n") == 1


def test_host_of_another_machine_ends_the_app(capsys):
    # An address kept free for documentation (RFC 5737): nobody's.
    assert run_command(launch.main, ["--host", "192.0.2.1", "--port", str(free_port())]) == 2
    assert "The page cannot be served on 192.0.2.1:" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "70000", "web"])
def test_port_is_a_port(capsys, port):
    with pytest.raises(SystemExit) as end:
        launch.main(["--port", port])
    assert end.value.code == 2 and "is no port; give a number from 1 to 65535" in capsys.readouterr().err


def test_a_platform_may_launch_the_modules_demo(tiny_bundle, no_bundle_chosen, monkeypatch):
    assert "demo" not in vars(app)
    monkeypatch.setenv("RAKUTEN_BUNDLE", str(tiny_bundle))
    demo = app.demo
    assert app.demo is demo
    del app.demo
    _, address, _ = demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        config = httpx.get(f"{address}config").json()
    finally:
        demo.close()
    assert config["title"] == "Product classifier" and config["analytics_enabled"] is False
    assert ".answer" in config["css"]


def test_the_environment_may_name_a_second_bundle(tiny_bundle, no_bundle_chosen, monkeypatch):
    def tabs():
        components = launch.load_demo(str(tiny_bundle)).config["components"]
        return [each["props"]["id"] for each in components if each["type"] == "tabitem"]

    assert tabs() == ["classify", "catalog", "model"]
    monkeypatch.setenv("RAKUTEN_COMPARE_REPO", str(tiny_bundle))
    assert tabs() == ["classify", "catalog", "model", "compare"]
    monkeypatch.setenv("RAKUTEN_COMPARE_REVISION", "v1")
    with pytest.raises(RakutenModelsError, match="revisions belong to hub repositories"):
        tabs()


@pytest.mark.parametrize(("asked", "sends"), [(None, False), ("True", True), ("False", False)])
def test_usage_figures_are_sent_only_if_asked(classifier, monkeypatch, asked, sends):
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    if asked is not None:
        monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", asked)
    # What a page would send, or ask about newer versions, goes nowhere.
    monkeypatch.setattr("gradio.analytics.initiated_analytics", lambda data: None)
    monkeypatch.setattr("gradio.analytics.version_check", lambda: None)
    assert build_demo(classifier).analytics_enabled is sends


def test_examples_exist_and_are_small():
    pictures = {picture for _, _, _, picture in EXAMPLES if picture}
    assert pictures == {path.name for path in EXAMPLES_FOLDER.glob("*.jpg")}
    assert all((EXAMPLES_FOLDER / picture).stat().st_size <= 30_000 for picture in pictures)


# What a person would answer, in the order of EXAMPLES; None for the doubtful one.
EXAMPLE_CODES = (1560, 2583, 50, 2585, 1920, None)


@pytest.mark.skipif(not (STARTER_FOLDER / "config.json").exists(), reason="the starter bundle is not there yet")
def test_the_starter_bundle_knows_the_clear_examples_and_doubts_the_doubtful_one():
    products = [
        Product(designation, description, EXAMPLES_FOLDER / picture if picture else None)
        for _, designation, description, picture in EXAMPLES
    ]
    clear, doubtful = [], []
    for code, prediction in zip(EXAMPLE_CODES, ProductClassifier.from_pretrained().predict(products), strict=True):
        (doubtful if code is None else clear).append(prediction.probability)
        assert code is None or code in [category.prdtypecode for category, _ in prediction.top(2)]
    assert max(doubtful) < min(clear)


CATEGORIES = tuple(Category(index, 100 + index, {"en": f"Shelf {index}", "fr": f"Rayon {index}"}) for index in range(7))

SPREAD = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.03, 0.02], np.float32)


def test_answer_shows_names_code_probability_decision_and_all_categories():
    html = answer_html(
        Prediction(CATEGORIES, CATEGORIES[0], 0.4, SPREAD, SPREAD[::-1].copy(), SPREAD, 0.375, "review"), 0.6
    )
    for words in ("Shelf 0", "Rayon 0", "40.0%", "Review", "below 60.0%", "Show all 7 categories", "Text 62%"):
        assert words in html
    assert html.count("<li>") == 7
    assert html.count("differs") == 2  # the class and the word, once: only the text answers otherwise
    assert "Picture 38%" in html


def test_one_sided_answer_says_which_side_is_absent():
    html = answer_html(Prediction(CATEGORIES, CATEGORIES[0], 0.4, SPREAD, SPREAD, None, 0.0, "accept"), 0.3)
    assert "No picture given" in html and "Needs text and picture" in html and "Accept" in html


def test_note_for_an_unreadable_picture():
    html = answer_html(
        Prediction(CATEGORIES, CATEGORIES[0], 0.4, SPREAD, SPREAD, None, 0.0, "review", "The picture 'a' is empty."),
        None,
    )
    assert "The picture &#x27;a&#x27; is empty. This answer comes from the text alone." in html
    assert "Not readable" in html


def test_nothing_from_outside_becomes_html_or_a_template():
    hostile = "<img src=x onerror=alert(1)>${alert(2)}{{alert(3)}}\"'&"
    category = Category(0, 1, {"en": hostile, "fr": hostile})
    one = np.ones(1, np.float32)
    pages = (
        answer_html(Prediction((category,), category, 1.0, one, one, one, 0.5, "accept", hostile), 0.5),
        answer_html(Prediction((), error=hostile), None),
        head_html((category,), hostile, hostile),
    )
    for html in pages:
        assert "<img" not in html and "${" not in html and "{{" not in html
