"""The page in a real browser: what a visitor types, clicks, drops and sees."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from rakuten_models import ProductClassifier
from rakuten_models.app.examples import EXAMPLES_FOLDER

UPLOAD = 'input[type="file"]'


@pytest.fixture
def page(session):
    """The app in a fresh window."""
    return session()


@pytest.fixture(scope="module")
def names(tiny_bundle):
    return [category.name("en") for category in ProductClassifier.from_pretrained(tiny_bundle).categories]


def test_typing_and_enter_shows_the_category(page, names):
    page.get_by_label("Designation").fill("canapé de salon")
    page.get_by_label("Designation").press("Enter")
    expect(page.locator(".verdict h2")).to_be_visible()
    assert page.locator(".verdict h2").inner_text() in names
    expect(page.locator(".verdict-name")).to_contain_text(re.compile(r"prdtypecode \d+"))
    expect(page.locator(".decision")).to_contain_text(re.compile("Accept|Review"))
    expect(page.locator(".side").nth(1)).to_contain_text("No picture given")


def test_all_categories_on_demand(page, names):
    page.get_by_label("Designation").fill("canapé")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".bars .bar-name:visible")).to_have_count(5)
    page.get_by_text(f"Show all {len(names)} categories").click()
    expect(page.locator(".bars .bar-name:visible")).to_have_count(len(names))


def test_uploaded_picture_is_classified_beside_the_text(page):
    page.locator(UPLOAD).first.set_input_files(EXAMPLES_FOLDER / "pool.jpg")
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    page.get_by_label("Designation").fill("piscine")
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".trust")).to_contain_text(re.compile(r"Text \d+%\s*Picture \d+%"))
    expect(page.locator(".side.absent")).to_have_count(0)


def test_unreadable_upload_is_a_note_beside_the_texts_answer(page, tmp_path):
    picture = tmp_path / "${alert(1)} {{2}} <i>broken.jpg"
    picture.write_bytes(b"this is no picture")
    page.locator(UPLOAD).first.set_input_files(picture)
    page.get_by_label("Designation").fill("canapé")
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".note")).to_contain_text("broken.jpg")
    expect(page.locator(".note")).to_contain_text("This answer comes from the text alone.")
    assert page.locator(".note i").count() == 0
    page.get_by_label("Designation").fill("")
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_contain_text("broken.jpg")
    assert page.get_by_text("Error", exact=True).count() == 0


@pytest.mark.parametrize("dropped", [False, True])
def test_a_file_that_is_no_picture_gets_a_sentence(page, tmp_path, dropped):
    if dropped:
        page.locator("#picture button").first.evaluate(
            """(place) => {
                const files = new DataTransfer();
                files.items.add(new File(["%PDF-1.4"], "manual.pdf", {type: "application/pdf"}));
                place.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
            }"""
        )
    else:
        manual = tmp_path / "manual.pdf"
        manual.write_bytes(b"%PDF-1.4")
        page.locator(UPLOAD).first.set_input_files(manual)
    expect(page.get_by_role("alert")).to_have_text(
        "The picture 'manual.pdf' cannot be read as a picture; give a JPEG, PNG, WebP or GIF file."
    )
    assert page.get_by_text("Error").count() == 0


def test_picture_that_browsers_do_not_show_is_classified(page, tmp_path):
    picture = tmp_path / "scan.tif"
    Image.new("CMYK", (40, 60), (0, 200, 200, 0)).save(picture)
    page.locator(UPLOAD).first.set_input_files(picture)
    expect(page.get_by_role("button", name="Remove Image")).to_be_visible()
    page.get_by_role("button", name="Classify").click()
    expect(page.locator(".side").first).to_contain_text("No text given")


def test_empty_input_gets_a_sentence(page):
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert")).to_have_text(
        "The product holds no text and no picture; give a designation or a picture."
    )
    assert page.get_by_text("Error", exact=True).count() == 0


def test_examples_fill_the_inputs_and_clear_empties_them(page):
    page.get_by_role("button", name="Pool").click()
    expect(page.locator(".side").first).to_contain_text("No text given")
    page.get_by_role("button", name="Controller").click()
    expect(page.get_by_label("Designation")).to_have_value(re.compile("Wireless controller"))
    expect(page.locator(".trust")).to_be_visible()
    page.get_by_role("button", name="Cushion").click()
    expect(page.locator(".side").nth(1)).to_contain_text("No picture given")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".answer.empty")).to_be_visible()
    expect(page.get_by_label("Designation")).to_have_value("")


def test_answer_can_be_had_with_the_keyboard_alone(page):
    page.get_by_label("Designation").focus()
    page.keyboard.type("canapé")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Classify":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".verdict h2")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_page_fits_its_window(browser, address, tmp_path, scheme, width, height):
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.get_by_role("button", name="Controller").click()
    expect(page.locator(".verdict")).to_be_visible()
    expect(page.locator(".verdict h2")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.querySelector('.answer')).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60
    page.screenshot(path=tmp_path / f"{width}_{scheme}.png", full_page=True)
    context.close()
