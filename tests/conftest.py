"""Shared by all tests: a tiny catalog drawn by test code, and the bundle that the real training makes of it."""

import contextlib
import dataclasses
import os

import pytest
from filelock import FileLock

from tests.support.tiny_catalog import write_tiny_catalog

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# A test that reaches for the real hub by mistake should fail at once, not after half a minute.
os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "5")

A_SLICE = 50


def pytest_addoption(parser):
    parser.addoption(
        "--thorough",
        type=int,
        default=0,
        metavar="TIMES",
        help=f"tests with generated input: their full number of cases, so many times (default: 1/{A_SLICE} of it)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Files with slow tests come first: at the end no process trains while the others have nothing left to do."""
    for item in items:
        if item.get_closest_marker("space"):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def cases(request):
    """How many generated cases a test runs: `cases(2000)` is a slice of 2,000, all of them, or a multiple."""
    times = request.config.getoption("--thorough")
    return lambda full: full * times if times else max(1, full // A_SLICE)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A folder of the tests' own for the notes on tried bundles: what a user trusts must not decide a test."""
    os.environ["RAKUTEN_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


def tiny_settings(**changes):
    """Choices that train in seconds: small tables, small pictures, a narrow backbone, few passes."""
    from rakuten_models.preprocessing.image import ImageSettings
    from training.settings import (
        ImageTrainingSettings,
        SplitSettings,
        TextModelSettings,
        TextTrainingSettings,
        TrainingSettings,
    )

    settings = TrainingSettings(
        text=TextTrainingSettings(
            model=TextModelSettings(
                units=16, pair_rows=503, pair_slots=1009, character_rows=1009, character_slots=4001
            ),
            vocabulary=2000,
            minimum_word_count=1,
            epochs=30,
            teachers=1,
            folds=2,
        ),
        image=ImageTrainingSettings(alpha=0.35, epochs=1, augmentations=("plain", "mirrored")),
        image_input=ImageSettings(size=96),
        split=SplitSettings(validation_fraction=0.2, test_fraction=0.2, minimum_pairs=30),
    )
    return dataclasses.replace(settings, **changes)


@pytest.fixture(scope="session")
def tiny_catalog(tmp_path_factory):
    """Folder of a catalog in the challenge's layout: 27 categories, 8 rows each."""
    return write_tiny_catalog(tmp_path_factory.mktemp("catalog") / "tiny")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A function that makes a folder once a run: the first of the processes makes it, the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def made(name, make):
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = tmp_path_factory.mktemp("unfinished") / name
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_bundle(tiny_catalog, made_once):
    """A whole bundle, evaluated on the test part of the tiny catalog. Tests that change files copy it first."""

    def train(folder):
        from training.train import train_bundle

        train_bundle(tiny_catalog, folder, tiny_settings(), backbone_weights=None, show=False)

    folder = made_once("tiny_bundle", train)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    yield folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.fixture(scope="session")
def classifier(tiny_bundle):
    """The tiny bundle, loaded."""
    from rakuten_models import ProductClassifier

    return ProductClassifier.from_pretrained(tiny_bundle)


@pytest.fixture(scope="session")
def starter():
    """The bundle that ships with the package: real, and there without training."""
    from rakuten_models import ProductClassifier

    return ProductClassifier.from_pretrained()


@pytest.fixture(scope="session")
def serve_app(tmp_path_factory):
    """A function of a bundle's folder (None: the starter bundle) and arguments that gives a running app's address.

    Each app is started once and serves until the end; tests that look at an app's log or stop it start their own.
    """
    from tests.support.app_server import running_app

    addresses = {}
    with contextlib.ExitStack() as apps:

        def serve(bundle=None, *arguments):
            key = (bundle, *arguments)
            if key not in addresses:
                folder = tmp_path_factory.mktemp("app")
                addresses[key] = apps.enter_context(running_app(bundle, folder, *arguments))
            return addresses[key]

        yield serve


# A browser of the whole session would leave its event loop running under tests that use asyncio.
@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; the test is skipped where there is none."""
    from tests.support.screenshots import NO_BROWSER, find_browser, open_browser

    if find_browser() is None:
        pytest.skip(NO_BROWSER)
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def running_hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


@pytest.fixture
def hub_server(running_hub):
    """A hub on this machine, without repositories."""
    running_hub.reset()
    return running_hub
