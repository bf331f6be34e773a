"""The split: near-duplicates stay together, parts are stratified, only gold labels are evaluated."""

import html
import itertools

import numpy as np
import pandas
import pytest
from PIL import Image

from rakuten_models.errors import CatalogError
from tests.support.tiny_catalog import draw_picture, write_tiny_catalog
from training.data.catalog import read_catalog
from training.data.near_duplicates import (
    MAX_PICTURE_GROUP,
    comparison_key,
    group_numbers,
    perceptual_hashes,
    picture_links,
    text_links,
)
from training.data.split import split_catalog
from training.settings import SplitSettings

SETTINGS = SplitSettings(minimum_pairs=0)


def groups_of(links, count):
    return group_numbers(links, count).tolist()


def write_planted_catalog(folder):
    """A tiny catalog that lists 60 products a second time, ten in each of six ways, and the pairs of rows."""
    file = write_tiny_catalog(folder, categories=9, rows_per_category=24, layout="csv")
    table = pandas.read_csv(file, dtype=str, na_filter=False)
    full = table.index[(table["designation"] != "") & (table["description"] != "") & (table["image"] != "")]
    pairs, copies = [], []
    for number, row in enumerate(full[:60]):
        copy = table.loc[row].copy()
        copy["label_origin"] = "silver" if number % 4 == 3 else "gold"
        way = number % 6
        if way == 0:
            copy["designation"] = copy["designation"].upper()
            copy["image"] = ""
        elif way == 1:
            copy["designation"] = f"<b>{html.escape(html.escape(copy['designation']))}</b>!"
            copy["image"] = ""
        elif way == 2:
            copy["description"] = copy["description"].replace(" ", " - ").replace("é", "&eacute;")
            copy["image"] = ""
        elif way == 3:
            joined = f"{copy['designation']} {copy['description']}"
            copy["designation"], copy["description"], copy["image"] = joined[:100], "", ""
        else:
            copy["designation"], copy["description"] = "", ""
            with Image.open(file.parent / copy["image"]) as picture:
                size = (picture.width * 2, picture.height * 2) if way == 4 else picture.size
                copy["image"] = f"pictures/copy_{number}.jpg"
                picture.resize(size).save(file.parent / copy["image"], quality=40)
        pairs.append((int(row), len(table) + len(copies)))
        copies.append(copy)
    pandas.concat([table, pandas.DataFrame(copies)], ignore_index=True).to_csv(file, index=False)
    return read_catalog(file), pairs


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return write_planted_catalog(tmp_path_factory.mktemp("planted"))


def parts_of(split, count):
    part = np.full(count, -1)
    for number, rows in enumerate((split.train, split.validation, split.test)):
        part[rows] = number
    return part


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_planted_duplicate_crosses(planted, seed):
    catalog, pairs = planted
    split = split_catalog(catalog, SplitSettings(seed=seed, minimum_pairs=20))
    assert all(split.groups[left] == split.groups[right] for left, right in pairs)
    part = parts_of(split, len(catalog))
    for left, right in pairs:
        assert part[left] == part[right] or -1 in (part[left], part[right])
    crossing = parts_of(split_catalog(catalog, SplitSettings(kind="plain", seed=seed)), len(catalog))
    assert sum(crossing[left] != crossing[right] for left, right in pairs) > 5, "the plain split should leak"


def test_nothing_similar_crosses_by_brute_force(planted):
    catalog, _ = planted
    part = parts_of(split_catalog(catalog, SplitSettings(minimum_pairs=30)), len(catalog))
    table = catalog.table
    shingles = []
    for designation, description in zip(table["designation"], table["description"], strict=True):
        key = comparison_key(f"{designation} {description}")
        shingles.append({key[start : start + 5] for start in range(len(key) - 4)} if len(key) >= 30 else set())
    greys = {
        row: np.asarray(Image.open(path).convert("L").resize((24, 24)), dtype=float)
        for row, path in enumerate(table["image"])
        if path
    }
    checked = 0
    for left, right in itertools.combinations(np.flatnonzero(part >= 0).tolist(), 2):
        if part[left] == part[right]:
            continue
        if shingles[left] and shingles[right]:
            overlap = len(shingles[left] & shingles[right]) / len(shingles[left] | shingles[right])
            assert overlap < 0.85, (table["designation"].iloc[left], table["designation"].iloc[right])
            checked += 1
        if left in greys and right in greys:
            assert np.abs(greys[left] - greys[right]).mean() > 4
    assert checked > 1000


def test_unplanted_products_stay_apart(tmp_path):
    catalog = read_catalog(write_tiny_catalog(tmp_path))
    assert np.bincount(split_catalog(catalog, SETTINGS).groups).max() == 1


def test_parts_are_disjoint_stratified_and_only_gold_labels_are_evaluated(planted):
    catalog, _ = planted
    split = split_catalog(catalog, SplitSettings(validation_fraction=0.2, test_fraction=0.2, minimum_pairs=0))
    parts = (split.train, split.validation, split.test, split.dropped, split.unused)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(catalog)))
    own, codes = catalog.table["gold_label"].to_numpy(), catalog.table["prdtypecode"].to_numpy(dtype=int)
    assert own[split.validation].all() and own[split.test].all()
    assert (~own[split.train]).any() and not own[split.dropped].any()
    evaluated = set(split.groups[np.concatenate([split.validation, split.test])].tolist())
    assert evaluated.isdisjoint(split.groups[split.train].tolist())
    assert len(split.dropped) and set(split.groups[split.dropped].tolist()) <= evaluated
    for code in set(codes.tolist()):
        rows = (own & (codes == code)).sum()
        for part in (split.validation, split.test):
            assert abs((codes[part] == code).sum() - 0.2 * rows) <= 2
    both = catalog.has_text & catalog.has_image
    for part in (split.validation, split.test):
        assert abs(both[part].sum() - 0.2 * (own & both).sum()) <= 8
        assert (~both[part]).any()


def test_the_seed_decides(planted):
    catalog, _ = planted
    first, again = (split_catalog(catalog, SplitSettings(seed=5)) for _ in range(2))
    other = split_catalog(catalog, SplitSettings(seed=6))
    assert first.train.tolist() == again.train.tolist() and first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()
    assert first.groups.tolist() == other.groups.tolist()


def test_every_category_of_three_products_is_validated(tmp_path):
    rows = [f"{word} {letter * 9},{code}" for code, word in ((1, "Pelle"), (2, "Seau")) for letter in "abc"]
    rows += [f"Vase {number:03d}{number * 7919 % 997:03d},3" for number in range(60)]
    (tmp_path / "shop.csv").write_text("designation,prdtypecode\n" + "\n".join(rows) + "\n")
    catalog = read_catalog(tmp_path)
    for seed in range(5):
        split = split_catalog(catalog, SplitSettings(seed=seed))
        assert set(catalog.table["prdtypecode"].iloc[split.validation]) == {1, 2, 3}
        assert set(catalog.table["prdtypecode"].iloc[split.train]) == {1, 2, 3}


def test_validation_takes_pairs_beyond_its_share_but_leaves_half_of_each_category(tmp_path):
    catalog = read_catalog(write_tiny_catalog(tmp_path, categories=6, rows_per_category=32))
    pairs = (catalog.has_text & catalog.has_image & catalog.table["gold_label"].to_numpy()).sum()
    small, some, all_of_them = (
        split_catalog(catalog, SplitSettings(minimum_pairs=number)).validation_pairs for number in (0, 40, 300)
    )
    assert small < 20 and some == 40 and 40 < all_of_them < pairs
    split = split_catalog(catalog, SplitSettings(minimum_pairs=300))
    assert catalog.table["prdtypecode"].iloc[split.train].value_counts().min() >= 16


def test_rows_without_label_or_content_are_unused(tmp_path):
    lines = [f"Objet {number * 7919 % 997} {'xyz'[number % 3] * 4},,{number % 2}" for number in range(40)]
    lines += [",<br>,1", "Objet sans code,,"]
    (tmp_path / "shop.csv").write_text("designation,description,prdtypecode\n" + "\n".join(lines) + "\n")
    split = split_catalog(read_catalog(tmp_path), SETTINGS)
    assert split.unused.tolist() == [40, 41]
    assert "2 rows without a label or with nothing to classify" in split.summary()


def test_the_summary_and_json_say_what_was_used(planted):
    catalog, _ = planted
    split = split_catalog(catalog, SplitSettings(seed=4))
    assert "grouped split, seed 4" in split.summary() and "groups of near-duplicates hold" in split.summary()
    facts = split.to_json()
    assert facts["kind"] == "grouped" and facts["train"] == len(split.train) and facts["near_duplicate_groups"] >= 60
    plain = split_catalog(catalog, SplitSettings(kind="plain"))
    assert "plain split" in plain.summary() and plain.to_json()["near_duplicate_groups"] == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "random"}, "the split 'random' is unknown; expected one of: grouped, plain"),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "cannot take the fractions 0.6 and 0.5"),
        ({"validation_fraction": 0, "test_fraction": 0}, "cannot take the fractions 0 and 0"),
        ({"test_fraction": -0.1}, "cannot take the fractions 0.1 and -0.1"),
    ],
)
def test_bad_settings_get_a_sentence(settings, sentence):
    with pytest.raises(CatalogError) as error:
        SplitSettings(**settings)
    assert sentence in str(error.value)


def test_a_catalog_that_cannot_be_split_gets_a_sentence(tmp_path):
    # The only row of category 2 has neither text nor picture.
    rows = [f"Vase {number * 7919 % 997} {'mno'[number % 3] * 5},1,gold" for number in range(9)]
    (tmp_path / "a.csv").write_text("designation,prdtypecode,origin\n" + "\n".join(rows) + "\n,2,gold\n")
    with pytest.raises(CatalogError, match=r"no row to train on is left for the categories 2; add products to them"):
        split_catalog(read_catalog(tmp_path / "a.csv"), SETTINGS)
    rows = [row.replace("gold", "silver").replace(",1,", f",{number % 2},") for number, row in enumerate(rows)]
    (tmp_path / "b.csv").write_text("designation,prdtypecode,origin\n" + "\n".join(rows) + "\n")
    with pytest.raises(CatalogError, match=r"no row is left for validation; .* \(it has 0\)"):
        split_catalog(read_catalog(tmp_path / "b.csv"), SETTINGS)


def test_text_links_see_through_case_markup_cuts_and_short_words():
    text = "Tente de jardin pliante 3 x 4 m avec quatre parois blanches et sacs de lestage, résistante "
    text += "à la pluie et au vent"
    variants = [
        text.upper(),
        text.replace("é", "&amp;eacute;"),
        text[:100],
        text.replace(" de ", " "),
        f"<p>{text}</p>",
    ]
    others = ["Tente de camping pour deux personnes, montage rapide, verte, avec tapis de sol", "", "   ", "Tente"]
    groups = groups_of(text_links([text, *variants, *others]), 10)
    assert len(set(groups[:6])) == 1 and len(set(groups)) == 5


def test_text_links_take_odd_texts():
    assert text_links([]).shape == (0, 2)
    assert text_links(["", " ", "<br>"]).shape == (0, 2)
    long = "mot nouveau " * 90_000  # a text of 1 MB
    assert groups_of(text_links(["a", "A", "ありがとう", "№ ½", long, long.upper()]), 6) == [0, 0, 1, 2, 3, 3]


def test_picture_links_ignore_flat_and_unreadable_pictures(tmp_path):
    for number in range(3):
        Image.new("RGB", (60, 60), "white").save(tmp_path / f"blank_{number}.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    picture = draw_picture(2, np.random.default_rng(1))
    picture.save(tmp_path / "a.jpg")
    picture.convert("L").resize((200, 200)).save(tmp_path / "b.png")
    names = ["blank_0.jpg", "blank_1.jpg", "broken.jpg", "broken.jpg", "", "a.jpg", "blank_2.jpg", "b.png"]
    links = picture_links([str(tmp_path / name) if name else "" for name in names])
    assert links.tolist() in ([[5, 7]], [[7, 5]])
    assert picture_links(["", ""]).shape == (0, 2)


def test_a_placeholder_picture_does_not_glue_the_catalog_together(tmp_path):
    draw_picture(3, np.random.default_rng(1)).save(tmp_path / "placeholder.png")
    path = str(tmp_path / "placeholder.png")
    assert len(set(groups_of(picture_links([path] * MAX_PICTURE_GROUP), MAX_PICTURE_GROUP))) == 1
    assert len(picture_links([path] * (MAX_PICTURE_GROUP + 1))) == 0


def test_perceptual_hashes_agree_on_copies_and_differ_on_others():
    generator = np.random.default_rng(0)
    pictures = [draw_picture(number % 27, generator).convert("L") for number in range(60)]
    small = np.stack([np.asarray(picture.resize((32, 32), Image.Resampling.BOX)) for picture in pictures])
    large = np.stack([np.asarray(p.resize((190, 190)).resize((32, 32), Image.Resampling.BOX)) for p in pictures])
    first, second = perceptual_hashes(small), perceptual_hashes(large)
    assert np.bitwise_count(first ^ second).max() <= 4
    distances = np.bitwise_count(first[:, None] ^ first[None, :])[~np.eye(60, dtype=bool)]
    assert distances.min() > 4 and 20 < distances.mean() < 40


def test_a_text_cut_within_an_entity_is_still_linked_to_its_full_text():
    full = "Tonnelle pliante blanche avec parois, sacs de lestage, toile imperm&eacute;able. "
    full += "Montage rapide par deux personnes, pieds réglables sur trois hauteurs, garantie deux ans. " * 5
    cut = full[: full.index("&eacute;") + 4]  # ends in "&eac"
    assert groups_of(text_links([full, cut, "Tonnelle pliante"]), 3) == [0, 0, 1]
