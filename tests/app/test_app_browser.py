"""Explanations, figures, language, several visitors and accessibility, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, expect

from rakuten_models.app.examples import EXAMPLES_FOLDER

UPLOAD = "#picture input[type=file]"


@pytest.fixture(scope="module")
def address(serve_app, tiny_bundle):
    """The app with two bundles, so that every tab is there."""
    return serve_app(tiny_bundle, "--compare", str(tiny_bundle))


def designation(page: Page):
    return page.locator("#designation").get_by_role("textbox")


def test_typing_alone_is_answered_and_follows_every_change(session):
    page = session()
    designation(page).press_sequentially("canapé de salon", delay=20)
    expect(page.locator(".verdict h2")).to_be_visible()
    expect(page.locator(".why .marked")).to_have_text("canapé de salon")
    designation(page).fill("piscine tubulaire")
    expect(page.locator(".why .marked")).to_have_text("piscine tubulaire")
    designation(page).fill("")
    expect(page.locator(".answer.empty")).to_be_visible()
    expect(page.locator(".why")).to_have_count(0)


def test_a_picture_alone_is_answered_without_a_button(session):
    page = session()
    page.locator(UPLOAD).first.set_input_files(EXAMPLES_FOLDER / "sofa.jpg")
    expect(page.locator(".verdict h2")).to_be_visible()
    expect(page.locator(".heat img")).to_be_visible()
    assert page.locator(".heat img").evaluate("image => image.complete && image.naturalWidth > 100")
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator(".answer.empty")).to_be_visible()


def test_another_category_is_explained_and_the_way_back(session):
    page = session()
    designation(page).fill("manette de jeu sans fil")
    expect(page.locator(".why .marked")).to_have_text("manette de jeu sans fil")
    chosen = page.locator(".verdict h2").inner_text()
    expect(page.locator(".why h3")).to_contain_text(chosen)
    other = page.locator(".bars button.bar-row").nth(2)
    name = re.sub(r"\s*\d+$", "", other.locator(".bar-name").inner_text())
    other.click()
    expect(page.locator(".why h3")).to_contain_text(name)
    expect(page.locator(".verdict h2")).to_have_text(chosen)
    page.locator(".why button.link").click()
    expect(page.locator(".why h3")).to_contain_text(chosen)


def test_hostile_words_stay_words(session):
    page = session()
    hostile = "<img src=x onerror=alert(1)> ${alert(2)} {{alert(3)}} canapé <script>alert(4)</script>"
    designation(page).fill(hostile)
    # The cleaned text, as the models read it.
    expect(page.locator(".why .marked")).to_have_text("${alert(2)} {{alert(3)}} canapé")
    assert page.locator(".why img, .why script, .answer img[src=x]").count() == 0


@pytest.mark.parametrize(("locale", "first"), [("fr-FR", "fr"), ("de-DE", "en"), ("en-GB", "en")])
def test_the_browsers_language_is_taken_and_can_be_switched(session, locale, first):
    page = session(locale=locale)
    titles = {"en": "Product classifier", "fr": "Classement de produits"}
    buttons = {"en": "Classify", "fr": "Classer"}
    choices = {"en": "English", "fr": "Français"}
    expect(page.get_by_role("heading", level=1)).to_have_text(titles[first])
    expect(page.get_by_role("button", name=buttons[first], exact=True)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", first)
    designation(page).fill("canapé de salon")
    expect(page.locator(".verdict h2")).to_be_visible()
    second = "fr" if first == "en" else "en"
    page.get_by_label(choices[second]).check()
    expect(page.get_by_role("heading", level=1)).to_have_text(titles[second])
    expect(page.get_by_role("button", name=buttons[second], exact=True)).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", second)
    expect(page.locator(".verdict-probability span")).to_have_text({"en": "probability", "fr": "probabilité"}[second])
    expect(page.locator(".why h3")).to_contain_text({"en": "Why", "fr": "Pourquoi"}[second])
    expect(designation(page)).to_have_value("canapé de salon")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text(titles[second])


def test_a_phone_shows_every_tab_in_french(session):
    page = session(locale="fr-FR", viewport={"width": 390, "height": 844})
    expect(page.get_by_role("heading", level=1)).to_have_text("Classement de produits")
    expect(page.get_by_role("tab")).to_have_text(["Classer", "Catalogue", "Modèle", "Comparer"])


def test_mistakes_are_said_in_french(session, tmp_path):
    page = session(locale="fr-FR")
    # The page's start ends with its words in the visitor's language; a click before that would be answered before it.
    expect(page.locator("#answer")).to_contain_text("La réponse apparaît ici")
    page.get_by_role("button", name="Classer", exact=True).click()
    expect(page.get_by_role("alert")).to_have_text("Le produit n'a ni texte ni photo ; donnez un titre ou une photo.")
    broken = tmp_path / "cassée.jpg"
    broken.write_bytes(b"this is no picture")
    page.locator(UPLOAD).first.set_input_files(broken)
    expect(page.get_by_role("alert")).to_contain_text("La photo 'cassée.jpg' n'est pas une image lisible")
    designation(page).fill("canapé de salon")
    expect(page.locator(".note")).to_contain_text("Cette réponse vient du texte seul.")


def test_the_threshold_of_a_visit_decides(session):
    page = session()
    designation(page).fill("canapé de salon")
    expect(page.locator(".verdict")).to_be_visible()
    number = page.locator("#threshold input[type=number]")
    for threshold, decision in (("0.001", "accept"), ("0.999", "review")):
        page.get_by_role("tab", name="Model").click()
        number.fill(threshold)
        number.press("Enter")
        expect(page.get_by_text("yours for this visit").first).to_be_visible()
        page.get_by_role("tab", name="Classify").click()
        expect(page.locator(f".decision.{decision}")).to_contain_text("the threshold that you set for this visit")


def test_a_cell_of_the_confusion_matrix_speaks_to_mouse_and_keyboard(session):
    page = session()
    page.get_by_role("tab", name="Model").click()
    expect(page.locator("svg.plot")).to_have_count(2)
    page.locator("#confusion .cell[data-truth='2'][data-answer='3']").click()
    expect(page.locator("#confusion-detail")).to_contain_text(re.compile("were answered .*other way round"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator("#confusion-detail")).to_contain_text("answered rightly")


def test_two_bundles_answer_the_same_product(session):
    page = session()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare")).to_contain_text("Describe a product on the first tab")
    page.get_by_role("tab", name="Classify").click()
    designation(page).fill("canapé de salon")
    expect(page.locator(".verdict")).to_be_visible()
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare .verdict h2")).to_have_count(2)
    expect(page.locator("#compare")).to_contain_text("Both choose the same category.")
    page.get_by_role("tab", name="Model").click()
    page.locator("#threshold input[type=number]").fill("0.999")
    page.locator("#threshold input[type=number]").press("Enter")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare .decision.review")).to_have_count(2)
    expect(page.locator("#compare .decision.review").first).to_contain_text("that you set for this visit")


def test_two_visitors_never_see_each_others_product(session):
    first, second = session(), session()
    designation(first).fill("canapé de salon")
    expect(first.locator(".why .marked")).to_have_text("canapé de salon")
    expect(second.locator(".answer.empty")).to_be_visible()
    designation(second).fill("piscine tubulaire")
    expect(second.locator(".why .marked")).to_have_text("piscine tubulaire")
    expect(first.locator(".why .marked")).to_have_text("canapé de salon")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_every_tab_is_accessible_and_fits_its_window(session, scheme, width, height):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe is not installed; see tests/requirements.txt"
    )
    page = session(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.get_by_role("button", name="Controller").click()
    expect(page.locator(".heat img")).to_be_visible()
    for tab in ("Classify", "Catalog", "Model", "Compare"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        found = axe.Axe().run(page).response["violations"]
        serious = [
            (each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")
        ]
        assert not serious, tab
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
