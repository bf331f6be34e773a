"""Reading a catalog: every layout, rows that lack something, and the sentence behind every error."""

import numpy as np
import pandas
import pytest
from PIL import Image

from rakuten_models.errors import CatalogError, RakutenModelsError
from tests.support.tiny_catalog import CATEGORY_WORDS, ROW_KINDS, write_tiny_catalog
from training.data.catalog import NAMES_FILE, category_list, read_catalog


def write_csv(folder, text, name="shop.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_challenge(folder, products, labels=None, origins=None):
    folder.mkdir(exist_ok=True)
    write_csv(folder, products, "X_train_update.csv")
    if labels is not None:
        write_csv(folder, labels, "Y_train_CVw08PX.csv")
    if origins is not None:
        write_csv(folder, origins, "origin.csv")
    return folder


THREE_PRODUCTS = ",designation,description,productid,imageid\n7,Pelle,,1,11\n8,NaN,None,2,12\n9,Seau,Rouge,3,13\n"

THREE_LABELS = ",prdtypecode\n9,50\n7,10\n8,40\n"


@pytest.mark.parametrize("layout", ["challenge", "csv", "parquet"])
def test_every_layout_reads_the_same_products(tmp_path, layout):
    catalog = read_catalog(write_tiny_catalog(tmp_path, categories=5, layout=layout))
    kinds = [ROW_KINDS[row // 5] for row in range(40)]
    assert len(catalog) == 40
    assert list(catalog.table.columns) == ["designation", "description", "image", "prdtypecode", "gold_label", "origin"]
    assert catalog.table["prdtypecode"].dtype == "Int64"
    assert catalog.has_text.tolist() == [kind != "image_only" for kind in kinds]
    assert catalog.has_image.tolist() == [kind != "no_image" for kind in kinds]
    assert catalog.table["gold_label"].tolist() == [kind != "silver" for kind in kinds]
    assert (catalog.table["designation"] == "").tolist() == [kind in ("image_only", "no_designation") for kind in kinds]
    product = catalog.products()[0]
    assert isinstance(product.designation, str) and Image.open(product.image).size[0] == 96
    assert catalog.products()[kinds.index("no_image")].image is None
    summary = catalog.summary()
    assert "40 rows" in summary and "5 silver" in summary and "5 categories" in summary


def test_layouts_share_texts_and_codes(tmp_path):
    tables = [
        read_catalog(write_tiny_catalog(tmp_path / layout, categories=4, layout=layout)).table
        for layout in ("challenge", "csv", "parquet")
    ]
    for other in tables[1:]:
        for column in ("designation", "description", "prdtypecode", "gold_label"):
            assert other[column].tolist() == tables[0][column].tolist()


def test_a_folder_with_one_file_is_that_file(tmp_path):
    file = write_tiny_catalog(tmp_path, categories=3, layout="csv")
    assert read_catalog(tmp_path).fingerprint() == read_catalog(file).fingerprint()


def test_labels_and_origins_are_matched_by_index_and_words_like_nan_stay(tmp_path):
    folder = write_challenge(tmp_path, THREE_PRODUCTS, THREE_LABELS, "id,origin\n8,silver\n9,gold-full\n7,model-3\n")
    table = read_catalog(folder).table
    assert table.index.tolist() == [7, 8, 9]
    assert table["prdtypecode"].tolist() == [10, 40, 50]
    assert table["designation"].tolist() == ["Pelle", "NaN", "Seau"]
    assert table["description"].tolist() == ["", "None", "Rouge"]
    assert table["gold_label"].tolist() == [False, False, True]


def test_without_labels_every_row_is_unlabelled(tmp_path):
    catalog = read_catalog(write_tiny_catalog(tmp_path, categories=3, labels=False))
    assert catalog.table["prdtypecode"].isna().all() and not catalog.table["gold_label"].any()
    assert "without a label 24" in catalog.summary()
    with pytest.raises(CatalogError, match="has no labels; put Y_train_CVw08PX.csv beside X_train_update.csv"):
        category_list(catalog)


def test_the_challenge_s_test_part_lies_in_the_same_folder(tmp_path):
    folder = write_challenge(tmp_path, THREE_PRODUCTS, THREE_LABELS)
    write_csv(folder, THREE_PRODUCTS.replace("Pelle", "Table"), "X_test_update.csv")
    (folder / "images/image_test").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "images/image_test/image_11_product_1.jpg")
    assert read_catalog(folder).table["designation"].iloc[0] == "Pelle"
    test = read_catalog(folder / "X_test_update.csv")
    assert test.table["designation"].iloc[0] == "Table" and test.table["prdtypecode"].isna().all()
    assert test.has_image.tolist() == [True, False, False]


def test_only_a_designation_or_only_a_picture_is_enough(tmp_path):
    catalog = read_catalog(write_csv(tmp_path, "designation\nPelle\n\n"))  # the last line is a blank one
    assert catalog.table["designation"].tolist() == ["Pelle"]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    catalog = read_catalog(write_csv(tmp_path, f"image,prdtypecode\na.png,1\n{tmp_path / 'a.png'},2.0\n"))
    assert catalog.has_image.all() and not catalog.has_text.any()
    assert catalog.table["prdtypecode"].tolist() == [1, 2]


def test_a_text_of_markup_alone_is_no_text(tmp_path):
    rows = ["<p>&nbsp;</p>", "<p>Seau</p>", "<style>p {color: red}</style>", "&eacute;t&eacute;", "…", "7"]
    catalog = read_catalog(write_csv(tmp_path, "designation\n" + "\n".join(rows) + "\n"))
    assert catalog.has_text.tolist() == [False, True, False, True, False, True]


def test_parquet_gaps_are_empty_texts(tmp_path):
    pandas.DataFrame(
        {"designation": ["a", None, np.nan], "description": [None, "b", None], "prdtypecode": [1.0, 2.0, np.nan]}
    ).to_parquet(tmp_path / "shop.parquet")
    table = read_catalog(tmp_path).table
    assert table["designation"].tolist() == ["a", "", ""] and table["description"].tolist() == ["", "b", ""]
    assert table["prdtypecode"].tolist()[:2] == [1, 2] and table["gold_label"].tolist() == [True, True, False]


def test_unreadable_pictures_are_counted_and_their_rows_kept(tmp_path):
    folder = write_tiny_catalog(tmp_path, categories=3, unreadable_image=True)
    pictures = sorted((folder / "images/image_train").iterdir())
    pictures[1].write_bytes(b"")
    catalog = read_catalog(folder)
    assert len(catalog) == 24
    assert sorted(catalog.unreadable_images) == [str(path) for path in pictures[:2]]
    assert not catalog.has_image[:2].any()
    assert f"unreadable pictures 2, their rows count as without one: {pictures[0].name}" in catalog.summary()
    assert read_catalog(folder, check_images=False).has_image[:2].all()


def test_a_picture_that_is_missing_or_too_large_or_of_another_kind_is_unreadable(tmp_path):
    Image.new("1", (10_000, 5_001)).save(tmp_path / "huge.png")
    # Pillow opens it, serving does not read it.
    Image.new("RGB", (32, 32)).save(tmp_path / "icon.jpg", "ICO")
    catalog = read_catalog(write_csv(tmp_path, "designation,image\na,gone.jpg\nb,huge.png\nc,icon.jpg\n"))
    assert len(catalog.unreadable_images) == 3 and not catalog.has_image.any()


def test_limit_keeps_every_category_and_is_repeatable(tmp_path):
    folder = write_tiny_catalog(tmp_path, categories=5)
    catalog = read_catalog(folder, limit=20, seed=3)
    assert len(catalog) == 20 and catalog.rows_in_file == 40 and "a subset of 40" in catalog.summary()
    assert catalog.table["prdtypecode"].value_counts().min() >= 3
    assert catalog.table.index.is_monotonic_increasing
    assert catalog.fingerprint() == read_catalog(folder, limit=20, seed=3).fingerprint()
    assert catalog.fingerprint() != read_catalog(folder, limit=20, seed=4).fingerprint()
    assert len(read_catalog(folder, limit=1000)) == 40


def test_the_fingerprint_moves_with_the_folder_and_sees_every_change(tmp_path):
    first = read_catalog(write_tiny_catalog(tmp_path / "a", categories=3)).fingerprint()
    assert first == read_catalog(write_tiny_catalog(tmp_path / "b", categories=3)).fingerprint()
    labels = tmp_path / "b" / "Y_train_CVw08PX.csv"
    labels.write_text(labels.read_text().replace("0,10\n", "0,40\n", 1))
    assert first != read_catalog(tmp_path / "b").fingerprint()


def test_categories_come_from_the_catalog_and_names_from_the_file(tmp_path):
    categories = category_list(read_catalog(write_csv(tmp_path, "designation,prdtypecode\na,2583\nb,7\nc,10\n")))
    assert [category.prdtypecode for category in categories] == [7, 10, 2583]
    assert [category.index for category in categories] == [0, 1, 2]
    assert categories[0].name() == categories[0].name("fr") == "7"
    assert categories[2].name("en") == "Swimming pools and spas" and categories[2].name("fr") == "Piscines et spas"


def test_all_27_codes_have_two_names_of_their_own():
    names = pandas.read_csv(NAMES_FILE)
    assert names["prdtypecode"].tolist() == sorted(CATEGORY_WORDS) and len(names) == 27
    assert not names.isna().any().any() and names["en"].is_unique and names["fr"].is_unique
    assert names[["en", "fr"]].map(len).to_numpy().max() <= 45


GOOD = "designation,prdtypecode\na,1\nb,2\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; expected a header line and one line a product"),
        ("designation,prdtypecode\n", "holds no rows; a catalog needs at least one product"),
        ("titel;code\na;1\n", "No column holds a designation, a description or a picture"),
        ("designation,prdtypecode\na,1\nb,pool\n", "shop.csv, row 1: the prdtypecode 'pool' is not an integer"),
        ("designation,prdtypecode\na,1\nb,1.5\n", "row 1: the prdtypecode '1.5' is not an integer"),
        ("designation,prdtypecode\na,1\nb,1\n", "every label is category 1; a catalog needs at least two"),
        ("id,designation\n4,a\n4,b\n", "has the index 4 twice; every product needs an index of its own"),
        ("designation,prdtypecode\na,1,3\nb,2,3\n", "holds no rows that can be read: Line 2 has 3 fields"),
        ("designation\nété\n".encode("latin-1"), "holds no rows that can be read: Line 2 holds the byte 0xE9"),
    ],
)
def test_a_bad_csv_file_gets_a_sentence(tmp_path, text, sentence):
    with pytest.raises(CatalogError) as error:
        read_catalog(write_csv(tmp_path, text))
    message = str(error.value)
    assert sentence in message and "\n" not in message
    assert "shop.csv" in message or error.value.code == "catalog.no_product_column"
    assert isinstance(error.value, RakutenModelsError)


@pytest.mark.parametrize(
    ("products", "labels", "origins", "sentence"),
    [
        (
            THREE_PRODUCTS,
            ",prdtypecode\n7,10\n8,40\n",
            None,
            "Y_train_CVw08PX.csv has 2 rows but X_train_update.csv has 3; they must describe",
        ),
        (
            THREE_PRODUCTS,
            THREE_LABELS.replace("8,", "5,"),
            None,
            "Y_train_CVw08PX.csv has the index 5, which X_train_update.csv does not have",
        ),
        (THREE_PRODUCTS, THREE_LABELS.replace("8,", "7,"), None, "Y_train_CVw08PX.csv has the index 7 twice"),
        (THREE_PRODUCTS.replace("8,N", "7,N"), None, None, "X_train_update.csv has the index 7 twice"),
        (
            THREE_PRODUCTS,
            ",category\n7,1\n8,2\n9,3\n",
            None,
            "has no column prdtypecode; beside the index it has: category",
        ),
        (
            THREE_PRODUCTS.replace(",productid,imageid", ",product,picture"),
            None,
            None,
            "has no column productid and no column imageid; beside the index it has: designation,",
        ),
        (
            THREE_PRODUCTS,
            "prdtypecode\n1\n2\n3\n",
            None,
            "the first column's header must be empty, index or id, but it is 'prdtypecode'",
        ),
        (THREE_PRODUCTS, THREE_LABELS, "index,origin\n7,gold\n", "origin.csv has 1 rows but"),
        (THREE_PRODUCTS, THREE_LABELS, "index,who\n7,a\n8,b\n9,c\n", "origin.csv has no column origin"),
        (THREE_PRODUCTS, THREE_LABELS.replace("40", "x4"), None, "row 8: the prdtypecode 'x4' is not an integer"),
    ],
)
def test_a_bad_challenge_folder_gets_a_sentence(tmp_path, products, labels, origins, sentence):
    with pytest.raises(CatalogError) as error:
        read_catalog(write_challenge(tmp_path, products, labels, origins))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_place_gets_a_sentence(tmp_path):
    with pytest.raises(CatalogError, match="nowhere does not exist; expected a .csv, .jsonl or .parquet file"):
        read_catalog(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="holds no catalog; expected a .csv, .jsonl or .parquet file"):
        read_catalog(tmp_path)
    with pytest.raises(CatalogError, match="a.txt is no catalog; expected a .csv, .jsonl or .parquet file"):
        read_catalog(write_csv(tmp_path, GOOD, "a.txt"))
    write_csv(tmp_path, GOOD, "a.csv")
    write_csv(tmp_path, GOOD.replace("designation", "title"), "b.csv")
    with pytest.raises(CatalogError, match="b.csv has other columns than a.csv"):
        read_catalog(tmp_path)
    with pytest.raises(CatalogError, match="cannot be limited to 0 rows; expected at least 1"):
        read_catalog(tmp_path / "a.csv", limit=0)


def test_a_bad_parquet_file_gets_a_sentence(tmp_path):
    with pytest.raises(CatalogError, match="shop.parquet is no readable Parquet file"):
        read_catalog(write_csv(tmp_path, "no parquet at all", "shop.parquet"))
    pandas.DataFrame({"image": [{"bytes": b"1"}]}).to_parquet(tmp_path / "shop.parquet")
    with pytest.raises(CatalogError, match="the column image holds dict values; expected text"):
        read_catalog(tmp_path)
