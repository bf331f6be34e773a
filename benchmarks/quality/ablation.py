"""What each choice in the text model's recipe brings, by cross-validation over the training rows with a gold label.

    python -m benchmarks.quality.ablation --train CATALOG --unlabelled CATALOG --output ablation.json

Each step adds one choice to those above it. Weighted F1 and log loss are measured on rows that the network was not
fitted on, near-duplicates in one fold; the log loss with the one temperature that suits these rows best. The file goes
into a bundle's card with `python -m training.evaluate --ablation`. Two of five folds, as by default, take about ten
minutes on two cores for 25,000 texts.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from scipy.special import softmax

from benchmarks.quality.cross_validation import catalog_parser, read
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from training.calibration import fit_temperature
from training.metrics import log_loss, weighted_f1
from training.settings import TextTrainingSettings

_DEFAULT = TextTrainingSettings()
_FROM_SCRATCH = {
    "vocabulary": 25_000, "minimum_word_count": 2, "decay": 0.0, "label_smoothing": 0.1,
    "pretrained_words": False, "linear_share": 0.0, "teachers": 0,
}  # fmt: skip

# The first step's settings, then what each further step changes. The last is the default recipe.
STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("words, pairs and n-grams from scratch", _FROM_SCRATCH),
    ("label smoothing 0.05 instead of 0.1", {"label_smoothing": _DEFAULT.label_smoothing}),
    ("weight decay", {"decay": _DEFAULT.decay}),
    ("words from a pretrained encoder", {"pretrained_words": True}),
    ("twice as many words", {name: getattr(_DEFAULT, name) for name in ("vocabulary", "minimum_word_count")}),
    ("four teachers that read whole texts", {"teachers": _DEFAULT.teachers}),
    ("a linear part beside the network", {"linear_share": _DEFAULT.linear_share}),
)

UNLABELLED_STEP = "texts without a label"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the steps; see the module's text."""
    parser = catalog_parser("benchmarks.quality.ablation", __doc__)
    parser.add_argument("--folds", type=int, default=2, help="how many of the five folds are answered")
    options = parser.parse_args(arguments)
    rows, unlabelled = read(options)
    answered = rows.evaluated_rows(options.folds)
    truth, settings, lines = rows.category_index[answered], _DEFAULT, []
    steps = [*STEPS, *([(UNLABELLED_STEP, {})] if unlabelled else [])]
    for name, changes in steps:
        settings = dataclasses.replace(settings, **changes)
        started = time.perf_counter()
        texts = unlabelled if name == UNLABELLED_STEP else []
        logits = rows.text_model_logits(settings, texts, options.folds)
        f1 = float(weighted_f1(truth, logits.argmax(axis=1), rows.categories))
        # In nats, at the one temperature that suits these rows best.
        loss = float(log_loss(softmax(logits / fit_temperature(logits, truth), axis=1), truth))
        seconds = time.perf_counter() - started
        figures = {"weighted F1": round(f1, 4), "log loss": round(loss, 4)}
        lines.append({"text model, step by step": name, **figures})
        print(f"{f1:.4f}  {loss:.4f}  {seconds:4.0f} s  {name}", flush=True)
    print(f"weighted F1 and log loss of {len(answered):,} rows that were not fitted on")
    if options.output:
        write_atomically(options.output, json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
