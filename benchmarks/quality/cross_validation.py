"""A catalog's texts, dealt to folds, and what a method says of each fold when it has been fitted on the others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import joblib
import numpy as np

from benchmarks.quality.baseline import ScoredBaseline, TrainingRows
from rakuten_models.inference.runtime import usable_cores
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Product
from training.data.catalog import Catalog, category_list, read_catalog, read_texts
from training.data.split import split_catalog
from training.evaluation.evaluation_split import category_index_of
from training.settings import SplitSettings, TextTrainingSettings
from training.text.cross_fitting import predict_fold
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextFitter

FOLDS = 5


def catalog_parser(module: str, description: str) -> argparse.ArgumentParser:
    """A parser with the options that `read` needs."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--train", required=True, metavar="CATALOG", help="with labels")
    parser.add_argument("--unlabelled", metavar="CATALOG", help="whose texts teach the text model, too")
    parser.add_argument("--limit", type=int, metavar="N", help="only N rows, for a quick try")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    return parser


def read(options: argparse.Namespace) -> tuple[TextFolds, list[Product]]:
    """The rows in five folds, and the texts without a label, if any."""
    catalog = read_catalog(options.train, check_images=False, limit=options.limit, seed=options.seed)
    unlabelled = read_texts(options.unlabelled, limit=options.limit) if options.unlabelled else []
    return TextFolds(catalog, options.seed, FOLDS), unlabelled


class TextFolds:
    """The n rows of a catalog that have a text, near-duplicates in one fold.

    Attributes:
        category_index: int (n,), the true output columns.
        categories: Number of columns.

    Args:
        catalog: With labels.
        seed: Of folds and networks.
        folds: Into how many parts the rows with an own label are dealt.
    """

    def __init__(self, catalog: Catalog, seed: int, folds: int) -> None:
        """Deal the rows."""
        split = split_catalog(catalog, SplitSettings("grouped", 0.1, 0.0, seed))
        chosen = np.sort(np.concatenate([split.train, split.validation]))
        chosen = chosen[catalog.has_text[chosen]]
        products = catalog.products()
        categories = category_list(catalog)
        self._rows = TrainingRows(
            products=[products[row] for row in chosen],
            category_index=category_index_of(catalog, chosen, categories),
            gold_label=catalog.table["gold_label"].to_numpy(bool)[chosen],
            groups=split.groups[chosen],
            categories=len(categories),
            seed=seed,
        )
        self.category_index, self.categories = self._rows.category_index, len(categories)
        self._fold = self._rows.fold(folds)

    def judged_rows(self, folds: int) -> np.ndarray:
        """Which of the n rows, int (m,), the first `folds` folds answer, in the order in which they do."""
        return np.concatenate([self._parts(fold)[1] for fold in range(folds)])

    def text_model_logits(
        self, settings: TextTrainingSettings, unlabelled: Sequence[Product], folds: int
    ) -> np.ndarray:
        """float32 (m, categories), the text model's of `judged_rows(folds)`, from networks that lack the row's fold.

        Args:
            settings: How the networks are fitted.
            unlabelled: Texts without a label that teach, too.
            folds: How many folds are answered.
        """
        rows = self._rows
        texts = [
            text for product in rows.products for text in (product.designation, product.description) if text
        ]
        fitter = TextFitter(
            LabelledTexts(rows.products, rows.category_index, rows.weights, unlabelled),
            train_tokenizer(texts, settings),
            TextSettings(),
            settings,
            categories=rows.categories,
            seed=rows.seed,
        )
        answers = joblib.Parallel(n_jobs=min(usable_cores(), folds))(
            joblib.delayed(predict_fold)(fitter, *self._parts(fold)) for fold in range(folds)
        )
        return np.concatenate([logits for _, logits in answers])

    def baseline_scores(self, fit: Callable[[TrainingRows], ScoredBaseline], folds: int) -> np.ndarray:
        """float64 (m, categories), log probabilities of `judged_rows(folds)` from a peer fitted without their fold."""
        found = []
        for fold in range(folds):
            others, judged = self._parts(fold)
            found.append(fit(self._rows.at(others))(self._rows.at(judged).products))
        return np.concatenate(found)

    def _parts(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the other folds, and this one's that are judged."""
        here = self._fold == fold
        return np.flatnonzero(~here), np.flatnonzero(here & self._rows.judged)
