"""Moves folders from and to a model hub; knows nothing about models.

`download_folder` reads named files at one resolved commit, `upload_folder` sends named files as one commit.
Both try again after a fault of the network or of the hub, for a short time, and end with one sentence
otherwise. The client library is imported inside the functions: whoever never talks to a hub does not pay for
it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rakuten_models.hub_faults import (
    AlteredError,
    HubError,
    IncompleteError,
    check_repo_id,
    explained,
    open_client,
    retried,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REQUEST_TIMEOUT_SECONDS = 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}")


def download_folder(
    repo_id: str,
    *,
    revision: str | None = None,
    files: Sequence[str],
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> tuple[Path, str]:
    """Fetch files of a model repository, all from one commit, through the client's cache.

    The revision is resolved to a commit once; every file is then read at that commit. A 40-character commit
    whose files are in the cache needs no network. A branch or tag is always asked for again, unless the
    network is switched off: an old copy never passes for the present one.

    Args:
        repo_id: user/name.
        revision: A branch, a tag or a commit; None is the main branch.
        files: Paths inside the repository; all must be there.
        token: For a private or gated repository; None is the one that `hf auth login` or HF_TOKEN left.
        cache_dir: None is the client's own cache folder.
        local_files_only: Whether to stay off the network; HF_HUB_OFFLINE=1 does the same.
        endpoint: The hub's address; None is the client's own (HF_ENDPOINT or huggingface.co).

    Returns:
        The folder that holds the files, and the 40-character commit they are from. The folder may hold more
        files.

    Raises:
        HubError: No such repository, revision or file, no access, no network, or the hub fails.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.file_download import repo_folder_name

    check_repo_id(repo_id)
    cache = Path(cache_dir if cache_dir is not None else constants.HF_HUB_CACHE).expanduser()
    repository_cache = cache / repo_folder_name(repo_id=repo_id, repo_type="model")
    wanted = revision or constants.DEFAULT_REVISION
    cached_commit = _cached_commit(repository_cache, wanted)
    cached_folder = repository_cache / "snapshots" / (cached_commit or "none")
    not_cached = [name for name in files if not (cached_folder / name).is_file()]
    offline = local_files_only or constants.HF_HUB_OFFLINE
    if not not_cached and (offline or cached_commit == wanted):
        return cached_folder, str(cached_commit)
    if offline:
        raise HubError(_not_cached_sentence(repo_id, wanted, cached_commit, not_cached, cache))

    api = open_client(endpoint, token)
    try:
        information = retried(
            lambda: api.model_info(
                repo_id, revision=wanted, files_metadata=True, timeout=REQUEST_TIMEOUT_SECONDS
            )
        )
        commit = str(information.sha)
        there = {sibling.rfilename: sibling for sibling in information.siblings or []}
        absent = [name for name in files if name not in there]
        if absent:
            raise HubError(
                f"Repository {repo_id!r} at revision {wanted!r} ({commit}) has no {', '.join(absent)}: "
                f"expected all of {', '.join(files)}; choose a repository and a revision that hold them."
            )

        def fetch() -> Path:
            folder = Path(
                snapshot_download(
                    repo_id,
                    revision=commit,
                    allow_patterns=list(files),
                    cache_dir=cache,
                    token=token,
                    endpoint=endpoint,
                    max_workers=4,
                )
            )
            # The client hands out what it has if the hub fails while it lists the files.
            if any(not (folder / name).is_file() for name in files):
                raise IncompleteError(f"The download of {repo_id!r} stopped before all files were there")
            # The client looks at a file's length only, and would never fetch again what it has.
            altered = [
                name
                for name in files
                # A mirror may list names alone.
                if there[name].size is not None and not _same_content(folder / name, there[name])
            ]
            for name in altered:
                (folder / name).resolve().unlink(missing_ok=True)
                (folder / name).unlink(missing_ok=True)
            if altered:
                raise AlteredError(
                    f"The hub {api.endpoint} sent {', '.join(altered)} of {repo_id!r} with other content than it lists"
                )
            return folder

        folder = retried(fetch)
    except Exception as error:
        hint = ""
        if not not_cached:
            hint = (
                f" A copy of {wanted!r} as it was last seen ({cached_commit}) is on this machine: set "
                "HF_HUB_OFFLINE=1, or pass local_files_only=True or that commit as the revision, to use it."
            )
        raise explained(error, "fetch", repo_id, wanted, api.endpoint, token, hint) from error
    # Noted only now that everything is there, so that the name leads to a whole folder when offline.
    if wanted != commit:
        # A cache that cannot be written serves what it holds all the same.
        with contextlib.suppress(OSError):
            _note_commit(repository_cache, wanted, commit)
    return folder, commit


def upload_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    files: Sequence[str],
    commit_message: str,
    private: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    token: str | None = None,
    repo_type: str = "model",
    delete_others: Sequence[str] = (),
    endpoint: str | None = None,
) -> str:
    """Send files of a folder to a repository as one commit; the repository is made if there is none.

    The commit names the head it was made for, so it can never land twice or over somebody else's. After a
    fault the head is read again: if it holds our files, the commit had landed and only its answer was lost.

    Args:
        folder: Where the files lie.
        repo_id: user/name.
        files: Paths inside the folder, with "/", which are the paths inside the repository too.
        commit_message: The commit's title.
        private: Whether only its owner may see a repository that this call makes.
        branch: None is main; made from main's head if there is none of that name.
        tag: Set on the commit; refused before anything is sent if it already stands for something else.
        token: With write permission; None is the one that `hf auth login` or HF_TOKEN left.
        repo_type: "model", or "space" for a Gradio app.
        delete_others: Patterns such as "*.keras" of files to remove from the repository if not among `files`.
        endpoint: The hub's address; None is the client's own.

    Returns:
        The 40-character commit that holds the files: the head itself if it held exactly them already.

    Raises:
        HubError: A file is missing, no permission, the tag is taken, no network, or the hub fails.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    check_repo_id(repo_id)
    if branch is not None and _COMMIT.fullmatch(branch):
        raise HubError(
            f"{branch!r} is a commit, to which nothing can be added: give a branch, or none for main."
        )
    folder = Path(folder)
    absent = [name for name in files if not (folder / name).is_file()]
    if absent:
        raise HubError(f"Folder {str(folder)!r} has no {', '.join(absent)}; nothing was sent to {repo_id!r}.")
    api = open_client(endpoint, token)
    try:
        create_repository(repo_id, private=private, repo_type=repo_type, token=token, endpoint=endpoint)
        if branch is not None:
            retried(lambda: api.create_branch(repo_id, branch=branch, repo_type=repo_type, exist_ok=True))
        tagged = _tags(api, repo_id, repo_type)

        def commit() -> str:
            head = api.repo_info(
                repo_id,
                revision=branch,
                repo_type=repo_type,
                files_metadata=True,
                timeout=REQUEST_TIMEOUT_SECONDS,
            )
            there = {sibling.rfilename: sibling for sibling in getattr(head, "siblings", None) or []}
            superfluous = [
                name
                for name in sorted(set(there) - set(files))
                if any(fnmatchcase(name, pattern) for pattern in delete_others)
            ]
            unchanged = not superfluous and all(
                _same_content(folder / name, there.get(name)) for name in files
            )
            if tag in tagged and not (unchanged and tagged[tag] == head.sha):
                raise HubError(
                    f"Repository {repo_id!r} already has a tag {tag!r}, on commit {tagged[tag]}: a tag is "
                    "never moved, and nothing was sent; choose another tag."
                )
            if unchanged:
                return str(head.sha)
            return api.create_commit(
                repo_id,
                [CommitOperationAdd(name, folder / name) for name in files]
                + [CommitOperationDelete(name) for name in superfluous],
                commit_message=commit_message,
                repo_type=repo_type,
                revision=branch,
                parent_commit=head.sha,
            ).oid

        revision = retried(commit)
    except Exception as error:
        raise explained(error, "send", repo_id, branch or "main", api.endpoint, token) from error
    if tag is not None and tag not in tagged:
        _set_tag(api, repo_id, repo_type, tag, revision, token)
    return revision


def create_repository(
    repo_id: str,
    *,
    private: bool = False,
    repo_type: str = "model",
    token: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Make a repository unless it is there.

    Args:
        repo_id: user/name.
        private: Whether only its owner may see it. A public repository that is already there is refused.
        repo_type: "model", or "space" for a Gradio app.
        token: With write permission; None is the one that `hf auth login` or HF_TOKEN left.
        endpoint: The hub's address; None is the client's own.

    Raises:
        HubError: No permission, a public repository where a private one is wanted, no network, or the hub
            fails.
    """
    check_repo_id(repo_id)
    api = open_client(endpoint, token)
    try:
        retried(
            lambda: api.create_repo(
                repo_id,
                private=private,
                repo_type=repo_type,
                space_sdk="gradio" if repo_type == "space" else None,
                exist_ok=True,
            )
        )
        information = retried(
            lambda: api.repo_info(repo_id, repo_type=repo_type, timeout=REQUEST_TIMEOUT_SECONDS)
        )
        if private and not information.private:
            raise HubError(
                f"Repository {repo_id!r} is there already and is public, but a private one is wanted: "
                f"nothing was sent; make it private at {api.endpoint}/{_page(repo_id, repo_type)}/settings "
                "or choose another name."
            )
    except Exception as error:
        raise explained(error, "send", repo_id, "main", api.endpoint, token) from error


def is_private(repo_id: str, *, token: str | None = None, endpoint: str | None = None) -> bool:
    """Whether only those with a token may read a model repository.

    Args:
        repo_id: user/name.
        token: None is the one that `hf auth login` or HF_TOKEN left.
        endpoint: The hub's address; None is the client's own.

    Raises:
        HubError: No such repository, no access, no network, or the hub fails.
    """
    check_repo_id(repo_id)
    api = open_client(endpoint, token)
    try:
        information = retried(lambda: api.model_info(repo_id, timeout=REQUEST_TIMEOUT_SECONDS))
    except Exception as error:
        raise explained(error, "read", repo_id, "main", api.endpoint, token) from error
    return bool(information.private or information.gated)


def set_space_variables(
    repo_id: str,
    variables: Mapping[str, str | None],
    *,
    token: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Set environment variables of a Space; a value of None removes the variable.

    Args:
        repo_id: user/name of a Space that is there.
        variables: Values by name; anybody can read them, they are no place for a token.
        token: With write permission; None is the one that `hf auth login` or HF_TOKEN left.
        endpoint: The hub's address; None is the client's own.

    Raises:
        HubError: No permission, no network, or the hub fails.
    """
    check_repo_id(repo_id)
    api = open_client(endpoint, token)
    try:
        present = retried(lambda: api.get_space_variables(repo_id))
        for name, value in variables.items():
            if value is not None:
                retried(partial(api.add_space_variable, repo_id, name, value))
            elif name in present:
                retried(partial(api.delete_space_variable, repo_id, name))
    except Exception as error:
        raise explained(error, "set the variables of", repo_id, "main", api.endpoint, token) from error


def _page(repo_id: str, repo_type: str) -> str:
    return f"spaces/{repo_id}" if repo_type == "space" else repo_id


def _cached_commit(repository_cache: Path, revision: str) -> str | None:
    """The commit that a revision stood for when it was last fetched; a commit stands for itself."""
    if _COMMIT.fullmatch(revision):
        return revision
    reference = repository_cache / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _note_commit(repository_cache: Path, revision: str, commit: str) -> None:
    """Write the client's own note of what a branch or tag stands for, whole or not at all."""
    reference = repository_cache / "refs" / revision
    reference.parent.mkdir(parents=True, exist_ok=True)
    temporary = reference.with_name(f"{reference.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(commit, encoding="utf-8")
        temporary.replace(reference)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _not_cached_sentence(
    repo_id: str, revision: str, commit: str | None, not_cached: Sequence[str], cache: Path
) -> str:
    if commit is None:
        missing = f"what revision {revision!r} stands for was never looked up on this machine"
    else:
        missing = f"at revision {revision!r} {', '.join(not_cached)} is not there"
    return (
        f"Repository {repo_id!r} is not whole in the cache {str(cache)!r}: {missing}, and the network is "
        "switched off (local_files_only or HF_HUB_OFFLINE); fetch it once with the network on."
    )


def _tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """The commit that each tag stands for."""
    references = retried(lambda: api.list_repo_refs(repo_id, repo_type=repo_type))
    return {reference.name: reference.target_commit for reference in references.tags}


def _set_tag(api: HfApi, repo_id: str, repo_type: str, tag: str, revision: str, token: str | None) -> None:
    try:
        # exist_ok: after a lost answer the tag is there, and whether it is ours shows below.
        retried(
            lambda: api.create_tag(repo_id, tag=tag, revision=revision, repo_type=repo_type, exist_ok=True)
        )
        if _tags(api, repo_id, repo_type).get(tag) != revision:
            raise HubError(f"Somebody else set the tag {tag!r} on another commit of {repo_id!r} meanwhile")
    except Exception as error:
        reason = explained(error, "tag", repo_id, revision, api.endpoint, token)
        raise HubError(
            f"The files are in {repo_id!r} as commit {revision}, but without the tag {tag!r}: {reason} "
            "Run the command again to set it, with another tag if this one is taken."
        ) from error


def _same_content(path: Path, sibling: Any) -> bool:
    """Whether a file is the one the hub lists: git's own hash for a small file, SHA-256 for a large one."""
    if sibling is None or sibling.size != path.stat().st_size:
        return False
    content = path.read_bytes()
    if sibling.lfs is not None:
        return bool(sibling.lfs.sha256 == hashlib.sha256(content).hexdigest())
    return bool(
        sibling.blob_id
        == hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    )
