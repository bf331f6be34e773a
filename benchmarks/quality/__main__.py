"""How good a bundle is beside other methods, all fitted and scored on the same rows in one run.

    python -m benchmarks.quality --train CATALOG --test CATALOG --bundle FOLDER --output quality.md
    python -m benchmarks.quality --train CATALOG --test CATALOG --unlabelled CATALOG --output quality.md

Without --bundle one is trained first, with the default settings. Prints Markdown: a table each for text (rows with a
text), image (rows with a picture), fusion (rows with both) and what is served (all rows), and how often categories are
confused that are known for it. Beside --output FILE.md the figures are written to FILE.json, which
`python -m training.evaluate --before` takes. The baselines take 15 to 25 minutes on two cores for 25,000 products, half
of them with a picture.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.quality.comparison import OUR_IMAGE, OUR_TEXT, OURS, CompareSettings, Comparison, Sections
from benchmarks.quality.cross_validation import catalog_parser
from benchmarks.quality.tables import DRAWS, format_confusions, format_lead, format_section
from benchmarks.quality.text_baselines import FASTTEXT, LINEAR_SVC
from benchmarks.report import BenchmarkError, publish
from rakuten_models import ProductClassifier
from rakuten_models.cli import run_command
from rakuten_models.files import write_atomically
from rakuten_models.inference.runtime import usable_cores
from training.data.catalog import Catalog, category_list, read_catalog
from training.evaluation.evaluation_split import category_index_of, select_rows
from training.metrics import Metrics
from training.settings import SplitSettings, TrainingSettings
from training.train import train_bundle

# Of each section: its title, and what the best of the other methods is called.
SECTIONS = {
    "text": ("Text", "light text method"),
    "image": ("Image", "image method"),
    "fusion": ("Fusion", "fusion"),
    "served": ("Served", "light text method"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison; see the module's text."""
    parser = catalog_parser("benchmarks.quality", __doc__)
    parser.add_argument("--test", required=True, metavar="CATALOG", help="to score all methods on, with labels")
    parser.add_argument("--bundle", help="a bundle that was trained on --train; without it one is trained")
    weights = "MobileNetV2 weights without top, where the official ones cannot be downloaded"
    parser.add_argument("--backbone-weights", default="imagenet", metavar="FILE", help=weights)
    options = parser.parse_args(arguments)
    if options.bundle and options.unlabelled:
        raise BenchmarkError("benchmark.unlabelled_with_bundle")
    train = read_catalog(options.train, limit=options.limit, seed=options.seed)
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or _train_ours(options, Path(folder) / "bundle")
        settings = CompareSettings(options.backbone_weights, options.seed)
        text, figures = compare(train, options.test, bundle, settings)
    publish(text, options.output)
    if options.output:
        figures_json = json.dumps(figures, indent=1, allow_nan=False)
        write_atomically(options.output.with_suffix(".json"), figures_json + "\n")


def _train_ours(options: argparse.Namespace, folder: Path) -> Path:
    print("training a bundle with the default settings", file=sys.stderr)
    settings = TrainingSettings(split=SplitSettings(test_fraction=0.0, seed=options.seed), seed=options.seed)
    chosen = {name: getattr(options, name) for name in ("backbone_weights", "unlabelled", "limit")}
    return train_bundle(options.train, folder, settings, show=False, **chosen)


def compare(
    train: Catalog, test_dir: str | Path, bundle: str | Path, settings: CompareSettings
) -> tuple[str, dict[str, object]]:
    """Fit the baselines on the catalog that a bundle was trained on, and score them and the bundle on another.

    Returns:
        The report in Markdown, and its figures ready for JSON: by section and method those of
        `tables.section_metrics`; "known_confusions" by method; "before": those of the plain method.
    """
    classifier = ProductClassifier.from_pretrained(bundle)
    if category_list(train) != classifier.categories:
        raise BenchmarkError("benchmark.other_categories", source=train.source, bundle=bundle)
    test, rows, _ = select_rows(classifier.config, test_dir)
    if test.fingerprint() == train.fingerprint():
        raise BenchmarkError("benchmark.training_catalog", source=test.source)
    if not test.has_text[rows].any():
        raise BenchmarkError("benchmark.no_text_rows", source=test.source)
    products = test.products()
    truth = category_index_of(test, rows, classifier.categories)
    comparison = Comparison(train, classifier, settings)
    sections, confusions = comparison.run([products[row] for row in rows], test.has_text[rows], truth)
    notes = "\n\n".join(_notes(train, classifier, sections))
    report = "\n".join([*_report(sections, confusions), "", notes, ""])
    before = {"method": LINEAR_SVC, "known_confusions": confusions[LINEAR_SVC]}
    return report, {**sections, "known_confusions": confusions, "before": before}


def _report(sections: Sections, confusions: Mapping[str, list[Metrics]]) -> Iterator[str]:
    for name, found in sections.items():
        yield from format_section(SECTIONS[name][0], found)
    yield from format_confusions(confusions)
    for name, found in sections.items():
        title, kind = SECTIONS[name]
        baselines = {each: found[each] for each in found if each not in (OURS, OUR_TEXT, OUR_IMAGE)}
        if baselines:
            yield f"- {title}: {format_lead(kind, baselines)}"
        if name == "fusion":
            single = {method: found[method] for method in (OUR_TEXT, OUR_IMAGE)}
            yield f"- {title}: {format_lead('single side', single)}"


def _notes(train: Catalog, classifier: ProductClassifier, sections: Sections) -> Iterator[str]:
    yield (
        "Baselines are calibrated by a temperature found inside the training rows; their seconds hold that. Intervals: "
        f"paired bootstrap over the rows, {DRAWS:,} draws. Seconds and rates are those of a machine with "
        f"{usable_cores()} cores, which may have had other work."
    )
    if FASTTEXT not in sections["text"]:
        yield "fastText was left out: `pip install -r benchmarks/requirements.txt` installs it."
    if classifier.config.training.get("catalog_fingerprint") != train.fingerprint():
        rows = f"these {len(train):,} training rows"
        yield f"The bundle was not trained on {rows}, so this is no comparison of methods."


if __name__ == "__main__":
    sys.exit(run_command(main))
