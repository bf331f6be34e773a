"""How good is a bundle on a catalog? Prints a table, writes metrics.json and three plots.

    python -m training.evaluate --bundle BUNDLE --catalog-dir DIR --output metrics.json
    python -m training.evaluate --bundle BUNDLE --catalog-dir DIR --update-bundle
    python -m training.evaluate --bundle BUNDLE --catalog-dir DIR --compare ANOTHER_BUNDLE

Two cores score one to three hundred products with a picture in a second, and far more without. The products go through
`ProductClassifier`, as in the app. Other runs' figures can be put beside it, in metrics.json and the card: see
training/evaluation/external_results.py.

Text is measured on the rows with a text, image on those with a readable picture, fusion on those with both, and
"served" on every row; those without a prediction count as wrong. Only rows with gold labels, the catalog's own, count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tqdm

from rakuten_models.batch.drift import REFERENCE, ScoredFigures
from rakuten_models.bundle.config import SERVING_MODEL_FILES, TOKENIZER_FILE, BundleConfig
from rakuten_models.classifier import CHUNK, ProductClassifier
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.preprocessing.text import load_tokenizer
from rakuten_models.product import ACCEPT, Category, Prediction, Product
from training.data.files import add_reader_options, reader_settings
from training.errors import EvaluationError
from training.evaluation.comparison import compare_predictions, comparison_text, joined_categories
from training.evaluation.evaluation_split import (
    EvaluationRows,
    EvaluationSplit,
    category_index_of,
    select_rows,
    select_rows_of_both,
)
from training.evaluation.external_results import check_same_rows, read_ablation, read_before, read_split_metrics
from training.evaluation.known_confusions import confusion_groups, known_confusions
from training.evaluation.prediction_cache import predict_in_blocks
from training.evaluation.report import format_table, metrics_json, update_bundle, write_evaluation
from training.metrics import Metrics, compute_metrics, paired_difference, predicted_category_index, weighted_f1


def main(
    arguments: Sequence[str] | None = None, rows: EvaluationRows | None = None, cache_dir: Path | None = None
) -> int:
    """Runs the command; see the module's text.

    Args:
        arguments: Those of the command line if None.
        rows: What `select_rows` would find, where the caller has it already.
        cache_dir: For the predictions, so that a call that was killed resumes; it belongs to these rows.

    Raises:
        RakutenModelsError: With the sentence to show.
    """
    options = _parse(arguments)
    classifier = ProductClassifier.from_pretrained(options.bundle)
    _check_writable(options)
    if options.compare:
        return _compare(options, classifier)
    config, categories = classifier.config, classifier.categories
    catalog, positions, split = rows or select_rows(
        config, options.catalog_dir, options.part, options.limit, reader_settings(options)
    )
    if options.update_bundle and split.trained_on:
        raise EvaluationError("evaluation.trained_on_rows", part=options.part)
    category_index = category_index_of(catalog, positions, categories)
    # Before the long scoring, so that a wrong file is reported at once.
    ablation = read_ablation(options.ablation) if options.ablation else []
    other_splits = read_split_metrics(options.split_metrics)
    before = read_before(options.before) if options.before else None
    show = not options.quiet
    if show:
        print(f"{catalog.summary()}\nscoring {len(positions):,} rows ({split.name})", flush=True)
    every_product = catalog.products()
    products = [every_product[position] for position in positions]
    started = time.perf_counter()
    predictions = score_catalog(classifier, products, progress=show, cache_dir=cache_dir)
    seconds = time.perf_counter() - started
    metrics: Metrics = {}
    metrics |= evaluate_predictions(predictions, category_index, categories, config.thresholds)
    metrics |= {
        "split": split.name,
        "catalog": options.catalog_name or _catalog_name(options.catalog_dir, config, split),
        "rows_in_catalog": len(catalog),
        "rows_without_own_label": int((~catalog.table["gold_label"]).sum()),
        "unreadable_images": len(catalog.unreadable_images) + _unreadable(products, predictions),
        # so that figures are never taken for those of other models
        "models": {name: facts["sha256"] for name, facts in config.files.items() if name in SERVING_MODEL_FILES},
    }
    metrics[REFERENCE] = reference_figures(classifier, products, predictions)
    if ablation:
        metrics["ablation"] = ablation
    if other_splits:
        metrics["other_splits"] = other_splits
    if before:
        check_same_rows(before, metrics["text"]["known_confusions"])
        metrics["before"] = before
    lines = ["", format_table(metrics), "", f"{len(positions):,} rows in {seconds:.0f} s"]
    if options.output:
        write_evaluation(metrics, categories, options.output)
        lines.append(f"written: {options.output} and three plots beside it")
    if options.update_bundle:
        update_bundle(Path(options.bundle), metrics, config)
        lines.append(f"updated: {options.bundle} (figures, card and plots)")
    if show:
        print("\n".join(lines))
    return 0


def score_catalog(
    classifier: ProductClassifier, products: Sequence[Product], progress: bool = False, cache_dir: Path | None = None
) -> list[Prediction]:
    """Classifies products in portions; returns one prediction for each, in the same order.

    Args:
        classifier: A loaded bundle.
        products: Any mix of texts and pictures.
        progress: Whether to show a bar with rate and time left on standard error.
        cache_dir: For the predictions; it belongs to these products. None: none is cached.
    """
    predictions: list[Prediction] = []
    with tqdm.tqdm(total=len(products), unit=" products", disable=not progress) as bar:
        if cache_dir is not None:
            return predict_in_blocks(classifier, products, cache_dir, lambda done: bar.update(done - bar.n))
        for start in range(0, len(products), CHUNK):
            predictions += classifier.predict(products[start : start + CHUNK])
            bar.update(len(predictions) - bar.n)
    return predictions


def reference_figures(
    classifier: ProductClassifier, products: Sequence[Product], predictions: Sequence[Prediction]
) -> Metrics:
    """What `rakuten_models.batch.pipeline --report` compares later catalogs with; see `ScoredFigures.to_json`."""
    figures = ScoredFigures(load_tokenizer(classifier.folder / TOKENIZER_FILE), classifier.config.text)
    for each in predictions:
        code = None if each.category is None else each.category.prdtypecode
        figures.add(code, each.probability, each.decision)
    for start in range(0, len(products), CHUNK):
        figures.add_texts(products[start : start + CHUNK])
    return figures.to_json()


def evaluate_predictions(
    predictions: Sequence[Prediction],
    category_index: np.ndarray,
    categories: Sequence[Category],
    thresholds: Mapping[str, Mapping[str, float | None]],
) -> dict[str, Metrics]:
    """Measures predictions against the truth, for each model on the rows that have what it needs.

    Args:
        predictions: One a row.
        category_index: int (rows,), the true columns.
        categories: In the order of the probability arrays.
        thresholds: The bundle's, by wanted precision.

    Returns:
        {"text", "image", "fusion", "served"}: `compute_metrics`, and "known_confusions". "fusion" also has
        "text_on_same_rows" and "image_on_same_rows", each with weighted_f1 and how far fusion is above it (with its
        95 % interval); "served" also has "decision": the rows the app would accept and how many of them are right.
    """
    category_index = np.asarray(category_index, dtype=np.int64)
    codes = [category.prdtypecode for category in categories]

    def stacked(attribute: str, rows: np.ndarray) -> np.ndarray:
        nothing = np.full(len(codes), np.nan)
        values = [getattr(predictions[row], attribute) for row in rows]
        filled = [nothing if value is None else value for value in values]
        return np.array(filled, dtype=np.float64).reshape(len(rows), len(codes))

    has_text = np.array([item.text_probabilities is not None for item in predictions], dtype=bool)
    has_image = np.array([item.image_probabilities is not None for item in predictions], dtype=bool)
    of_section = {
        "text": ("text_probabilities", np.flatnonzero(has_text)),
        "image": ("image_probabilities", np.flatnonzero(has_image)),
        "fusion": ("probabilities", np.flatnonzero(has_text & has_image)),
        "served": ("probabilities", np.arange(len(predictions))),
    }
    groups = confusion_groups(categories)
    found = {}
    for name, (attribute, rows) in of_section.items():
        probabilities, answered = stacked(attribute, rows), (has_text | has_image)[rows]
        found[name] = compute_metrics(
            probabilities, category_index[rows], codes, thresholds=thresholds, answered=answered
        )
        predicted = predicted_category_index(probabilities, answered)
        found[name]["known_confusions"] = known_confusions(category_index[rows], predicted, codes, groups)
    both = of_section["fusion"][1]
    fusion = predicted_category_index(stacked("probabilities", both))
    for name in ("text", "image"):
        alone = predicted_category_index(stacked(f"{name}_probabilities", both))
        found["fusion"][f"{name}_on_same_rows"] = _compared(category_index[both], fusion, alone, len(codes))
    found["served"]["decision"] = _decided(predictions, category_index)
    return found


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate", description="Measures a bundle on the labelled rows of a catalog."
    )
    parser.add_argument("--bundle", required=True, help="the bundle's folder, or a hub id such as user/name")
    parser.add_argument("--catalog-dir", required=True, help="the catalog: its folder or file")
    add_reader_options(parser)
    parser.add_argument("--output", type=Path, help="JSON file for the figures; the plots go beside it")
    parser.add_argument("--update-bundle", action="store_true", help="put figures, card and plots into it")
    parser.add_argument(
        "--part", choices=("auto", "all", "test", "validation"), default="auto",
        help="rows to judge on; auto: the test part of the catalog it was trained on, all rows of another",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="only N of those rows, for a quick look")
    parser.add_argument("--catalog-name", help="its name in figures and card (default: the folder's name)")
    parser.add_argument(
        "--ablation", type=Path, metavar="FILE", help="JSON list of rows: what each step brought, for the card"
    )
    parser.add_argument(
        "--split-metrics", type=Path, nargs="+", default=[], metavar="FILE",
        help="metrics.json of the same recipe under other splits (--split plain), for the card",
    )  # fmt: skip
    parser.add_argument(
        "--before", type=Path, metavar="FILE",
        help="JSON file of benchmarks.quality: known confusions of a plain method, for the card",
    )  # fmt: skip
    parser.add_argument(
        "--compare", metavar="BUNDLE",
        help="a second bundle, or a hub id: both side by side on the same rows, and the categories that got worse",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        raise EvaluationError("evaluation.limit", limit=options.limit)
    if options.compare and options.update_bundle:
        raise EvaluationError("evaluation.compare_and_update")
    return options


def _compare(options: argparse.Namespace, classifier: ProductClassifier) -> int:
    """The command with --compare."""
    other = ProductClassifier.from_pretrained(options.compare)
    catalog, positions, split = select_rows_of_both(
        classifier.config, other.config, options.catalog_dir, options.part, options.limit, reader_settings(options)
    )
    categories = joined_categories(classifier.categories, other.categories)
    category_index = category_index_of(catalog, positions, categories)
    show = not options.quiet
    if show:
        print(f"{catalog.summary()}\nscoring {len(positions):,} rows twice ({split.name})", flush=True)
    every_product = catalog.products()
    products = [every_product[position] for position in positions]
    found = compare_predictions(
        score_catalog(classifier, products, progress=show),
        score_catalog(other, products, progress=show),
        category_index,
        categories,
    )
    compared: Metrics = {
        "bundle": str(options.bundle),
        "compared_with": str(options.compare),
        "split": split.name,
        "catalog": options.catalog_name or _catalog_name(options.catalog_dir, classifier.config, split),
        **found,
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output, metrics_json(compared))
    if show:
        print("\n" + comparison_text(compared, categories))
        if options.output:
            print(f"written: {options.output}")
    return 0


def _check_writable(options: argparse.Namespace) -> None:
    """Says before the long scoring, not after it, that a result cannot be written."""
    folders = []
    if options.output:
        if options.output.is_dir():
            raise EvaluationError("evaluation.output_is_folder", output=options.output)
        # Missing folders are made when there is something to write.
        ancestors = options.output.absolute().parents
        folders.append(next(folder for folder in ancestors if folder.exists()))
    if options.update_bundle:
        if not Path(options.bundle).is_dir():
            raise EvaluationError("evaluation.bundle_on_hub", bundle=options.bundle)
        folders.append(Path(options.bundle).resolve().parent)
    for folder in folders:
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise EvaluationError("evaluation.not_writable", folder=folder, reason=error.strerror) from error


def _catalog_name(catalog_dir: str | Path, config: BundleConfig, split: EvaluationSplit) -> str:
    """What training called this catalog, else the last two parts of its path."""
    named = config.training.get("data", {}).get("name") if split.own_catalog else None
    return named or "/".join(Path(catalog_dir).resolve().parts[-2:])


def _compared(truth: np.ndarray, fusion: np.ndarray, alone: np.ndarray, categories: int) -> Metrics | None:
    if not len(truth):
        return None
    return {
        "weighted_f1": weighted_f1(truth, alone, categories),
        "accuracy": float(np.mean(truth == alone)),
        **paired_difference(truth, fusion, alone, categories),
    }


def _decided(predictions: Sequence[Prediction], category_index: np.ndarray) -> Metrics:
    accepted = [
        prediction.category is not None and prediction.category.index == truth
        for prediction, truth in zip(predictions, category_index, strict=True)
        if prediction.decision == ACCEPT
    ]
    return {
        "rows": len(accepted),
        "share_accepted": len(accepted) / len(predictions) if predictions else None,
        "precision": float(np.mean(accepted)) if accepted else None,
    }


def _unreadable(products: Sequence[Product], predictions: Sequence[Prediction]) -> int:
    return sum(
        product.image is not None and prediction.image_probabilities is None
        for product, prediction in zip(products, predictions, strict=True)
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
