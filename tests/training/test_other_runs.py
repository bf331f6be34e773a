"""Other runs' figures on their way from a file to metrics.json and the card, and what is refused."""

import json
import shutil

import pytest

from rakuten_models.cli import run_command
from tests.support.tiny_catalog import write_tiny_catalog
from training.errors import ExternalResultError
from training.evaluate import main
from training.evaluation.external_results import (
    SPLIT_FIGURES,
    check_same_rows,
    read_ablation,
    read_before,
    read_split_metrics,
)

STEPS = [{"step": "words", "weighted F1": 0.7912, "rows": 12}, {"step": "pairs", "weighted F1": None, "rows": 12}]


@pytest.fixture
def write(tmp_path):
    def written(content, name="figures.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return written


def test_files_reach_figures_and_card(tiny_bundle, tmp_path, write):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    catalog = write_tiny_catalog(tmp_path / "catalog", seed=5)
    evaluate = ["--bundle", str(bundle), "--catalog-dir", str(catalog), "--quiet"]
    assert run_command(main, [*evaluate, "--output", str(tmp_path / "first.json")]) == 0
    first = json.loads((tmp_path / "first.json").read_text(encoding="utf-8"))
    assert [group["prdtypecodes"] for group in first["served"]["known_confusions"]] == [
        [10, 2705], [1180, 1280, 1281], [40, 2462, 2905], [1560, 2582],
    ]  # fmt: skip
    assert not {"ablation", "other_splits", "before"} & set(first)
    steps = write(STEPS, "steps.json")
    before = {"method": "a plain method", "known_confusions": first["text"]["known_confusions"]}
    plain = tiny_bundle / "metrics.json"  # of the test part of its own catalog
    arguments = ["--ablation", str(steps), "--split-metrics", str(plain), "--update-bundle"]
    arguments += ["--before", str(write({"before": before}))]
    assert run_command(main, [*evaluate, *arguments]) == 0
    metrics = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["ablation"] == STEPS and metrics["before"] == before
    own = json.loads(plain.read_text(encoding="utf-8"))
    (other,) = metrics["other_splits"]
    assert other["split"] == "grouped split, test part"
    assert other["text"] == {key: own["text"][key] for key in SPLIT_FIGURES}
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "| words | 0.791 | 12 |" in card and "| pairs | – | 12 |" in card
    assert f"| grouped split, test part | served | {own['served']['rows']} |" in card
    assert "confused, a plain method" in card


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is no JSON"),
        ('[{"step": "a", "weighted F1": NaN}]', "is no JSON (NaN is no number"),
        ("[]", "is no list of rows; expected a list of rows such as"),
        ('{"step": "a"}', "is no list of rows"),
        ('[{"step": "a", "F1": 1}, {"step": "b"}]', "row 2 has the columns step, row 1 has step, F1; give every"),
        ('[{"step": ["a"]}]', "row 1 holds a list under 'step'; expected a text, a number or null."),
    ],
)
def test_steps_that_make_no_table_are_refused(write, content, sentence):
    with pytest.raises(ExternalResultError) as raised:
        read_ablation(write(content))
    assert sentence in str(raised.value)


def test_a_missing_file_is_said_before_scoring(tiny_bundle, tmp_path, capsys):
    catalog = write_tiny_catalog(tmp_path / "catalog", seed=5, categories=5)
    for option in ("--ablation", "--split-metrics", "--before"):
        arguments = ["--bundle", str(tiny_bundle), "--catalog-dir", str(catalog), option, str(tmp_path / "none")]
        assert run_command(main, arguments) == 2
        written = capsys.readouterr()
        assert "none does not exist; expected" in written.err and "scoring" not in written.out


def test_figures_of_another_catalog_are_no_split(tiny_bundle, write):
    metrics = json.loads((tiny_bundle / "metrics.json").read_text(encoding="utf-8"))
    assert read_split_metrics([write(metrics)])[0]["split"] == metrics["split"]
    with pytest.raises(
        ExternalResultError, match="was measured on separate catalog, which no split of the catalog made"
    ):
        read_split_metrics([write({**metrics, "split": "separate catalog"})])
    with pytest.raises(ExternalResultError, match="lacks figures; expected the metrics.json"):
        read_split_metrics([write({**metrics, "image": {}})])


def test_a_method_before_must_have_answered_the_same_rows(write):
    group = {"prdtypecodes": [10, 2705], "rows": 7, "confused_share": 0.1, "f1": {"10": 0.5, "2705": 0.6}}
    before = read_before(write({"before": {"method": "plain", "known_confusions": [group]}}))
    check_same_rows(before, [{**group, "confused_share": 0.0}])
    with pytest.raises(ExternalResultError, match="plain were measured on other rows"):
        check_same_rows(before, [{**group, "rows": 8}])
    for content in ([], {}, {"before": {"method": "plain"}}, {"before": {"method": "plain", "known_confusions": [{}]}}):
        with pytest.raises(ExternalResultError, match="says nothing of a method before"):
            read_before(write(content))
