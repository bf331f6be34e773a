"""A hub that is slow, hangs, fails, lies, forgets or throws us out, met by the real client over real sockets.

Each fault is met twice: by a cache that is empty, and by one that holds an earlier commit. Whatever happens, a
download gives one whole commit or one sentence, a revision on the server is whole, and afterwards all works again.
"""

import contextlib
import functools
import hashlib
import itertools
import shutil
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

from rakuten_models import ProductClassifier
from rakuten_models.bundle.config import SERVING_FILES
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.errors import HubError
from rakuten_models.hub import client
from rakuten_models.hub.download import download_folder
from rakuten_models.hub.upload import upload_folder
from tests.support.hub_server import StoredFile, client_points_at

FILES = ("README.md", "config.json", "weights.tflite", "more.tflite")

# Within which the hub must answer: in general, and where it will not.
LIMIT_SECONDS, SHORT_SECONDS = 5.0, 0.15

INFORMATION = "/api/models/anna/model/revision/main"

FOREVER = 1000


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Short time limits, and pauses that are noted instead of slept: gives the list of them."""
    pauses = []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "no token")
    with monkeypatch.context() as patch, answers_within(LIMIT_SECONDS):
        patch.setattr(time, "sleep", pauses.append)
        yield pauses


@contextlib.contextmanager
def answers_within(seconds):
    """Another time limit for every request."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (client, "REQUEST_TIMEOUT_SECONDS"),
            (client, "ANSWER_SECONDS"),
            (constants, "HF_HUB_ETAG_TIMEOUT"),
            (constants, "HF_HUB_DOWNLOAD_TIMEOUT"),
        ):
            patch.setattr(module, name, seconds)
        # The client's transport keeps the limit that it was made with.
        _http.close_session()
        yield
    _http.close_session()


@pytest.fixture
def server(hub_server):
    return hub_server


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Two folders of the same four files with other contents."""
    folders = []
    for number in range(2):
        folder = tmp_path_factory.mktemp("source")
        (folder / "README.md").write_text(f"---\nlicense: other\n---\n# Number {number}\n")
        (folder / "config.json").write_text(f'{{"number": {number}}}')
        (folder / "weights.tflite").write_bytes(bytes(range(number, number + 200)) * 1000)
        (folder / "more.tflite").write_bytes(bytes(range(number, number + 50)) * 1000)
        folders.append(folder)
    return folders


def contents(folder):
    return {name: hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in FILES}


def send(server, folder, **choices):
    given = {"files": FILES, "commit_message": "Next", "token": server.token, "endpoint": server.endpoint}
    return upload_folder(folder, "anna/model", **{**given, **choices})


def fetch(server, cache, **choices):
    given = {"files": FILES, "cache_dir": cache, "endpoint": server.endpoint, "token": server.token}
    return download_folder("anna/model", **{**given, **choices})


def forget_repository(server):
    server.repositories.clear()


def move_on(server):
    repository = server.model("anna/model")
    repository.add("main", "Theirs", {**repository.resolve("main").files, "config.json": StoredFile(b"[]", False)})


# Name: what is ordered, and the words of the sentence; None where the download must succeed all the same.
DOWNLOAD_FAULTS = {
    "slow": (lambda s: s.drip("/*", pieces=8, pause=0.02, times=FOREVER), None),
    "asks to wait a little": (lambda s: s.fail("GET", INFORMATION, status=429, headers={"Retry-After": "7"}), None),
    "asks to wait a day": (
        lambda s: s.fail("GET", INFORMATION, status=429, times=FOREVER, headers={"Retry-After": "86400"}),
        "answered 429 and asks to come back in 86,400 s; try again then",
    ),
    "asks to wait a day within a file": (
        lambda s: s.fail("GET", "/large-files/*", status=429, times=FOREVER, headers={"Retry-After": "86400"}),
        "answered 429 and asks to come back in 86,400 s; try again then",
    ),
    "429 without end": (
        lambda s: s.fail("GET", INFORMATION, status=429, times=FOREVER),
        "answered 429 (out of order): it did so again and again; try again later",
    ),
    "500 twice": (lambda s: s.fail("GET", "/large-files/*", status=500, times=2), None),
    "500 without end": (
        lambda s: s.fail("GET", "/large-files/*", status=500, times=FOREVER),
        "answered 500 (out of order): it did so again and again; try again later",
    ),
    "503 without end": (
        lambda s: s.fail("GET", "*/resolve/*/config.json", status=503, times=FOREVER),
        "answered 503 (out of order): it did so again and again; try again later",
    ),
    "breaks off once": (lambda s: s.break_off("/large-files/*", after=30_000), None),
    "breaks off without end": (lambda s: s.break_off("/large-files/*", after=0, times=FOREVER), "anna/model"),
    "wrong content once": (lambda s: s.alter("/large-files/*"), None),
    "wrong content without end": (
        lambda s: s.alter("/large-files/*", times=FOREVER),
        "with other content than it lists, again and again; nothing of it is used: try again later",
    ),
    "wrong small file without end": (
        lambda s: s.alter("*/resolve/*/config.json", times=FOREVER),
        "sent config.json of 'anna/model' with other content than it lists",
    ),
    "the repository goes between two files": (
        lambda s: s.after("GET", INFORMATION, lambda: forget_repository(s)),
        "has no repository 'anna/model', or it is private",
    ),
    "a file goes between two files": (
        lambda s: s.after("GET", INFORMATION, s.large_files.clear),
        "would not fetch 'anna/model' and answered 404",
    ),
    "the branch moves between two files": (lambda s: s.after("GET", INFORMATION, lambda: move_on(s)), None),
    "the token runs out": (
        lambda s: s.fail("GET", INFORMATION, status=401, times=FOREVER, text="Invalid credentials"),
        "answered 401 (Invalid credentials): the token is missing, wrong",
    ),
    "the token runs out between two files": (lambda s: s.after("GET", INFORMATION, s.users.clear), "anna/model"),
    "403": (lambda s: s.fail("GET", "*/resolve/*", status=403, times=FOREVER, text="Forbidden"), "anna/model"),
    "no network": (lambda s: s.stop(), "cannot be reached to fetch 'anna/model' (ConnectError)"),
}

DOWNLOADS_THAT_HANG = {
    "hangs at the start": (
        lambda s: s.hang("GET", INFORMATION, seconds=1, times=FOREVER),
        "cannot be reached to fetch 'anna/model' (ReadTimeout)",
    ),
    "hangs between two files": (
        lambda s: s.hang("HEAD", "*/resolve/*/weights.tflite", seconds=1, times=FOREVER),
        "anna/model",
    ),
    "hangs within a file": (
        lambda s: s.hang("GET", "/large-files/*", seconds=1, times=FOREVER),
        "cannot be reached to fetch 'anna/model' (ReadTimeout)",
    ),
}


@pytest.mark.parametrize("fault", DOWNLOAD_FAULTS)
def test_a_download_gives_one_whole_commit_or_one_sentence(server, sources, tmp_path, impatience, fault):
    order, words = DOWNLOAD_FAULTS[fault]
    check_download(server, sources, tmp_path, impatience, order, words, warm=False)
    if fault == "asks to wait a little":
        assert 7.0 in impatience


@pytest.mark.trust
def test_an_earlier_commit_in_the_cache_stays_whole(server, sources, tmp_path, impatience, cases):
    faults = list(DOWNLOAD_FAULTS.values())
    for number in range(cases(len(faults))):
        server.reset()
        order, words = faults[number % len(faults)]
        check_download(server, sources, tmp_path / str(number), impatience, order, words, warm=True)


def check_download(server, sources, cache, pauses, order, words, warm, limit=LIMIT_SECONDS):
    """Publish, spoil, fetch, mend, fetch."""
    first = send(server, sources[0])
    if warm:
        fetch(server, cache)
    second = send(server, sources[1])
    kept = dict(server.repositories), dict(server.large_files), dict(server.users)
    order(server)
    started = time.monotonic()
    if words is None:
        folder, revision = fetch(server, cache)
        assert revision == second and contents(folder) == contents(sources[1])
    else:
        with answers_within(limit), pytest.raises(HubError) as error:
            fetch(server, cache)
        said = str(error.value)
        assert words in said and "\n" not in said and server.token not in said
        assert ("A copy of 'main'" in said) <= warm
        # What is in the cache is an earlier whole commit, or nothing.
        if warm:
            folder, revision = fetch(server, cache, local_files_only=True)
            assert revision == first and contents(folder) == contents(sources[0])
            assert fetch(server, cache, revision=first) == (folder, revision)
        for name in ("main", second) if not warm else (second,):
            with pytest.raises(HubError, match="is not whole in the cache"):
                fetch(server, cache, revision=name, local_files_only=True)
    # All of a fault that never ends: some attempts of `limit` each, and the pauses are not slept.
    assert time.monotonic() - started < 30
    assert max(pauses, default=0) <= client.PATIENCE_SECONDS
    server.mend()
    server.start()
    server.repositories, server.large_files, server.users = kept
    folder, revision = fetch(server, cache)
    head = server.model("anna/model").branches["main"]
    assert revision == head and (head != second or contents(folder) == contents(sources[1]))
    assert not list(cache.rglob("*.incomplete")) and not list(cache.rglob("*.tmp"))


UPLOAD_REQUESTS = {
    "the repository": ("POST", "/api/repos/create"),
    "the head": ("GET", "/api/models/anna/model/revision/main"),
    "the tags": ("GET", "/api/models/anna/model/refs"),
    "the card": ("POST", "/api/validate-yaml"),
    "the kinds of file": ("POST", "/api/models/anna/model/preupload/main"),
    "the upload addresses": ("POST", "/anna/model.git/info/lfs/objects/batch"),
    "a large file": ("PUT", "/large-files/*"),
    "the commit": ("POST", "/api/models/anna/model/commit/main"),
    "the tag": ("POST", "/api/models/anna/model/tag/*"),
}

UPLOAD_FAULTS = {
    "500": lambda s, method, path: s.fail(method, path, status=500, times=FOREVER),
    "a day's wait": lambda s, method, path: s.fail(
        method, path, status=429, times=FOREVER, headers={"Retry-After": "86400"}
    ),
    "403": lambda s, method, path: s.fail(method, path, status=403, times=FOREVER),
    "a lost answer": lambda s, method, path: s.lose_answer(method, path, times=FOREVER),
}


@pytest.mark.trust
def test_every_revision_on_the_hub_is_whole_whatever_goes_wrong(server, sources, impatience, cases):
    faults = list(itertools.product(UPLOAD_FAULTS.values(), UPLOAD_REQUESTS.values()))
    for number in range(cases(len(faults))):
        server.reset()
        order, request = faults[number % len(faults)]
        check_upload(server, sources, impatience, functools.partial(order, method=request[0], path=request[1]))


def check_upload(server, sources, pauses, order, limit=LIMIT_SECONDS):
    """Publish, spoil, publish something else, mend, publish that again."""
    first = send(server, sources[0])
    order(server)
    started = time.monotonic()
    try:
        with answers_within(limit):
            send(server, sources[1], tag="v2")
    except HubError as error:
        assert "\n" not in str(error) and server.token not in str(error)
    assert time.monotonic() - started < 30
    assert max(pauses, default=0) <= client.PATIENCE_SECONDS
    repository = server.model("anna/model")
    wholes = {revision_contents(repository, commit) for commit in repository.history("main")[:-1]}
    assert wholes <= {tuple(contents(source).items()) for source in sources}
    server.mend()
    second = send(server, sources[1], tag="v2")
    history = [commit.sha for commit in repository.history("main")]
    assert history[:-1] == [second, first] and repository.tags == {"v2": second}
    assert revision_contents(repository, repository.commits[second]) == tuple(contents(sources[1]).items())


def revision_contents(repository, commit):
    files = commit.files
    return tuple((name, files[name].sha256) for name in FILES)


@pytest.mark.trust
def test_a_hub_that_accepts_and_never_answers_holds_nobody(server, sources, tmp_path, impatience, cases):
    hanging = [
        functools.partial(check_download, order=order, words=words, warm=warm, limit=SHORT_SECONDS)
        for order, words in DOWNLOADS_THAT_HANG.values()
        for warm in (False, True)
    ] + [
        functools.partial(
            check_upload,
            order=lambda s, method=method, path=path: s.hang(method, path, seconds=1, times=FOREVER),
            limit=SHORT_SECONDS,
        )
        for method, path in UPLOAD_REQUESTS.values()
    ]
    for number in range(cases(len(hanging))):
        server.reset()
        check = hanging[number % len(hanging)]
        folder = {"cache": tmp_path / str(number)} if check.func is check_download else {}
        check(server, sources, pauses=impatience, **folder)


def test_a_real_bundle_of_wrong_content_is_never_loaded_and_loads_once_the_hub_is_right(server, tmp_path, monkeypatch):
    with client_points_at(server, monkeypatch):
        published = shutil.copytree(STARTER_FOLDER, tmp_path / "bundle")
        revision = upload_folder(
            published, "anna/model", files=SERVING_FILES, commit_message="First", token=server.token
        )
        server.alter("/large-files/*", times=FOREVER)
        for _ in range(2):
            with pytest.raises(HubError, match="with other content than it lists"):
                ProductClassifier.from_pretrained("anna/model", revision=revision, cache_dir=tmp_path / "cache")
        server.mend()
        classifier = ProductClassifier.from_pretrained("anna/model", revision=revision, cache_dir=tmp_path / "cache")
        assert classifier.reproduce_self_check() < 1e-5 and classifier.revision == revision
        server.stop()
        again = ProductClassifier.from_pretrained("anna/model", revision=revision, cache_dir=tmp_path / "cache")
        assert again.folder == classifier.folder
        server.start()
