"""The benchmark of whole catalogs with tiny work, and its parts where the right answer is known. No times."""

import importlib.util
import signal
import subprocess
import sys

import pytest

from benchmarks import process_monitor
from benchmarks.report import BenchmarkError
from benchmarks.scale import __main__ as scale
from rakuten_models.catalog.source import CatalogSource
from rakuten_models.classifier import STARTER_FOLDER
from rakuten_models.cli import run_command
from tests.support.app_server import REPOSITORY_ROOT


def test_the_benchmark_measures_every_way(tmp_path, capsys, monkeypatch):
    output = tmp_path / "scale.md"
    assert run_command(scale.main, ["--quick", "--without-keras", "--output", str(output)]) == 0, (
        capsys.readouterr().err
    )
    report = output.read_text(encoding="utf-8")
    has_ray = importlib.util.find_spec("ray") is not None
    for way in ("local", "pandas + our predict", *["Ray, 1 worker", "Ray, 2 workers"] * has_ray):
        assert report.count(f"\n| {way} |") == 2
    assert "Not run here: keras" in report and ("Not run here: ray" in report) != has_ray
    assert "### Texts" in report and "### Pictures with a text" in report and "Saturated first" in report
    assert "not run |" not in report


def test_the_keras_loop_scores_the_catalog(tiny_bundle, tmp_path):
    pandas = pytest.importorskip("pandas")
    scale.write_pictures(tmp_path / "in.csv", tmp_path / "images", 5)
    found = scale.measure_engines("keras", tiny_bundle, tmp_path / "in.csv", tmp_path / "out", tmp_path / "images")
    assert found.rows == 5 and found.seconds >= found.first_seconds and found.first_rows == 5
    scored = pandas.read_parquet(tmp_path / "out.parquet")
    assert scored["predicted_prdtypecode"].notna().all() and len(scored) == 5


def test_catalogs_are_as_long_as_asked_and_every_row_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "_DIFFERENT", 40)
    monkeypatch.setattr(scale, "_DIFFERENT_PHOTOS", 3)
    scale.write_texts(tmp_path / "in.csv", 100)
    (table,) = CatalogSource(tmp_path / "in.csv").chunks(1000)
    assert len(set(zip(*table.select(["designation", "description"]).to_pydict().values(), strict=True))) == 100
    scale.write_pictures(tmp_path / "pictures.csv", tmp_path / "images", 7)
    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == [f"{row}.jpg" for row in range(7)]


def test_rates_with_and_without_the_start():
    run = scale.Measured(rows=1100, seconds=20.0, first_seconds=10.0, first_rows=100, peak=0)
    assert run.rate == 55.0 and run.steady_rate == 100.0
    assert scale.Measured(100, 20.0, 20.0, 100, 0).steady_rate == 5.0


def test_cost_and_what_is_saturated():
    assert scale.cost_per_million(1e6 / 3600, cores=4, price=0.25) == pytest.approx(1.0)
    writer = scale.Writer(plan_rate=1e6, write_rate=50_000.0, row_bytes=200.0)
    report = "\n".join(scale.format_paper([("texts", 1000.0, 0.0)], writer, 2, 0.04))
    assert "2.8 h, 10,000 a second, writer 20% busy" in report
    assert "0.6 h, 50,000 a second, writer 100% busy" in report and "| 50 nodes |" in report
    assert "10 MB a second" in report


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory processes share")
def test_memory_of_all_processes_of_a_run_is_counted():
    inner = "import time; held = bytes(range(256)) * 400_000; time.sleep(3)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}]); print('end')"
    run = process_monitor.run_monitored([sys.executable, "-c", outer])
    assert (run.status, run.output, run.errors) == (0, ["end"], []) and 100_000_000 < run.peak < 300_000_000


def test_stages_and_bars_of_a_run_are_followed_and_it_is_killed_where_asked():
    script = (
        "import sys, time; print('catalog 5 rows', flush=True)\n"
        "for done in range(1, 100):\n"
        "    sys.stderr.write(f'\\rtexts:  {done}%|#####| {done}/100 [00:00]'); sys.stderr.flush(); time.sleep(0.05)\n"
    )
    command = [sys.executable, "-c", script]
    run = process_monitor.run_monitored(command, [("catalog ", "split")], "check", ("texts", 0.2))
    assert run.status == -signal.SIGKILL and list(run.stages) == ["check", "split", "texts"]
    name, done, total = run.bar
    assert (name, total) == ("texts", 100) and 20 <= done < 90 and run.first_seen["texts"][0] == 1
    assert 0 < run.longest["texts"] < 5 and run.stages["texts"].resident > 0


def test_a_catalog_of_the_challenges_layout_is_made_from_a_smaller_one(tiny_catalog, tmp_path):
    from benchmarks.scale.full_training import write_full_catalog
    from training.data.catalog import read_catalog

    source = read_catalog(tiny_catalog)
    folder = write_full_catalog(source, tmp_path / "full", rows=300)
    catalog = read_catalog(folder)
    assert len(catalog) == 300 and catalog.has_image.all() and catalog.has_text.mean() > 0.9
    assert set(catalog.table["prdtypecode"]) <= set(source.table["prdtypecode"].dropna())
    assert write_full_catalog(source, folder, rows=300) == folder


def test_a_way_that_fails_says_why(tmp_path):
    with pytest.raises(BenchmarkError, match=r"local failed on none\.csv: .*does not exist"):
        scale.measure_engines("local", STARTER_FOLDER, tmp_path / "none.csv", tmp_path / "out")
    assert subprocess.run([sys.executable, "-c", "import benchmarks.scale"], cwd=REPOSITORY_ROOT).returncode == 0
