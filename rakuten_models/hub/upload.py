"""Publishes a folder as one commit of a hub repository."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from rakuten_models.errors import HubError
from rakuten_models.hub import client
from rakuten_models.hub.client import COMMIT, check_repo_id, explained, open_client, retried, same_content

if TYPE_CHECKING:
    from huggingface_hub import HfApi


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

    The commit names its parent, so it can never land twice or over another writer's. After a fault the head is read
    again: if it holds these files, the commit had landed and only its answer was lost.

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
    if branch is not None and COMMIT.fullmatch(branch):
        raise HubError("hub.branch_is_commit", branch=branch)
    folder = Path(folder)
    absent = [name for name in files if not (folder / name).is_file()]
    if absent:
        raise HubError("hub.nothing_to_send", folder=str(folder), files=", ".join(absent), repo_id=repo_id)
    with open_client("send", repo_id, endpoint, token, branch or "main") as api:
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
                timeout=client.REQUEST_TIMEOUT_SECONDS,
            )
            there = {sibling.rfilename: sibling for sibling in getattr(head, "siblings", None) or []}
            superfluous = [
                name
                for name in sorted(set(there) - set(files))
                if any(fnmatchcase(name, pattern) for pattern in delete_others)
            ]
            unchanged = not superfluous and all(same_content(folder / name, there.get(name)) for name in files)
            if tag in tagged and not (unchanged and tagged[tag] == head.sha):
                raise HubError("hub.tag_taken", repo_id=repo_id, tag=tag, commit=tagged[tag])
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
    """Make a repository unless it is there; for the arguments see `upload_folder`.

    Raises:
        HubError: No permission, a public repository where a private one is wanted, no network, or the hub fails.
    """
    with open_client("send", repo_id, endpoint, token) as api:
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
            lambda: api.repo_info(repo_id, repo_type=repo_type, timeout=client.REQUEST_TIMEOUT_SECONDS)
        )
        if private and not information.private:
            page = f"spaces/{repo_id}" if repo_type == "space" else repo_id
            raise HubError("hub.public", repo_id=repo_id, settings=f"{api.endpoint}/{page}/settings")


def _tags(api: HfApi, repo_id: str, repo_type: str) -> dict[str, str]:
    """Commits by tag."""
    references = retried(lambda: api.list_repo_refs(repo_id, repo_type=repo_type))
    return {reference.name: reference.target_commit for reference in references.tags}


def _set_tag(api: HfApi, repo_id: str, repo_type: str, tag: str, revision: str, token: str | None) -> None:
    try:
        # exist_ok: after a lost answer the tag is there; the commit it stands for is compared below.
        retried(lambda: api.create_tag(repo_id, tag=tag, revision=revision, repo_type=repo_type, exist_ok=True))
        if _tags(api, repo_id, repo_type).get(tag) != revision:
            raise HubError("hub.tag_moved", tag=tag, repo_id=repo_id)
    except Exception as error:
        reason = explained(error, "tag", repo_id, revision, api.endpoint, token)
        raise HubError("hub.tag_not_set", repo_id=repo_id, revision=revision, tag=tag, reason=reason.message) from error
