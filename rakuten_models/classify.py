"""One product in a terminal: its category, how sure that is, and what each model says.

python -m rakuten_models.classify --designation "Piscine tubulaire ronde 3,66 m"
python -m rakuten_models.classify --image photo.jpg --language fr --json
python -m rakuten_models.classify --designation "Piscine tubulaire ronde 3,66 m" --explain
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence

from rakuten_models.classifier import FOLDER_VARIABLE, REPOSITORY_VARIABLE, load_classifier
from rakuten_models.cli import run_command
from rakuten_models.errors import ProductError
from rakuten_models.formatting import best_category, decision_sentence, percent, prediction_to_json
from rakuten_models.inference.explanation import Explanation
from rakuten_models.product import Prediction, Product

_BAR_WIDTH = 24
_STRONGEST_WORDS = 5


def prediction_to_table(prediction: Prediction, threshold: float | None, language: str, count: int, block: str) -> str:
    """One prediction as lines for a terminal; of one that could not be scored, only the reason.

    `threshold` is the one that `predict` decided by, `language` that of the category names ("en" or "fr"), `count` the
    number of categories to list, `block` the character of the bars.
    """
    category, best_probability = prediction.category, prediction.probability
    if category is None or best_probability is None:
        return prediction.error or "The product cannot be scored."
    top = prediction.top(count)
    answers = [
        (name, *best_category(prediction.categories, probabilities))
        for name, probabilities in (
            ("text", prediction.text_probabilities),
            ("picture", prediction.image_probabilities),
        )
        if probabilities is not None
    ]
    if len(answers) == 2:
        answers.append(("fusion", category, best_probability))
    listed = [category, *(item for item, _ in top), *(item for _, item, _ in answers)]
    indent = max(len("Category"), *(len(each.name(language)) for each in listed))
    lines = [
        category.name(language),
        f"prdtypecode {category.prdtypecode}, probability {percent(best_probability)}, {prediction.decision}",
        decision_sentence(prediction, threshold),
        "",
        f"{'Category':{indent}}  {'Code':>10}  Probability",
    ]
    for item, probability in top:
        bar = block * round(probability * _BAR_WIDTH)
        line = f"{item.name(language):{indent}}  {item.prdtypecode:>10}  {percent(probability):>11}  {bar}"
        lines.append(line.rstrip())
    lines += ["", f"{'Model':8}  {'Its own answer':{max(indent, 14)}}  {'Code':>10}  Probability"]
    for name, item, probability in answers:
        lines.append(
            f"{name:8}  {item.name(language):{max(indent, 14)}}  {item.prdtypecode:>10}  {percent(probability):>11}"
        )
    weight = prediction.image_weight
    if len(answers) == 3 and weight is not None:
        lines += ["", f"Fusion trusted the text {1 - weight:.0%} and the picture {weight:.0%}."]
    return "\n".join(lines)


def explanation_to_lines(explanation: Explanation) -> str:
    """The strongest words and each modality's part as lines for a terminal; a heat map cannot be shown there."""
    lines = []
    for label, sign in (("for", 1), ("against", -1)):
        words = [word for word in explanation.words if word.contribution * sign >= 0.005]
        strongest = sorted(words, key=lambda word: -abs(word.contribution))[:_STRONGEST_WORDS]
        listed = ", ".join(f"{' '.join(word.text.split())} {word.contribution:+.2f}" for word in strongest)
        lines.append(f"Words {label} it: {listed or 'none'}")
    if explanation.text_part is not None and explanation.image_part is not None:
        lines.append(
            f"Of its score {explanation.score:+.2f} the text brought {explanation.text_part:+.2f} and the picture "
            f"{explanation.image_part:+.2f}."
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Classify one product and print the answer.

    Raises:
        RakutenModelsError: Nothing to classify, an unreadable picture, or a bundle that cannot be loaded.
    """
    options = _parser().parse_args(arguments)
    if not (options.designation.strip() or options.description.strip() or options.image):
        raise ProductError("product.nothing_given")
    classifier, name = load_classifier(options.bundle, options.revision)
    product = Product(options.designation, options.description, options.image)
    explanation = classifier.explain(product) if options.explain else None
    prediction = explanation.prediction if explanation else classifier.predict(product)
    threshold = classifier.threshold
    if options.json:
        answer = prediction_to_json(prediction, threshold, options.language)
        print(json.dumps({**answer, "bundle": name, "revision": classifier.revision}, indent=2))
        return 0
    # A Windows console may be unable to show blocks, or a name in another alphabet; that is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    block = "█"
    try:
        block.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        block = "#"
    revision = f" at {classifier.revision}" if classifier.revision else ""
    print(prediction_to_table(prediction, threshold, options.language, options.top, block))
    if explanation:
        print(f"\n{explanation_to_lines(explanation)}\n")
    print(f"Bundle: {name}{revision}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rakuten_models.classify", description="Classify one product by its text, its picture, or both."
    )
    parser.add_argument("--designation", default="", help="the listing's title")
    parser.add_argument("--description", default="", help="the longer text; HTML is fine")
    parser.add_argument("--image", metavar="FILE", help="a picture of the product: JPEG, PNG, WebP, GIF ...")
    parser.add_argument(
        "--bundle",
        metavar="FOLDER|user/name",
        help=f"the models: a folder or a hub repository; default: ${REPOSITORY_VARIABLE}, else ${FOLDER_VARIABLE}, "
        "else the starter bundle",
    )
    parser.add_argument("--revision", help="of the hub repository: a branch, a tag, or a commit")
    parser.add_argument("--language", choices=("en", "fr"), default="en", help="of the category names (default: en)")
    parser.add_argument("--top", type=_positive, default=5, metavar="N", help="categories to list (default: 5)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON, with every category, for another program")
    output.add_argument(
        "--explain",
        action="store_true",
        help="also print the words that spoke for and against the category, in logits above the mean category",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number of at least 1")
    return int(text)


def command() -> int:
    """The console script `rakuten-classify`."""
    return run_command(main)


if __name__ == "__main__":
    sys.exit(command())
