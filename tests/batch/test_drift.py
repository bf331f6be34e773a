"""Drift of a scored catalog against the rows that the bundle was measured on."""

import json
import shutil

import pytest

from rakuten_models.batch import __main__ as batch_command
from rakuten_models.batch.drift import ScoredFigures, drift, report_files
from rakuten_models.cli import run_command
from rakuten_models.preprocessing.text import TextSettings, load_tokenizer
from rakuten_models.product import Product
from tests.support.tiny_catalog import CATEGORY_WORDS


def figures(shares, scored=1000, bins=None):
    return {
        "rows": scored,
        "scored": scored,
        "share_by_category": shares,
        "probability_bins": bins or [0.0] * 5 + [0.2] * 5,
    }


def write(path, texts):
    path.write_text("designation\n" + "".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory):
    """Two catalogs: one of every category with words that are known, one of a single category with invented words."""
    folder = tmp_path_factory.mktemp("catalogs")
    words = [" ".join(texts) for texts in CATEGORY_WORDS.values()]
    return (
        write(folder / "same.csv", words * 8),
        write(folder / "other.csv", [f"piscine pompe xq{n}zt vb{n}kk" for n in range(200)]),
    )


@pytest.mark.parametrize("kind", ["csv", "parts"])
def test_report_of_a_scored_catalog(tiny_bundle, catalogs, tmp_path, capsys, kind):
    found = {}
    for catalog in catalogs:
        output = tmp_path / (f"{catalog.stem}.scored.csv" if kind == "csv" else catalog.stem)
        report = tmp_path / f"report of {catalog.stem}"
        given = [str(catalog), str(output), "--bundle", str(tiny_bundle), "--report", str(report), "--quiet"]
        assert run_command(batch_command.main, given) == 0
        assert "Drift against the" in capsys.readouterr().out
        found[catalog.stem] = json.loads((report / "drift.json").read_text(encoding="utf-8"))
        page = (report / "drift.md").read_text(encoding="utf-8")
        # Every category and every step of the probabilities has a line with both shares, the largest a full bar.
        assert page.count("% |") >= 10 + len(found[catalog.stem]["now"]["share_by_category"])
        assert "| 0.9 to 1.0 |" in page and "Share by category" in page and ("█" * 30 in page or "░" * 30 in page)
    same, other = found["same"], found["other"]
    reference = json.loads((tiny_bundle / "metrics.json").read_text(encoding="utf-8"))["reference"]
    assert same["reference"] == other["reference"] == reference
    assert sum(reference["share_by_category"].values()) == pytest.approx(1)
    assert sum(reference["probability_bins"]) == pytest.approx(1)
    assert other["now"]["rows"] == other["now"]["scored"] == 200
    # Half of the words are invented.
    assert other["now"]["unknown_token_rate"] == pytest.approx(0.5)
    assert same["now"]["unknown_token_rate"] < 0.3
    assert len(other["now"]["share_by_category"]) < 5 < len(same["now"]["share_by_category"])
    assert other["psi_categories"]["reading"] == "changed"
    assert other["psi_categories"]["psi"] > 1.5 * same["psi_categories"]["psi"]


def test_finished_output_can_still_be_reported_on(tiny_bundle, catalogs, tmp_path, capsys):
    given = [str(catalogs[1]), str(tmp_path / "scored.csv"), "--bundle", str(tiny_bundle), "--quiet"]
    assert run_command(batch_command.main, given) == 0
    assert run_command(batch_command.main, [*given, "--report", str(tmp_path / "now.json")]) == 0
    assert "is finished already" in capsys.readouterr().out
    assert (tmp_path / "now.json").is_file() and (tmp_path / "now.md").is_file()


def test_a_bundle_without_figures_says_how_to_get_them_before_anything_is_scored(
    tiny_bundle, catalogs, tmp_path, capsys
):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    metrics = json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))
    del metrics["reference"]
    for content in (json.dumps(metrics), None):
        (bundle / "metrics.json").unlink()
        if content:
            (bundle / "metrics.json").write_text(content, encoding="utf-8")
        output = tmp_path / "scored.csv"
        given = [str(catalogs[0]), str(output), "--bundle", str(bundle), "--report", str(tmp_path / "report")]
        assert run_command(batch_command.main, given) == 2
        written = capsys.readouterr().err
        assert "training.evaluate" in written and "--update-bundle" in written and "Traceback" not in written
        assert not output.exists()
        (bundle / "metrics.json").touch()


def test_stability_index_by_hand():
    same = drift(figures({"1": 0.5, "2": 0.5}), figures({"1": 0.5, "2": 0.5}))
    assert same["psi_categories"]["psi"] == 0 and same["psi_categories"]["reading"] == "stable"
    moved = drift(figures({"1": 0.5, "2": 0.5}, 10**6), figures({"1": 0.75, "2": 0.25}, 10**6))
    # 0.25 ln 1.5 - 0.25 ln 0.5
    assert moved["psi_categories"]["psi"] == pytest.approx(0.2747, abs=1e-3)
    assert moved["psi_categories"]["reading"] == "changed"
    assert moved["psi_probabilities"]["reading"] == "stable"
    # Of twenty rows chance alone makes much.
    few = drift(figures({"1": 0.5, "2": 0.5}, 20), figures({"1": 0.65, "2": 0.35}, 20))
    assert few["psi_categories"]["reading"] == "stable" and few["psi_categories"]["by_chance"] == 0.1


def test_unknown_words_are_counted_as_the_model_reads_them(tiny_bundle):
    tokenizer = load_tokenizer(tiny_bundle / "tokenizer.json")
    counted = ScoredFigures(tokenizer, TextSettings(designation_tokens=3))
    counted.add_texts([Product("piscine xqzt pompe vbkk vbkk"), Product(), Product(description="<b>piscine</b>")])
    counted.add(2583, 0.95, "accept")
    counted.add(2583, 1.0, "review")
    counted.add(None, None, "review")
    found = counted.to_json()
    # The fourth and fifth word of the designation are not read.
    assert found["unknown_token_rate"] == pytest.approx(1 / 4)
    assert (found["rows"], found["scored"], found["share_to_review"]) == (3, 2, 0.5)
    assert found["mean_probability"] == pytest.approx(0.975) and found["probability_bins"][-1] == 1.0


def test_names_of_the_files(tmp_path):
    assert [file.name for file in report_files(tmp_path / "june.json")] == ["june.json", "june.md"]
    assert [file.name for file in report_files(tmp_path)] == ["drift.json", "drift.md"]
