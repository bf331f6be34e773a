"""`score_catalog` and its command: rows in are rows out, whatever the format, the pictures and the faults."""

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pandas
import pyarrow.dataset
import pytest

from rakuten_models import Product, ProductClassifier
from rakuten_models.batch import BatchSettings, score_catalog
from rakuten_models.batch.__main__ import main
from rakuten_models.batch.progress import reason_of
from rakuten_models.batch.scorer import ScoreSettings, TableScorer
from rakuten_models.catalog.columns import Columns, recognise_columns
from rakuten_models.catalog.csv_writer import spreadsheet_safe_cell
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.cli import run_command
from rakuten_models.errors import BatchCancelled, BatchError, templates
from tests.support.app_server import BUNDLE_VARIABLES, REPOSITORY_ROOT, app_environment
from tests.support.hub_server import HubServer, client_points_at
from tests.support.tiny_catalog import write_tiny_catalog

ADDED = ["prdtypecode", "category", "probability", "decision", "image_weight"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A CSV file of 162 products, some without texts, some without pictures; with labels."""
    return write_tiny_catalog(tmp_path_factory.mktemp("catalog"), layout="csv", rows_per_category=6)


@pytest.fixture(autouse=True)
def no_bundle_chosen(monkeypatch):
    for name in BUNDLE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_parts(folder):
    return pyarrow.dataset.dataset(folder, format="parquet").to_table()


def written(folder):
    """Every file under a folder and what is in it."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def repeated_csv(path, rows):
    """A catalog of so many rows, each a little different."""
    words = ["piscine", "gonflable", "livre", "jouet", "canapé", "console", "lampe", "figurine", "carte", "magazine"]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "designation", "description"])
        for number in range(rows):
            few = (words[number % 10], words[number // 10 % 10])
            writer.writerow([number, f"{few[0]} {few[1]} {number}", f"{few[1]}. " * (number % 7)])
    return path


def test_rows_and_values_are_those_of_single_predictions(starter, catalog, tmp_path):
    output = tmp_path / "scored.csv"
    summary = score_catalog(catalog, output, classifier=starter, images=catalog.parent, top=2, chunk_rows=50)
    before, after = read_csv(catalog), read_csv(output)
    names = list(before[0])
    assert list(after[0]) == names + [
        f"predicted_{name}"
        for name in [
            *ADDED,
            "top_1_prdtypecode",
            "top_1_probability",
            "top_2_prdtypecode",
            "top_2_probability",
            "bundle",
            "error",
        ]
    ]
    assert [{name: row[name] for name in names} for row in after] == before
    for row in after[::13]:
        image = str(catalog.parent / row["image"]) if row["image"] else None
        expected = starter.predict(Product(row["designation"], row["description"], image))
        assert int(row["predicted_prdtypecode"]) == expected.category.prdtypecode
        assert row["predicted_category"] == expected.category.name("en")
        assert float(row["predicted_probability"]) == pytest.approx(expected.probability, abs=2e-6)
        assert row["predicted_decision"] == expected.decision
        assert float(row["predicted_image_weight"]) == pytest.approx(expected.image_weight, abs=2e-6)
        (_, first), (second, probability) = expected.top(2)
        assert float(row["predicted_top_1_probability"]) == pytest.approx(first, abs=2e-6)
        assert int(row["predicted_top_2_prdtypecode"]) == second.prdtypecode
        assert float(row["predicted_top_2_probability"]) == pytest.approx(probability, abs=2e-6)
        assert row["predicted_bundle"].startswith("sha256:") and row["predicted_error"] == ""
    assert {0.0, 1.0} < {float(row["predicted_image_weight"]) for row in after}
    assert summary.rows == summary.scored == len(before) and summary.failed == {}
    assert sum(summary.per_category.values()) == len(before)
    assert summary.to_review == sum(row["predicted_decision"] == "review" for row in after)
    assert summary.rows_per_second > 0 and summary.output == output


@pytest.mark.parametrize("to", ["scored.csv", "scored"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folder", "glob"])
def test_every_format_gives_the_same_answers(starter, catalog, tmp_path, kind, to):
    table = pandas.read_csv(catalog, dtype=str, keep_default_na=False).head(40)
    expected = [f"{row['designation']}|{row['description']}" for _, row in table.iterrows()]
    source = tmp_path / f"in.{kind}"
    if kind == "csv":
        table.to_csv(source, index=False)
    elif kind == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(source, row_group_size=7)
    else:
        source.mkdir()
        table.head(15).to_csv(source / "1.csv", index=False)
        table.tail(25).to_csv(source / "2.csv", index=False)
        source = str(source / "*.csv") if kind == "glob" else source
    summary = score_catalog(source, tmp_path / to, classifier=starter, chunk_rows=16)
    if to.endswith(".csv"):
        rows = read_csv(tmp_path / to)
    else:
        rows = read_parts(tmp_path / to).to_pylist()
        assert len(list((tmp_path / to).glob("part-*.parquet"))) == 3
    assert [f"{row['designation']}|{row['description']}" for row in rows] == expected
    predictions = starter.predict([Product(*each.split("|")) for each in expected])
    answers = [each.category and each.category.prdtypecode for each in predictions]
    assert [int(row["predicted_prdtypecode"]) if row["predicted_prdtypecode"] else None for row in rows] == answers
    assert summary.rows == 40 and summary.scored == sum(each is not None for each in answers)


def test_bad_rows_come_out_in_their_places_with_the_reason(starter, tmp_path):
    source = tmp_path / "bad.csv"
    source.write_bytes(
        b"id,designation,description\n"
        b"0,piscine gonflable,\n"
        b"1,too,many,fields\n"
        b"2,few\n"
        b"3,caf\xe9 moulu,\n"
        b'4,"open quotation mark,\n'
        b"5,livre de poche,roman\n"
        b"6,,\n"
        b"7,?!,<br>\n"
        b"8,console de jeux,\n"
    )
    summary = score_catalog(source, tmp_path / "scored.csv", classifier=starter, chunk_rows=4)
    rows = read_csv(tmp_path / "scored.csv")
    assert [row["id"] for row in rows] == [str(number) for number in range(9)]
    assert [row["id"] for row in rows if row["predicted_prdtypecode"]] == ["0", "5", "8"]
    errors = {row["id"]: row["predicted_error"] for row in rows if row["predicted_error"]}
    assert sorted(errors) == ["1", "2", "3", "4", "6", "7"]
    for number, words in (("1", "Line 3 has 4"), ("2", "Line 4 has 2"), ("3", "Line 5 holds"), ("4", "Line 6 has a")):
        assert errors[number].startswith(words)
    assert rows[2]["designation"] == "few" and rows[3]["designation"] == "caf\ufffd moulu"
    assert rows[1]["predicted_probability"] == "" and rows[1]["predicted_decision"] == "review"
    assert summary.rows == 9 and summary.scored == 3
    assert summary.failed == {
        "another number of fields than the header": 2,
        "bytes that are no UTF-8": 1,
        "a quotation mark in the wrong place": 1,
        "no text and no picture": 2,
    }


def test_pictures_in_a_zip_are_those_of_the_folder(starter, tmp_path):
    folder = write_tiny_catalog(tmp_path / "challenge", categories=6, rows_per_category=8)
    images = folder / "images" / "image_train"
    broken = sorted(images.iterdir())[0]
    broken.write_bytes(b"no picture")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        for file in images.iterdir():
            archive.write(file, f"some/where/{file.name}")
    results = []
    # The challenge's images folder holds its pictures in a folder of their own.
    for number, place in enumerate((images, tmp_path / "pictures.zip", folder / "images", None)):
        output = tmp_path / f"{number}.csv"
        summary = score_catalog(folder, output, classifier=starter, images=place)
        results.append([list(row.values())[5:-2] for row in read_csv(output)])
        if place is not None:
            assert summary.left_out_pictures == {"the picture cannot be read": 1} and summary.failed == {}
            assert summary.with_picture == len(list(images.iterdir())) - 1
    assert results[0] == results[1] == results[2] != results[3]
    assert summary.with_picture == 0
    assert summary.failed == {"no text, and no pictures were given": 6}


def test_pictures_within_a_parquet_file_need_no_folder(starter, catalog, tmp_path):
    names = [row["image"] for row in read_csv(catalog) if row["image"]][:5]
    files = [(catalog.parent / name).read_bytes() for name in names]
    source = tmp_path / "pictures.parquet"
    for column in (files, [{"bytes": content, "path": None} for content in files]):
        pandas.DataFrame({"image": [*column, None]}).to_parquet(source)
        summary = score_catalog(source, tmp_path / "scored", classifier=starter, overwrite=True)
        rows = read_parts(tmp_path / "scored").to_pylist()
        expected = [each.category.prdtypecode for each in starter.predict([Product(image=each) for each in files])]
        assert [row["predicted_prdtypecode"] for row in rows] == [*expected, None]
        assert summary.failed == {"no text and no picture": 1}
        assert [row["image"] for row in rows] == [*column, None]
    with pytest.raises(BatchError, match="'image' holds bytes"):
        score_catalog(source, tmp_path / "scored.csv", classifier=starter)


def test_hostile_picture_names_are_reported_and_answered_from_the_text(starter, catalog, tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.jpg").write_bytes((catalog.parent / read_csv(catalog)[0]["image"]).read_bytes())
    source = tmp_path / "in.csv"
    names = ["../secret.jpg", str(tmp_path / "secret.jpg"), "http://127.0.0.1/x.jpg", "none.jpg"]
    source.write_text("designation,image\n" + "".join(f"livre,{name}\n" for name in names))
    summary = score_catalog(source, tmp_path / "scored.csv", classifier=starter, images=tmp_path / "inside")
    rows = read_csv(tmp_path / "scored.csv")
    assert {row["predicted_image_weight"] for row in rows} == {"0.0"}
    assert all("picture" in row["predicted_error"] for row in rows)
    assert summary.scored == 4 and sum(summary.left_out_pictures.values()) == 4


def test_added_columns_never_take_the_name_of_one_that_is_there(starter, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("designation,prdtypecode,predicted_error\nlivre de poche,10,mine\n")
    score_catalog(source, tmp_path / "once.csv", classifier=starter, top=1)
    score_catalog(tmp_path / "once.csv", tmp_path / "twice.csv", classifier=starter, top=1)
    row = read_csv(tmp_path / "twice.csv")[0]
    assert (row["prdtypecode"], row["predicted_error"]) == ("10", "mine")
    assert row["predicted_2_prdtypecode"] == row["predicted_3_prdtypecode"] != ""


def test_columns_may_be_chosen(starter, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("titre,texte,designation\npiscine tubulaire,,canapé d'angle\n")
    for columns, code in ((Columns("titre", "texte"), "2583"), (None, "1560")):
        score_catalog(source, tmp_path / "out.csv", classifier=starter, columns=columns, overwrite=True)
        assert read_csv(tmp_path / "out.csv")[0]["predicted_prdtypecode"] == code
    for columns in (Columns("none"), Columns()):
        with pytest.raises(BatchError, match="'titre', 'texte', 'designation'"):
            score_catalog(source, tmp_path / "other.csv", classifier=starter, columns=columns)
    with pytest.raises(BatchError, match="No column says which of the pictures"):
        score_catalog(source, tmp_path / "other.csv", classifier=starter, images=tmp_path)
    assert not (tmp_path / "other.csv").exists()


def test_an_empty_catalog_gives_an_empty_one(starter, tmp_path):
    (tmp_path / "in.csv").write_text("designation\n")
    assert score_catalog(tmp_path / "in.csv", tmp_path / "out.csv", classifier=starter).rows == 0
    assert (tmp_path / "out.csv").read_text().startswith("designation,predicted_prdtypecode")
    score_catalog(tmp_path / "in.csv", tmp_path / "out", classifier=starter)
    assert read_parts(tmp_path / "out").num_rows == 0


def test_formulas_are_neutralised_only_when_asked(starter, tmp_path):
    cells = ["=1+1", "+33 1 23", "-x", "@SUM(1)", "\tx", "\rx", "-12.5", "+7", "a=b", ""]
    source = tmp_path / "in.csv"
    with source.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["designation", "=column"], *[["livre", cell] for cell in cells]])
    score_catalog(source, tmp_path / "plain.csv", classifier=starter)
    score_catalog(source, tmp_path / "safe.csv", classifier=starter, spreadsheet_safe=True)
    assert [row["=column"] for row in read_csv(tmp_path / "plain.csv")] == cells
    safe = [row["'=column"] for row in read_csv(tmp_path / "safe.csv")]
    assert safe == [f"'{cell}" for cell in cells[:6]] + cells[6:]
    assert spreadsheet_safe_cell("\uff1d1") == "'\uff1d1"


def test_a_finished_output_is_left_alone_and_another_is_refused(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 30)
    for name in ("out.csv", "out"):
        output = tmp_path / name
        first = score_catalog(source, output, classifier=starter)
        before = written(tmp_path)
        again = score_catalog(source, output, classifier=starter)
        assert again.already_finished and not first.already_finished
        assert (again.rows, again.scored, again.per_category) == (30, 30, first.per_category)
        with pytest.raises(BatchError, match=r"other settings \(top\)"):
            score_catalog(source, output, classifier=starter, top=2)
        other = repeated_csv(tmp_path / "other.csv", 31)
        with pytest.raises(BatchError, match="another input"):
            score_catalog(other, output, classifier=starter)
        other.unlink()
        assert written(tmp_path) == before
        assert not score_catalog(source, output, classifier=starter, overwrite=True).already_finished
        assert {k: v for k, v in written(tmp_path).items() if "state" not in k} == {
            k: v for k, v in before.items() if "state" not in k
        }


def test_another_bundle_is_refused(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 5)
    score_catalog(source, tmp_path / "out", classifier=starter)
    other = shutil.copytree(starter.folder, tmp_path / "bundle")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    config["training"]["remark"] = "trained again"
    (other / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BatchError, match="holds the scores of another bundle"):
        score_catalog(source, tmp_path / "out", classifier=ProductClassifier.from_pretrained(other))


def test_an_overwritten_folder_keeps_no_old_part(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 50)
    score_catalog(source, tmp_path / "out", classifier=starter, chunk_rows=10)
    score_catalog(source, tmp_path / "out", classifier=starter, chunk_rows=30, overwrite=True)
    assert sorted(written(tmp_path / "out")) == ["_state.json", "part-000000.parquet", "part-000001.parquet"]
    assert read_parts(tmp_path / "out").num_rows == 50


def test_what_is_not_ours_is_never_replaced(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 5)
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, words in (
        ("mine.csv", "exists already"),
        ("mine", "is not empty and no scored catalog"),
        ("folder.csv", "is a folder"),
        ("file", "is a file"),
        ("in.csv", "is a file of the catalog"),
        (".", "is the catalog's folder"),
    ):
        before = written(tmp_path)
        with pytest.raises(BatchError, match=words):
            score_catalog(source, tmp_path / name, classifier=starter)
        assert written(tmp_path) == before
    with pytest.raises(BatchError, match="is not empty"):
        score_catalog(source, tmp_path / "mine", classifier=starter, overwrite=True)
    score_catalog(source, tmp_path / "mine.csv", classifier=starter, overwrite=True)
    with (tmp_path / "mine.csv").open("a") as stream:
        stream.write("a person's own line\n")
    with pytest.raises(BatchError, match="was changed after it was scored"):
        score_catalog(source, tmp_path / "mine.csv", classifier=starter)
    (tmp_path / "folder").mkdir()
    repeated_csv(tmp_path / "folder" / "1.csv", 5)
    with pytest.raises(BatchError, match="would become a part of it"):
        score_catalog(tmp_path / "folder", tmp_path / "folder" / "2.csv", classifier=starter)


def test_progress_rises_to_the_total(starter, tmp_path):
    seen = []
    source = repeated_csv(tmp_path / "in.csv", 600)
    score_catalog(source, tmp_path / "out", classifier=starter, progress=seen.append, chunk_rows=500)
    assert [each.done for each in seen] == [0, 256, 500, 600]
    assert {each.total for each in seen} == {600}
    assert seen[0].seconds_left is None and seen[-1].seconds_left == 0 and seen[-1].rate > 0


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_a_cancelled_run_goes_on_where_it_was(starter, tmp_path, name):
    source = repeated_csv(tmp_path / "in.csv", 400)
    score_catalog(source, tmp_path / "whole" / name, classifier=starter, chunk_rows=50)
    event = threading.Event()

    def stop_at(progress):
        if progress.done >= 200:
            event.set()

    for cancelled in (event, event.is_set):
        with pytest.raises(BatchCancelled, match="of 400 rows"):
            score_catalog(
                source,
                tmp_path / "stopped" / name,
                classifier=starter,
                chunk_rows=50,
                progress=stop_at,
                cancelled=cancelled,
            )
    assert not (tmp_path / "stopped" / "out.csv").exists()
    seen = []
    score_catalog(source, tmp_path / "stopped" / name, classifier=starter, chunk_rows=50, progress=seen.append)
    assert seen[0].done == 150
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


SCRIPT = """
import sys
from rakuten_models import ProductClassifier
from rakuten_models.batch import BatchSettings, score_catalog
score_catalog(sys.argv[1], sys.argv[2], classifier=ProductClassifier.from_pretrained(), chunk_rows=64)
"""


@pytest.mark.parametrize("name", ["out.csv", "out"])
def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(starter, tmp_path, name):
    source = repeated_csv(tmp_path / "in.csv", 3000)
    with source.open("ab") as stream:
        stream.write(b"bad,row\n\xff\xfe,x,y\n")
    score_catalog(source, tmp_path / "whole" / name, classifier=starter, chunk_rows=64)
    output = tmp_path / "killed" / name
    command = [sys.executable, "-c", SCRIPT, str(source), str(output)]
    state = output.parent / ".out.csv.state.json" if name == "out.csv" else output / "_state.json"
    generator = random.Random(name)
    kills = 0
    for rows in (1, 700, 1500, 2300):
        process = subprocess.Popen(command, cwd=REPOSITORY_ROOT, env=app_environment())
        while process.poll() is None and rows_done(state) < rows:
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        assert rows_done(state) >= rows
    assert kills >= 3
    subprocess.run(command, cwd=REPOSITORY_ROOT, env=app_environment(), check=True)
    assert written(tmp_path / "killed") == written(tmp_path / "whole")


def rows_done(state):
    try:
        return json.loads(state.read_text())["rows"]
    except OSError:
        return -1


def test_what_a_kill_can_leave_beside_the_state_is_written_again(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 100)
    for name in ("out.csv", "out"):
        score_catalog(source, tmp_path / "whole" / name, classifier=starter, chunk_rows=20)
        output = tmp_path / "left" / name
        stop = {"done": 0}
        with pytest.raises(BatchCancelled):
            score_catalog(
                source,
                output,
                classifier=starter,
                chunk_rows=20,
                progress=lambda each, stop=stop: stop.update(done=each.done),
                cancelled=lambda stop=stop: stop["done"] >= 60,
            )
        if name == "out":
            (output / "part-000002.parquet").write_bytes(b"half")
            (output / ".part-000003.parquet.writing").write_bytes(b"half")
        else:
            with (output.parent / ".out.csv.partial").open("ab") as stream:
                stream.write(b"half a line")
        score_catalog(source, output, classifier=starter, chunk_rows=20)
    assert written(tmp_path / "left") == written(tmp_path / "whole")


def test_a_csv_stays_until_the_new_one_is_whole(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 60)
    output = tmp_path / "out.csv"
    output.write_text("old")
    calls = iter(range(100))
    options = {"classifier": starter, "chunk_rows": 20}
    with pytest.raises(BatchCancelled):
        score_catalog(source, output, overwrite=True, cancelled=lambda: next(calls) >= 2, **options)
    assert output.read_text() == "old"
    score_catalog(source, output, **options)
    assert len(read_csv(output)) == 60


def test_two_runs_on_one_output_are_told_apart(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 10)

    def second(progress):
        with pytest.raises(BatchError, match="is being written by another run"):
            score_catalog(source, tmp_path / "out", classifier=starter)

    score_catalog(source, tmp_path / "out", classifier=starter, progress=second)


def test_a_threshold_decides_and_tells_runs_apart(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 10)
    settings = BatchSettings(threshold=0.5)
    score_catalog(source, tmp_path / "out", classifier=starter, settings=settings)
    for row in read_parts(tmp_path / "out").to_pylist():
        assert (row["predicted_decision"] == "accept") == (row["predicted_probability"] >= 0.5)
    assert score_catalog(source, tmp_path / "out", classifier=starter, settings=settings).already_finished
    with pytest.raises(BatchError, match=r"other settings \(threshold\)"):
        score_catalog(source, tmp_path / "out", classifier=starter, settings=settings, threshold=0.6)


def test_a_table_is_scored_without_any_file(starter, catalog):
    whole = next(CatalogSource(catalog).chunks(100))
    settings = ScoreSettings(recognise_columns(whole.column_names), images=str(catalog.parent))
    with TableScorer(starter, settings) as scorer:
        once = scorer(whole).table
        parts = pyarrow.concat_tables([scorer(whole.slice(0, 33)).table, scorer(whole.slice(33)).table])
    assert once.to_pydict() == parts.to_pydict()
    assert once.column_names[: whole.num_columns - 1] == whole.column_names[:-1]


def test_reasons_stay_few():
    assert reason_of("catalog.line_fields") == "another number of fields than the header"
    assert reason_of("product.picture_missing") == "the picture was not found"
    assert reason_of("product.picture_damaged") == "the picture cannot be read"
    assert reason_of("something.new") == "another reason"
    row_codes = {code for code in templates("en") if code.startswith(("catalog.line_", "catalog.picture_"))}
    assert {reason_of(code) for code in row_codes}.isdisjoint({"another reason"})


def test_problems_are_noted_with_code_and_values(starter, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("designation,image\n" + "chaise,none.jpg\n" * 3 + "lampe,\n" + ",,\n" * 3)
    (tmp_path / "pictures").mkdir()
    noted = []
    score_catalog(
        source,
        tmp_path / "out.csv",
        classifier=starter,
        images=tmp_path / "pictures",
        chunk_rows=2,
        noted=lambda number, problem: noted.append((number, problem)),
    )
    assert [number for number, _ in noted] == [1, 2, 3, 5, 6, 7]
    problems = dict(noted)
    assert (problems[1].code, problems[1].values) == ("catalog.picture_not_in_folder", {"name": "none.jpg"})
    assert problems[5].code == "catalog.line_fields" and problems[5].values["line"] == 6
    rows = read_csv(tmp_path / "out.csv")
    assert [row["predicted_error"] for row in rows if row["predicted_error"]] == list(problems.values())


def peak_kilobytes(source, output):
    script = f"{SCRIPT}\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)".replace(
        "64", "500"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(output)],
        cwd=REPOSITORY_ROOT,
        env=app_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
@pytest.mark.parametrize(("name", "rows"), [("out.csv", 40_000), ("out", 10_000)])
def test_memory_does_not_grow_with_the_catalog(tmp_path, name, rows):
    few = peak_kilobytes(repeated_csv(tmp_path / "few.csv", 2000), tmp_path / "few" / name)
    many = peak_kilobytes(repeated_csv(tmp_path / "many.csv", rows), tmp_path / "many" / name)
    assert many < 1.2 * few, (few, many)


def test_the_command_scores_compares_and_says_so(catalog, tmp_path, capsys):
    output = tmp_path / "scored.csv"
    arguments = [str(catalog), str(output), "--images", str(catalog.parent), "--top", "1", "--quiet"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{output}: ") and lines[0].endswith("rows a second")
    assert lines[1].startswith("162 rows: 162 scored (")
    assert any(line.startswith("Against the 162 labels in prdtypecode: accuracy 0.") for line in lines)
    assert lines[-1] == "Bundle: starter bundle"
    assert main(arguments) == 0
    assert "is finished already, and nothing was done" in capsys.readouterr().out
    assert main([*arguments, "--overwrite"]) == 0
    assert "rows a second" in capsys.readouterr().out


def test_pictures_that_are_elsewhere_are_asked_for(starter, tmp_path, capsys):
    """The rows are scored from their texts, but nobody may think that their pictures were looked at."""
    source = tmp_path / "in.csv"
    source.write_text("designation,imageid,productid\npiscine,1,2\n")
    (tmp_path / "pictures").mkdir()
    arguments = [str(source), str(tmp_path / "out"), "--quiet", "--images", str(tmp_path / "pictures")]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "0 with a picture" in captured.out
    assert captured.err.count("warning: no row's picture was found in") == 1
    assert main([*arguments[:3], "--overwrite"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_the_command_shows_a_bar_and_takes_other_columns(starter, tmp_path, capsys):
    source = tmp_path / "in.csv"
    source.write_text("titre,code\npiscine tubulaire,2583\nlivre,x\n,\n")
    arguments = [str(source), str(tmp_path / "out"), "--designation-column", "titre"]
    assert main([*arguments, "--label-column", "code"]) == 0
    captured = capsys.readouterr()
    assert "3/3" in captured.err and "rows/s" in captured.err
    assert "not scored, 1: no text and no picture" in captured.out
    assert "Against the 1 labels in code" in captured.out and "1 labels are no whole number: 'x'" in captured.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.csv", "out"], "none.csv does not exist"),
        (["in.csv", "in.csv"], "is a file of the catalog"),
        (["in.csv", "out", "--images", "none"], "No column says which"),
        (["in.csv", "out", "--top", "0"], "top is 0"),
        (["in.csv", "out", "--label-column", "none"], "no column 'none'"),
    ],
)
def test_bad_arguments_get_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("designation\nlivre\n")
    assert run_command(main, [*arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert sorted(os.listdir()) == ["in.csv"]


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("rakuten_models.batch.__main__.score_catalog", interrupted)
    source = repeated_csv(tmp_path / "in.csv", 3)
    assert main([str(source), str(tmp_path / "out")]) == 130
    assert "the same command goes on where it was" in capsys.readouterr().err


def test_python_dash_m_runs(tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 3)
    done = subprocess.run(
        [sys.executable, "-m", "rakuten_models.batch", str(source), str(tmp_path / "out.csv"), "--quiet"],
        cwd=REPOSITORY_ROOT,
        env=app_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "3 rows: 3 scored" in done.stdout


def test_a_bundle_on_a_hub_at_a_revision_is_named_in_every_row(starter, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    source = repeated_csv(tmp_path / "in.csv", 30)
    with HubServer() as server, client_points_at(server, monkeypatch):
        first = starter.push_to_hub("anna/model", tag="v1", token=server.token)
        changed = shutil.copytree(starter.folder, tmp_path / "changed")
        config = json.loads((changed / "config.json").read_text(encoding="utf-8"))
        config["training"]["remark"] = "trained again"
        (changed / "config.json").write_text(json.dumps(config), encoding="utf-8")
        second = ProductClassifier(changed).push_to_hub("anna/model", token=server.token)
        assert first != second
        command = [str(source), "--bundle", "anna/model", "--quiet"]
        for name, revision, expected in (
            ("tag", ["--revision", "v1"], first),
            ("commit", ["--revision", first], first),
            ("newest", [], second),
        ):
            output = tmp_path / f"{name}.csv"
            assert main([command[0], str(output), *command[1:], *revision]) == 0
            assert {row["predicted_bundle"] for row in read_csv(output)} == {expected}
            assert f"Bundle: anna/model at {expected}" in capsys.readouterr().out
        with pytest.raises(BatchError, match="holds the scores of another bundle"):
            main([command[0], str(tmp_path / "tag.csv"), *command[1:]])
        assert run_command(main, [command[0], str(tmp_path / "x"), *command[1:], "--revision", "v9"]) == 2
        assert "has no revision 'v9'" in capsys.readouterr().err and not (tmp_path / "x").exists()
