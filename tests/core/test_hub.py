"""rakuten_models.hub.upload with the real hub client against a real server on 127.0.0.1; no model is involved."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, hf_hub_download, snapshot_download

from rakuten_models.errors import HubError
from rakuten_models.hub import client
from rakuten_models.hub.download import download_folder
from rakuten_models.hub.spaces import set_space_variables
from rakuten_models.hub.upload import upload_folder
from tests.support.hub_server import Repository, StoredFile

FILES = ("README.md", "config.json", "weights.tflite", "large.txt")


@pytest.fixture(autouse=True)
def short_pauses_no_xet_no_login(monkeypatch):
    monkeypatch.setattr(client, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # As on a machine where nobody has logged in.
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "no token")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder with small files, a binary one that is stored as a large file, and a text of over 10 MB."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "README.md").write_text("---\nlicense: other\ntags: [tiny]\n---\n# A tiny folder\n", encoding="utf-8")
    (folder / "config.json").write_text('{"answer": 42}', encoding="utf-8")
    (folder / "weights.tflite").write_bytes(bytes(range(256)) * 1000)
    (folder / "large.txt").write_bytes(b"a line of text\n" * 750_000)
    return folder


@pytest.fixture
def published(hub_server, source):
    """The server with that folder in anna/model; and the commit."""
    revision = upload_folder(
        source, "anna/model", files=FILES, commit_message="First", token=hub_server.token, endpoint=hub_server.endpoint
    )
    return hub_server, revision


def fetch(server, cache, **choices):
    return download_folder(
        **{"repo_id": "anna/model", "files": FILES, "cache_dir": cache, "endpoint": server.endpoint, **choices}
    )


def send(server, source, **choices):
    return upload_folder(
        **{
            "folder": source,
            "repo_id": "anna/model",
            "files": FILES,
            "commit_message": "Next",
            "token": server.token,
            "endpoint": server.endpoint,
            **choices,
        }
    )


def contents(folder, files=FILES):
    return {name: hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest() for name in files}


def copy_of(source, tmp_path, **changed):
    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    for name, text in changed.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def nothing_half_written(cache):
    return not [path for path in Path(cache).rglob("*") if path.name.endswith((".incomplete", ".tmp"))]


def test_upload_is_one_commit_and_comes_back_the_same(published, source, tmp_path):
    server, revision = published
    repository = server.model("anna/model")
    assert [commit.title for commit in repository.history("main")] == ["First", "initial commit"]
    assert repository.branches["main"] == revision
    assert {path for path, file in repository.resolve("main").files.items() if file.large} == {
        "weights.tflite",
        "large.txt",
    }
    folder, found = fetch(server, tmp_path)
    assert found == revision and len(revision) == 40
    assert contents(folder) == contents(source)
    assert server.leaked_tokens == 0
    by_client = snapshot_download("anna/model", revision=revision, cache_dir=tmp_path / "2", endpoint=server.endpoint)
    assert contents(by_client) == contents(source)
    one = hf_hub_download(
        "anna/model", "large.txt", revision=revision, cache_dir=tmp_path / "3", endpoint=server.endpoint
    )
    assert Path(one).read_bytes() == (source / "large.txt").read_bytes()


def test_every_file_is_of_the_resolved_commit(published, source, tmp_path):
    server, first = published
    changed = copy_of(source, tmp_path, config_json='{"answer": 43}')
    second = send(server, changed, branch="trial", tag="v2")
    assert server.model("anna/model").branches == {"main": first, "trial": second}
    for revision, expected, folder in ((first, first, source), ("trial", second, changed), ("v2", second, changed)):
        found_folder, found = fetch(server, tmp_path / "cache", revision=revision)
        assert found == expected
        assert contents(found_folder) == contents(folder)
    server.requests.clear()
    fetch(server, tmp_path / "another", revision="trial")
    read = {path.split("/")[4] for method, path in server.requests if "/resolve/" in path}
    assert read == {second}


def test_only_named_files_are_fetched(published, tmp_path):
    server, _ = published
    folder, _ = fetch(server, tmp_path, files=("config.json",))
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_a_cached_commit_and_an_offline_tag_need_no_server(published, source, tmp_path):
    server, revision = published
    fetch(server, tmp_path)
    server.stop()
    assert contents(fetch(server, tmp_path, revision=revision)[0]) == contents(source)
    folder, found = fetch(server, tmp_path, revision="main", local_files_only=True)
    assert found == revision and contents(folder) == contents(source)
    with pytest.raises(HubError) as error:
        fetch(server, tmp_path, revision="v1", local_files_only=True)
    assert "what revision 'v1' stands for was never looked up on this machine" in str(error.value)
    assert "fetch it once with the network on" in str(error.value)
    with pytest.raises(HubError, match="more.json is not there, and the network is switched off"):
        fetch(server, tmp_path, files=(*FILES, "more.json"), local_files_only=True)


def test_the_offline_variable_is_obeyed(published, tmp_path):
    server, revision = published
    fetch(server, tmp_path)
    server.requests.clear()
    program = (
        "import sys; from rakuten_models.hub.download import download_folder\n"
        "print(download_folder('anna/model', files=['config.json'], cache_dir=sys.argv[1])[1])\n"
        "from rakuten_models.hub.upload import upload_folder\n"
        "from rakuten_models.errors import HubError\n"
        "try: upload_folder('.', 'anna/model', files=[], commit_message='x')\n"
        "except HubError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": server.endpoint}
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    said = "The network is switched off by HF_HUB_OFFLINE; unset it to send 'anna/model'."
    assert result.stdout.splitlines() == [revision, said]
    assert server.requests == []


def test_no_network_says_so_quickly_and_names_the_copy(published, tmp_path):
    server, revision = published
    fetch(server, tmp_path)
    server.stop()
    started = time.monotonic()
    with pytest.raises(HubError) as error:
        fetch(server, tmp_path)
    with pytest.raises(HubError) as empty_cache:
        fetch(server, tmp_path / "empty")
    with pytest.raises(HubError) as pinned:
        fetch(server, tmp_path / "empty", revision=revision)
    with pytest.raises(HubError, match=f"The hub {server.endpoint} cannot be reached to send 'anna/model'"):
        send(server, tmp_path, files=())
    assert time.monotonic() - started < 5
    assert f"The hub {server.endpoint} cannot be reached to fetch 'anna/model' (ConnectError)" in str(error.value)
    assert f"as it was last seen ({revision})" in str(error.value)
    assert "HF_HUB_OFFLINE=1" in str(error.value) and "local_files_only=True" in str(error.value)
    assert "HF_HUB_OFFLINE" not in str(empty_cache.value) and "cannot be reached" in str(pinned.value)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"revision": "v9"}, "Repository 'anna/model' has no revision 'v9': expected a branch, a tag or a commit"),
        ({"revision": "0" * 40}, "Repository 'anna/model' has no revision '0000000000"),
        ({"repo_id": "anna/nothing"}, "has no repository 'anna/nothing', or it is private: check the name"),
        (
            {"token": "hf_wrong"},
            "answered 401 (Invalid credentials in Authorization header): the token is missing, wrong",
        ),
        (
            {"files": (*FILES, "fusion.tflite", "more.json")},
            "has no fusion.tflite, more.json: expected all of README.md",
        ),
        ({"repo_id": "./a/folder"}, "'./a/folder' is no repository of the hub: expected user/name"),
        ({"repo_id": "anna/model.git"}, "expected user/name"),
        ({"repo_id": "model"}, "a folder on this machine must exist"),
    ],
)
def test_what_cannot_be_fetched_gets_a_sentence(published, tmp_path, choices, sentence):
    server, _ = published
    with pytest.raises(HubError) as error:
        fetch(server, tmp_path / "cache", **choices)
    assert sentence in str(error.value)
    assert "hf_" not in str(error.value).replace("`hf ", "")
    assert nothing_half_written(tmp_path)


def test_a_private_repository_needs_its_owners_token(hub_server, source, tmp_path):
    send(hub_server, source, private=True)
    assert hub_server.model("anna/model").private
    for token in (False, hub_server.other_token):
        with pytest.raises(HubError, match="has no repository 'anna/model', or it is private.*HF_TOKEN"):
            fetch(hub_server, tmp_path, token=token)
    folder, _ = fetch(hub_server, tmp_path, token=hub_server.token)
    assert contents(folder) == contents(source)
    assert hub_server.leaked_tokens == 0


def test_a_gated_repository_names_the_page_to_ask_on(published, tmp_path):
    server, _ = published
    server.model("anna/model").gated = True
    with pytest.raises(HubError, match=f"is gated: ask for access at {server.endpoint}/anna/model"):
        fetch(server, tmp_path, token=server.other_token)


def test_a_server_that_breaks_off_half_way_is_asked_again(published, source, tmp_path, monkeypatch):
    server, _ = published
    # The client's own pause before it goes on where the body broke off.
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    server.break_off("/large-files/*", after=50_000, times=3)
    folder, _ = fetch(server, tmp_path)
    assert contents(folder) == contents(source)
    assert nothing_half_written(tmp_path)


def test_a_server_that_dies_half_way_leaves_nothing_that_is_used(published, source, tmp_path, monkeypatch):
    server, revision = published
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    server.break_off("/large-files/*", after=50_000, times=1000)
    with pytest.raises(HubError, match=f"The hub {server.endpoint} (cannot be reached|broke off)"):
        fetch(server, tmp_path)
    assert nothing_half_written(tmp_path)
    with pytest.raises(HubError, match="weights.tflite, large.txt is not there"):
        fetch(server, tmp_path, revision=revision, local_files_only=True)
    with pytest.raises(HubError, match="never looked up"):
        fetch(server, tmp_path, revision="main", local_files_only=True)
    server.mend()
    assert contents(fetch(server, tmp_path)[0]) == contents(source)


def test_a_hub_out_of_order_is_asked_again_and_then_named(published, source, tmp_path):
    server, _ = published
    server.fail("GET", "/api/models/anna/model/revision/main", times=2)
    server.fail("GET", "/anna/model/resolve/*/config.json", times=2)
    server.fail("GET", "/large-files/*", times=2)
    assert contents(fetch(server, tmp_path)[0]) == contents(source)
    server.fail("GET", "/api/models/anna/model/revision/main", times=client.ATTEMPTS)
    with pytest.raises(
        HubError, match=r"answered 503 \(.*\): it did so again and again; try again later. A copy of 'main'"
    ):
        fetch(server, tmp_path)


def test_what_answers_may_be_no_hub(hub_server, tmp_path):
    hub_server.fail("GET", "/api/models/*", status=200, times=client.ATTEMPTS)
    with pytest.raises(HubError, match=f"What answers at {hub_server.endpoint} is no model hub: check HF_ENDPOINT"):
        fetch(hub_server, tmp_path)


def test_the_same_files_again_make_no_commit(published, source):
    server, revision = published
    assert send(server, source) == revision
    assert len(server.model("anna/model").commits) == 2


def test_a_commit_that_is_refused_for_a_moment_lands_once(published, source, tmp_path):
    server, first = published
    server.fail("POST", "/api/models/anna/model/commit/main", times=2)
    server.fail("POST", "/api/models/anna/model/preupload/main", times=1)
    server.fail("POST", "/api/validate-yaml", times=1)
    revision = send(server, copy_of(source, tmp_path, config_json="{}"))
    history = server.model("anna/model").history("main")
    assert [commit.sha for commit in history[:2]] == [revision, first]
    assert len(history) == 3


def test_a_commit_whose_answer_is_lost_lands_once(published, source, tmp_path):
    server, first = published
    server.lose_answer("POST", "/api/models/anna/model/commit/main")
    server.lose_answer("POST", "/api/models/anna/model/tag/*")
    revision = send(server, copy_of(source, tmp_path, config_json="{}"), tag="v1")
    repository = server.model("anna/model")
    assert [commit.sha for commit in repository.history("main")[:2]] == [revision, first]
    assert len(repository.commits) == 3
    assert repository.tags == {"v1": revision}


def test_a_head_that_moved_meanwhile_is_not_overwritten(published, source, tmp_path):
    server, first = published

    def somebody_writes(repository: Repository):
        repository.add("main", "Theirs", {**repository.resolve("main").files, "config.json": StoredFile(b"[]", False)})

    server.before_commit(somebody_writes)
    revision = send(server, copy_of(source, tmp_path, README_md="---\nlicense: other\n---\nNew"))
    history = server.model("anna/model").history("main")
    assert [commit.title for commit in history] == ["Next", "Theirs", "First", "initial commit"]
    assert history[0].sha == revision
    # Ours is whole: their change of a file of ours is replaced, in a commit of its own that names theirs as
    # parent.
    assert history[0].files["config.json"].content == b'{"answer": 42}'
    for _ in range(client.ATTEMPTS):
        server.before_commit(somebody_writes)
    with pytest.raises(HubError, match="answered 412 .* somebody else is writing to it; try again when they are done"):
        send(server, source)


def test_a_tag_is_never_moved_and_refused_before_anything_is_sent(published, source, tmp_path):
    server, first = published
    assert send(server, source, tag="v1") == first
    assert send(server, source, tag="v1") == first
    with pytest.raises(HubError, match=f"already has a tag 'v1', on commit {first}: a tag is never moved, and nothing"):
        send(server, copy_of(source, tmp_path, config_json="{}"), tag="v1")
    assert len(server.model("anna/model").commits) == 2
    server.fail("POST", "/api/models/anna/model/tag/*", status=400)
    with pytest.raises(HubError, match=f"are in 'anna/model' as commit {first}, but without the tag 'v2': .* 400"):
        send(server, source, tag="v2")


def test_files_of_ours_that_are_gone_are_deleted_and_others_stay(published, source):
    server, _ = published
    foreign = {**server.model("anna/model").resolve("main").files, "NOTES.md": StoredFile(b"by hand", False)}
    server.model("anna/model").add("main", "Notes", foreign)
    send(server, source, files=FILES[:2], delete_others=FILES)
    assert set(server.model("anna/model").resolve("main").files) == {".gitattributes", "NOTES.md", *FILES[:2]}


def test_what_cannot_be_sent_gets_a_sentence_and_sends_nothing(hub_server, source, tmp_path):
    with pytest.raises(HubError, match="has no more.json, x.tflite; nothing was sent"):
        send(hub_server, source, files=("config.json", "more.json", "x.tflite"))
    with pytest.raises(HubError, match="expected user/name"):
        send(hub_server, source, repo_id="anna model")
    with pytest.raises(HubError, match="is a commit, to which nothing can be added: give a branch"):
        send(hub_server, source, branch="0" * 40)
    for token in (False, hub_server.other_token, "hf_wrong"):
        with pytest.raises(HubError, match="would not send 'anna/model' and answered 40[13] .*; run `hf auth login`"):
            send(hub_server, source, token=token)
    assert hub_server.repositories == {}
    with pytest.raises(
        HubError, match="The hub client would not send 'anna/model': Invalid metadata in README.md. - bad YAML"
    ):
        send(hub_server, copy_of(source, tmp_path, README_md="---\nlicense: [other\n---\n"))
    assert len(hub_server.model("anna/model").commits) == 1
    with pytest.raises(HubError, match="is there already and is public, but a private one is wanted: nothing was sent"):
        send(hub_server, source, private=True)
    hub_server.fail("POST", "/api/models/anna/model/commit/main", times=client.ATTEMPTS)
    with pytest.raises(HubError, match=r"would not send 'anna/model' and answered 503"):
        send(hub_server, source)
    assert len(hub_server.model("anna/model").commits) == 1


def test_a_token_is_never_shown(hub_server, source, caplog, capsys):
    hub_server.fail("POST", "/api/repos/create", status=400, text=f"bad token {hub_server.token}")
    with pytest.raises(HubError, match=r"answered 400 \(bad token \*\*\*\)") as error:
        send(hub_server, source)
    hub_server.fail("POST", "/api/models/anna/model/commit/main", times=2)
    send(hub_server, source, tag="v1")
    printed = capsys.readouterr()
    assert hub_server.token not in str(error.value) + printed.out + printed.err + caplog.text


def test_an_upload_of_a_large_file_that_fails_once_is_repeated(hub_server, source):
    hub_server.fail("POST", "/anna/model.git/info/lfs/objects/batch", status=404)
    with pytest.raises(HubError, match="answered 404"):
        send(hub_server, source)
    assert len(hub_server.model("anna/model").commits) == 1
    send(hub_server, source)
    assert len(hub_server.model("anna/model").commits) == 2


def test_a_space_has_an_app_and_variables(hub_server, source, tmp_path):
    revision = send(hub_server, source, repo_id="anna/demo", repo_type="space")
    space = hub_server.space("anna/demo")
    assert space.sdk == "gradio" and space.branches["main"] == revision
    choices = {"token": hub_server.token, "endpoint": hub_server.endpoint}
    set_space_variables("anna/demo", {"A": "1", "B": "2"}, **choices)
    set_space_variables("anna/demo", {"A": "3", "B": None, "C": None}, **choices)
    assert space.variables == {"A": "3"}
    hub_server.fail("POST", "/api/spaces/anna/demo/variables", status=404)
    with pytest.raises(HubError, match="would not set the variables of 'anna/demo' and answered 404"):
        set_space_variables("anna/demo", {"A": "4"}, **choices)


def test_a_disk_that_cannot_be_written_is_not_blamed_on_the_hub(published, tmp_path):
    server, _ = published
    (tmp_path / "cache").write_text("a file where a folder is wanted", encoding="utf-8")
    with pytest.raises(OSError) as error:
        fetch(server, tmp_path / "cache")
    assert error.value.errno is not None


def test_the_server_speaks_what_the_client_asks(published):
    server, revision = published
    api = HfApi(endpoint=server.endpoint, token=server.token)
    assert api.whoami()["name"] == "anna"
    information = api.model_info("anna/model", files_metadata=True)
    assert information.tags == ["tiny"] and information.card_data.license == "other"
    assert [commit.title for commit in api.list_repo_commits("anna/model")] == ["First", "initial commit"]
    assert [info.size for info in api.get_paths_info("anna/model", ["config.json", "none"])] == [14]
    assert api.file_exists("anna/model", "config.json") and not api.file_exists("anna/model", "none")
    with pytest.raises(Exception, match="412"):
        api.create_commit("anna/model", [CommitOperationAdd("x", b"x")], commit_message="Stale", parent_commit="0" * 40)
