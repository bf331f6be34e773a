"""Fills the model card: `model_card.md` at the top of the project becomes the bundle's README.md.

Every figure comes from the bundle's config.json or its metrics.json. `config.training["data"]` may hold:

    name        what the catalog is called
    terms       a sentence on what its terms allow; the weights are passed on under the same
    license     the licence's short name for the hub (default: research-use)
    link        where terms and data are found
    languages   codes of the languages in the catalog (default: fr, en, de)
    limits      further sentences for "Limits and biases"

`config.training["methods"]` says by model how it was fitted where METHODS below does not. Every other fact in
`config.training` is listed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from rakuten_models.bundle.config import (
    DEFAULT_PRECISION,
    KERAS_FILES,
    SERVING_MODEL_FILES,
    TOKENIZER_FILE,
    BundleConfig,
)
from rakuten_models.product import Category
from training.data.catalog import are_rakuten_categories
from training.evaluation.plots import SECTIONS
from training.metrics import ENOUGH_ROWS, relative_to_band

TEMPLATE_FILE = Path(__file__).parents[2] / "model_card.md"
PLACEHOLDER_REPOSITORY = "your-name/your-model"
MODEL_NAME = "Product categories from text and picture"
LANGUAGES = ("fr", "en", "de")

# what the hub's own pages call the tasks, and on which rows each section is measured
TASKS = {
    "text": ("text-classification", "rows with a text"),
    "image": ("image-classification", "rows with a readable picture"),
    "fusion": ("text-classification", "rows with both"),
    "served": ("text-classification", "all rows"),
}

HUB_METRICS = (
    ("f1", "Weighted F1", "weighted_f1"),
    ("f1", "Macro F1", "macro_f1"),
    ("accuracy", "Accuracy", "accuracy"),
    ("ece", "Expected calibration error", "ece"),
)

# facts that are shown elsewhere in the card or say nothing to a person
HIDDEN_FACTS = ("data", "methods", "catalog_fingerprint")

# how each part is fitted, unless the run says otherwise in config.training["methods"]
METHODS = {
    "text": "embeddings of the text's words, word pairs and character n-grams, designation and description apart. "
    "Words bring along what a pretrained encoder (Universal Sentence Encoder, multilingual version 3) knows of them; "
    "the rest is trained from scratch. Unless the run was a fast one, the model that is kept also learned what several "
    "networks that read whole texts through that encoder say of the same rows, and of texts without a label. Up to 100 "
    "categories, a linear part that was fitted apart (a support vector machine over the same words, pairs and n-grams) "
    "adds to each category's logit.",
    "image": "MobileNetV2 with ImageNet weights; the head, and unless the run was a fast one the upper "
    "blocks, are trained on the catalog.",
    "fusion": "fitted on validation rows with own labels and both sides, from both models' logits and the "
    "picture's features; the text's logits come from text models that were not fitted on the row. A label that "
    "other classifiers made from the text would teach it to trust the text alone: no such row takes part.",
    "temperatures and thresholds": "fitted on rows with own labels. The image model was not trained on those it "
    "answers here; unless the run was a fast one, the text model was cross-fitted: each row is answered by one that "
    "was fitted on other rows, and the one that is kept learned from all.",
}


def render_card(
    config: BundleConfig, metrics: Mapping[str, Any], *, repo_id: str = PLACEHOLDER_REPOSITORY, revision: str = "main"
) -> str:
    """The model card: the hub's YAML metadata, then Markdown.

    Args:
        config: The bundle's.
        metrics: Content of the bundle's metrics.json; {} before the first evaluation, and the card says so.
        repo_id: The hub repository in the lines that load the model.
        revision: The commit, tag or branch in the same lines.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "figure": _figure, "share": _share, "percent": _percent, "cell": _cell, "megabytes": _megabytes,
    }  # fmt: skip
    sections = [name for name in SECTIONS if metrics.get(name, {}).get("rows")]
    sizes = {name: facts["size"] for name, facts in config.files.items()}
    return environment.from_string(TEMPLATE_FILE.read_text(encoding="utf-8")).render(
        card_data=card_data(config, metrics, repo_id).to_yaml(),
        config=config,
        metrics=metrics,
        sections=sections,
        model_name=MODEL_NAME,
        repo_id=repo_id,
        revision=revision,
        data=config.training.get("data", {}),
        languages=_languages(config),
        rakuten=are_rakuten_categories(config.categories),
        rows_of_section={name: rows for name, (_, rows) in TASKS.items()},
        categories_by_f1=_categories_by_f1(config, metrics) if sections else [],
        weakest=_weakest(config, metrics) if sections else [],
        enough_rows=ENOUGH_ROWS,
        default_precision=DEFAULT_PRECISION,
        preprocessing={"text": asdict(config.text), "image": asdict(config.image)},
        reads_characters=any("character" in name for name in asdict(config.text)),
        methods={**METHODS, **config.training.get("methods", {})},
        facts=_flat({key: value for key, value in config.training.items() if key not in HIDDEN_FACTS}),
        relative_to_band={
            name: relative_to_band(metrics[name]["ece"], metrics[name]["ece_calibrated"]) for name in sections
        },
        fusion_verdict=_fusion_verdict(metrics["fusion"]) if "fusion" in sections else None,
        confusions=_confusions(metrics) if sections else [],
        ablation=metrics.get("ablation", []),
        serving_size=sum(sizes.get(name, 0) for name in (TOKENIZER_FILE, *SERVING_MODEL_FILES)),
        keras_size=sum(sizes.get(name, 0) for name in KERAS_FILES),
    )


def card_data(config: BundleConfig, metrics: Mapping[str, Any], repo_id: str = PLACEHOLDER_REPOSITORY) -> ModelCardData:
    """The hub's metadata: licence, languages, tags, and the figures as its `model-index`."""
    data = config.training.get("data", {})
    dataset = data.get("name") or metrics.get("catalog") or "catalog"
    results = [
        EvalResult(
            task_type=TASKS[section][0],
            task_name=f"Product classification ({section})",
            dataset_type=_slug(dataset),
            dataset_name=f"{dataset}, {TASKS[section][1]}",
            # the client merges results whose task and data set are the same: this keeps the sections apart
            dataset_config=section,
            dataset_split=metrics["split"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(metrics[section][key], 4),
        )
        for section in SECTIONS
        if metrics.get(section, {}).get("rows")
        for kind, name, key in HUB_METRICS
        if metrics[section][key] is not None
    ]
    return ModelCardData(
        language=list(_languages(config)),
        license="other",
        license_name=data.get("license", "research-use"),
        license_link=data.get("link") or f"https://huggingface.co/{repo_id}#data-and-terms",
        library_name="keras",
        pipeline_tag="text-classification",
        tags=["product-classification", "e-commerce", "multimodal", "image-classification", "tflite"],
        datasets=[_slug(data["name"])] if data.get("name") else None,
        metrics=["f1", "accuracy"],
        model_name=MODEL_NAME if results else None,
        eval_results=results or None,
    )


def _languages(config: BundleConfig) -> tuple[str, ...]:
    return tuple(config.training.get("data", {}).get("languages", LANGUAGES))


def _categories_by_f1(config: BundleConfig, metrics: Mapping[str, Any]) -> list[tuple[Category, dict[str, Any]]]:
    """(category, {section: its metrics}) for every category, the highest served F1 first."""
    rows = [
        (category, {name: metrics[name]["per_category"][str(category.prdtypecode)] for name in SECTIONS})
        for category in config.categories
    ]
    return sorted(rows, key=lambda row: (-row[1]["served"]["f1"], row[0].prdtypecode))


def _weakest(config: BundleConfig, metrics: Mapping[str, Any], count: int = 3) -> list[tuple[Category, dict[str, Any]]]:
    occurring = [row for row in _categories_by_f1(config, metrics) if row[1]["served"]["support"]]
    return occurring[: -count - 1 : -1]


def _fusion_verdict(fusion: Mapping[str, Any]) -> str:
    """A sentence: whether fusion is at least as good as the better modality, on the same rows."""
    alone = {name: fusion[f"{name}_on_same_rows"] for name in ("text", "image")}
    better = max(alone, key=lambda name: alone[name]["weighted_f1"])
    other = alone[better]
    words = "is not below" if other["difference"] >= 0 else "is BELOW"
    zero = "holds" if other["low"] <= 0 <= other["high"] else "leaves out"
    return f"Fusion {words} the better single side, {better}; the interval of that difference {zero} zero."


def _confusions(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each known confusion its categories, rows, and its figures by method.

    The methods: the plain one given as before and text alone, both on the rows with a text, and served, on all rows.
    """
    methods = {"text alone": metrics["text"].get("known_confusions", [])}
    if "before" in metrics:
        methods = {metrics["before"]["method"]: metrics["before"]["known_confusions"], **methods}
    served = metrics["served"].get("known_confusions", [])
    methods = {name: groups for name, groups in methods.items() if groups} | {"served": served}
    return [
        {
            "prdtypecodes": group["prdtypecodes"],
            "rows": group["rows"],
            "methods": {name: groups[number] for name, groups in methods.items()},
        }
        for number, group in enumerate(served)
        if group["rows"]
    ]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as (name, value) lines, without long lists."""
    lines: list[tuple[str, str]] = []
    for key, value in facts.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            lines += _flat(value, f"{name}, ")
        elif isinstance(value, (list, tuple)):
            if len(value) <= 8:
                lines.append((name, ", ".join(_fact(entry) for entry in value)))
        elif value is not None:
            lines.append((name, _fact(value)))
    return lines


def _fact(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _percent(wanted: str) -> str:
    return f"{100 * float(wanted):g} %"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _cell(value: object) -> str:
    """A text that cannot break a Markdown table."""
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "catalog"
