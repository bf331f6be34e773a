"""Whether the text model leads the linear methods, by cross-validation over the training rows with a gold label.

    python -m benchmarks.quality.text_lead --train CATALOG --unlabelled CATALOG

A test part of a few thousand rows cannot show differences below about 0.01 in weighted F1; all training rows together
show smaller ones. Every method is fitted five times, each time without the rows that it then answers, near-duplicates
in one fold. Prints Markdown. About ten minutes on two cores for 25,000 texts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.quality.cross_validation import FOLDS, catalog_parser, read
from benchmarks.quality.tables import DRAWS, format_interval
from benchmarks.quality.text_baselines import LINEAR_SVC, LOG_LOSS, linear_svc, log_loss_linear
from benchmarks.report import publish, table
from rakuten_models.cli import run_command
from training.metrics import paired_difference, weighted_f1
from training.settings import TextTrainingSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, ask and compare; see the module's text."""
    options = catalog_parser("benchmarks.quality.text_lead", __doc__).parse_args(arguments)
    folds, unlabelled = read(options)
    truth = folds.category_index[folds.evaluated_rows(FOLDS)]
    ours = folds.text_model_logits(TextTrainingSettings(), unlabelled, FOLDS).argmax(axis=1)
    rows = [("ours", f"{weighted_f1(truth, ours, folds.categories):.4f}", "")]
    for name, fit in ((LINEAR_SVC, linear_svc), (LOG_LOSS, log_loss_linear)):
        theirs = folds.baseline_scores(fit, FOLDS).argmax(axis=1)
        lead = paired_difference(truth, ours, theirs, folds.categories, draws=DRAWS)
        f1 = f"{weighted_f1(truth, theirs, folds.categories):.4f}"
        rows.append((name, f1, format_interval(lead, digits=4)))
    head = ("method", "weighted F1", "our lead (95 % interval)")
    publish("\n".join([f"{len(truth):,} rows, {FOLDS} folds", "", *table(head, rows)]), options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
