"""A whole catalog through the app: in a real browser, through the endpoint, and what is left of it afterwards."""

import csv
import io
import re
import time
import zipfile

import httpx
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from gradio_client import handle_file
from playwright.sync_api import expect

from rakuten_models import Category, Prediction
from rakuten_models.app import catalog_job, launch
from rakuten_models.app import page as page_module
from rakuten_models.app.catalog_job import write_labels
from rakuten_models.app.catalog_summary import CatalogSummary, ScoredRow
from rakuten_models.app.examples import EXAMPLES_FOLDER
from rakuten_models.app.i18n.messages import Translator
from rakuten_models.app.security.disk_quota import DiskQuota
from rakuten_models.app.sessions import Finished, SessionStore, in_background
from rakuten_models.app.tabs import review
from rakuten_models.app.tabs.review import review_html
from rakuten_models.app.views.catalog import metrics_html, preview_html, summary_html
from rakuten_models.batch.evaluation import BatchMetrics
from rakuten_models.catalog.columns import Columns
from rakuten_models.classifier import STARTER_FOLDER
from tests.support.app_server import free_port

HEADER = ["id", "title", "description", "photo", "code"]

ROWS = [
    ["1", "canapé de salon", "velours gris", "sofa.jpg", "1560"],
    ["2", "piscine tubulaire", "", "pool.jpg", "2583"],
    ["3", "manette de jeu", "=1+1, sans fil", "nowhere.jpg", "50"],
    ["4", "", "", "", "10"],
    ["5", "<img src=x onerror=alert(1)> ${alert(2)} {{alert(3)}}", "", "", ""],
] + [[str(number), f"livre roman {number}", "", "", "10"] for number in range(6, 30)]

SCORED = len(ROWS) - 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("catalogs")


@pytest.fixture(scope="module")
def catalog(folder):
    """A CSV file with columns of its own, a row without anything and a row with a field too many at its end."""
    file = folder / "products.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        writer.writerows(ROWS)
        writer.writerow(["30", "one", "field", "too", "10", "many"])
    return file


@pytest.fixture(scope="module")
def pictures(folder):
    file = folder / "pictures.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("sofa.jpg", "pool.jpg"):
            archive.write(EXAMPLES_FOLDER / name, name)
        archive.writestr("../outside.jpg", b"never unpacked")
    return file


def rows_of(file):
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def upload(page, place, file):
    page.locator(f"#{place} input[type=file]").set_input_files(file)


def serious_findings(page):
    """What axe finds on the page as it is; nothing where axe is not installed."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        return []
    found = Axe().run(page).response["violations"]
    return [each["id"] for each in found if each["impact"] in ("serious", "critical")]


def score(page, expect):
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.locator(".scored-title")).to_be_visible(timeout=30_000)


def test_the_endpoint_gives_the_scored_file_and_counts(client, catalog, pictures):
    scored, counts = client.predict(
        handle_file(catalog), handle_file(pictures), "title", "description", "photo", api_name="/classify_batch"
    )
    rows = rows_of(scored)
    assert counts["rows"] == len(ROWS) + 1 == len(rows)
    assert counts["scored"] == len(ROWS) - 1 and counts["failed"] == 2
    # What a spreadsheet would calculate has an apostrophe before it; everything else is as it was.
    assert [[row[name] for name in HEADER] for row in rows[:-1]] == [
        [cell.replace("=1+1", "'=1+1") for cell in row] for row in ROWS
    ]
    assert float(rows[0]["predicted_image_weight"]) > 0 and rows[3]["predicted_prdtypecode"] == ""
    assert "nowhere.jpg" in rows[2]["predicted_error"] and rows[2]["predicted_prdtypecode"]
    assert re.search(r"Line \d+ has 6 fields", rows[-1]["predicted_error"])


def test_the_endpoint_recognises_columns_and_keeps_parquet(client, folder):
    file = folder / "products.parquet"
    table = pyarrow.table({"designation": ["canapé", "piscine"], "price": [1.5, None]})
    pyarrow.parquet.write_table(table, file)
    scored, counts = client.predict(handle_file(file), api_name="/classify_batch")
    result = pyarrow.parquet.read_table(scored)
    assert counts["scored"] == 2
    assert result.select(["designation", "price"]).equals(table)
    assert result["predicted_top_3_prdtypecode"].null_count == 0


def test_no_picture_of_the_server_is_read_for_a_catalog(client, folder):
    file = folder / "paths.csv"
    file.write_text(f"image\n{EXAMPLES_FOLDER / 'pool.jpg'}\n/etc/passwd\n", encoding="utf-8")
    scored, counts = client.predict(handle_file(file), api_name="/classify_batch")
    assert counts["scored"] == 0
    assert all("no pictures were given" in row["predicted_error"] for row in rows_of(scored))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.txt", b"hello", "notes.txt"),
        ("empty.csv", b"", "empty.csv"),
        ("picture.csv", (EXAMPLES_FOLDER / "pool.jpg").read_bytes(), "picture.csv"),
        ("broken.parquet", b"PAR1 no", "broken.parquet"),
        ("prices.csv", b"price\n1\n", "No column holds a designation"),
    ],
)
def test_what_is_no_catalog_gets_a_sentence_without_a_path(client, tmp_path, name, content, sentence):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(Exception, match=re.escape(sentence)) as error:
        client.predict(handle_file(file), api_name="/classify_batch")
    assert "/uploads/" not in str(error.value) and "Traceback" not in str(error.value)


@pytest.mark.parametrize("marks", [{}, {"meta": {"_type": "gradio.FileData"}}])
def test_a_file_of_the_server_is_no_catalog(address, marks):
    data = [{"path": str(EXAMPLES_FOLDER.parent / "page.css"), **marks}, None, "", "", ""]
    event = httpx.post(f"{address}/gradio_api/call/classify_batch", json={"data": data}).json()["event_id"]
    answer = httpx.get(f"{address}/gradio_api/call/classify_batch/{event}", timeout=20).text
    assert answer.startswith("event: error") and "accept-soft" not in answer


def test_a_catalog_is_scored_reviewed_and_downloaded(session, catalog, pictures, folder):
    page = session("Catalog")
    upload(page, "catalog-file", catalog)
    upload(page, "catalog-pictures", pictures)
    expect(page.get_by_label("Designation column")).to_have_value("title")
    expect(page.get_by_label("Description column")).to_have_value("description")
    for label, column in (("Picture column", "photo"), ("Label column", "code")):
        page.get_by_label(label).fill(column)
        page.get_by_label(label).press("Enter")
        expect(page.get_by_label(label)).to_have_value(column)
    score(page, expect)
    expect(page.locator(".scored-title")).to_have_text(f"Products scored: {len(ROWS) - 1}")
    expect(page.locator(".problems")).to_contain_text(re.compile(r"Row 30 \(line 31 of the file\): Line 31 has 6"))
    expect(page.locator(".problems")).to_contain_text("nowhere.jpg")
    expect(page.get_by_text("Against the file's labels")).to_be_visible()
    assert page.locator("table img, .review-rows img").count() == 0
    assert serious_findings(page) == []
    with page.expect_download() as download:
        page.locator("#scored").click()
    assert download.value.suggested_filename == "products_scored.csv"
    assert len(rows_of(download.value.path())) == len(ROWS) + 1

    expect(page.locator("#corrections")).to_be_disabled()
    lists = page.locator(".review-rows select")
    lists.nth(0).select_option("1560")
    lists.nth(1).focus()
    lists.nth(1).select_option("2583")
    expect(page.locator("#review-count")).to_have_text("Rows reviewed: 2")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#review")).to_contain_text("Rows 11 to 20")
    page.get_by_role("button", name="Previous").click()
    expect(lists.nth(0)).to_have_value("1560")
    with page.expect_download() as download:
        page.locator("#corrections").click()
    labels = folder / "labels.csv"
    download.value.save_as(labels)
    assert {row["prdtypecode"] for row in rows_of(labels)} == {"1560", "2583"}

    from training.data.catalog import read_catalog

    assert read_catalog(labels).table["prdtypecode"].tolist() == [int(row["prdtypecode"]) for row in rows_of(labels)]


def test_picks_are_noted_though_the_one_before_is_not_answered_yet(browser, folder, monkeypatch):
    def slow(*arguments):
        time.sleep(0.5)
        return write_labels(*arguments)

    monkeypatch.setattr(review, "write_labels", slow)
    file = folder / "doubtful.csv"
    file.write_text("designation\nun\ndeux\ntrois\n", encoding="utf-8")
    demo = launch.load_demo(str(STARTER_FOLDER))
    _, address, _ = demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    page = browser.new_page()
    try:
        page.goto(address)
        page.get_by_role("tab", name="Catalog").click()
        upload(page, "catalog-file", file)
        expect(page.get_by_label("Designation column")).to_have_value("designation")
        score(page, expect)
        for pick in page.locator(".review-rows select").all():
            pick.select_option("1560")
        expect(page.locator("#review-count")).to_have_text("Rows reviewed: 3")
    finally:
        page.close()
        demo.close()


def test_a_run_can_be_cancelled_and_nothing_is_kept(session, folder):
    file = folder / "many.csv"
    file.write_text("designation\n" + "".join(f"canapé de salon numéro {n}\n" for n in range(60_000)), encoding="utf-8")
    page = session("Catalog")
    upload(page, "catalog-file", file)
    expect(page.get_by_label("Designation column")).to_have_value("designation")
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.locator("#catalog-progress")).to_contain_text(
        re.compile(r"of 60,000 rows, [\d,]+ rows a second, .* left"), timeout=20_000
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#catalog-progress")).to_have_text("Cancelled; nothing was kept.", timeout=20_000)
    expect(page.locator(".scored-title")).to_have_count(0)
    expect(page.get_by_role("button", name="Score the catalog")).to_be_enabled()


def test_a_crowd_is_told_to_come_back(tiny_bundle, browser, folder, monkeypatch):
    file = folder / "long.csv"
    file.write_text("designation\n" + "canapé de salon\n" * 300_000, encoding="utf-8")
    monkeypatch.setattr(page_module, "QUEUE_LENGTH", 1)
    demo = launch.load_demo(str(tiny_bundle))
    _, address, _ = demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    contexts = [browser.new_context() for _ in range(3)]
    try:
        # One is served, one waits.
        for number, context in enumerate(contexts):
            page = context.new_page()
            page.goto(address)
            page.get_by_role("tab", name="Catalog").click()
            upload(page, "catalog-file", file)
            expect(page.get_by_label("Designation column")).to_have_value("designation")
            page.get_by_role("button", name="Score the catalog").click()
            said = ("rows a second", "Reading the catalog", "Too many visitors wait at this moment")[number]
            expect(page.locator("#catalog-progress")).to_contain_text(said, timeout=20_000)
        expect(page.get_by_role("button", name="Score the catalog")).to_be_enabled()
        assert page.get_by_text("Error", exact=True).filter(visible=True).count() == 0
        page.get_by_role("tab", name="Classify").click()
        page.locator("#designation").get_by_role("textbox").fill("canapé")
        expect(page.locator("#answer")).to_contain_text("Too many visitors wait at this moment")
    finally:
        for context in contexts:
            context.close()
        demo.close()


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02 no table", b'a,b\n"never closed\n'])
def test_a_wrong_file_gets_a_sentence_in_the_page(session, tmp_path, content):
    file = tmp_path / "wrong <i>${1}.csv"
    file.write_bytes(content)
    page = session("Catalog")
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.get_by_role("alert")).to_contain_text("Give a catalog first")
    upload(page, "catalog-file", file)
    expect(page.get_by_text("wrong").first).to_be_visible()
    page.get_by_role("button", name="Score the catalog").click()
    expect(page.get_by_role("alert")).not_to_contain_text("Give a catalog first")
    assert len(page.get_by_role("alert").inner_text()) > 30
    assert page.get_by_text("Error", exact=True).count() == 0 and page.locator(".answer i:not(.bar i)").count() == 0


def test_visitors_see_only_their_own_catalog_on_any_window(session, folder):
    for name in ("first", "second"):
        (folder / f"{name}.csv").write_text(f"designation\n{name} secret canapé\n", encoding="utf-8")
    first, second = session("Catalog", viewport={"width": 390, "height": 844}), session("Catalog")
    for page, name in ((first, "first"), (second, "second")):
        upload(page, "catalog-file", folder / f"{name}.csv")
        expect(page.get_by_label("Designation column")).to_have_value("designation")
        score(page, expect)
    assert "first secret" in first.content() and "second secret" not in first.content()
    assert "second secret" in second.content() and "first secret" not in second.content()
    assert first.evaluate("document.documentElement.scrollWidth") <= 390
    first.get_by_label("Français").check()
    expect(first.locator(".scored-title")).to_have_text("Produits classés : 1")
    expect(first.locator("#review")).to_contain_text("first secret canapé")


def test_another_file_puts_the_results_of_the_one_before_away(session, folder):
    page = session("Catalog")
    good, bad = folder / "good.csv", folder / "bad.csv"
    good.write_text("designation\ncanapé\n", encoding="utf-8")
    bad.write_bytes(b"")
    upload(page, "catalog-file", good)
    expect(page.get_by_label("Designation column")).to_have_value("designation")
    score(page, expect)
    page.locator("#catalog-file").get_by_role("button", name="Clear").click()
    expect(page.locator(".scored-title")).to_have_count(0)
    upload(page, "catalog-file", bad)
    expect(page.get_by_role("alert")).to_contain_text("bad.csv is empty")


@pytest.mark.parametrize(("labels", "said"), [(["", ""], "it is empty"), (["x", ""], "'x' is no whole number")])
def test_labels_without_a_code_leave_the_catalog_scored(classifier, tmp_path, labels, said):
    source = tmp_path / "catalog.csv"
    source.write_text("designation,prdtypecode\n" + "".join(f"canapé,{label}\n" for label in labels), encoding="utf-8")
    output = tmp_path / "output"
    output.mkdir()
    scored = catalog_job.score(
        classifier,
        source,
        output,
        disk=DiskQuota(),
        pictures=None,
        columns=Columns(designation="designation", label="prdtypecode"),
        threshold=0.5,
    )
    assert scored.summary.rows == 2 and scored.summary.failed == 0
    assert scored.measures is None and said in scored.unmeasured
    assert str(tmp_path) not in scored.unmeasured


def test_rows_with_a_problem_are_found_in_their_file(classifier, tmp_path):
    source = tmp_path / "catalog.csv"
    source.write_text('designation,note\n"canapé\nde salon",a\n,b\n\nchaise,c,d\n', encoding="utf-8")
    output = tmp_path / "output"
    output.mkdir()
    columns = Columns(designation="designation")
    scored = catalog_job.score(
        classifier, source, output, disk=DiskQuota(), pictures=None, columns=columns, threshold=None
    )
    assert [(row.number, row.line) for row in scored.summary.problems] == [(2, 4), (3, 6)]
    html = summary_html(scored.summary, classifier.categories, 1.0, 1.0, Translator())
    assert "Row 2 (line 4 of the file): " in html and "Row 3 (line 6 of the file): Line 6 has 3 fields" in html


CATEGORIES = tuple(Category(index, 10 + index, {"en": f"Shelf {index}", "fr": f"Rayon {index}"}) for index in range(3))

HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{alert(3)}}"


def scored_row(number, probability, decision="review", problem=""):
    top = ((10, probability), (11, 0.1)) if probability else ()
    return ScoredRow(number, "", HOSTILE, "", "", top, decision, problem)


def test_a_summary_counts_all_and_keeps_the_most_doubtful():
    rows = [scored_row(n, 0.9, "accept") for n in range(1, 101)]
    rows += [scored_row(100 + n, n / 1000) for n in range(1, 701)] + [scored_row(801, 0.0, problem=HOSTILE)]
    summary = CatalogSummary.of(iter(rows))
    assert (summary.rows, summary.accepted, summary.to_review, summary.failed) == (801, 100, 700, 1)
    assert summary.per_category == {10: 800} and len(summary.first) == 20
    assert [row.number for row in summary.doubtful] == list(range(101, 601))
    words = Translator()
    for html in (
        summary_html(summary, CATEGORIES, 1.0, 800.0, words),
        preview_html(summary.first, CATEGORIES, words),
        review_html(summary, 0, {101: 12}, CATEGORIES, words),
        review_html(CatalogSummary(), 0, {}, CATEGORIES, words),
    ):
        assert "<img" not in html and "${" not in html and "{{" not in html
    html = review_html(summary, 0, {101: 12}, CATEGORIES, words)
    assert html.count("<select") == 10 and html.count(" selected") == 1
    assert "Rows 1 to 10 of 500. Further rows to be reviewed: 200; the scored file says which." in html


def test_measures_say_which_labels_did_not_count():
    measures = BatchMetrics(
        accuracy=0.5,
        weighted_f1=0.25,
        confusion_matrix=np.eye(2, dtype=int),
        prdtypecodes=(10, 99),
        rows=12,
        unscored=1,
        unlabelled=2,
        unknown={99: 3},
        unreadable={"<b>": 4, **{f"text {n}": 1 for n in range(6)}},
    )
    html = metrics_html(measures, Translator())
    assert "0.500" in html and "0.250" in html
    assert "With a label, but not scored: 1" in html and "Without a label: 2" in html
    assert "do not know (99): 3; they count as wrong" in html
    assert "no whole number (&lt;b&gt;, text 0, text 1, text 2, text 3, …): 10;" in html
    assert "hint" not in metrics_html(BatchMetrics(1.0, 1.0, np.eye(1), (10,), 5), Translator())


def test_without_corrections_there_is_no_labels_file(tmp_path):
    assert write_labels(tmp_path, [scored_row(1, 0.5)], {}) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("indexes", "image", "kept"),
    [(("7", "8"), "sofa.jpg", [7, 8]), (("7", "7"), "", [0, 1]), (("7", ""), "https://shop/sofa.jpg", [0, 1])],
)
def test_training_reads_whatever_was_corrected(tmp_path, indexes, image, kept):
    from training.data.catalog import read_catalog

    (tmp_path / "sofa.jpg").write_bytes((EXAMPLES_FOLDER / "sofa.jpg").read_bytes())
    rows = [
        ScoredRow(number, index, f"chaise {number}", 'bois; <b>neuf</b>, "beau"\n', image, ((10, 0.5),), "review")
        for number, index in enumerate(indexes, start=1)
    ]
    catalog = read_catalog(write_labels(tmp_path, rows, {1: 10, 2: 1560, 99: 10}))
    assert catalog.table.index.tolist() == kept
    assert catalog.table["prdtypecode"].tolist() == [10, 1560]
    assert catalog.table["designation"].tolist() == ["chaise 1", "chaise 2"]
    assert catalog.has_image.all() == (image == "sofa.jpg") and not catalog.unreadable_images


def test_what_a_program_was_given_goes_after_a_while(monkeypatch):
    monkeypatch.setattr("rakuten_models.app.security.disk_quota.KEPT_SECONDS", 0.5)
    disk = DiskQuota()
    sessions = SessionStore(disk)
    folder = sessions.passing_folder()
    (folder / "scored.csv").write_text("secret")
    disk.sweep()
    assert (folder / "scored.csv").exists()
    time.sleep(0.6)
    later = sessions.passing_folder()
    disk.sweep()
    assert not (folder / "scored.csv").exists() and later.exists()
    time.sleep(0.6)
    disk.sweep()
    assert not folder.exists() and not later.exists()


def test_another_threshold_changes_decisions_alone(classifier):
    from rakuten_models import Product

    product = Product("canapé de salon")
    before = classifier.predict([product])[0]
    for threshold, decision in ((0.0, "accept"), (1.0, "review"), (None, before.decision)):
        after = classifier.predict([product], threshold=threshold)[0]
        assert isinstance(after, Prediction) and after.decision == decision
        assert after.probability == before.probability


def test_a_visit_has_one_job_and_leaves_nothing():
    sessions = SessionStore(DiskQuota())
    session, other = sessions.of("one"), sessions.of("two")
    sessions.job_folder(other)
    (sessions.job_folder(session) / "scored.csv").write_text("secret")
    assert session.folder != other.folder and session.folder.stat().st_mode & 0o077 == 0
    with sessions.job(session) as cancelled:
        with sessions.job(session) as taken:
            assert taken is None
        assert not cancelled.is_set()
        sessions.cancel("two")
        assert not cancelled.is_set()
        sessions.forget("one")
        assert cancelled.is_set()
    assert not session.folder.exists() and other.folder.exists()
    other.used -= 2 * 3600
    sessions.of("three")
    assert not other.folder.exists()


def test_background_work_gives_its_steps_its_result_and_its_error():
    def work(progress):
        progress("half")
        time.sleep(0.3)
        return "done"

    seen = [each for each in in_background(work) if each is not None]
    assert seen == ["half", Finished("done")]
    with pytest.raises(io.UnsupportedOperation):
        list(in_background(lambda progress: (_ for _ in ()).throw(io.UnsupportedOperation("no"))))
