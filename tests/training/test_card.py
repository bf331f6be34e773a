"""The model card: every figure is the run's, the hub's own client reads its metadata, its code is valid."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from rakuten_models.bundle.config import BundleConfig
from rakuten_models.inference.calibration import Calibration
from rakuten_models.preprocessing.image import ImageSettings
from rakuten_models.preprocessing.text import TextSettings
from rakuten_models.product import Category, Prediction
from training.evaluate import evaluate_predictions
from training.evaluation.external_results import SPLIT_FIGURES
from training.evaluation.model_card import TASKS, render_card
from training.metrics import relative_to_band

CATEGORIES = (
    Category(0, 10, {"en": "Second-hand books", "fr": "Livres d'occasion"}),
    Category(1, 2583, {"en": "Pool | spa", "fr": "Piscine"}),
    Category(2, 2705, {"en": "New books", "fr": "Livres neufs"}),
)

THRESHOLDS = {
    "0.90": {"probability": 0.4321, "share_accepted": 0.8765, "precision_low": 0.8812},
    "0.95": {"probability": 0.6543, "share_accepted": 0.7654, "precision_low": 0.9012},
    "0.99": {"probability": None, "share_accepted": 0.0, "precision_low": None},
}


def example_config(**training):
    return BundleConfig(
        categories=CATEGORIES,
        text=TextSettings(),
        image=ImageSettings(),
        calibration={"text": Calibration(1.234, 0.25, -0.5), "image": Calibration(0.987), "fusion": Calibration(1.111)},
        thresholds=THRESHOLDS,
        library_versions={"keras": "3.15.1"},
        files={"text_model.tflite": {"sha256": "0" * 64, "size": 1_500_000}},
        training=training,
    )


def example_metrics(rows=60, with_image=True, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, rows)

    def probabilities(row, strength):
        logits = generator.normal(size=3) + strength * (np.arange(3) == truth[row])
        return (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)

    predictions = []
    for row in range(rows):
        text, image, both = (probabilities(row, strength) for strength in (2.0, 1.0, 2.5))
        seen = with_image and row % 2
        answer = both if seen else text
        found = Prediction(
            categories=CATEGORIES, category=CATEGORIES[int(answer.argmax())], probabilities=answer,
            text_probabilities=text, image_probabilities=image if seen else None,
        )  # fmt: skip
        predictions.append(found)
    sections = evaluate_predictions(predictions, truth, CATEGORIES, THRESHOLDS)
    return {**sections, "split": "grouped split, test part", "catalog": "an example"}


def parts(card):
    """The card's metadata as parsed YAML and its text."""
    _, metadata, text = card.split("---\n", 2)
    return yaml.safe_load(metadata), text


def table_rows(text, first_cell):
    lines = [line for line in text.splitlines() if line.startswith(f"| {first_cell} ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_figure_is_that_of_the_metrics():
    metrics = example_metrics()
    _, text = parts(render_card(example_config(), metrics))
    for name in ("text", "image", "fusion", "served"):
        section = metrics[name]
        (row,) = table_rows(text, f"**{name}**")
        assert row[1:] == [
            str(section["rows"]),
            *(f"{section[key]:.3f}" for key in ("accuracy", "weighted_f1", "macro_f1", "ece")),
        ]
        band = section["ece_calibrated"]
        place = relative_to_band(section["ece"], band)
        words = "within it" if place == "within" else f"{place} the band"
        assert f"{band['low']:.3f} to {band['high']:.3f} for {name} (measured {section['ece']:.3f}, {words})" in text
    sections = ("text", "image", "fusion", "served")
    for label, key in (
        ("accuracy", "accuracy"), ("weighted F1", "weighted_f1"), ("macro F1", "macro_f1"), ("ECE", "ece"),
        ("log loss", "log_loss"), ("top-3 accuracy", "top3_accuracy"), ("top-5 accuracy", "top5_accuracy"),
    ):  # fmt: skip
        (row,) = table_rows(text, label)
        assert row[1:] == [f"{metrics[name][key]:.3f}" for name in sections]
    for name in ("text", "image"):
        other = metrics["fusion"][f"{name}_on_same_rows"]
        assert table_rows(text, f"{name} alone") == [[
            f"{name} alone", f"{other['weighted_f1']:.3f}", f"{other['difference']:+.3f}",
            f"{other['low']:+.3f} to {other['high']:+.3f}",
        ]]  # fmt: skip


def test_table_of_categories_and_thresholds():
    metrics = example_metrics()
    _, text = parts(render_card(example_config(), metrics))
    served = metrics["served"]["per_category"]
    for category in CATEGORIES:
        code = str(category.prdtypecode)
        (row,) = table_rows(text, code)
        assert row[1] == category.name("en").replace("|", "\\|"), "a name cannot break the table"
        assert row[2] == str(served[code]["support"])
        assert row[3:6] == [f"{served[code][key]:.3f}" for key in ("precision", "recall", "f1")]
        by_model = [metrics[name]["per_category"][code]["f1"] for name in ("text", "image", "fusion")]
        assert row[6:] == [f"{f1:.3f}" for f1 in by_model]
    reached = metrics["served"]["thresholds"]["0.95"]
    assert table_rows(text, "95 %") == [[
        "95 %", "0.654", "76.5 %", "90.1 %",
        f"{100 * reached['share_accepted']:.1f} %", f"{100 * reached['precision']:.1f} %",
    ]]  # fmt: skip
    assert table_rows(text, "99 %")[0][1:] == ["–", "0.0 %", "–", "0.0 %", "–"]
    assert (
        "text 1.234, 0.250 and -0.500; image 0.987, 0.000 and 0.000; fusion 1.111, 0.000 and 0.000." in text
        and "1.5 MB" in text
        and "keras 3.15.1" in text
    )


def test_metadata_is_what_the_hub_reads(tmp_path):
    metrics = example_metrics()
    data = {"name": "Example Shop, spring", "terms": "Research only.", "link": "https://example.org/terms"}
    card = render_card(example_config(data=data), metrics, repo_id="anna/model")
    metadata, text = parts(card)
    assert metadata["license"] == "other" and metadata["license_name"] == "research-use"
    assert metadata["license_link"] == "https://example.org/terms"
    assert metadata["language"] == ["fr", "en", "de"] and metadata["library_name"] == "keras"
    assert metadata["pipeline_tag"] == "text-classification" and "image-classification" in metadata["tags"]
    assert metadata["datasets"] == ["example-shop-spring"]
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    found = {(result.dataset_config, result.metric_name): result.metric_value for result in results}
    for name in ("text", "image", "fusion", "served"):
        assert found[name, "Weighted F1"] == round(metrics[name]["weighted_f1"], 4)
        assert found[name, "Accuracy"] == round(metrics[name]["accuracy"], 4)
        assert found[name, "Expected calibration error"] == round(metrics[name]["ece"], 4)
    assert {result.dataset_split for result in results} == {"grouped split, test part"}
    assert "Research only." in text and 'from_pretrained("anna/model"' in text


@pytest.mark.parametrize("sides", ["none", "text", "both"])
def test_nothing_of_the_template_and_no_empty_figure_is_left(sides):
    metrics = {} if sides == "none" else example_metrics(with_image=sides == "both")
    card = render_card(example_config(seed=3, split={"kind": "grouped"}, list_of_texts=["a", "b"]), metrics)
    metadata, text = parts(card)
    prose = re.sub(r"```.*?```", "code", card, flags=re.DOTALL)
    for left in ("{{", "}}", "{%", "%}", "nan", "None", "Undefined"):
        assert not re.search(rf"(?<![a-z]){re.escape(left)}(?![a-z])", prose), left
    assert "\n\n\n" not in prose
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, f"a table with lines of different length:\n{block}"
    assert ("model-index" in metadata) == bool(metrics)
    assert ("Not evaluated yet" in text) == (not metrics)
    for fact in ("| seed | 3 |", "| split, kind | grouped |", "| list of texts | a, b |"):
        assert fact in text


def test_plots_are_shown_once_there_are_figures():
    assert "](reliability.png)" in render_card(example_config(), example_metrics())
    assert "](reliability.png)" not in render_card(example_config(), {})


def test_rakutens_own_limits_are_said_of_its_categories_only():
    assert "French marketplace" in render_card(example_config(), {})
    shop = BundleConfig(
        categories=(Category(0, 1, {"en": "1"}), Category(1, 2, {"en": "2"})), text=TextSettings(),
        image=ImageSettings(), calibration=dict.fromkeys(("text", "image", "fusion"), Calibration()),
        thresholds=THRESHOLDS,
    )  # fmt: skip
    card = render_card(shop, {})
    assert "Rakuten" not in card and "French marketplace" not in card and "2 categories" in card


def test_what_the_run_says_is_shown():
    card = render_card(
        example_config(
            data={"limits": ["Shoes were never seen."], "languages": ["fr"]}, methods={"fusion": "cross-fitted."}
        ),
        {},
    )
    assert "- Shoes were never seen." in card and "- **fusion**: cross-fitted." in card
    assert parts(card)[0]["language"] == ["fr"]


def test_what_other_runs_found_is_shown():
    metrics = example_metrics()
    _, alone = parts(render_card(example_config(), metrics))
    assert "What each step brought" not in alone and "other splits" not in alone
    plain = example_metrics(seed=1)
    figures = {name: {key: plain[name][key] for key in SPLIT_FIGURES} for name in TASKS}
    metrics |= {
        "ablation": [
            {"step": "words", "weighted F1": 0.81},
            {"step": "with pairs", "weighted F1": 0.8234},
            {"step": "not measured", "weighted F1": None},
        ],
        "other_splits": [{"split": "plain split, test part", "catalog": "an example", **figures}],
    }
    _, text = parts(render_card(example_config(), metrics))
    assert table_rows(text, "with pairs") == [["with pairs", "0.823"]]
    assert table_rows(text, "not measured") == [["not measured", "–"]]
    assert table_rows(text, "plain split, test part") == [
        [
            "plain split, test part", name, str(plain[name]["rows"]),
            *(f"{plain[name][key]:.3f}" for key in ("accuracy", "weighted_f1", "macro_f1")),
            *(
                "–" if plain[name][key] is None else f"{plain[name][key]:.3f}"
                for key in ("lowest_category_f1_30_rows", "ece")
            ),
        ]
        for name in TASKS
    ]  # fmt: skip


def test_known_confusions_are_shown_before_and_after():
    metrics = example_metrics()
    served, text_alone = (metrics[name]["known_confusions"][0] for name in ("served", "text"))
    before = {"prdtypecodes": [10, 2705], "rows": served["rows"], "confused_share": 0.5, "f1": {"10": 0.1, "2705": 0.2}}
    metrics["before"] = {"method": "a plain | method", "known_confusions": [before]}
    _, text = parts(render_card(example_config(), metrics))
    assert table_rows(text, "categories")[0][2] == "confused, a plain \\| method"
    assert table_rows(text, "10, 2705") == [[
        "10, 2705", str(served["rows"]), "50.0 %", "0.100, 0.200",
        *(
            cell
            for found in (text_alone, served)
            for cell in (
                f"{100 * found['confused_share']:.1f} %", f"{found['f1']['10']:.3f}, {found['f1']['2705']:.3f}",
            )
        ),
    ]]  # fmt: skip
    for name in TASKS:
        metrics[name]["known_confusions"] = []
    del metrics["before"]
    assert "known to be taken for one another" not in render_card(example_config(), metrics)


def test_the_card_says_whether_fusion_is_below_a_side():
    metrics = example_metrics()
    sides = {
        "text_on_same_rows": {"weighted_f1": 0.8, "difference": 0.02, "low": -0.01, "high": 0.05},
        "image_on_same_rows": {"weighted_f1": 0.5, "difference": 0.32, "low": 0.2, "high": 0.4},
    }
    metrics["fusion"] |= sides
    text = render_card(example_config(), metrics)
    assert "Fusion is not below the better single side, text; the interval of that difference holds zero." in text
    sides["text_on_same_rows"] |= {"difference": -0.02, "high": -0.001}
    text = render_card(example_config(), metrics)
    assert "Fusion is BELOW the better single side, text; the interval of that difference leaves out zero." in text


def code_blocks(card):
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def test_code_in_the_card_runs(tiny_bundle, tmp_path, monkeypatch, capsys):
    """The blocks for rakuten_models and for plain Keras; the third needs a Space."""
    pytest.importorskip("keras")
    bundle = shutil.copytree(tiny_bundle, tmp_path / "anna" / "model")
    monkeypatch.chdir(tmp_path)  # so that the hub id in the card is a folder
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name, revision: str(bundle / name))
    config = BundleConfig.from_json(json.loads((bundle / "config.json").read_text(encoding="utf-8")))
    with_package, with_keras, in_space = code_blocks(render_card(config, {}, repo_id="anna/model"))
    exec(compile(with_package.replace(', revision="main"', ""), "card", "exec"), {})
    exec(compile(with_keras, "card", "exec"), {})
    compile(in_space, "card", "exec")
    lines = capsys.readouterr().out.splitlines()
    names = {category.name("en") for category in config.categories}
    assert lines[0].split()[0] in {str(category.prdtypecode) for category in config.categories}
    assert lines[-1] in names
