"""The same bundle and the same product: the same probabilities to 1e-6, wherever and however they are asked for."""

import contextlib
import csv
import itertools
import json
import os
import pickle
import random
import shutil
import subprocess
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from gradio_client import Client, handle_file

from benchmarks.synthetic_data import catalog
from rakuten_models import Product
from rakuten_models.app.examples import EXAMPLES_FOLDER
from tests.support.app_server import REPOSITORY_ROOT, app_environment

TOLERANCE = 1e-6

# What another process does: so many threads for each model, then every product's probabilities.
ANOTHER_PROCESS = """
import json, pickle, sys
import numpy
from rakuten_models import ProductClassifier
from rakuten_models.inference import runtime
runtime.usable_cores = lambda: int(sys.argv[1])
products = pickle.load(sys.stdin.buffer)
predictions = ProductClassifier.from_pretrained().predict(products)
json.dump([prediction.probabilities.tolist() for prediction in predictions], sys.stdout)
"""


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """Texts of any length, with markup and mended encodings; drawn and photographed pictures, as files; and both."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures = sorted(EXAMPLES_FOLDER.glob("*.jpg"))
    for number, product in enumerate(catalog(4, pictures=4)):
        path = folder / f"{number}.jpg"
        path.write_bytes(product.image)
        pictures.append(path)
    written = [
        Product("Piscine tubulaire ronde 3,66 m", "Livr&eacute;e avec pompe.<br>Bâche non comprise."),
        Product("Lot de 2", ""),
        Product("", "Gartenstuhl &amp; Kissen &ndash; klappbar"),
        Product("CafÃ© moulu 250g", "<p>Un   café\u00a0doux</p>"),
        Product("XR-200", "édition " * 400),
        *catalog(24),
    ]
    with_picture = [
        Product(each.designation, each.description, str(picture))
        for each, picture in zip(written, itertools.cycle(pictures), strict=False)
    ]
    return written + with_picture[:16] + [Product(image=str(picture)) for picture in pictures]


@pytest.fixture(scope="module")
def expected(starter, products):
    """float32 (products, categories): each product asked alone."""
    return np.stack([starter.predict(product).probabilities for product in products])


def assert_same(found, expected):
    assert np.abs(np.asarray(found) - expected).max() <= TOLERANCE


def test_batch_sizes_and_orders_change_nothing(starter, products, expected):
    for size in (2, 3, 7, 32, len(products), 257):
        many = (products * (size // len(products) + 1))[:size]
        found = [prediction.probabilities for prediction in starter.predict(many)]
        assert_same(found, np.concatenate([expected] * (size // len(products) + 1))[:size])
    for seed in range(5):
        order = list(range(len(products)))
        random.Random(seed).shuffle(order)
        found = [each.probabilities for each in starter.predict([products[row] for row in order])]
        assert_same(found, expected[order])


def test_calls_before_change_nothing(starter, products, expected):
    """A model that was resized for a long text answers a short one as before."""
    starter.predict([Product("x" * 5000, "mot " * 5000)] * 40)
    starter.explain(products[-20])
    assert_same([starter.predict(product).probabilities for product in products], expected)


def asked_in_another_process(products, threads, before=""):
    done = subprocess.run(
        [sys.executable, "-c", before + ANOTHER_PROCESS, str(threads)],
        input=pickle.dumps(products),
        capture_output=True,
        cwd=REPOSITORY_ROOT,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_processes_and_threads_change_nothing(products, expected, threads):
    assert_same(asked_in_another_process(products, threads), expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_a_process_on_one_core_answers_alike(products, expected):
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert_same(asked_in_another_process(products, 2, one_core), expected)


def test_page_and_command_answer_as_the_package(starter, products, expected, serve_app):
    chosen = [0, 1, 2, 3, 4, 12, len(products) - 20, len(products) - 12, len(products) - 1]
    codes = [category.prdtypecode for category in starter.categories]

    def in_order(answer):
        by_code = {each["prdtypecode"]: each["probability"] for each in answer["probabilities"]}
        return [by_code[code] for code in codes]

    with contextlib.closing(Client(serve_app(), verbose=False)) as client:
        for row in chosen:
            product = products[row]
            picture = handle_file(product.image) if product.image else None
            answer = client.predict(product.designation, product.description, picture, api_name="/classify")
            assert_same(in_order(answer), expected[row])
    for row in chosen[-3:]:
        product = products[row]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "rakuten_models.classify", "--json"),
                *("--designation", product.designation, "--description", product.description),
                *(("--image", product.image) if product.image else ()),
            ],
            cwd=REPOSITORY_ROOT,
            env=app_environment(),
            capture_output=True,
            check=True,
        )
        assert_same(in_order(json.loads(done.stdout)), expected[row])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_batch_answers_as_the_package(starter, products, expected, tmp_path, kind):
    """Every row, several times, so that it stands in chunks of other sizes and neighbours."""
    rows = [*products, *reversed(products), *products[::2]]
    order = [*range(len(products)), *reversed(range(len(products))), *range(0, len(products), 2)]
    table = pyarrow.table(
        {
            "designation": [each.designation for each in rows],
            "description": [each.description for each in rows],
            "image": [os.path.basename(each.image) if each.image else "" for each in rows],
        }
    )
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for each in products:
        if each.image:
            shutil.copy(each.image, pictures)
    source, output = tmp_path / f"catalog.{kind}", tmp_path / ("out.csv" if kind == "csv" else "out")
    if kind == "csv":
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    else:
        pyarrow.parquet.write_table(table, source)
    subprocess.run(
        [
            *(sys.executable, "-m", "rakuten_models.batch", str(source), str(output), "--quiet"),
            *("--images", str(pictures), "--top", str(len(starter.categories))),
        ],
        cwd=REPOSITORY_ROOT,
        env=app_environment(),
        capture_output=True,
        check=True,
    )
    if kind == "csv":
        with output.open(encoding="utf-8", newline="") as file:
            scored = list(csv.DictReader(file))
    else:
        scored = pyarrow.parquet.read_table(output).to_pylist()
    places = {category.prdtypecode: category.index for category in starter.categories}
    found = np.full((len(rows), len(places)), np.nan)
    for number, row in enumerate(scored):
        for rank in range(1, len(places) + 1):
            code = int(row[f"predicted_top_{rank}_prdtypecode"])
            found[number, places[code]] = float(row[f"predicted_top_{rank}_probability"])
    assert len(scored) == len(rows)
    assert_same(found, expected[order])
