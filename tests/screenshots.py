"""Pictures of the app for the README, made by a real browser.

    python -m tests.screenshots                        .github/app.png, with the starter bundle
    python -m tests.screenshots --tab Catalog --output .github/catalog.png
    python -m tests.screenshots --tab Model --output .github/model.png --bundle FOLDER

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

from rakuten_models.command_line import run_command
from rakuten_models.page import EXAMPLES
from rakuten_models.product import RakutenModelsError
from tests.app_server import REPOSITORY_ROOT, running_app

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
        RakutenModelsError: There is none.
    """
    path = find_browser()
    if path is None:
        raise RakutenModelsError(f"There is {NO_BROWSER}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(BROWSER_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def show_example(page: Page, address: str, name: str) -> None:
    """Open the app, click an example and wait until its answer and its picture are drawn."""
    page.goto(address)
    page.get_by_role("button", name=name).click()
    expect(page.locator(".verdict")).to_be_visible()
    page.evaluate("document.fonts.ready")
    expect(page.get_by_test_id("image").or_(page.locator(".image-frame img")).first).to_be_visible()
    # The pointer would leave the button highlighted.
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)


def show_catalog(page: Page, folder: Path) -> None:
    """Score a catalog of the examples' texts on the Catalog tab and wait for its figures."""
    catalog = folder / "catalog.csv"
    with catalog.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["designation", "description"])
        writer.writerows(row for _, *row, _ in EXAMPLES if row[0])
    page.get_by_role("tab", name="Catalog").click()
    page.locator("#catalog-file input[type=file]").set_input_files(catalog)
    expect(page.get_by_label("Designation column")).to_have_value("designation")
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.locator(".review-rows")).to_be_visible()


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the app, show an example at 1280 pixels, and save what is seen."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.screenshots", description="Save a picture of the app."
    )
    parser.add_argument("--bundle", type=Path, help="a bundle's folder (default: the starter bundle)")
    parser.add_argument("--output", type=Path, default=REPOSITORY_ROOT / ".github" / "app.png")
    parser.add_argument("--example", default="Controller", help="the example to show (default: Controller)")
    parser.add_argument(
        "--tab", choices=("Classify", "Catalog", "Model"), default="Classify", help="(default: Classify)"
    )
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels (default: 1280)")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    bundle = options.bundle.resolve() if options.bundle else None
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(bundle, Path(folder)) as address,
        open_browser() as browser,
    ):
        page = browser.new_page(
            viewport={"width": options.width, "height": 900}, color_scheme="dark" if options.dark else "light"
        )
        show_example(page, address, options.example)
        if options.tab == "Catalog":
            show_catalog(page, Path(folder))
        elif options.tab == "Model":
            page.get_by_role("tab", name="Model").click()
            expect(page.locator("svg.plot").first).to_be_visible()
        else:
            expect(page.locator(".why")).to_be_visible()
        page.wait_for_timeout(500)
        page.screenshot(path=options.output, full_page=True)
    print(f"saved {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
