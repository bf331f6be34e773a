"""Pictures of the app for the README, made by a real browser.

    python -m tests.support.screenshots                                 .github/*.png, with the starter bundle
    python -m tests.support.screenshots --width 390 --dark --output folder

Also how the tests find and start that browser.
"""

import argparse
import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from rakuten_models.app.examples import EXAMPLES
from rakuten_models.cli import run_command
from tests.support.app_server import REPOSITORY_ROOT, running_app

# In pixels: the README shows the page's upper part.
MAX_HEIGHT = 1500

BROWSER_NAMES = ("chromium", "chromium-browser", "google-chrome")

BROWSER_ARGUMENTS = ("--no-sandbox", "--disable-background-networking")

NO_BROWSER = "no Chromium on this machine; install it with `make browser`, or set CHROMIUM to its path"


def find_browser() -> str | None:
    """The path of an installed Chromium: $CHROMIUM, or the first on the search path; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSER_NAMES)), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        RuntimeError: There is none.
    """
    path = find_browser()
    if path is None:
        raise RuntimeError(f"There is {NO_BROWSER}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def show_classify(page: Page, folder: Path) -> None:
    """Click an example and wait until its answer, its picture and its explanation are drawn."""
    page.get_by_role("button", name="Controller").click()
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.get_by_test_id("image").or_(page.locator(".image-frame img")).first).to_be_visible()
    expect(page.locator(".heat img")).to_be_visible()


def show_catalog(page: Page, folder: Path) -> None:
    """Score a catalog of the examples' texts and wait for its figures."""
    catalog = folder / "catalog.csv"
    with catalog.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["designation", "description"])
        writer.writerows(row for _, *row, _ in EXAMPLES if row[0])
    page.get_by_role("tab", name="Catalog").click()
    page.locator("#catalog-file input[type=file]").set_input_files(catalog)
    expect(page.get_by_label("Designation column")).to_have_value("designation")
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.locator(".review-rows").or_(page.get_by_text("No row needs a review."))).to_be_visible()


# By the picture's file name, what it shows.
PICTURES = {"app.png": show_classify, "catalog.png": show_catalog}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the app, show its tabs, and save what is seen."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.screenshots", description="Save pictures of the app's tabs."
    )
    parser.add_argument("--bundle", type=Path, help="a bundle's folder (default: the starter bundle)")
    parser.add_argument("--output", type=Path, default=REPOSITORY_ROOT / ".github", help="the pictures' folder")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels (default: 1280)")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    bundle = options.bundle.resolve() if options.bundle else None
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(bundle, Path(folder)) as address,
        open_browser() as browser,
    ):
        for name, show in PICTURES.items():
            page = browser.new_page(
                viewport={"width": options.width, "height": 900},
                color_scheme="dark" if options.dark else "light",
                locale="en-GB",
            )
            page.goto(address)
            page.evaluate("document.fonts.ready")
            show(page, Path(folder))
            # The pointer would leave a button highlighted.
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            height = min(page.evaluate("document.documentElement.scrollHeight"), MAX_HEIGHT)
            clip = {"x": 0, "y": 0, "width": options.width, "height": height}
            page.screenshot(path=options.output / name, full_page=True, clip=clip)
            page.close()
            print(f"saved {options.output / name}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
