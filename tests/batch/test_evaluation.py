"""What a person does with a scored catalog: its agreement with labels, beside scikit-learn, and corrections."""

import csv

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.batch.evaluation import evaluate_scored, write_corrections
from rakuten_models.errors import BatchError
from tests.support.tiny_catalog import write_tiny_catalog
from training.data.catalog import read_catalog


def scored_table(truth, predicted):
    return pandas.DataFrame(
        {"designation": "x", "prdtypecode": truth, "predicted_prdtypecode": predicted}, dtype="object"
    )


def write(table, path):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        path.mkdir()
        half = len(table) // 2
        for number, part in enumerate((table[:half], table[half:])):
            part = part.astype({"prdtypecode": "string"})
            columns = {name: part[name].tolist() for name in part}
            kinds = [("designation", pyarrow.string()), ("prdtypecode", pyarrow.string())]
            schema = pyarrow.schema([*kinds, ("predicted_prdtypecode", pyarrow.int64())])
            pyarrow.parquet.write_table(pyarrow.table(columns, schema), path / f"part-{number:06d}.parquet")
    return path


@pytest.mark.parametrize("name", ["scored.csv", "scored"])
@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_scikit_learn(tmp_path, name, seed):
    generator = np.random.default_rng(seed)
    codes = [10, 40, 2060, 2905, 7]
    truth = generator.choice(codes, 400).tolist()
    # Code 7 is never predicted; some rows could not be scored.
    predicted = [code if generator.random() < 0.6 and code != 7 else int(generator.choice(codes[:4])) for code in truth]
    unscored = generator.random(400) < 0.1
    shown = [None if none else code for code, none in zip(predicted, unscored, strict=True)]
    measures = evaluate_scored(write(scored_table(truth, shown), tmp_path / name))
    counted = [-1 if none else code for code, none in zip(predicted, unscored, strict=True)]
    assert measures.rows == 400 and measures.unscored == unscored.sum()
    assert measures.prdtypecodes == tuple(sorted(codes))
    assert measures.accuracy == pytest.approx(accuracy_score(truth, counted))
    expected = f1_score(truth, counted, average="weighted", labels=sorted(codes), zero_division=0)
    assert measures.weighted_f1 == pytest.approx(expected)
    matrix = confusion_matrix(np.array(truth)[~unscored], np.array(predicted)[~unscored], labels=sorted(codes))
    assert (measures.confusion_matrix == matrix).all()
    assert measures.unknown == {7: truth.count(7)}


def test_labels_of_every_spelling_are_read(tmp_path):
    truth = ["10", "10.0", " 10 ", "'10", "", "40", "books", "9999"]
    path = write(scored_table(truth, [10, 10, 10, 10, 10, 10, 10, 10]), tmp_path / "scored.csv")
    measures = evaluate_scored(path)
    assert measures.rows == 6 and measures.accuracy == pytest.approx(4 / 6)
    assert measures.unlabelled == 1 and measures.unreadable == {"books": 1}
    assert measures.unknown == {40: 1, 9999: 1}


def test_a_scored_catalog_knows_its_bundles_codes(tmp_path):
    classifier = ProductClassifier.from_pretrained()
    catalog = write_tiny_catalog(tmp_path / "catalog", layout="csv", categories=5, rows_per_category=3)
    for output in (tmp_path / "out.csv", tmp_path / "out"):
        score_catalog(catalog, output, classifier=classifier, images=catalog.parent)
        measures = evaluate_scored(output)
        assert measures.rows == 15 and len(measures.prdtypecodes) == 27 and measures.unknown == {}
        assert measures.confusion_matrix.sum() == 15
        with pytest.raises(BatchError, match=r"'designation'.* holds no prdtypecode"):
            evaluate_scored(output, "designation")
        with pytest.raises(BatchError, match="no column 'none'"):
            evaluate_scored(output, "none")


def test_what_was_not_scored_cannot_be_measured(tmp_path):
    (tmp_path / "plain.csv").write_text("prdtypecode\n10\n")
    (tmp_path / "empty").mkdir()
    for name in ("plain.csv", "empty", "missing", "missing.csv"):
        with pytest.raises(BatchError, match="is no scored catalog; score it first"):
            evaluate_scored(tmp_path / name)
    path = write(scored_table(["", ""], [10, 10]), tmp_path / "unlabelled.csv")
    with pytest.raises(BatchError, match="it is empty"):
        evaluate_scored(path)


def test_corrections_are_labels_that_training_reads(tmp_path):
    folder = write_tiny_catalog(tmp_path / "catalog", categories=4, rows_per_category=4, labels=False)
    rows = [
        {"prdtypecode": [10, "40", 10.0, None][number % 4], "productid": 1000 + number, "": number}
        for number in range(16)
    ]
    write_corrections(folder / "Y_train_CVw08PX.csv", rows)
    labels = read_catalog(folder).table["prdtypecode"]
    assert labels.fillna(-1).tolist() == [10, 40, 10, -1] * 4


def test_corrections_with_texts_are_a_catalog_of_their_own(tmp_path):
    rows = [
        {"designation": "=livre", "description": 'a, "b"\nc', "image": "", "prdtypecode": 10},
        {"designation": "-12", "description": "NaN", "image": "", "prdtypecode": 40},
    ]
    path = write_corrections(tmp_path / "corrections.csv", rows)
    table = read_catalog(path).table
    assert table["prdtypecode"].tolist() == [10, 40]
    assert table["designation"].tolist() == ["'=livre", "-12"]
    assert table["description"].tolist() == ['a, "b"\nc', "NaN"]
    write_corrections(path, rows, spreadsheet_safe=False)
    assert read_catalog(path).table["designation"].tolist() == ["=livre", "-12"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "no corrections to write"),
        ([{"index": 1}], "have no prdtypecode; they have: index"),
        ([{"index": 1, "prdtypecode": "book"}], "'book' is no whole number"),
        ([{"index": 1, "prdtypecode": 10.5}], "'10.5' is no whole number"),
        ([{"index": 1, "prdtypecode": 1}, {"prdtypecode": 1}], "Correction 2 has other columns"),
    ],
)
def test_corrections_that_are_none_write_nothing(tmp_path, rows, sentence):
    path = tmp_path / "corrections.csv"
    path.write_text("old")
    with pytest.raises(BatchError, match=sentence):
        write_corrections(path, rows)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_negative_codes_and_indexes_are_never_neutralised(tmp_path):
    path = write_corrections(tmp_path / "c.csv", [{"prdtypecode": -5, "id": -1, "note": "=1"}])
    with path.open() as stream:
        assert list(csv.reader(stream)) == [["index", "prdtypecode", "note"], ["-1", "-5", "'=1"]]
