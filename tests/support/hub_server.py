"""A model hub on 127.0.0.1 for the real huggingface_hub client: repositories, commits, tags, large files.

    with HubServer() as hub:
        HfApi(endpoint=hub.endpoint, token=hub.token).create_repo("anna/model")

Everything is kept in memory and addressed by content. Large files are answered with a redirect to another
origin (localhost instead of 127.0.0.1), as the public hub does, and that origin refuses a request that brings
a token. Faults are ordered beforehand: `hub.fail(...)`, `hub.break_off(...)`, `hub.lose_answer(...)`,
`hub.hang(...)`, `hub.drip(...)`, `hub.alter(...)`, `hub.after(...)`, `hub.before_commit(...)`. The client must
not use Xet against it: HF_HUB_DISABLE_XET=1 before huggingface_hub is imported.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fnmatch
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

# Suffixes that the public hub stores as large files whatever their size, and the size from which all others
# are.
LARGE_SUFFIXES = (".tflite", ".keras", ".png")

LARGE_SIZE = 10 * 1024 * 1024

_DATE = "2026-01-02T03:04:05.000Z"

_KINDS = {"models": "model", "spaces": "space"}


@dataclass(frozen=True)
class StoredFile:
    """One file of a commit: its bytes and the hashes that the hub lists."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
            self.sha256.encode(),
            len(self.content),
        )

    @property
    def blob_id(self) -> str:
        blob = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()

    def listing(self) -> dict:
        entry = {"size": len(self.content), "oid": self.blob_id}
        if self.large:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return entry


@dataclass(frozen=True)
class Commit:
    """A title and a whole tree; `sha` covers both and the parent."""

    sha: str
    parent: str | None
    title: str
    files: dict[str, StoredFile]


@dataclass
class Repository:
    """Commits in order, and the branches and tags that point to them."""

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def add(self, branch: str, title: str, files: dict[str, StoredFile]) -> Commit:
        parent = self.branches.get(branch)
        content = [parent, title, len(self.commits), {path: file.blob_id for path, file in sorted(files.items())}]
        sha = hashlib.sha1(json.dumps([self.kind, self.name, *content]).encode()).hexdigest()
        self.commits[sha] = Commit(sha, parent, title, files)
        self.branches[branch] = sha
        return self.commits[sha]

    def resolve(self, revision: str) -> Commit | None:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(sha)

    def history(self, revision: str) -> list[Commit]:
        commits, commit = [], self.resolve(revision)
        while commit is not None:
            commits.append(commit)
            commit = self.commits.get(commit.parent or "")
        return commits


# What becomes of the right answer to a request: another one, after some time or none.
_Spoil = Callable[[Response], Response]


@dataclass
class _Fault:
    """Instead of the answer, what `act` gives; or what `spoil` makes of the answer; after `seconds`."""

    method: str
    path: str
    times: int
    act: Callable[[], Response] | None = None
    spoil: _Spoil | None = None
    seconds: float = 0.0

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and method == self.method and fnmatch.fnmatchcase(path, self.path)


class _RefusedError(Exception):
    """Ends a request with an error answer."""

    def __init__(self, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None):
        super().__init__(message)
        marks = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.response = JSONResponse({"error": message}, status, headers={**marks, **(headers or {})})


class HubServer:
    """The server; a context manager that starts and stops it.

    Attributes:
        token: A token of the user "anna", who owns every repository that starts with "anna/".
        other_token: A token of "bert".
        repositories: By kind ("model" or "space") and name.
        requests: Method and decoded path of every request so far.
        leaked_tokens: How many requests brought a token to the large-file origin: always 0 with a right
            client.
    """

    def __init__(self) -> None:
        self.token, self.other_token = "hf_annas_secret_token", "hf_berts_secret_token"
        self._forget()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.large_file_origin = f"http://localhost:{self.port}"
        methods = ["GET", "HEAD", "POST", "PUT", "DELETE"]
        self._application = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self._server: uvicorn.Server | None = None

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _forget(self) -> None:
        self.users = {self.token: "anna", self.other_token: "bert"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.leaked_tokens = 0
        self._faults: list[_Fault] = []
        self._before_commit: list[Callable[[Repository], None]] = []

    def reset(self) -> None:
        """Forget everything and listen again if it was stopped: as new, without the time of a start."""
        self._forget()
        self.start()

    def mend(self) -> None:
        """Cancel the faults that were ordered and have not happened yet."""
        self._faults.clear()

    def start(self) -> None:
        """Listen, on the same port as before if it was stopped; nothing if it listens."""
        if self._server is not None:
            return
        settings = uvicorn.Config(
            self._application,
            "127.0.0.1",
            self.port,
            log_level="critical",
            # Its own would close handlers that others have, and one of TensorFlow's then closes what pytest writes to.
            log_config=None,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError(f"the test hub could not listen on port {self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop listening; what was stored stays."""
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None

    def fail(
        self,
        method: str,
        path: str,
        *,
        status: int = 503,
        times: int = 1,
        text: str = "out of order",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer the next requests whose path matches a pattern with an error."""
        marks = {"X-Error-Message": text, **(headers or {})}
        self._faults.append(_Fault(method, path, times, lambda: Response(text, status, marks)))

    def break_off(self, path: str, *, after: int, times: int = 1) -> None:
        """Close the connection of the next GETs of a path after so many bytes of the body."""
        self._faults.append(_Fault("GET", path, times, spoil=lambda answer: _broken_off(answer, after)))

    def hang(self, method: str, path: str, *, seconds: float, times: int = 1) -> None:
        """Accept the next requests and answer none of them before so many seconds, and then with an error."""
        act = lambda: Response("at last", 504)  # noqa: E731
        self._faults.append(_Fault(method, path, times, act, seconds=seconds))

    def drip(self, path: str, *, pieces: int, pause: float, times: int = 1) -> None:
        """Send the body of the next GETs of a path in so many pieces, with a pause of so many seconds before each."""
        self._faults.append(_Fault("GET", path, times, spoil=lambda answer: _dripping(answer, pieces, pause)))

    def alter(self, path: str, *, times: int = 1) -> None:
        """Answer the next GETs of a path with other content of the same length."""
        self._faults.append(_Fault("GET", path, times, spoil=_altered))

    def after(self, method: str, path: str, action: Callable[[], object], *, times: int = 1) -> None:
        """Do something once the next requests of a path have been answered rightly."""

        def done(answer: Response) -> Response:
            action()
            return answer

        self._faults.append(_Fault(method, path, times, spoil=done))

    def lose_answer(self, method: str, path: str, *, status: int = 503, times: int = 1) -> None:
        """Do what the next requests ask, and answer with an error all the same."""
        self._faults.append(_Fault(f"done {method}", path, times, lambda: Response("out of order", status)))

    def before_commit(self, action: Callable[[Repository], None]) -> None:
        """Run something once after the next commit has arrived and before its parent is compared."""
        self._before_commit.append(action)

    def model(self, name: str) -> Repository:
        """A model repository by name."""
        return self.repositories["model", name]

    def space(self, name: str) -> Repository:
        """A Space by name."""
        return self.repositories["space", name]

    async def _answer(self, request: Request) -> Response:
        # Split before decoding: a revision arrives as refs%2Fheads%2Fmain.
        parts = [unquote(part) for part in request.scope["raw_path"].decode().lstrip("/").split("/")]
        path = "/" + "/".join(parts)
        self.requests.append((request.method, path))
        fault = self._fault(request.method, path)
        if fault is not None and fault.seconds:
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.act is not None:
            return fault.act()
        try:
            response = self._route(request.method, parts, request, await request.body())
        except _RefusedError as refused:
            response = refused.response
        if fault is not None and fault.spoil is not None:
            return fault.spoil(response)
        if lost := self._fault(f"done {request.method}", path):
            return lost.act()
        return response

    def _fault(self, method: str, path: str) -> _Fault | None:
        fault = next((fault for fault in self._faults if fault.matches(method, path)), None)
        if fault is not None:
            fault.times -= 1
        return fault

    def _user(self, request: Request) -> str | None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.users:
            raise _RefusedError(401, "", "Invalid credentials in Authorization header")
        return self.users.get(token)

    def _route(self, method: str, parts: list[str], request: Request, body: bytes) -> Response:
        match parts:
            case ["large-files", sha256]:
                return self._large_file(method, sha256, request, body)
            case ["api", "whoami-v2"]:
                user = self._user(request)
                if user is None:
                    raise _RefusedError(401, "", "Invalid username or password.")
                return JSONResponse({"type": "user", "name": user, "orgs": [], "auth": {"type": "access_token"}})
            case ["api", "validate-yaml"]:
                return _validate_card(json.loads(body)["content"])
            case ["api", "repos", "create"]:
                return self._create(self._user(request), json.loads(body))
            case ["api", ("models" | "spaces") as kinds, owner, name, *rest]:
                repository = self._repository(_KINDS[kinds], f"{owner}/{name}", request, write=method != "GET")
                return self._api(repository, method, rest, request, body)
            case ["spaces", owner, name, *rest]:
                return self._files("space", f"{owner}/{name}", method, rest, request, body)
            case [owner, name, *rest]:
                return self._files("model", f"{owner}/{name}", method, rest, request, body)
        raise _RefusedError(404, "", f"no such page: {parts}")

    def _repository(self, kind: str, name: str, request: Request, *, write: bool = False) -> Repository:
        user, repository = self._user(request), self.repositories.get((kind, name))
        owner = name.split("/")[0]
        if repository is None or (repository.private and user != owner):
            # The public hub does not tell whether there is one, and asks those without a token to sign in.
            message = "Repository not found" if user else "Invalid username or password."
            raise _RefusedError(404 if user else 401, "RepoNotFound", message)
        if repository.gated and user != owner:
            raise _RefusedError(403 if user else 401, "GatedRepo", f"Access to model {name} is restricted.")
        if write and user != owner:
            message = "You don't have the rights to write here." if user else "Invalid username or password."
            raise _RefusedError(403 if user else 401, "", message)
        return repository

    def _create(self, user: str | None, wanted: dict) -> Response:
        if user is None:
            raise _RefusedError(401, "", "Invalid username or password.")
        owner, kind = wanted.get("organization") or user, wanted.get("type", "model")
        name = f"{owner}/{wanted['name']}"
        url = f"{self.endpoint}/{'spaces/' if kind == 'space' else ''}{name}"
        if owner != user:
            raise _RefusedError(403, "", f'You don\'t have the rights to create a {kind} under the namespace "{owner}"')
        if (kind, name) in self.repositories:
            return JSONResponse({"error": "You already created this repo", "url": url}, 409)
        private = wanted.get("private", False) or wanted.get("visibility") == "private"
        repository = Repository(kind, name, private=private, sdk=wanted.get("sdk"))
        repository.add("main", "initial commit", {".gitattributes": StoredFile(b"*.keras filter=lfs\n", False)})
        self.repositories[kind, name] = repository
        return JSONResponse({"url": url, "name": name})

    def _api(self, repository: Repository, method: str, rest: list[str], request: Request, body: bytes) -> Response:
        match method, rest:
            case "GET", []:
                return self._information(repository, "main", request)
            case "GET", ["revision", revision]:
                return self._information(repository, revision, request)
            case "GET", ["tree", revision, *_]:
                files = _commit(repository, revision).files
                return JSONResponse([{"type": "file", "path": path, **file.listing()} for path, file in files.items()])
            case "POST", ["paths-info", revision]:
                wanted, files = parse_qs(body.decode())["paths"], _commit(repository, revision).files
                found = [path for path in wanted if path in files]
                return JSONResponse([{"type": "file", "path": path, **files[path].listing()} for path in found])
            case "GET", ["refs"]:
                return JSONResponse(
                    {
                        "branches": _references("heads", repository.branches),
                        "tags": _references("tags", repository.tags),
                        "converts": [],
                    }
                )
            case "GET", ["commits", revision]:
                _commit(repository, revision)
                listed = [
                    {"id": commit.sha, "title": commit.title, "message": "", "authors": [], "date": _DATE}
                    for commit in repository.history(revision)
                ]
                return JSONResponse(listed)
            case "POST", ["preupload", revision]:
                return _upload_modes(_commit(repository, revision), json.loads(body)["files"])
            case "POST", ["commit", branch]:
                return self._commit(repository, branch, [json.loads(line) for line in body.splitlines()])
            case "POST", ["branch", branch]:
                if branch in repository.branches:
                    raise _RefusedError(409, "", "Reference already exists")
                start = (json.loads(body or b"{}") or {}).get("startingPoint", "main")
                repository.branches[branch] = _commit(repository, start).sha
                return JSONResponse({})
            case "POST", ["tag", revision]:
                tag = json.loads(body)["tag"]
                if tag in repository.tags:
                    raise _RefusedError(409, "", "Tag reference exists already")
                repository.tags[tag] = _commit(repository, revision).sha
                return JSONResponse({})
            case _, ["variables"] if repository.kind == "space":
                if method == "POST":
                    change = json.loads(body)
                    repository.variables[change["key"]] = change["value"]
                elif method == "DELETE":
                    repository.variables.pop(json.loads(body)["key"], None)
                variables = repository.variables.items()
                return JSONResponse({key: {"key": key, "value": value, "updatedAt": _DATE} for key, value in variables})
        raise _RefusedError(404, "", f"no such call: {method} {rest}")

    def _information(self, repository: Repository, revision: str, request: Request) -> Response:
        commit = _commit(repository, revision)
        with_hashes = request.query_params.get("blobs", "").lower() in ("true", "1")
        siblings = []
        for path, file in commit.files.items():
            entry = {"rfilename": path}
            if with_hashes:
                entry |= {"size": len(file.content), "blobId": file.blob_id}
                if file.large:
                    entry["lfs"] = {"sha256": file.sha256, "size": len(file.content), "pointerSize": len(file.pointer)}
            siblings.append(entry)
        card = _front_matter(commit.files["README.md"].content.decode()) if "README.md" in commit.files else {}
        return JSONResponse(
            {
                "_id": repository.name,
                "id": repository.name,
                "modelId": repository.name,
                "author": repository.name.split("/")[0],
                "sha": commit.sha,
                "lastModified": _DATE,
                "createdAt": _DATE,
                "private": repository.private,
                "gated": "auto" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": card.get("tags", []),
                "sdk": repository.sdk,
                "cardData": {key: value for key, value in card.items() if key != "model-index"},
                "model-index": card.get("model-index"),
                "siblings": siblings,
            }
        )

    def _commit(self, repository: Repository, branch: str, lines: list[dict]) -> Response:
        header = next(line["value"] for line in lines if line["key"] == "header")
        if self._before_commit:
            self._before_commit.pop(0)(repository)
        head = repository.branches.get(branch)
        if head is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        if header.get("parentCommit") not in (None, head):
            raise _RefusedError(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(repository.commits[head].files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = StoredFile(base64.b64decode(value["content"]), large=False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large_files:
                    raise _RefusedError(400, "", f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = StoredFile(self.large_files[value["oid"]], large=True)
            elif line["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                raise _RefusedError(404, "EntryNotFound", "A file with this name doesn't exist")
        commit = repository.add(branch, header["summary"], files)
        url = f"{self.endpoint}/{repository.name}/commit/{commit.sha}"
        return JSONResponse({"success": True, "commitOid": commit.sha, "commitUrl": url})

    def _files(self, kind: str, name: str, method: str, rest: list[str], request: Request, body: bytes) -> Response:
        match method, rest:
            case "POST", ["info", "lfs", "objects", "batch"] if name.endswith(".git"):
                self._repository(kind, name.removesuffix(".git"), request, write=True)
                return self._upload_places(json.loads(body)["objects"])
            case "POST", ["info", "lfs", "objects", "verify"] if name.endswith(".git"):
                self._repository(kind, name.removesuffix(".git"), request, write=True)
                wanted = json.loads(body)
                if len(self.large_files.get(wanted["oid"], b"")) != wanted["size"]:
                    raise _RefusedError(404, "", "The object is not there")
                return JSONResponse({})
            case (("GET" | "HEAD"), ["resolve", revision, *path]):
                return self._resolved_file(self._repository(kind, name, request), revision, "/".join(path), request)
        raise _RefusedError(404, "", f"no such page: {method} {name} {rest}")

    def _upload_places(self, objects: list[dict]) -> Response:
        answers = []
        for wanted in objects:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.large_files:
                answer["actions"] = {"upload": {"href": f"{self.large_file_origin}/large-files/{wanted['oid']}"}}
            answers.append(answer)
        return JSONResponse({"transfer": "basic", "objects": answers})

    def _resolved_file(self, repository: Repository, revision: str, path: str, request: Request) -> Response:
        commit = _commit(repository, revision)
        marks = {"X-Repo-Commit": commit.sha}
        file = commit.files.get(path)
        if file is None:
            raise _RefusedError(404, "EntryNotFound", "Entry not found", marks)
        if not file.large:
            return _ranged(file.content, request, {**marks, "ETag": f'"{file.blob_id}"'})
        marks |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        marks["Location"] = f"{self.large_file_origin}/large-files/{file.sha256}"
        return Response(status_code=302, headers=marks)

    def _large_file(self, method: str, sha256: str, request: Request, body: bytes) -> Response:
        if "authorization" in request.headers:
            self.leaked_tokens += 1
            raise _RefusedError(400, "", "Only one auth mechanism allowed")
        if method == "PUT":
            if hashlib.sha256(body).hexdigest() != sha256:
                raise _RefusedError(400, "", "The content does not match its hash")
            self.large_files[sha256] = body
            return Response()
        if sha256 not in self.large_files:
            raise _RefusedError(404, "", "No such object")
        return _ranged(self.large_files[sha256], request, {"ETag": f'"{sha256}"'})


def _commit(repository: Repository, revision: str) -> Commit:
    commit = repository.resolve(revision)
    if commit is None:
        raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return commit


def _references(kind: str, references: dict[str, str]) -> list[dict]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in references.items()]


def _upload_modes(head: Commit, wanted: list[dict]) -> Response:
    answers = []
    for file in wanted:
        large = file["path"].endswith(LARGE_SUFFIXES) or file["size"] > LARGE_SIZE
        answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if stored := head.files.get(file["path"]):
            answer["oid"] = stored.sha256 if stored.large else stored.blob_id
        answers.append(answer)
    return JSONResponse({"files": answers})


def _front_matter(card: str) -> dict:
    match = re.match(r"---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    return (yaml.safe_load(match.group(1)) if match else None) or {}


def _validate_card(card: str) -> Response:
    try:
        _front_matter(card)
    except yaml.YAMLError as error:
        message = str(error).splitlines()[0]
        return JSONResponse({"errors": [{"message": f"bad YAML: {message}"}], "warnings": []}, 400)
    return JSONResponse({"errors": [], "warnings": []})


def _ranged(content: bytes, request: Request, headers: dict[str, str]) -> Response:
    """The whole body, or what a Range header asks for; HEAD gets the headers alone."""
    status, body = 200, content
    if match := re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", "")):
        start = int(match.group(1))
        headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        status, body = 206, content[start:]
    headers = {**headers, "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}
    return Response(b"" if request.method == "HEAD" else body, status, headers)


def _broken_off(response: Response, after: int) -> Response:
    """The same headers, and only the beginning of the body: the server then closes the connection."""

    async def beginning() -> AsyncIterator[bytes]:
        yield response.body[:after]
        raise ConnectionAbortedError("broken off as ordered")

    return StreamingResponse(beginning(), response.status_code, dict(response.headers))


def _dripping(response: Response, pieces: int, pause: float) -> Response:
    """The same answer, in pieces."""
    size = max(1, -(-len(response.body) // pieces))

    async def drops() -> AsyncIterator[bytes]:
        for start in range(0, len(response.body), size):
            await asyncio.sleep(pause)
            yield response.body[start : start + size]

    return StreamingResponse(drops(), response.status_code, dict(response.headers))


def _altered(response: Response) -> Response:
    """The same headers, and a body of the same length with other bytes in its middle."""
    body = bytearray(response.body)
    middle = len(body) // 2
    body[middle : middle + 16] = bytes(255 - byte for byte in body[middle : middle + 16])
    return Response(bytes(body), response.status_code, dict(response.headers))


@contextlib.contextmanager
def client_points_at(hub: HubServer, monkeypatch) -> Iterator[HubServer]:
    """Make the client in this process use a hub where no endpoint can be passed, as HF_ENDPOINT would."""
    from huggingface_hub import constants

    # As on a machine where nobody has logged in.
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "no token")
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub
