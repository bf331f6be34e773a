"""Untrusted bundles: what is refused, in which sentence, and that none takes down or deceives who loads it."""

import collections
import contextlib
import json
import os
import pickle
import random
import shutil
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rakuten_models import ProductClassifier
from rakuten_models.bundle import sandbox
from rakuten_models.bundle.config import (
    CONFIG_FILE,
    HASHED_FILES,
    KERAS_FILES,
    MAX_SIZES,
    PLOT_FILES,
    SERVING_MODEL_FILES,
    TOKENIZER_FILE,
)
from rakuten_models.bundle.folder import validate_bundle
from rakuten_models.classifier import SELF_CHECK_TOLERANCE, STARTER_FOLDER
from rakuten_models.errors import BundleError
from tests.support.loading_process import OTHER_PRODUCTS, caller
from tests.support.mutated_bundles import fit_hashes, linked_copy, mutate, replace

SECONDS_TO_HANG = sandbox.START_SECONDS + sandbox.MAX_TIMES * sandbox.SECONDS


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """The starter bundle somewhere else: untrusted, as far as the package knows."""
    return shutil.copytree(STARTER_FOLDER, tmp_path_factory.mktemp("untrusted") / "bundle")


@pytest.fixture
def bundle(pristine, tmp_path):
    """Hard links to it, of which a test may replace one."""
    return linked_copy(pristine, tmp_path / "bundle")


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        ProductClassifier.from_pretrained(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 1000
    return sentence


def change_config(folder, change):
    content = json.loads((folder / CONFIG_FILE).read_bytes())
    change(content)
    replace(folder / CONFIG_FILE, json.dumps(content).encode())


# What stands in config.json.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["files"].update({"../outside.json": c["files"][TOKENIZER_FILE]}), "files lists '../outside"),
        (lambda c: c["files"].update({"/etc/passwd": c["files"][TOKENIZER_FILE]}), "files lists '/etc/passwd'"),
        (lambda c: c["files"].update({"code.py": c["files"][TOKENIZER_FILE]}), "files lists 'code.py'"),
        (lambda c: c["files"][TOKENIZER_FILE].update(size=10**12), "files.tokenizer.json.size is 1000000000000"),
        (lambda c: c["files"][TOKENIZER_FILE].update(size=True), "size is True, expected a whole number"),
        (lambda c: c["files"][TOKENIZER_FILE].update(sha256="../x"), "expected 64 hex digits"),
        (lambda c: c.update(format_version=3), "says format version 3, but this package reads version 2; update"),
        (lambda c: c.update(format_version=True), "says format version True"),
        (lambda c: c.update(format_version=1.0), "says format version 1.0"),
        (lambda c: c.update(format_version="x" * 10_000), "xxx..."),
        (lambda c: c["categories"][0].update(index=False), "categories[0].index is False"),
        (lambda c: c["categories"][0].update(prdtypecode="10"), "categories[0].prdtypecode is '10'"),
        (lambda c: c["categories"][0].update(prdtypecode=2**63), "prdtypecode is 9223372036854775808"),
        (lambda c: c["categories"][0].update(names={"en": "a\x1b[2J"}), "characters that can be shown"),
        (lambda c: c["categories"][0].update(names={"en": "\ud800"}), "characters that can be shown"),
        (lambda c: c["categories"][0].update(names={"en": "x" * 5000}), "has 5000 characters"),
        (lambda c: c["categories"][0].update(names={"en": ["x"]}), "names.en is ['x'], expected a text"),
        (lambda c: c.update(categories={}), "categories is {}, expected a list"),
        (lambda c: c.update(categories=c["categories"] * 2), "lists its categories out of order"),
        (lambda c: c.update(categories=c["categories"][:-1]), "gives text 27 temperatures for 26 categories"),
        (lambda c: c["self_check"]["probabilities"][0].pop(), "has 26 entries for 27 categories"),
        (lambda c: c["calibration"]["text"].update(temperature=True), "temperature is True, expected a number"),
        (lambda c: c["calibration"]["text"].update(temperature=10**400), "calibration.text.temperature is 1000"),
        (lambda c: c["calibration"]["text"].update(temperature=1e-300), "the temperature 1e-300"),
        (lambda c: c["thresholds"]["0.95"].update(probability="0.5"), "probability is '0.5', expected a number"),
        (lambda c: c["thresholds"].update({"0.95": []}), "is [], expected an object"),
        (lambda c: c["thresholds"].update({"0.95": {}}), "has no probability for precision '0.95'"),
        (lambda c: c["preprocessing"]["text"].update(description_tokens=10**9), "is 1000000000, expected a whole"),
        (lambda c: c["preprocessing"]["text"].update(description_tokens=-1), "description_tokens is -1"),
        (lambda c: c["preprocessing"]["image"].update(size=True), "ImageSettings.size is True"),
        (lambda c: c["preprocessing"]["image"].update(size=100), "has pixels as uint8 of shape (1, 224, 224, 3)"),
        (lambda c: c["self_check"].update(products=[]), "cannot be run"),
        (lambda c: c.update(self_check={}), "cannot be run"),
        (lambda c: c["self_check"]["probabilities"][1].__setitem__(3, 0.5), "answers its own self-check otherwise"),
        (lambda c: c["self_check"]["probabilities"][1].__setitem__(3, True), "is True, expected a number"),
        (lambda c: c["self_check"]["probabilities"][1].__setitem__(3, 2), "holds a number that is no probability"),
        (lambda c: c["self_check"]["products"][0].update(image=5), "image is 5, expected a text"),
        (lambda c: c["calibration"]["text"].update(confidence_power=0.4), "answers its own self-check otherwise"),
        (lambda c: c.update(training=[]), "training is [], expected an object"),
    ],
)  # fmt: skip
def test_what_config_says_is_believed_only_if_it_makes_sense(bundle, change, words):
    change_config(bundle, change)
    assert words in refusal(bundle)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format_version": 1, "format_version": 1}', "holds 'format_version' twice"),
        ('{"format_version": NaN}', "holds NaN, which is no number"),
        ('{"format_version": -Infinity}', "holds -Infinity, which is no number"),
        ('{"format_version": 1e999}', "holds the number '1e999', which is too large"),
        ("[" * 40 + "]" * 40, "nested deeper than 32"),
        ("[" * 1_000_000, "nested deeper than 32"),
        ('{"a":' * 200_000, "nested deeper than 32"),
        ("9" * 10_000, "is damaged"),
        ("", "is damaged"),
        ("\ufeff{}", "is damaged"),
    ],
    ids=range(10),
)
def test_json_is_read_strictly(bundle, text, words):
    replace(bundle / CONFIG_FILE, text.encode())
    assert words in refusal(bundle)


def test_category_lists_of_another_length_than_the_models_are_refused(bundle):
    def one_less(content):
        content["categories"].pop()
        temperatures = [each["category_temperatures"] for each in content["calibration"].values()]
        for row in [*content["self_check"]["probabilities"], *temperatures]:
            del row[-1:]

    change_config(bundle, one_less)
    assert "text_model.tflite has 27 outputs for 26 categories" in refusal(bundle)


# What lies in the folder.


@pytest.mark.parametrize("name", [CONFIG_FILE, *HASHED_FILES, *PLOT_FILES, "README.md", "metrics.json"])
def test_a_file_larger_than_any_bundle_needs_is_refused_unread(bundle, name):
    path = bundle / name
    replace(path, b"{}")
    # A sparse file: it says that it has so many bytes and takes none.
    os.truncate(path, MAX_SIZES[name] + 1)
    assert "expected at most" in refusal(bundle)


def test_a_tokenizer_of_a_gigabyte_is_refused_unread_even_if_config_says_so(bundle):
    replace(bundle / TOKENIZER_FILE, b"{}")
    os.truncate(bundle / TOKENIZER_FILE, 1 << 30)
    change_config(bundle, lambda c: c["files"][TOKENIZER_FILE].update(size=1 << 30))
    assert "files.tokenizer.json.size is 1073741824, expected a whole number" in refusal(bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this platform has no pipes in folders")
@pytest.mark.parametrize("name", [CONFIG_FILE, TOKENIZER_FILE, "text_model.tflite", "README.md"])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(bundle, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert f"{name} is no plain file" in refusal(bundle)
    (bundle / name).unlink()
    (bundle / name).mkdir()
    assert f"{name} is no plain file" in refusal(bundle)


@pytest.mark.parametrize("name", [CONFIG_FILE, TOKENIZER_FILE, "README.md", "metrics.json", PLOT_FILES[0]])
def test_a_link_to_a_file_outside_is_refused(bundle, tmp_path, name):
    secret = tmp_path / "secret"
    shutil.copyfile(bundle / name, secret)
    (bundle / name).unlink()
    (bundle / name).symlink_to(secret)
    assert f"{name} is a link to another place" in refusal(bundle)
    # Nothing of it may go along when the bundle is saved.
    (bundle / name).unlink()
    (bundle / name).symlink_to(tmp_path / "nothing")
    with pytest.raises(BundleError):
        ProductClassifier.from_pretrained(bundle)


def test_the_hub_clients_own_links_are_followed(pristine, tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / ("0" * 40)
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    shutil.copytree(pristine, blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert ProductClassifier.from_pretrained(snapshot).folder == snapshot


def test_other_files_of_the_folder_are_neither_read_nor_taken_along(bundle, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    (bundle / "weights.pkl").write_bytes(pickle.dumps(Evil()))
    evil = f"import os; os.mkdir({str(tmp_path / 'ran')!r})\n"
    for name in ("numpy.py", "sitecustomize.py", "rakuten_models.py", "conftest.py", "code.pth"):
        (bundle / name).write_text(evil)
    classifier = ProductClassifier.from_pretrained(bundle)
    classifier.reproduce_self_check()
    saved = classifier.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "ran").exists()
    assert {path.name for path in saved.iterdir()} == {path.name for path in STARTER_FOLDER.iterdir()}


@pytest.mark.parametrize("name", [name for name in HASHED_FILES if name not in KERAS_FILES])
def test_no_parser_sees_a_byte_of_a_file_whose_hash_is_wrong(bundle, name, monkeypatch):
    opened = []
    for parser in ("rakuten_models.classifier.load_tokenizer", "rakuten_models.inference.runtime.Interpreter"):
        monkeypatch.setattr(parser, lambda *arguments, **named: opened.append((arguments, named)))
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    replace(bundle / name, bytes(content))
    with pytest.raises(BundleError, match="sha256 differs"):
        ProductClassifier.from_pretrained(bundle, trusted=True)
    assert not opened


# What the models hold, with hashes that fit.


def change_model(folder, name, change):
    from ai_edge_litert import schema_py_generated as schema

    from tests.support.mutated_bundles import _write_model

    model = schema.ModelT.InitFromPackedBuf((folder / name).read_bytes(), 0)
    change(model, schema)
    _write_model(folder / name, model)
    fit_hashes(folder)


def set_floats(model, schema, value, only=None):
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            if tensor.type == schema.TensorType.FLOAT16 and buffer.data is not None and len(buffer.data):
                values = np.frombuffer(bytes(buffer.data), "<f2").copy()
                values[slice(None) if only is None else only] = value
                buffer.data = np.frombuffer(values.tobytes(), np.uint8)


@pytest.mark.parametrize("name", SERVING_MODEL_FILES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(bundle, name, value):
    change_model(bundle, name, lambda model, schema: set_floats(model, schema, value, only=-1))
    assert f"{name} holds weights that are no numbers" in refusal(bundle)


def test_answers_that_are_no_numbers_are_an_error_even_of_a_trusted_bundle(bundle):
    change_model(bundle, "image_model.tflite", lambda model, schema: set_floats(model, schema, np.nan))
    classifier = ProductClassifier.from_pretrained(bundle, trusted=True)
    with pytest.raises(BundleError, match="image model of the bundle .* gives answers that are no numbers"):
        classifier.reproduce_self_check()


def test_a_model_that_answers_otherwise_is_refused(bundle):
    change_model(bundle, "fusion_model.tflite", lambda model, schema: set_floats(model, schema, 0.0))
    assert "answers its own self-check otherwise" in refusal(bundle)


def test_an_operator_that_runs_other_code_is_refused(bundle):
    def change(model, schema):
        code = model.operatorCodes[0]
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE

    change_model(bundle, "text_model.tflite", change)
    assert "holds the operator 119" in refusal(bundle)


@pytest.mark.parametrize("change", ["twice", "too early", "never", "over a weight"])
def test_an_operator_that_reads_what_is_not_there_yet_is_refused(bundle, change):
    """It would read what the call before left in that memory: the self-check alone may come out right."""

    def edit(model, schema):
        operators = model.subgraphs[0].operators
        if change == "twice":
            operators.append(operators[3])
        elif change == "too early":
            operators.insert(0, operators.pop())
        elif change == "never":
            del operators[10]
        else:
            operators[3].outputs = [operators[3].inputs[-1]]

    change_model(bundle, "image_model.tflite", edit)
    assert "computes with what it has not computed yet" in refusal(bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}), "its pre_tokenizer is"),
        (lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": "x"}, "content": ""}), "normalizer is"),
        (lambda t: t["model"].update(type="BPE"), "its model is"),
        (lambda t: t["model"]["vocab"].update({"pool": 10**6}), "words do not have the ids 0, 1, 2"),
        (lambda t: t["model"]["vocab"].update({f"neu{i}": 48_076 + i for i in range(50_000)}), "cannot be run"),
        (lambda t: t.update(post_processor={"type": "BertProcessing"}), "its post_processor is"),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_kind_is_refused(bundle, change, words):
    content = json.loads((bundle / TOKENIZER_FILE).read_bytes())
    change(content)
    replace(bundle / TOKENIZER_FILE, json.dumps(content).encode())
    fit_hashes(bundle)
    assert words in refusal(bundle)


# The other process.


def write_trial(folder, body, monkeypatch):
    """A module whose process does what a hostile bundle could make ours do."""
    # Not the package of the test before.
    monkeypatch.delitem(sys.modules, "hostile", raising=False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(Path(sandbox.__file__).parents[2]))
    package = folder / "hostile"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "trial.py").write_text(
        "from rakuten_models.bundle.sandbox import sandbox_process\n"
        f"def verify_bundle(folder, digest):\n    {body}\n"
        "if __name__ == '__main__':\n    raise SystemExit(sandbox_process(verify_bundle))\n"
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended the process .*by the signal SIGSEGV"),
        ("import os; os.abort()", "ended the process .*by the signal SIGABRT"),
        ("import os; os._exit(3)", "ended the process .*with the status 3"),
        ("import time; time.sleep(600)", r"was not loaded within \d+ seconds"),
        ("while True: pass", r"was not loaded within \d+ seconds"),
        ("bytearray(1 << 40)", "needs more memory than any bundle"),
        ("print('x' * 10_000_000); 1 / 0", "cannot be loaded .ZeroDivisionError"),
        ("import ctypes; ctypes.string_at(0)", "ended the process .*by the signal SIGSEGV"),
    ],
)  # fmt: skip
def test_however_the_other_process_ends_it_is_a_sentence(pristine, tmp_path, monkeypatch, body, words):
    write_trial(tmp_path, body, monkeypatch)
    with pytest.raises(BundleError, match=words) as caught:
        sandbox.load_in_sandbox(pristine, "hostile.trial", seconds=1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_the_other_process_gets_no_secrets_and_few_rights_over_the_machine(pristine, tmp_path, monkeypatch):
    write_trial(
        tmp_path,
        "import os, resource; from rakuten_models.bundle.folder import BundleError\n"
        "    limits = [resource.getrlimit(getattr(resource, 'RLIMIT_' + kind))[1] for kind in ('AS', 'CPU', 'CORE')]\n"
        "    found = f\"{os.environ.get('HF_TOKEN')} {limits} {os.getcwd()}\"\n"
        "    raise BundleError('bundle.config_no_object', file=found)",
        monkeypatch,
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(BundleError) as caught:
        sandbox.load_in_sandbox(pristine, "hostile.trial", seconds=2, memory_bytes=1 << 31)
    said = str(caught.value)
    assert said.startswith("None [2") and f", 0] {tmp_path} holds no JSON object" in said


def test_a_bundle_is_tried_once_and_only_if_it_has_to_be(bundle, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(sandbox, "_run", lambda folder, module, *limits: tried.append(folder.name))
    monkeypatch.setattr(sandbox, "_passed", set())
    monkeypatch.setenv(sandbox.CACHE_VARIABLE, str(tmp_path / "cache"))
    ProductClassifier.from_pretrained()
    ProductClassifier.from_pretrained(STARTER_FOLDER)
    ProductClassifier.from_pretrained(bundle, trusted=True)
    assert tried == []
    ProductClassifier.from_pretrained(bundle)
    ProductClassifier.from_pretrained(bundle)
    # Another process, and another folder with the same content.
    sandbox._passed.clear()
    ProductClassifier.from_pretrained(linked_copy(bundle, tmp_path / "moved"))
    assert tried == ["bundle"]
    change_config(bundle, lambda content: content["training"].update(note="another bundle"))
    ProductClassifier.from_pretrained(bundle)
    assert tried == ["bundle", "bundle"]
    assert sorted(path.name for path in bundle.iterdir()) == sorted(p.name for p in STARTER_FOLDER.iterdir())


def test_one_that_failed_is_tried_again_and_notes_that_cannot_be_kept_are_no_error(bundle, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(sandbox.CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(sandbox, "_passed", set())
    assert ProductClassifier.from_pretrained(bundle).revision is None
    change_config(bundle, lambda c: c["self_check"]["probabilities"][0].__setitem__(0, 0.9))
    assert refusal(bundle) == refusal(bundle)


def test_without_another_python_there_is_a_sentence(bundle, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    change_config(bundle, lambda content: content["training"].update(note="not tried before"))
    assert "cannot be tried, since no other Python could be started" in refusal(bundle)


def test_a_config_that_changes_after_the_trial_is_not_loaded(bundle, monkeypatch):
    tried = sandbox.load_in_sandbox(bundle)
    change_config(bundle, lambda content: content["training"].update(note="swapped"))
    with pytest.raises(BundleError, match="was changed while the bundle was being loaded"):
        ProductClassifier(bundle, config_sha256=tried)


def test_the_environment_can_mark_a_bundle_as_trusted(bundle, monkeypatch):
    from rakuten_models.classifier import load_classifier

    monkeypatch.setattr(sandbox, "load_in_sandbox", lambda folder: pytest.fail("it was tried"))
    monkeypatch.setenv("RAKUTEN_TRUSTED", "1")
    assert load_classifier(str(bundle))[0].folder == bundle


# Mutations.


@pytest.mark.trust
def test_no_mutated_bundle_crashes_hangs_or_deceives_who_loads_it(pristine, tmp_path, cases, capsys):
    config = json.loads((pristine / CONFIG_FILE).read_bytes())
    products = tmp_path / "products.json"
    products.write_text(json.dumps(config["self_check"]["products"]))
    expected = np.asarray(config["self_check"]["probabilities"])
    classifier = ProductClassifier.from_pretrained()
    others = np.stack([each.probabilities for each in classifier.predict(list(OTHER_PRODUCTS))])
    counts, faults, callers, lock = collections.Counter(), [], [], threading.Lock()

    def one_case(number):
        dice = random.Random(number)
        folder = linked_copy(pristine, tmp_path / str(number))
        done = mutate(folder, dice)
        with lock:
            each = callers.pop()
        began = time.monotonic()
        answer = each.load(folder, products, SECONDS_TO_HANG)
        seconds = time.monotonic() - began
        with lock:
            callers.append(each)
        shutil.rmtree(folder)
        outcome = answer["outcome"]
        if outcome == "loaded":
            found = np.asarray(answer["probabilities"])
            if not np.abs(found[: len(expected)] - expected).max() <= SELF_CHECK_TOLERANCE:
                outcome = "deceived"
            else:
                same = np.abs(found[len(expected) :] - others).max() <= SELF_CHECK_TOLERANCE
                outcome = "loaded, the same answers" if same else "loaded, other answers beyond the self-check"
        elif outcome == "refused":
            outcome = f"refused: {_kind_of(answer['sentence'])}"
            assert "\n" not in answer["sentence"] and len(answer["sentence"]) < 1500
        with lock:
            counts[outcome] += 1
            counts["slower than 10 s"] += seconds > 10
            if not outcome.startswith(("loaded", "refused")):
                faults.append((number, done, answer))
            elif outcome.endswith("beyond the self-check"):
                faults.append((number, done))

    workers = (os.cpu_count() or 1) + 1
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
        callers += [stack.enter_context(caller()) for _ in range(workers)]
        list(pool.map(one_case, range(cases(2000))))
    with capsys.disabled():
        print("", *(f"{count:6,}  {outcome}" for outcome, count in counts.most_common()), sep="\n")
        print(*faults, sep="\n")
    bad = [fault for fault in faults if len(fault) == 3]
    assert not bad


def _kind_of(sentence):
    for words, kind in (
        ("sha256 differs", "before any parser: sha256"),
        ("it is cut off or another file", "before any parser: size"),
        ("is damaged (", "before any parser: no strict JSON"),
        ("wrong kind", "before any parser: a value in config.json"),
        ("lacks", "before any parser: something is missing"),
        ("ended the process that tries it", "the trial crashed"),
        ("was not loaded within", "the trial hung"),
        ("more memory than", "the trial overfilled its memory"),
        ("self-check otherwise", "by the self-check"),
        ("no numbers", "NaN or infinity"),
        ("cannot be loaded (", "the trial raised"),
    ):
        if words in sentence:
            return kind
    return "other checks"


# Keras files, which training alone reads.


@pytest.fixture
def whole(tiny_bundle, tmp_path):
    return linked_copy(tiny_bundle, tmp_path / "whole")


def keras_refusal(folder):
    from training.pipeline.keras_sandbox import check_keras_file

    validate_bundle(folder, require_keras=True)
    with pytest.raises(BundleError) as caught:
        for name in KERAS_FILES:
            check_keras_file(folder / name)
    return str(caught.value)


def change_archive(folder, name, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / name) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    change(members)
    (folder / name).unlink()
    with zipfile.ZipFile(folder / name, "w", compression) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    fit_hashes(folder)


def name_class(members, **facts):
    content = json.loads(members["config.json"])
    content["config"]["layers"][2].update(facts)
    members["config.json"] = json.dumps(content).encode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update({"model.weights.h5": bytes(300_000_000)}), "its metadata.json is compressed"),
        (lambda m: m.update({"../../evil.py": b"x"}), "'../../evil.py' and 4 members in all"),
        (lambda m: m.pop("metadata.json"), "2 members in all"),
        (lambda m: name_class(m, class_name="Lambda", module="keras.layers"), "names the class 'keras.layers.Lambda'"),
        (lambda m: name_class(m, class_name="system", module="os"), "names the class 'os.system'"),
        (lambda m: name_class(m, class_name="TorchModuleWrapper", module="keras.layers"), "TorchModuleWrapper'"),
        (lambda m: m.update({"config.json": b"[" * 10_000}), "nested deeper than 32"),
        (lambda m: m.update({"model.weights.h5": b"no weights"}), "is no Keras file"),
        (lambda m: m.update({"model.weights.h5": outside_weights()}), "hold a link to another place"),
        (lambda m: m.update({"model.weights.h5": swollen_weights()}), "weights swell to"),
    ],
)  # fmt: skip
def test_a_keras_file_of_another_kind_is_refused_before_keras_reads_it(whole, change, words):
    bomb = "compressed" in words
    change_archive(whole, "text_model.keras", change, zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED)
    assert words in keras_refusal(whole)


def outside_weights():
    import io

    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as weights:
        weights["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    return file.getvalue()


def swollen_weights():
    import io

    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as weights:
        weights.create_dataset("layers", shape=(10**9,), chunks=(10**6,), dtype="f4", compression="gzip")
    return file.getvalue()


def test_init_loads_untrusted_keras_files_in_a_sandbox(whole, monkeypatch):
    from tests.conftest import tiny_settings
    from training.pipeline.warm_start import load_initial_bundle

    assert load_initial_bundle(whole, tiny_settings()).folder == whole
    change_archive(whole, "image_model.keras", lambda m: name_class(m, class_name="Lambda", module="keras.layers"))
    with pytest.raises(BundleError, match=r"image_model.keras is no Keras file as training writes it"):
        load_initial_bundle(whole, tiny_settings())


@pytest.mark.trust
def test_no_mutated_keras_file_crashes_the_process_that_trains(whole, tmp_path, cases, capsys):
    """Whatever crashes or stops the process that tries them is a sentence to the one that trains, see above."""
    products = tmp_path / "products.json"
    products.write_text("[]")
    counts = collections.Counter()
    with caller("tests.support.keras_process") as each:
        # The libraries' start is not the case's.
        assert each.load(whole, products, 300)["outcome"] == "loaded"
        for number in range(cases(200)):
            folder = linked_copy(whole, tmp_path / str(number))
            done = mutate(folder, random.Random(number), KERAS_FILES)
            answer = each.load(folder, products, 60)
            counts[answer["outcome"]] += 1
            assert answer["outcome"] != "traceback", (number, done, answer)
            shutil.rmtree(folder)
    with capsys.disabled():
        print("", *(f"{count:6,}  keras file {outcome}" for outcome, count in counts.most_common()), sep="\n")
