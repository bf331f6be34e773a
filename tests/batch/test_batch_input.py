"""How a catalog's files become rows: every format, every kind of bad row, and pictures from hostile places."""

import json
import os
import struct
import zipfile
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from rakuten_models.catalog.columns import Columns, recognise_columns
from rakuten_models.catalog.image_store import open_pictures
from rakuten_models.catalog.lines import MAX_LINE, MAX_LINES
from rakuten_models.catalog.source import PROBLEM_COLUMN, CatalogSource, read_header
from rakuten_models.errors import BatchError, Message, ProductError


def rows_of(source, chunk_rows=1000, skip=0):
    tables = list(CatalogSource(source).chunks(chunk_rows, skip))
    rows = [row for table in tables for row in table.to_pylist()]
    for row in rows:
        row[PROBLEM_COLUMN] = row[PROBLEM_COLUMN] and Message.from_json(row[PROBLEM_COLUMN])
    return rows


def csv_rows(tmp_path, content, **options):
    path = tmp_path / "catalog.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = rows_of(path, **options)
    assert CatalogSource(path).rows == len(rows) + options.get("skip", 0)
    return rows


def test_csv_values_stay_as_they_are(tmp_path):
    values = ["007", " spaces ", "NaN", "None", "1e5", "", 'two\r\nlines, a "quote"', "é\u00a0ü", "TRUE", "-0.0"]
    path = tmp_path / "catalog.csv"
    pandas.DataFrame({"": range(10), "designation": values}).to_csv(path, index=False, encoding="utf-8-sig")
    rows = rows_of(path)
    assert [row["designation"] for row in rows] == values
    assert [row[""] for row in rows] == [str(number) for number in range(10)]
    assert all(row[PROBLEM_COLUMN] is None for row in rows)


BAD = [
    ("2,b,c,d", "Line 3 has 4 fields where the header has 3", ["2", "b", "c"]),
    ("2,b", "Line 3 has 2 fields where the header has 3", ["2", "b", None]),
    ("x", "Line 3 has 1 field where the header has 3", ["x", None, None]),
    (b"2,caf\xe9,c", "Line 3 holds the byte 0xE9, which is no UTF-8", ["2", "caf\ufffd", "c"]),
    ('2,"b,c', "Line 3 has a quotation mark that is not closed", ["2", "b,c", None]),
    ('2,"b" c,d', "Line 3 has a quotation mark", ["2", "b c", "d"]),
    ('2,"say "hello" twice",d', "Line 3 has a quotation mark", None),
    ("2,b\rx,c", "Line 3 has a carriage return outside quotation marks", None),
    ("2,b," + "x" * MAX_LINE, "Line 3 is longer than 4 MB", [None, None, None]),
]


@pytest.mark.parametrize(("line", "problem", "values"), BAD, ids=[case[1][:40] for case in BAD])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bad_csv_row_is_one_row_and_stops_no_other(tmp_path, line, problem, values, end):
    line = line if isinstance(line, bytes) else line.encode()
    end = end.encode()
    lines = [b"id,designation,description", b"1,one,x", line, b"3,three,x", b'4,"four\n4",x', line, b"6,six,x", b""]
    rows = csv_rows(tmp_path, end.join(lines))
    assert len(rows) == 6
    assert [row["id"] for row in rows if row[PROBLEM_COLUMN] is None] == ["1", "3", "4", "6"]
    assert rows[1][PROBLEM_COLUMN].startswith(problem)
    assert rows[4][PROBLEM_COLUMN].startswith(problem.replace("Line 3", "Line 7"))
    if values is not None:
        assert list(rows[1].values())[:3] == values


def test_a_quotation_mark_inside_a_field_without_quotes_is_text(tmp_path):
    rows = csv_rows(tmp_path, 'id,designation\n1,écran 15" noir\n2,b\n')
    assert [row["designation"] for row in rows] == ['écran 15" noir', "b"]


def test_an_unclosed_quotation_mark_takes_no_more_than_its_line(tmp_path):
    good = "".join(f"{number},word,x\n" for number in range(2 * MAX_LINES))
    for last in ("", '9,"closing",x\n'):
        rows = csv_rows(tmp_path, f'id,designation,description\n0,"open,x\n{good}{last}')
        assert len(rows) == 1 + 2 * MAX_LINES + bool(last)
        assert [number for number, row in enumerate(rows) if row[PROBLEM_COLUMN]] == [0]


def test_a_record_of_several_lines_with_too_few_fields_is_one_row(tmp_path):
    rows = csv_rows(tmp_path, 'id,designation,description\n1,"several\nlines, without\nthe rest"\n2,b,c\n')
    assert len(rows) == 2
    assert "Line 2 has 2 fields" in rows[0][PROBLEM_COLUMN]
    assert rows[0]["designation"] == "several\nlines, without\nthe rest"


def test_empty_lines_are_no_rows(tmp_path):
    rows = csv_rows(tmp_path, "\n\nid,designation\n\n1,a\n\r\n\n2,b\n\n")
    assert [row["id"] for row in rows] == ["1", "2"]


def test_semicolons_and_tabs_separate_where_the_header_has_no_comma(tmp_path):
    for delimiter in ";\t":
        rows = csv_rows(tmp_path, f"id{delimiter}designation\n1{delimiter}a, b\n")
        assert rows[0]["designation"] == "a, b"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("skip", [0, 1, 4, 9])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_chunks_and_skipping_change_no_row(tmp_path, kind, size, skip):
    table = pandas.DataFrame({"designation": [f"row {number}" for number in range(9)]})
    path = tmp_path / f"catalog.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_parquet(path, row_group_size=4)
    catalog = CatalogSource(path)
    tables = list(catalog.chunks(size, skip))
    assert catalog.rows == 9
    assert [len(each) for each in tables[:-1]] == [size] * (len(tables) - 1)
    names = [name for each in tables for name in each.column("designation").to_pylist()]
    assert names == [f"row {number}" for number in range(skip, 9)]


def test_json_lines_keep_types_and_name_bad_lines(tmp_path):
    path = tmp_path / "catalog.jsonl"
    path.write_bytes(
        b'{"designation": "a", "n": 1, "x": 1, "mixed": "1", "many": [1]}\n'
        b"{broken\n"
        b"[1, 2]\n"
        b"\n"
        b'{"designation": "caf\xe9", "n": 2}\n'
        b'{"designation": "half \\ud800", "n": 3, "later": true}\n'
        b'{"designation": "b", "n": null, "x": 2.5, "mixed": 1, "many": {"k": "\\u00e9"}}\n'
    )
    catalog = CatalogSource(path)
    kinds = {field.name: str(field.type) for field in catalog.schema}
    assert kinds == {
        "designation": "string",
        "n": "int64",
        "x": "double",
        "mixed": "string",
        "many": "string",
        "later": "bool",
    }
    rows = rows_of(path)
    assert len(rows) == catalog.rows == 6
    problems = [row.pop(PROBLEM_COLUMN) or "" for row in rows]
    starts = ["", "Line 2 is no JSON", "Line 3 holds a list", "Line 5 holds the byte 0xE9", "Line 6 holds half", ""]
    assert all(problem.startswith(start) for problem, start in zip(problems, starts, strict=True))
    assert [bool(problem) for problem in problems] == [bool(start) for start in starts]
    assert rows[3]["n"] == 2 and rows[4]["designation"] == "half ?"
    assert rows[5] == {"designation": "b", "n": None, "x": 2.5, "mixed": "1", "many": '{"k": "é"}', "later": None}


def test_parquet_types_stay(tmp_path):
    table = pyarrow.table(
        {
            "designation": pyarrow.array(["a", None]),
            "when": pyarrow.array([1, 2], pyarrow.timestamp("ms")),
            "kind": pyarrow.array(["x", "y"]).dictionary_encode(),
            "many": pyarrow.array([[1], []]),
        }
    )
    path = tmp_path / "catalog.parquet"
    pyarrow.parquet.write_table(table, path)
    read = pyarrow.concat_tables(CatalogSource(path).chunks(1)).drop_columns([PROBLEM_COLUMN])
    assert read.schema.equals(table.schema) and read.to_pylist() == table.to_pylist()


def test_folders_and_globs_are_read_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a", "c"):
        pandas.DataFrame({"designation": [f"{name}1", f"{name}2"]}).to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "_notes.csv").write_text("other\n1\n")
    (tmp_path / ".hidden.csv").write_text("other\n1\n")
    expected = ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert [row["designation"] for row in rows_of(tmp_path)] == expected
    assert [row["designation"] for row in rows_of(str(tmp_path / "[ab].csv"), skip=1)] == expected[1:4]


def test_the_challenges_folder_is_its_x_file(tiny_challenge):
    header = read_header(tiny_challenge)
    assert header.names == ["", "designation", "description", "productid", "imageid"]
    assert header.columns == Columns("designation", "description", None, None, "productid", "imageid", "")


def test_columns_are_recognised_by_name():
    assert recognise_columns(["Title", "IMAGE", "prdtypecode"]) == Columns("Title", None, "IMAGE", "prdtypecode")
    assert recognise_columns(["text", "designation"]).designation == "designation"
    assert recognise_columns(["id", "text"]) == Columns("text", index="id")
    assert recognise_columns(["text", "id"]).index is None
    assert recognise_columns([]) == Columns()


@pytest.fixture(scope="module")
def tiny_challenge(tmp_path_factory):
    from tests.support.tiny_catalog import write_tiny_catalog

    return write_tiny_catalog(tmp_path_factory.mktemp("challenge"), categories=3)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "is empty; expected a header line"),
        ("a.csv", "designation\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a.csv", b"d\xe9signation\n", "holds the byte 0xE9"),
        ("a.csv", b"designation,a,a\n", "has the column 'a' twice"),
        ("a.csv", b'designation,"a\n', "the header cannot be read"),
        ("a.csv", b"designation\ra\rb\r", "carriage returns alone"),
        ("a.jsonl", b"", "holds no JSON objects"),
        ("a.jsonl", b"designation\n", "holds no JSON objects"),
        ("a.parquet", b"PAR1 is what it says", "is no readable Parquet file"),
        ("a.txt", b"designation\n", "is no catalog; expected a .csv"),
        ("a.csv", f"{PROBLEM_COLUMN},designation\n".encode(), "is taken"),
    ],
)
def test_a_file_that_is_no_catalog_gets_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BatchError) as caught:
        read_header(path)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_sources_that_do_not_go_together_get_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_text("designation\nx\n")
    (tmp_path / "b.jsonl").write_text('{"designation": "x"}\n')
    with pytest.raises(BatchError, match="several kinds"):
        read_header(tmp_path)
    (tmp_path / "c.csv").write_text("title\nx\n")
    with pytest.raises(BatchError, match=r"c\.csv has other columns than a\.csv"):
        read_header(str(tmp_path / "*.csv"))
    for missing in ("missing.csv", "*.parquet"):
        with pytest.raises(BatchError, match="expected"):
            read_header(tmp_path / missing)
    with pytest.raises(BatchError, match="holds no catalog"):
        (tmp_path / "empty").mkdir()
        read_header(tmp_path / "empty")


def picture_folder(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.jpg", "image_5_product_7.jpg"):
        (folder / name).write_bytes(name.encode())
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return folder


def zipped(folder, tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.jpg")):
            archive.write(file, f"top/{file.relative_to(folder)}")
    return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_pictures_are_found_by_path_by_name_and_by_numbers(tmp_path, kind):
    folder = picture_folder(tmp_path)
    pictures = open_pictures(folder if kind == "folder" else zipped(folder, tmp_path))

    def content(found):
        return found if isinstance(found, bytes) else Path(found).read_bytes()

    assert content(pictures.named("a.jpg")) == content(pictures.named("elsewhere/a.jpg")) == b"a.jpg"
    assert content(pictures.named("./deep\\b.jpg" if kind == "folder" else "top\\deep\\b.jpg")) == b"deep/b.jpg"
    assert content(pictures.by_numbers("5", "7")) == b"image_5_product_7.jpg"
    assert pictures.by_numbers("5", "8") is None
    assert pictures.by_numbers("5/../5", "7") is None
    for name, words in (("none.jpg", "is not in the"), ("https://a.b/c.jpg", "is a URL"), ("x\0y", "is not in the")):
        with pytest.raises(ProductError, match=words):
            pictures.named(name)
    pictures.close()


@pytest.mark.parametrize("name", ["../secret.jpg", "deep/../../secret.jpg", "..\\secret.jpg", "ABSOLUTE", "link.jpg"])
def test_a_path_never_leaves_the_images_folder(tmp_path, name):
    folder = picture_folder(tmp_path)
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    pictures = open_pictures(folder)
    with pytest.raises(ProductError, match="leads out of the images folder"):
        pictures.named(str(tmp_path / "secret.jpg") if name == "ABSOLUTE" else name)
    (folder / "image_1_product_2.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ProductError, match="leads out"):
        pictures.by_numbers("1", "2")


def test_what_is_no_file_is_not_opened(tmp_path):
    folder = picture_folder(tmp_path)
    os.mkfifo(folder / "pipe.jpg")
    for name in ("pipe.jpg", "deep", "x" * 5000, "."):
        with pytest.raises(ProductError, match="is not in the images folder"):
            open_pictures(folder).named(name)


def test_hostile_zip_members_touch_no_disk_and_fill_no_memory(tmp_path):
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escape.jpg", b"escape")
        archive.writestr("/absolute.jpg", b"absolute")
        archive.writestr("bomb.jpg", bytes(60_000_000))
        archive.writestr("good.jpg", b"good")
        archive.writestr("a/twice.jpg", b"1")
        archive.writestr("b/twice.jpg", b"2")
    inside = set(tmp_path.rglob("*"))
    pictures = open_pictures(path)
    with pytest.raises(ProductError, match="more than 50 MB"):
        pictures.named("bomb.jpg")
    with pytest.raises(ProductError, match="leads out"):
        pictures.named("../../escape.jpg")
    with pytest.raises(ProductError, match="not in the ZIP"):
        pictures.named("twice.jpg")
    assert pictures.named("good.jpg") == b"good" and pictures.named("b/twice.jpg") == b"2"
    assert set(tmp_path.rglob("*")) == inside


def test_a_member_that_lies_about_its_size_is_not_read_beyond_it(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("liar.jpg", bytes(60_000_000))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    with pytest.raises(ProductError, match="cannot be read from the ZIP"):
        open_pictures(path).named("liar.jpg")


def test_a_damaged_member_and_a_damaged_zip_get_one_sentence(tmp_path):
    path = zipped(picture_folder(tmp_path), tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b"a.jpga.jpg") + 5] ^= 255
    path.write_bytes(content)
    with pytest.raises(ProductError, match="cannot be read from the ZIP"):
        open_pictures(path).named("a.jpg")
    path.write_bytes(b"no zip")
    with pytest.raises(BatchError, match="cannot be read as a ZIP file"):
        open_pictures(path)
    with pytest.raises(BatchError, match="does not exist"):
        open_pictures(tmp_path / "nowhere")


def test_keys_of_json_lines_are_limited(tmp_path):
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({f"key{number}": 1}) + "\n" for number in range(2100)))
    with pytest.raises(BatchError, match="different keys"):
        read_header(path)
