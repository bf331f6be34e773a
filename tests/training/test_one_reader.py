"""The same file gives batch and training the same products, whatever kind of file it is."""

import csv
import json

import pandas
import pytest
from PIL import Image

from rakuten_models import ProductClassifier
from rakuten_models.batch import BatchSettings, score_catalog
from rakuten_models.batch import __main__ as batch
from rakuten_models.catalog.columns import recognise_columns
from rakuten_models.catalog.source import read_header
from rakuten_models.errors import CatalogError
from training import evaluate, train
from training.data.catalog import read_catalog, read_texts
from training.data.files import ReaderSettings

ROWS = [
    {"designation": "Tente deux places", "description": "toile verte", "prdtypecode": 7},
    {"designation": "Réchaud, à gaz", "description": "", "prdtypecode": 12},
    {"designation": "", "description": 'bidon "10 litres"', "prdtypecode": 7},
    {"designation": "NaN", "description": "None", "prdtypecode": 12},
]


@pytest.fixture(scope="module")
def starter():
    return ProductClassifier.from_pretrained()


def written(path, **options):
    """The rows as a CSV file."""
    pandas.DataFrame(ROWS).rename(columns=options.pop("names", {})).to_csv(path, index=False, **options)
    return path


def json_lines(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def parquet(path):
    pandas.DataFrame(ROWS).to_parquet(path)
    return path


def folder(path):
    path.mkdir()
    pandas.DataFrame(ROWS[:1]).to_csv(path / "1.csv", index=False)
    pandas.DataFrame(ROWS[1:]).to_csv(path / "2.csv", index=False)
    return path


def with_bad_rows(path):
    """Rows that cannot be trusted between the others."""
    lines = written(path).read_bytes().splitlines(keepends=True)
    bad = [b'9,"never closed,\n', b"one,field,too,many\n", b"caf\xe9,x,7\n"]
    path.write_bytes(b"".join([lines[0], bad[0], *lines[1:3], bad[1], *lines[3:], bad[2]]))
    return path


KINDS = {
    "commas": lambda path: written(path / "a.csv"),
    "semicolons": lambda path: written(path / "a.csv", sep=";"),
    "tabs": lambda path: written(path / "a.tsv", sep="\t"),
    "byte order mark": lambda path: written(path / "a.csv", encoding="utf-8-sig"),
    "a title": lambda path: written(path / "a.csv", names={"designation": "title"}),
    "capitals": lambda path: written(path / "a.csv", names=str.upper),
    "JSON Lines": lambda path: json_lines(path / "a.jsonl"),
    "Parquet": lambda path: parquet(path / "a.parquet"),
    "folder": lambda path: folder(path / "a"),
    "glob": lambda path: str(folder(path / "a") / "*.csv"),
    "bad rows": lambda path: with_bad_rows(path / "a.csv"),
    "carriage returns": lambda path: written(path / "a.csv", lineterminator="\r\n"),
}


def rows_of_batch(starter, source, output, settings=None, images=None):
    """Texts and true codes of the rows that batch could read."""
    score_catalog(source, output, classifier=starter, settings=settings, images=images)
    with output.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if not row["predicted_error"].startswith("Line ")]
    columns = (settings and settings.columns) or recognise_columns(read_header(source).names)
    names = (columns.designation, columns.description, columns.label)
    return [tuple(row[name] if name else "" for name in names) for row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_batch_and_training_the_same_products(starter, tmp_path, kind):
    source = KINDS[kind](tmp_path)
    table = read_catalog(source).table
    trained = list(zip(table["designation"], table["description"], map(str, table["prdtypecode"]), strict=True))
    assert trained == [(row["designation"], row["description"], str(row["prdtypecode"])) for row in ROWS]
    assert trained == rows_of_batch(starter, source, tmp_path / "scored.csv")


def test_columns_of_any_name_can_be_chosen(starter, tmp_path):
    names = {"designation": "Artikel", "description": "Text", "prdtypecode": "Gruppe"}
    source = written(tmp_path / "a.csv", names=names, sep=";")
    chosen = {"designation": "Artikel", "description": "Text", "label": "Gruppe"}
    table = read_catalog(source, settings=ReaderSettings(chosen)).table
    columns = recognise_columns(read_header(source).names, chosen)
    trained = list(zip(table["designation"], table["description"], map(str, table["prdtypecode"]), strict=True))
    assert trained == rows_of_batch(starter, source, tmp_path / "b.csv", BatchSettings(columns=columns))
    with pytest.raises(CatalogError, match=r"no column 'Ware' \(designation\); it has: 'Artikel'"):
        read_catalog(source, settings=ReaderSettings({"designation": "Ware"}))
    # Another catalog's texts may stand under the usual names.
    other = written(tmp_path / "other.csv")
    assert len(read_texts(other, settings=ReaderSettings(chosen))) == len(ROWS)


def test_bad_rows_are_left_out_counted_and_named(tmp_path):
    catalog = read_catalog(with_bad_rows(tmp_path / "a.csv"))
    codes = ["catalog.line_quotation_mark", "catalog.line_fields", "catalog.line_not_utf_8"]
    assert [problem.code for problem in catalog.left_out] == codes
    assert [problem.values["line"] for problem in catalog.left_out] == [2, 5, 8]
    summary = catalog.summary()
    assert "4 rows" in summary and "left out, for they cannot be read, 3:" in summary
    assert "Line 2 has a quotation mark that is not closed" in summary
    (tmp_path / "b.csv").write_text("designation,prdtypecode\npelle,1\nseau, rouge,2\n")
    with pytest.raises(CatalogError, match="category 1 in the rows that can be read; .* Line 3 has 3 fields"):
        read_catalog(tmp_path / "b.csv")
    (tmp_path / "a.csv").write_text("designation\n" + "a,b\n" * 5 + "pelle\n")
    assert read_catalog(tmp_path / "a.csv").summary().count("Line ") == 3


def test_bad_rows_of_the_challenge_s_files_leave_out_their_product(tmp_path):
    (tmp_path / "X_train_update.csv").write_text(
        ",designation,description,productid,imageid\n0,a,,1,1\n1,b,,2,2,2\n2,c,,3,3\n3,d,,4,4\n"
    )
    (tmp_path / "Y_train_CVw08PX.csv").write_text(",prdtypecode\n3,10\n2,40,40\n1,50\n0,60\n")
    catalog = read_catalog(tmp_path)
    assert catalog.table.index.tolist() == [0, 3] and catalog.table["prdtypecode"].tolist() == [60, 10]
    assert [problem.values["line"] for problem in catalog.left_out] == [3, 3]


def test_a_picture_is_found_by_the_same_rules(starter, tmp_path):
    (tmp_path / "shop" / "pictures").mkdir(parents=True)
    for name in ("shop/pictures/a.jpg", "shop/b.jpg", "outside.jpg"):
        Image.new("RGB", (40, 40), "red").save(tmp_path / name)
    names = ["pictures/a.jpg", "pictures\\a.jpg", "elsewhere/b.jpg", "./b.jpg", "", "gone.jpg", "../outside.jpg"]
    names += [str(tmp_path / "shop" / "b.jpg"), str(tmp_path / "outside.jpg"), "https://shop.example/a.jpg"]
    source = tmp_path / "shop" / "a.csv"
    source.write_text("title,image\n" + "".join(f"seau {n},{name}\n" for n, name in enumerate(names)))
    catalog = read_catalog(source)
    output = tmp_path / "scored.csv"
    score_catalog(source, output, classifier=starter, images=source.parent)
    with output.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert catalog.has_image.tolist() == [float(row["predicted_image_weight"]) > 0 for row in rows]
    assert catalog.has_image.sum() == 5 and len(catalog.unreadable_images) == 4
    sentences = {row["predicted_error"] for row in rows if row["predicted_error"]}
    assert len(sentences) == 4 and str(catalog.missing_image) in sentences
    assert "unreadable pictures 4, their rows count as without one: gone.jpg" in catalog.summary()
    assert str(catalog.missing_image) in catalog.summary()


def test_pictures_may_lie_in_another_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "pictures" / "a.jpg")
    Image.new("RGB", (40, 40), "red").save(tmp_path / "pictures" / "image_2_product_1.jpg")
    (tmp_path / "shop").mkdir()
    source = tmp_path / "shop" / "a.csv"
    source.write_text("title,image,productid,imageid\nseau,a.jpg,,\npelle,,1,2\n")
    assert not read_catalog(source).has_image.any()
    assert read_catalog(source, settings=ReaderSettings(images=tmp_path / "pictures")).has_image.all()
    (tmp_path / "no.zip").write_bytes(b"no ZIP")
    for images, sentence in (("none", "does not exist; give the folder"), ("no.zip", "cannot be read as a ZIP")):
        with pytest.raises(CatalogError, match=sentence):
            read_catalog(source, settings=ReaderSettings(images=tmp_path / images))


@pytest.mark.parametrize("option", ["designation", "description", "image", "label"])
def test_the_commands_take_the_same_column_options(starter, tmp_path, option):
    source = written(tmp_path / "a.csv")
    chosen = [f"--{option}-column", "Ware"]
    for main, arguments in (
        (batch.main, [str(source), str(tmp_path / "b.csv")]),
        (train.main, ["--catalog-dir", str(source), "--output-dir", str(tmp_path / "bundle")]),
        (evaluate.main, ["--bundle", str(starter.folder), "--catalog-dir", str(source)]),
    ):
        with pytest.raises(CatalogError, match=rf"no column 'Ware' \({option}\); it has: 'designation'"):
            main([*arguments, *chosen])
