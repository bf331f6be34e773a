"""Downloads a bundle's files from one commit of a hub repository."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rakuten_models.errors import HubError, Message
from rakuten_models.files import write_atomically
from rakuten_models.hub import client
from rakuten_models.hub.client import (
    COMMIT,
    AlteredError,
    IncompleteError,
    check_repo_id,
    open_client,
    retried,
    same_content,
)


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

    A 40-character commit whose files are in the cache needs no network. A branch or tag is always resolved again,
    unless the network is switched off: an old copy never passes for the present one.

    Args:
        repo_id: user/name.
        revision: A branch, a tag or a commit; None is the main branch.
        files: Paths inside the repository; all must be there.
        token: For a private or gated repository; None is the one that `hf auth login` or HF_TOKEN left.
        cache_dir: None is the client's own cache folder.
        local_files_only: Whether to stay off the network; HF_HUB_OFFLINE=1 does the same.
        endpoint: The hub's address; None is the client's own (HF_ENDPOINT or huggingface.co).

    Returns:
        The folder, which may hold more files, and the 40-character commit they are from.

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
        facts = {"repo_id": repo_id, "revision": wanted, "files": ", ".join(not_cached), "cache": str(cache)}
        raise HubError("hub.not_cached" if cached_commit else "hub.revision_not_cached", **facts)

    hint = "" if not_cached else Message("hub.copy_is_here", revision=wanted, commit=cached_commit)
    with open_client("fetch", repo_id, endpoint, token, wanted, hint) as api:
        information = retried(
            lambda: api.model_info(
                repo_id, revision=wanted, files_metadata=True, timeout=client.REQUEST_TIMEOUT_SECONDS
            )
        )
        commit = str(information.sha)
        there = {sibling.rfilename: sibling for sibling in information.siblings or []}
        absent = [name for name in files if name not in there]
        if absent:
            raise HubError(
                "hub.files_missing",
                repo_id=repo_id,
                revision=wanted,
                commit=commit,
                absent=", ".join(absent),
                files=", ".join(files),
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
                raise IncompleteError
            # The client looks at a file's length only, and would never fetch again what it has.
            altered = [
                name
                for name in files
                # A mirror may list names alone.
                if there[name].size is not None and not same_content(folder / name, there[name])
            ]
            for name in altered:
                (folder / name).resolve().unlink(missing_ok=True)
                (folder / name).unlink(missing_ok=True)
            if altered:
                raise AlteredError(", ".join(altered))
            return folder

        folder = retried(fetch)
    # Noted only now that everything is there, so that the name leads to a whole folder when offline.
    if wanted != commit:
        # A cache that cannot be written serves what it holds all the same.
        with contextlib.suppress(OSError):
            reference = repository_cache / "refs" / wanted
            reference.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(reference, commit, concurrent=True)
    return folder, commit


def _cached_commit(repository_cache: Path, revision: str) -> str | None:
    """The commit that a revision stood for when it was last fetched; a commit stands for itself."""
    if COMMIT.fullmatch(revision):
        return revision
    reference = repository_cache / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else None
