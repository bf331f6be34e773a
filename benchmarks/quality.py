"""How good the text answers are, beside other text methods fitted and scored on the same rows in one run.

    python -m benchmarks.quality --train CATALOG --test CATALOG --bundle FOLDER

The bundle must have been trained on the same training catalog. Prints one table in Markdown: weighted F1, macro F1,
the lowest category of at least 30 rows, ECE over 15 bins of equal mass, share accepted at 95 % precision as measured
on these rows, seconds to fit, products a second, and the bundle's lead in weighted F1 with its 95 % interval (paired
bootstrap, 2,000 draws).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy

from benchmarks.text_peers import PEERS, cleaned
from rakuten_models import ProductClassifier
from rakuten_models.command_line import run_command
from rakuten_models.product import Product
from training.catalog import Catalog, category_list, read_catalog
from training.measures import measure, paired_difference

OTHER_LABEL_WEIGHT = 0.8
OURS = "this bundle's text model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 0 when the table was printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, help="the catalog that the bundle was trained on")
    parser.add_argument("--test", required=True, help="the catalog to score, with labels")
    parser.add_argument("--bundle", help="a bundle's folder; the starter bundle by default")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    train = read_catalog(options.train, check_images=False)
    test = read_catalog(options.test, check_images=False)
    codes = [category.prdtypecode for category in category_list(train)]
    train_rows, train_truth = _labelled_texts(train, codes)
    test_rows, truth = _labelled_texts(test, codes)
    weights = numpy.where(train.table["own_label"].to_numpy(bool)[train_rows], 1.0, OTHER_LABEL_WEIGHT)
    # Texts alone: what the bundle says of a product's text is its text model's answer.
    train_products = _texts_only(train, train_rows)
    test_products = _texts_only(test, test_rows)

    answers: dict[str, tuple[numpy.ndarray, float | None, float]] = {}
    texts = cleaned(train_products)
    for name, fit in PEERS.items():
        started = time.perf_counter()
        ask = fit(texts, train_truth, weights, options.seed)
        fitted = time.perf_counter() - started
        started = time.perf_counter()
        logarithms = ask(cleaned(test_products))
        rate = len(test_products) / (time.perf_counter() - started)
        answers[name] = (numpy.exp(logarithms), fitted, rate)
        print(f"{name}: fitted in {fitted:.0f} s", file=sys.stderr)
    classifier = ProductClassifier.from_pretrained(options.bundle)
    started = time.perf_counter()
    predictions = classifier.predict(test_products)
    rate = len(test_products) / (time.perf_counter() - started)
    facts = classifier.config.training["text"]
    ours = numpy.stack([prediction.probabilities for prediction in predictions])
    answers[OURS] = (ours, facts.get("seconds"), rate)
    _print_table(answers, truth, codes, ours.argmax(axis=1))
    return 0


def _labelled_texts(catalog: Catalog, codes: Sequence[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Rows with a text and a known category, and their output columns."""
    found = catalog.table["prdtypecode"].fillna(-1).to_numpy(dtype=numpy.int64)
    rows = numpy.flatnonzero(catalog.has_text & numpy.isin(found, codes))
    return rows, numpy.searchsorted(codes, found[rows])


def _texts_only(catalog: Catalog, rows: numpy.ndarray) -> list[Product]:
    products = catalog.products()
    return [Product(products[row].designation, products[row].description) for row in rows]


def _print_table(
    answers: dict[str, tuple[numpy.ndarray, float | None, float]],
    truth: numpy.ndarray,
    codes: Sequence[int],
    ours: numpy.ndarray,
) -> None:
    print(f"{len(truth):,} rows\n")
    columns = ("method", "weighted F1", "macro F1", "lowest category", "ECE (calibrated: 95 % below)")
    columns += ("accepted at 95 %", "fit s", "products/s", "our lead")
    print(f"| {' | '.join(columns)} |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, (probabilities, seconds, rate) in answers.items():
        values = measure(probabilities, truth, codes)
        predicted = probabilities.argmax(axis=1)
        lead = ""
        if name != OURS:
            gap = paired_difference(truth, ours, predicted, len(codes), draws=2000)
            lead = f"{gap['difference']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        surest_first = numpy.argsort(-probabilities.max(axis=1), kind="stable")
        right = (predicted == truth)[surest_first]
        precise = numpy.flatnonzero(numpy.cumsum(right) / numpy.arange(1, len(right) + 1) >= 0.95)
        accepted = (int(precise[-1]) + 1) / len(right) if len(precise) else 0.0
        print(
            f"| {name} | {values['weighted_f1']:.4f} | {values['macro_f1']:.4f} | "
            f"{values['lowest_category_30_rows']}: {values['lowest_category_f1_30_rows']:.2f} | "
            f"{values['ece']:.3f} ({values['ece_calibrated']['high']:.3f}) | {accepted:.1%} | "
            f"{'' if seconds is None else f'{seconds:.0f}'} | {rate:,.0f} | {lead} |"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
