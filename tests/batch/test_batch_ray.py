"""The engine ray: the same bytes as the local one, whatever dies meanwhile. Skipped where Ray is not installed."""

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas
import pyarrow.dataset
import pytest

from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.batch.__main__ import main
from rakuten_models.batch.ray_data.cluster import cluster
from rakuten_models.cli import run_command
from rakuten_models.errors import BatchCancelled, BatchError
from tests.batch.test_batch import repeated_csv, rows_done, written
from tests.support.app_server import REPOSITORY_ROOT, app_environment
from tests.support.tiny_catalog import write_tiny_catalog

pytest.importorskip("ray.data", reason="needs requirements-scale.txt")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    """Ray on this machine, started once: what every call without an address would start for itself."""
    os.environ["PYTHONPATH"] = str(REPOSITORY_ROOT)
    with cluster(None) as ray:
        yield ray


def both(source, folder, name, **options):
    """What each engine writes for the same catalog, by file; and the summaries."""
    found, summaries = [], []
    for engine in ("local", "ray"):
        output = folder / engine / name
        summaries.append(score_catalog(source, output, engine=engine, **options))
        found.append(written(output.parent))
    return found, summaries


@pytest.mark.parametrize("name", ["out", "out.csv"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folder"])
def test_the_same_bytes_as_the_local_engine(laptop, starter, tmp_path, kind, name):
    catalog = write_tiny_catalog(tmp_path / "catalog", layout="csv", rows_per_category=3)
    table = pandas.read_csv(catalog, dtype=str, keep_default_na=False)
    source = tmp_path / f"in.{kind}"
    if kind == "csv":
        source.write_bytes(catalog.read_bytes() + b'bad,row\n\xff\xfe,x,y\n"open\n')
    elif kind == "jsonl":
        table.to_json(source, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(source, row_group_size=13)
    else:
        source.mkdir()
        for number in range(3):
            table.iloc[number * 30 : number * 30 + 30].to_csv(source / f"{number}.csv", index=False)
    (local, through_ray), (first, second) = both(
        source, tmp_path, name, classifier=starter, images=catalog.parent, chunk_rows=10, spreadsheet_safe=True
    )
    assert local == through_ray and len(local) >= 2
    assert first.rows == second.rows >= 81 and first.failed == second.failed
    assert first.per_category == second.per_category and first.to_review == second.to_review


def test_pictures_in_a_zip_and_within_the_catalog(laptop, starter, tmp_path):
    catalog = write_tiny_catalog(tmp_path / "catalog", layout="csv", categories=4, rows_per_category=6)
    table = pandas.read_csv(catalog, dtype=str, keep_default_na=False)
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for image in filter(None, table["image"]):
            packed.write(catalog.parent / image, image)
    table["image"] = [(catalog.parent / image).read_bytes() if image else None for image in table["image"]]
    table.to_parquet(tmp_path / "bytes.parquet")
    for source, images in ((catalog, archive), (tmp_path / "bytes.parquet", None)):
        folder = tmp_path / source.suffix
        (local, through_ray), _ = both(source, folder, "out", classifier=starter, images=images, chunk_rows=7)
        assert local == through_ray
        rows = pyarrow.dataset.dataset(folder / "ray" / "out", format="parquet").to_table().to_pylist()
        assert any(0 < row["predicted_image_weight"] <= 1 for row in rows)


def test_the_revision_of_the_bundle_is_in_every_row(laptop, starter, tmp_path):
    source, revision = repeated_csv(tmp_path / "in.csv", 30), "0123abcdef" * 4
    pinned = ProductClassifier(starter.folder, revision)
    (local, through_ray), _ = both(source, tmp_path, "out.csv", classifier=pinned)
    assert local == through_ray
    assert pandas.read_csv(tmp_path / "ray" / "out.csv")["predicted_bundle"].unique().tolist() == [revision]


def test_an_empty_catalog(laptop, starter, tmp_path):
    (tmp_path / "in.csv").write_text("designation\n")
    (local, through_ray), _ = both(tmp_path / "in.csv", tmp_path, "out", classifier=starter)
    assert local == through_ray


@pytest.mark.parametrize("order", [("local", "ray"), ("ray", "local"), ("ray", "ray")])
def test_one_engine_goes_on_where_the_other_was_stopped(laptop, starter, tmp_path, order):
    source = repeated_csv(tmp_path / "in.csv", 400)
    score_catalog(source, tmp_path / "whole" / "out", classifier=starter, chunk_rows=50)
    output, seen = tmp_path / "stopped" / "out", []
    options = {"classifier": starter, "chunk_rows": 50, "progress": seen.append}
    with pytest.raises(BatchCancelled):
        score_catalog(source, output, engine=order[0], cancelled=lambda: seen[-1].done >= 200, **options)
    before = seen[-1].done
    kept = len(list(output.glob("part-*")))
    assert 3 <= kept <= 4
    seen.clear()
    score_catalog(source, output, engine=order[1], **options)
    assert before - 50 <= seen[0].done == kept * 50 and seen[-1].done == 400
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


def test_a_killed_command_loses_and_doubles_nothing(starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 12_000)
    score_catalog(source, tmp_path / "whole" / "out", classifier=starter)
    output = tmp_path / "killed" / "out"
    command = [sys.executable, "-m", "rakuten_models.batch", str(source), str(output), "--engine", "ray", "--quiet"]
    process = subprocess.Popen(command, cwd=REPOSITORY_ROOT, env=app_environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and rows_done(output / "_state.json") < 4000:
        time.sleep(0.01)
    time.sleep(random.Random(0).uniform(0, 0.1))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=app_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "12,000 rows: 12,000 scored" in done.stdout
    assert written(tmp_path / "killed") == written(tmp_path / "whole")


def on_two_nodes(what, source, output):
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.ray_cluster", what, str(source), str(output)],
        cwd=REPOSITORY_ROOT,
        env=app_environment(PYTHONPATH=str(REPOSITORY_ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("what", ["kill", "worker"])
def test_a_node_or_a_worker_is_killed_in_mid_run_and_every_row_comes_out_once(starter, tmp_path, what):
    source = repeated_csv(tmp_path / "in.csv", 8000)
    seen = on_two_nodes(what, source, tmp_path / "ray" / "out")
    assert any("Scorer" in name for name in seen["killed"])
    assert ("raylet" in seen["killed"], seen["alive"]) == ((True, 1) if what == "kill" else (False, 2))
    assert 2000 < seen["at"] < 6000 and seen["rows"] == seen["scored"] == 8000
    score_catalog(source, tmp_path / "local" / "out", classifier=starter, chunk_rows=200)
    assert written(tmp_path / "ray") == written(tmp_path / "local")
    ids = pyarrow.dataset.dataset(tmp_path / "ray" / "out", format="parquet").to_table()["id"].to_pylist()
    assert ids == [str(number) for number in range(8000)]


def test_memory_stays_bounded_with_a_slow_writer(tmp_path):
    """A catalog several times as large as what the nodes may hold goes through them without being put on the disk."""
    from tests.support.ray_cluster import STORE_BYTES

    generator, source = np.random.default_rng(0), tmp_path / "catalog"
    source.mkdir()
    for part in range(10):
        notes = [base64.b64encode(generator.bytes(30_000)).decode() for _ in range(1000)]
        table = pandas.DataFrame({"designation": [f"livre {part} {n}" for n in range(1000)], "notes": notes})
        table.to_parquet(source / f"{part}.parquet", row_group_size=200)
    size = sum(file.stat().st_size for file in source.iterdir())
    assert size > 3 * STORE_BYTES
    seen = on_two_nodes("slow", source, tmp_path / "out")
    assert seen["rows"] == 10_000
    assert 0 < seen["store_bytes"] <= STORE_BYTES and seen["spilled_bytes"] < 0.2 * size
    assert seen["writer_bytes"] < 600_000_000


def test_a_worker_that_cannot_have_the_bundle_says_so(starter, tmp_path):
    """Its folder for temporary files is a file: nothing can be unpacked there. Nothing that was done is lost."""
    source = repeated_csv(tmp_path / "in.csv", 300)
    output = tmp_path / "out"
    seen = []
    options = {"classifier": starter, "chunk_rows": 50}
    with pytest.raises(BatchCancelled):
        score_catalog(source, output, progress=seen.append, cancelled=lambda: seen[-1].done >= 100, **options)
    kept = written(output)
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / f"rakuten-bundles-{os.getuid()}").write_text("in the way")
    command = [sys.executable, "-c", BROKEN_WORKERS, str(source), str(output), str(tmp_path / "temp")]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=app_environment(), capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert len(errors) == 1 and "On the worker " in errors[0] and "in the way" not in errors[0]
    assert "what is done is kept, and the same command goes on from there" in errors[0]
    assert written(output) == kept
    score_catalog(source, output, **options)
    assert pyarrow.dataset.dataset(output, format="parquet").count_rows() == 300


BROKEN_WORKERS = """
import os, sys, ray
ray.init(address="local", runtime_env={"env_vars": {"TMPDIR": sys.argv[3]}}, log_to_driver=False, logging_level="ERROR")
from rakuten_models import ProductClassifier
from rakuten_models.batch import score_catalog
from rakuten_models.cli import run_command
def main(_):
    score_catalog(sys.argv[1], sys.argv[2], classifier=ProductClassifier.from_pretrained(), engine="ray", chunk_rows=50)
sys.exit(run_command(main))
"""


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_part_that_is_damaged_inside_costs_nothing_that_was_done(laptop, starter, tmp_path, engine):
    parts = tmp_path / "parts"
    parts.mkdir()
    words = [" ".join(random.Random(n).choices(["livre", "piscine", "jouet"], k=9)) for n in range(300)]
    for number in range(2):
        pandas.DataFrame({"designation": words}).to_parquet(parts / f"{number}.parquet", compression="zstd")
    whole = (parts / "1.parquet").read_bytes()
    (parts / "1.parquet").write_bytes(whole[:40] + bytes(400) + whole[440:])
    options = {"classifier": starter, "engine": engine, "chunk_rows": 100}
    with pytest.raises(BatchError, match=r"1\.parquet is no readable Parquet file"):
        score_catalog(parts, tmp_path / "out", **options)
    assert pyarrow.dataset.dataset(tmp_path / "out", format="parquet").count_rows() == 300
    # The catalog is another one when the part is whole again, so it asks before it begins anew.
    (parts / "1.parquet").write_bytes(whole)
    with pytest.raises(BatchError, match="holds the scores of another input"):
        score_catalog(parts, tmp_path / "out", **options)
    assert score_catalog(parts, tmp_path / "out", overwrite=True, **options).rows == 600


def test_another_jobs_output_is_refused(laptop, starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-000000.parquet").write_bytes(b"of another job")
    before = written(tmp_path)
    with pytest.raises(BatchError, match="is not empty and no scored catalog"):
        score_catalog(source, tmp_path / "out", classifier=starter, engine="ray")
    assert written(tmp_path) == before


def test_pictures_that_time_out_in_a_worker(laptop, starter, tmp_path, picture_server):
    source = tmp_path / "in.csv"
    source.write_text("designation,image\nlivre,pool.jpg\nlivre,slow.jpg\nlivre,none.jpg\n")
    options = {"classifier": starter, "images": picture_server, "picture_seconds": 0.5}
    (local, through_ray), (_, summary) = both(source, tmp_path, "out.csv", **options)
    assert local == through_ray
    assert summary.scored == 3 and summary.left_out_pictures == {
        "the picture did not arrive in time": 1,
        "the picture was not found": 1,
    }


def test_a_wrapped_classifier_cannot_be_sent(starter, tmp_path):
    class Wrapper:
        def __getattr__(self, name):
            return getattr(starter, name)

    source = repeated_csv(tmp_path / "in.csv", 5)
    with pytest.raises(BatchError, match="give the ProductClassifier itself"):
        score_catalog(source, tmp_path / "out", classifier=Wrapper(), engine="ray")


def test_the_command_runs_on_a_cluster_by_its_address(laptop, starter, tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 500)
    command = [sys.executable, "-m", "rakuten_models.batch", str(source), str(tmp_path / "ray" / "out")]
    address = laptop.get_runtime_context().gcs_address
    command += ["--engine", "ray", "--address", address, "--workers", "1", "--top", "2"]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=app_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "500 rows: 500 scored" in done.stdout and "500/500" in done.stderr
    score_catalog(source, tmp_path / "local" / "out", classifier=starter, top=2)
    assert written(tmp_path / "ray") == written(tmp_path / "local")


def test_a_cluster_that_is_not_there_gets_one_sentence(tmp_path):
    source = repeated_csv(tmp_path / "in.csv", 5)
    command = [sys.executable, "-m", "rakuten_models.batch", str(source), str(tmp_path / "out"), "--quiet"]
    command += ["--engine", "ray", "--address", "127.0.0.1:1"]
    done = subprocess.run(command, cwd=REPOSITORY_ROOT, env=app_environment(), capture_output=True, text=True)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(errors) == 1 and "127.0.0.1:1 cannot be used" in errors[0]
    assert "Traceback" not in done.stderr


def test_too_many_workers_are_refused_by_the_command(laptop, tmp_path, capsys):
    source = repeated_csv(tmp_path / "in.csv", 5)
    arguments = [str(source), str(tmp_path / "out"), "--engine", "ray", "--workers", "5000", "--quiet"]
    assert run_command(main, arguments) == 2
    assert "5000 workers find no room" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
