"""A catalog's texts, dealt to folds, and what a method says of each fold when it has been fitted on the others."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import joblib
import numpy as np

from benchmarks.quality.baseline import Baseline, TrainingRows
from benchmarks.quality.comparison import training_rows
from benchmarks.report import command_parser
from rakuten_models.inference.runtime import usable_cores
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Product
from training.data.catalog import Catalog, read_catalog, read_texts
from training.data.split import split_catalog
from training.settings import SplitSettings, TextTrainingSettings
from training.text.cross_fitting import predict_fold
from training.text.tokenizer import train_tokenizer
from training.text.trainer import LabelledTexts, TextFitter

FOLDS = 5


def catalog_parser(module: str, text: str | None) -> argparse.ArgumentParser:
    """A parser with the options that `read` needs."""
    parser = command_parser(module, text, quick=False)
    parser.add_argument("--train", required=True, metavar="CATALOG", help="to fit all methods on, with labels")
    parser.add_argument("--unlabelled", metavar="CATALOG", help="whose texts teach the text model, too")
    parser.add_argument("--limit", type=int, metavar="N", help="only N training rows, for a quick try")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    return parser


def read(options: argparse.Namespace) -> tuple[TextFolds, list[Product]]:
    """The rows in five folds, and the texts without a label, if any."""
    catalog = read_catalog(options.train, check_images=False, limit=options.limit, seed=options.seed)
    unlabelled = read_texts(options.unlabelled, limit=options.limit) if options.unlabelled else []
    return TextFolds(catalog, options.seed, FOLDS), unlabelled


class TextFolds:
    """The n rows of a catalog that have a text, near-duplicates in one of the folds; their columns, int (n,)."""

    def __init__(self, catalog: Catalog, seed: int, folds: int) -> None:
        """Deal the rows."""
        split = split_catalog(catalog, SplitSettings("grouped", 0.1, 0.0, seed))
        chosen = np.sort(np.concatenate([split.train, split.validation]))
        self._rows = training_rows(catalog, chosen[catalog.has_text[chosen]], split.groups, seed)
        self.category_index, self.categories = self._rows.category_index, self._rows.categories
        self._fold = self._rows.fold(folds)

    def evaluated_rows(self, folds: int) -> np.ndarray:
        """Which of the n rows, int (m,), the first `folds` folds answer, in the order in which they do."""
        return np.concatenate([self._parts(fold)[1] for fold in range(folds)])

    def text_model_logits(
        self, settings: TextTrainingSettings, unlabelled: Sequence[Product], folds: int
    ) -> np.ndarray:
        """The text model's logits of `evaluated_rows(folds)`, float32 (m, categories), from fits without their fold."""
        rows = self._rows
        texts = [text for each in rows.products for text in (each.designation, each.description) if text]
        tokenizer = train_tokenizer(texts, settings)
        labelled = LabelledTexts(rows.products, rows.category_index, rows.weights, unlabelled)
        sizes = {"categories": rows.categories, "seed": rows.seed}
        fitter = TextFitter(labelled, tokenizer, TextSettings(), settings, **sizes)
        answers = joblib.Parallel(n_jobs=min(usable_cores(), folds))(
            joblib.delayed(predict_fold)(fitter, *self._parts(fold)) for fold in range(folds)
        )
        return np.concatenate([logits for _, logits in answers])

    def baseline_scores(self, fit: Callable[[TrainingRows], Baseline], folds: int) -> np.ndarray:
        """Log probabilities of `evaluated_rows(folds)`, float64 (m, categories), from fits without their fold."""
        parts = (map(self._rows.at, self._parts(fold)) for fold in range(folds))
        return np.concatenate([fit(others)(answered.products) for others, answered in parts])

    def _parts(self, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the other folds, and this one's that are evaluated."""
        here = self._fold == fold
        return np.flatnonzero(~here), np.flatnonzero(here & self._rows.evaluated)
