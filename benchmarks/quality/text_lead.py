"""Whether the text model leads the linear methods, by cross-validation over the training rows with an own label.

    python -m benchmarks.quality.text_lead --train CATALOG --unlabelled CATALOG

A test part of a few thousand rows cannot show differences below about 0.01 in weighted F1; all training rows together
show smaller ones. Every method is fitted five times, each time without the rows that it then answers, near-duplicates
in one fold. Prints Markdown. About ten minutes on two cores for 25,000 texts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from benchmarks.quality.cross_validation import FOLDS, catalog_parser, read
from benchmarks.quality.tables import DRAWS
from benchmarks.quality.text_baselines import LINEAR_SVC, LOG_LOSS, linear_svc, log_loss_linear
from rakuten_models.cli import run_command
from training.metrics import paired_difference, weighted_f1
from training.settings import TextTrainingSettings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fits, asks and compares; see the module's text.

    Args:
        arguments: those of the command line if None.

    Returns:
        0 when the table was printed.
    """
    options = catalog_parser("benchmarks.quality.text_lead", __doc__.splitlines()[0]).parse_args(arguments)
    rows, unlabelled = read(options)
    truth = rows.category_index[rows.judged_rows(FOLDS)]
    ours = rows.text_model_logits(TextTrainingSettings(), unlabelled, FOLDS).argmax(axis=1)
    print(f"{len(truth):,} rows, {FOLDS} folds\n")
    print("| method | weighted F1 | our lead (95 % interval) |\n| --- | --- | --- |")
    print(f"| ours | {weighted_f1(truth, ours, rows.categories):.4f} | |", flush=True)
    for name, fit in ((LINEAR_SVC, linear_svc), (LOG_LOSS, log_loss_linear)):
        theirs = rows.baseline_scores(fit, FOLDS).argmax(axis=1)
        lead = paired_difference(truth, ours, theirs, rows.categories, draws=DRAWS)
        print(
            f"| {name} | {weighted_f1(truth, theirs, rows.categories):.4f} "
            f"| {lead['difference']:+.4f} ({lead['low']:+.4f} to {lead['high']:+.4f}) |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
