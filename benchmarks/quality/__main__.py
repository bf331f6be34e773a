"""How good a bundle is beside other methods, all fitted and scored on the same rows in one run.

    python -m benchmarks.quality --train CATALOG --test CATALOG --bundle FOLDER --output quality.md
    python -m benchmarks.quality --train CATALOG --test CATALOG --unlabelled CATALOG --output quality.md

Without --bundle one is trained first, with the default settings. Prints Markdown: a table each for text (rows with a
text), image (rows with a picture), fusion (rows with both) and what is served (all rows), and how often categories are
confused that are known for it. Beside --output FILE.md the figures are written to FILE.json, which
`python -m training.evaluate --before` takes. The peers take 15 to 25 minutes on two cores for 25,000 products, half of
them with a picture.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.quality.bundle_answers import OUR_IMAGE, OUR_TEXT, OURS
from benchmarks.quality.comparison import Comparison
from benchmarks.quality.tables import DRAWS, format_confusions, format_lead, format_section
from benchmarks.quality.text_baselines import FASTTEXT, LINEAR_SVC
from rakuten_models import ProductClassifier
from rakuten_models.cli import run_command
from rakuten_models.errors import RakutenModelsError
from rakuten_models.files import write_atomically
from rakuten_models.inference.runtime import usable_cores
from training.data.catalog import Catalog, category_list, read_catalog
from training.evaluation.evaluation_split import category_index_of, select_rows
from training.metrics import Metrics
from training.settings import SplitSettings, TrainingSettings
from training.train import train_bundle

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

TITLES = {"text": "Text", "image": "Image", "fusion": "Fusion", "served": "Served"}

OUR_METHODS = (OURS, OUR_TEXT, OUR_IMAGE)

KINDS = {
    "text": "light text method",
    "image": "image method",
    "fusion": "fusion",
    "served": "light text method",
}


class BenchmarkError(RakutenModelsError):
    """Catalogs and bundle that cannot be compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the comparison; see the module's text.

    Args:
        arguments: those of the command line if None.

    Raises:
        RakutenModelsError: with the sentence to show.
    """
    options = _parse(arguments)
    train = read_catalog(options.train, limit=options.limit, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or _train_ours(options, Path(folder) / "bundle")
        text, figures = compare(
            train, options.test, bundle, backbone_weights=options.backbone_weights, seed=options.seed
        )
    print(text)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.output, text)
        write_atomically(
            options.output.with_suffix(".json"), json.dumps(figures, indent=1, allow_nan=False) + "\n"
        )
    return 0


def compare(
    train: Catalog,
    test_dir: str | Path,
    bundle: str | Path,
    *,
    backbone_weights: str | Path | None,
    seed: int = 0,
    show: bool = True,
) -> tuple[str, dict[str, object]]:
    """Fits the peers and scores them beside a bundle.

    Args:
        train: the catalog that the bundle was trained on.
        test_dir: the catalog to score, with own labels.
        bundle: a bundle's folder or hub id.
        backbone_weights: "imagenet", a weights file, or None for random weights.
        seed: of everything random in the peers.
        show: whether to say on standard error how far the run is.

    Returns:
        The report in Markdown, and its figures ready for JSON: by section and method those of
        `quality_table.section_metrics`; "known_confusions" by method; "before": those of the plain method.
    """
    classifier = ProductClassifier.from_pretrained(bundle)
    if category_list(train) != classifier.categories:
        raise BenchmarkError(
            f"{train.source} has other categories than the bundle {bundle}, so it did not train it."
        )
    test, positions, split = select_rows(classifier.config, test_dir)
    if test.fingerprint() == train.fingerprint():
        raise BenchmarkError(f"{test.source} is the training catalog; give another one to score.")
    if not test.has_text[positions].any():
        raise BenchmarkError(
            f"{test.source} has no row with a text and an own label; give a catalog that has some."
        )
    comparison = Comparison(train, classifier, backbone_weights, seed, show)
    products = test.products()
    sections, confusions = comparison.run(
        [products[row] for row in positions],
        test.has_text[positions],
        category_index_of(test, positions, classifier.categories),
    )
    text = _report(sections, confusions, _notes(train, classifier, sections))
    figures = {**sections, "known_confusions": confusions}
    figures["before"] = {"method": LINEAR_SVC, "known_confusions": confusions[LINEAR_SVC]}
    return text, figures


def _report(
    sections: Mapping[str, Mapping[str, Metrics]],
    confusions: Mapping[str, list[Metrics]],
    notes: Sequence[str],
) -> str:
    lines = []
    for name, found in sections.items():
        lines += format_section(TITLES[name], found)
    lines += format_confusions(confusions)
    for name, found in sections.items():
        baselines = {method: values for method, values in found.items() if method not in OUR_METHODS}
        if baselines:
            lines.append(f"- {TITLES[name]}: {format_lead(KINDS[name], baselines)}")
        if name == "fusion":
            sides = {method: found[method] for method in (OUR_TEXT, OUR_IMAGE)}
            lines.append(f"- {TITLES[name]}: {format_lead('single side', sides)}")
    return "\n".join([*lines, "", "\n\n".join(notes)]) + "\n"


def _notes(
    train: Catalog, classifier: ProductClassifier, sections: Mapping[str, Mapping[str, Metrics]]
) -> list[str]:
    notes = [
        "Peers are calibrated by a temperature found inside the training rows; their seconds hold that. Intervals: "
        f"paired bootstrap over the rows, {DRAWS:,} draws. Seconds and rates are those of a machine with "
        f"{usable_cores()} cores, which may have had other work."
    ]
    if FASTTEXT not in sections["text"]:
        notes.append("fastText was left out: `pip install -r benchmarks/requirements.txt` installs it.")
    if classifier.config.training.get("catalog_fingerprint") != train.fingerprint():
        notes.append(
            f"The bundle was not trained on these {len(train):,} training rows, so this is no comparison of methods."
        )
    return notes


def _train_ours(options: argparse.Namespace, folder: Path) -> Path:
    print("training a bundle with the default settings", file=sys.stderr)
    settings = TrainingSettings(split=SplitSettings(test_fraction=0.0, seed=options.seed), seed=options.seed)
    return train_bundle(
        options.train,
        folder,
        settings,
        backbone_weights=options.backbone_weights,
        unlabelled=options.unlabelled,
        limit=options.limit,
        show=False,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, metavar="CATALOG", help="what all methods are fitted on")
    parser.add_argument(
        "--test", required=True, metavar="CATALOG", help="what they are scored on, with labels"
    )
    parser.add_argument("--bundle", help="a bundle that was trained on --train; without it one is trained")
    parser.add_argument(
        "--unlabelled", metavar="CATALOG", help="for the bundle that is trained: texts without a label"
    )
    parser.add_argument(
        "--backbone-weights", default="imagenet", metavar="FILE",
        help="MobileNetV2 weights without top, where the official ones cannot be downloaded",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FILE.md", help="where to write the report and FILE.json"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only N training rows, for a quick try")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    options = parser.parse_args(arguments)
    if options.bundle and options.unlabelled:
        raise BenchmarkError(
            "--unlabelled is for a bundle that is trained here; leave it out, or leave out --bundle."
        )
    return options


if __name__ == "__main__":
    sys.exit(run_command(main))
