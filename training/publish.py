"""Send a bundle to the model hub in one commit, or the app to a Space, or both.

    python -m training.publish --bundle BUNDLE --repo-id user/name [--private] [--revision BRANCH] [--tag TAG]
    python -m training.publish --space user/name [--repo-id user/model --revision REVISION]

The first checks the bundle and reproduces its self-check before anything is sent; a bundle of 25 MB takes some seconds
and the time of the upload. The second sends the app with the starter bundle, or pinned to one commit of a published
bundle; with both --bundle and --space, to the new commit. The token is that of `hf auth login` or HF_TOKEN, unless
--token gives another.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rakuten_models.bundle.config import (
    ALL_FILES,
    CARD_FILE,
    KERAS_FILES,
    METRICS_FILE,
    SERVING_FILES,
    SERVING_MODEL_FILES,
    BundleConfig,
)
from rakuten_models.bundle.folder import bundle_files, check_publishable, validate_bundle
from rakuten_models.classifier import REPOSITORY_VARIABLE, REVISION_VARIABLE, ProductClassifier
from rakuten_models.cli import run_command
from rakuten_models.errors import BundleError, HubError
from rakuten_models.hub.client import is_private
from rakuten_models.hub.spaces import set_space_variables
from rakuten_models.hub.upload import create_repository, upload_folder
from training.evaluation.model_card import render_card

PROJECT_FOLDER = Path(__file__).resolve().parents[1]
APP_FILES = ("README.md", "app.py", "requirements.txt", "LICENSE")

# What a file of the Space is made of where that is another one: a Space installs exact versions with their hashes.
SOURCES = {"requirements.txt": "requirements.lock"}
PACKAGE = "rakuten_models"
STARTER = f"{PACKAGE}/starter/"

# A picture in Markdown or HTML that lies in the project: the page is shown in the Space too.
_PICTURE = re.compile(r"""(?:!\[[^\]]*\]\(|<img[^>]*\ssrc=["'])([\w./-]+\.(?:png|jpe?g|webp|gif|svg))\b""")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and publish.

    Raises:
        BundleError: The bundle is incomplete, altered, or does not reproduce its self-check; nothing was sent.
        HubError: The hub cannot be reached or refuses.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.publish", description="Publish a bundle to the model hub, or the app as a Space."
    )
    add = parser.add_argument
    add("--bundle", type=Path, help="the bundle's folder")
    add("--repo-id", help="user/name of the model repository: where the bundle goes, or what the Space serves")
    add(
        "--revision",
        help="with --bundle the branch to commit to (made if absent); without it the branch, tag or commit that the "
        "Space serves",
    )
    add("--tag", help="a tag for the new commit; one that exists is never moved")
    add("--private", action="store_true", help="make a new repository private")
    add("--token", help="a token with write permission")
    add("--space", help="user/name of a Gradio Space to send the app to")
    choices = parser.parse_args(arguments)
    if choices.bundle is None and choices.space is None:
        parser.error("nothing to publish: give --bundle BUNDLE --repo-id user/name, or --space user/name")
    if choices.bundle is not None and choices.repo_id is None:
        parser.error("--bundle needs --repo-id user/name, the repository it goes to")
    if choices.bundle is None and choices.tag is not None:
        parser.error("--tag needs --bundle: it names the commit that sends the bundle")
    if choices.revision is not None and choices.repo_id is None:
        parser.error("--revision needs --repo-id user/name, the model repository it belongs to")

    revision = None
    access = {"private": choices.private, "token": choices.token}
    if choices.bundle is not None:
        revision = publish_bundle(choices.bundle, choices.repo_id, branch=choices.revision, tag=choices.tag, **access)
    elif choices.repo_id is not None:
        # Loads it all: a Space must not be pinned to something that it cannot serve.
        classifier = ProductClassifier.from_pretrained(choices.repo_id, revision=choices.revision, token=choices.token)
        classifier.reproduce_self_check()
        revision = classifier.revision
    if choices.space is not None:
        publish_space(choices.space, repo_id=choices.repo_id, revision=revision, **access)


def publish_bundle(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    branch: str | None = None,
    tag: str | None = None,
    token: str | None = None,
) -> str:
    """Check a bundle, send it as one commit, and print how to load it; returns the commit's 40 hex digits.

    Args:
        folder: A full bundle, or a serving part.
        repo_id: user/name.
        private: For a repository that is made now.
        branch: None is main.
        tag: For the new commit.
        token: None is the stored one.

    Raises:
        BundleError: The bundle is incomplete, altered, or does not reproduce its self-check; nothing was sent.
        HubError: The hub cannot be reached or refuses.
    """
    config = validate_bundle(folder)
    files = bundle_files(folder)
    check_publishable(folder)
    difference = ProductClassifier.from_pretrained(folder).reproduce_self_check()
    megabytes = sum((folder / name).stat().st_size for name in files) / 1e6
    print(
        f"checked: {len(files)} files, {megabytes:.1f} MB, {len(config.categories)} categories; the "
        f"self-check comes out the same (largest difference {difference:.1e})"
    )
    with_keras = all(name in files for name in KERAS_FILES)
    if not with_keras:
        print("note: this is the serving part alone; without its .keras files it runs in the app and in rakuten_models")
    with tempfile.TemporaryDirectory() as staging:
        for name in files:
            shutil.copyfile(folder / name, Path(staging) / name)
        _address_card(Path(staging), config, repo_id)
        revision = upload_folder(
            staging,
            repo_id,
            files=files,
            commit_message=f"Publish a bundle of {len(config.categories)} categories",
            private=private,
            branch=branch,
            tag=tag,
            token=token,
            # What an earlier, fuller bundle left there would not belong to these files.
            delete_others=ALL_FILES,
        )
    print(f"published: {repo_id} at revision {revision}\n")
    print(loading_lines(repo_id, revision, with_keras=with_keras))
    return revision


def _address_card(folder: Path, config: BundleConfig, repo_id: str) -> None:
    """Let the card name the repository it is published in, unless somebody has written a card of their own."""
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    measured = metrics.get("models", {})
    if any(config.files[name]["sha256"] != measured.get(name) for name in SERVING_MODEL_FILES):
        raise BundleError("publish.other_models_measured", file=METRICS_FILE)
    card = folder / CARD_FILE
    if card.read_text(encoding="utf-8") == render_card(config, metrics):
        card.write_text(render_card(config, metrics, repo_id=repo_id), encoding="utf-8")


def loading_lines(repo_id: str, revision: str, *, with_keras: bool) -> str:
    """The lines to paste that load a published bundle: in Python, with plain Keras, in the app."""
    lines = f"""In Python:
    from rakuten_models import Product, ProductClassifier
    classifier = ProductClassifier.from_pretrained("{repo_id}", revision="{revision}")
"""
    if with_keras:
        lines += "With Keras alone:\n    import keras\n    from huggingface_hub import hf_hub_download\n"
        for name in KERAS_FILES:
            file = f'hf_hub_download("{repo_id}", "{name}", revision="{revision}")'
            lines += f"    {name.removesuffix('.keras')} = keras.saving.load_model({file})\n"
    return f"{lines}In the app:\n    {REPOSITORY_VARIABLE}={repo_id} {REVISION_VARIABLE}={revision} python app.py"


def publish_space(
    space_id: str,
    *,
    repo_id: str | None = None,
    revision: str | None = None,
    private: bool = False,
    token: str | None = None,
    project_folder: Path = PROJECT_FOLDER,
) -> str:
    """Send the app to a Gradio Space as one commit, and return that.

    Args:
        space_id: user/name of the Space; made if there is none.
        repo_id: The model repository that it serves; None sends the starter bundle along and serves that.
        revision: The commit (40 hex digits) of that repository.
        private: For a Space that is made now.
        token: None is the stored one.
        project_folder: Where app.py lies.

    Raises:
        HubError: A file of the app is missing, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import constants

    files = app_files(project_folder, with_starter=repo_id is None)
    # A Space cannot read such a model while it is built, only later with a secret of its own.
    closed = repo_id is not None and is_private(repo_id, token=token)
    with tempfile.TemporaryDirectory() as temporary:
        staging = Path(temporary)
        copy_app(project_folder, staging, files)
        _complete_page(staging / "README.md", repo_id, revision, preload=not closed)
        create_repository(space_id, private=private, repo_type="space", token=token)
        # Before the files, so that the Space's first start finds them.
        _set_model(space_id, repo_id, revision, token)
        commit = upload_folder(
            staging,
            space_id,
            files=files,
            commit_message=f"Serve {repo_id} at {revision}" if repo_id else "Serve the starter bundle",
            private=private,
            token=token,
            repo_type="space",
            # Modules that no longer exist, and a starter bundle that is no longer served.
            delete_others=(f"{PACKAGE}/*",),
        )
    served = f"{repo_id} at revision {revision}" if repo_id else "the starter bundle"
    print(f"published: the app to {constants.ENDPOINT}/spaces/{space_id} (revision {commit}); it serves {served}")
    if closed:
        print(f"note: {repo_id} is private or gated; add a secret HF_TOKEN that may read it in the Space's settings.")
    return commit


def app_files(project_folder: Path, *, with_starter: bool) -> tuple[str, ...]:
    """Paths inside the project, with "/", of what the app needs: its own files, the package and its page's pictures.

    Raises:
        HubError: One of the app's own files, or the starter bundle if it is wanted, is missing.
    """
    package = sorted(
        path.relative_to(project_folder).as_posix()
        for path in (project_folder / PACKAGE).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    )
    starter = [name for name in package if name.startswith(STARTER)]
    sources = [SOURCES.get(name, name) for name in APP_FILES]
    absent = [name for name in sources if not (project_folder / name).is_file()]
    absent += [STARTER] if with_starter and not starter else []
    if absent:
        raise HubError("publish.app_incomplete", folder=str(project_folder), names=", ".join(absent))
    pictures = dict.fromkeys(_PICTURE.findall((project_folder / "README.md").read_text(encoding="utf-8")))
    return (
        *APP_FILES,
        *(name for name in package if with_starter or not name.startswith(STARTER)),
        *(name for name in pictures if name not in package and (project_folder / name).is_file()),
    )


def copy_app(project_folder: Path, folder: Path, files: Sequence[str]) -> None:
    """Lay the app's files, from `app_files`, out in a folder as a Space gets them."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_folder / SOURCES.get(name, name), folder / name)


def _complete_page(page: Path, repo_id: str | None, revision: str | None, *, preload: bool) -> None:
    """Let the Space's page name the model, and the Space fetch its files while it is built.

    Raises:
        HubError: The page does not say that it is a Gradio Space.
    """
    from huggingface_hub import RepoCard

    card = RepoCard.load(page)
    if card.data.get("sdk") != "gradio":
        raise HubError("publish.no_front_matter")
    if repo_id is None:
        return
    card.data["models"] = [repo_id]
    if preload:
        card.data["preload_from_hub"] = [f"{repo_id} {','.join(SERVING_FILES)} {revision}"]
    card.save(page)


def _set_model(space_id: str, repo_id: str | None, revision: str | None, token: str | None) -> None:
    """Tell the Space which model to serve; without one, take away what an earlier call set."""
    try:
        set_space_variables(space_id, {REPOSITORY_VARIABLE: repo_id, REVISION_VARIABLE: revision}, token=token)
    except HubError as error:
        wanted = f"set {REPOSITORY_VARIABLE}={repo_id} and {REVISION_VARIABLE}={revision}"
        if repo_id is None:
            wanted = f"see that {REPOSITORY_VARIABLE} is not set"
        print(f"note: {error} Do it by hand: {wanted} in the Space's settings.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_command(main))
