"""What every engine rests on: chunks that are found by themselves, URLs, workers' sizes, faults with one sentence."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from rakuten_models import ProductClassifier
from rakuten_models.app.examples import EXAMPLES_FOLDER
from rakuten_models.batch import score_catalog
from rakuten_models.batch.__main__ import main
from rakuten_models.batch.ray_data.engine import tasks_of
from rakuten_models.batch.ray_data.worker import actor_size, bundle_on_this_machine
from rakuten_models.bundle.config import SERVING_FILES
from rakuten_models.catalog.source import CatalogSource, read_header
from rakuten_models.cli import run_command
from rakuten_models.errors import BatchError, BundleError
from tests.support.app_server import REPOSITORY_ROOT, app_environment

PICTURE = (EXAMPLES_FOLDER / "pool.jpg").read_bytes()


def write_hostile_csv(path, generator):
    """Rows over several lines, empty lines, a byte order mark, broken quotation marks, bytes that are no UTF-8."""
    kinds = [
        b"1,livre,roman\n",
        b'2,"sur\ndeux lignes","et\n\nencore"\n',
        b"\n",
        b'3,"ouvert,\n',
        b"4,caf\xe9,\n",
        b"5,trop,de,champs\r\n",
        b'6,"a ""b"" c",\n',
        b"7\n",
    ]
    path.write_bytes(b"\xef\xbb\xbfid,designation,description\n" + b"".join(generator.choices(kinds, k=60)))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("seed", range(6))
def test_a_planned_chunk_is_the_one_that_comes_in_turn(tmp_path, kind, seed):
    generator = random.Random(seed)
    for number in range(3):
        file = tmp_path / f"{number}.{kind}"
        rows = [{"designation": f"é{number} {row}", "n": row} for row in range(generator.randint(0, 30) + 1)]
        if kind == "csv":
            write_hostile_csv(file, generator)
        elif kind == "jsonl":
            pandas.DataFrame(rows).to_json(file, orient="records", lines=True, force_ascii=False)
            file.write_text(file.read_text() + "\n\nno JSON\n{}\n")
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, row_group_size=generator.randint(1, 12))
    catalog = CatalogSource(tmp_path)
    for chunk_rows in (1, 4, 7, 100):
        tables = list(catalog.chunks(chunk_rows))
        plan = catalog.plan(chunk_rows)
        assert [chunk.rows for chunk in plan] == [len(table) for table in tables]
        alone = [table for chunk in plan for table in catalog.read([chunk])]
        assert [each.equals(table) for each, table in zip(alone, tables, strict=True)] == [True] * len(plan)
        for done in (0, 1, len(plan) // 2, len(plan)):
            tasks = tasks_of(plan, done)
            numbers = []
            for task in tasks:
                chunks = [type(plan[0])(*each) for each in json.loads(task["chunks"])]
                numbers += range(task["number"], task["number"] + len(chunks))
                found = list(catalog.read(chunks))
                assert found == tables[task["number"] :][: len(chunks)]
            assert numbers == list(range(done, len(plan)))


def test_a_file_that_shrinks_after_it_was_planned_is_an_error(tmp_path):
    file = tmp_path / "in.csv"
    file.write_text("designation\n" + "livre\n" * 10)
    catalog = CatalogSource(file)
    plan = catalog.plan(4)
    file.write_text("designation\n" + "livre\n" * 9)
    with pytest.raises(BatchError, match="was changed while it was scored"):
        list(catalog.read(plan[2:]))
    file.unlink()
    with pytest.raises(BatchError, match="where every worker can read it"):
        list(catalog.read(plan[:1]))


@pytest.mark.parametrize(
    ("cpus", "workers", "expected"),
    [
        ([2], None, (1, 1, 2)),
        ([2], 2, (2, 0.75, 1)),
        ([1], None, (1, 0.5, 1)),
        ([1, 1], 2, (2, 0.5, 1)),
        ([8], None, (2, 3, 4)),
        ([64] * 10, None, (160, 3, 4)),
        ([4, 0], 1, (1, 3, 4)),
    ],
)
def test_workers_leave_room_on_every_node(cpus, workers, expected):
    assert actor_size([{"CPU": each} for each in cpus], workers) == expected
    assert sum(int((each - 0.5) / expected[1]) for each in cpus if each) >= expected[0]


def test_too_many_workers_get_a_sentence():
    with pytest.raises(BatchError, match="100 workers find no room on nodes with 2 CPUs; ask for fewer"):
        actor_size([{"CPU": 2}], 100)
    with pytest.raises(BatchError, match="no CPUs"):
        actor_size([{"GPU": 1}])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_neighbours_take_other_cores(tmp_path):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core only")
    code = (
        "import os, sys; from rakuten_models.batch.ray_data.worker import take_cores; kept = take_cores(1); "
        "print(sorted(os.sched_getaffinity(0)), flush=True); sys.stdin.read()"
    )
    options = {"cwd": REPOSITORY_ROOT, "env": app_environment(TMPDIR=str(tmp_path)), "text": True}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        subprocess.Popen([sys.executable, "-c", code], **options, **pipes) as first,
        subprocess.Popen([sys.executable, "-c", code], **options, **pipes) as second,
    ):
        cores = [json.loads(process.stdout.readline()) for process in (first, second)]
        assert [len(each) for each in cores] == [1, 1] and cores[0] != cores[1]
        first.stdin.close()
        first.wait(30)
        # What the first one had is free again with its end.
        with subprocess.Popen([sys.executable, "-c", code], **options, **pipes) as third:
            assert json.loads(third.stdout.readline()) == cores[0]
            third.stdin.close()
        second.stdin.close()


def test_the_bundle_of_a_machine_is_written_once_and_mended(starter, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = {name: (starter.folder / name).read_bytes() for name in SERVING_FILES}
    folder = bundle_on_this_machine(files)
    written = (folder / "config.json").stat().st_ino
    assert bundle_on_this_machine(files) == folder and (folder / "config.json").stat().st_ino == written
    (folder / "text_model.tflite").write_bytes(b"half")
    assert ProductClassifier(bundle_on_this_machine(files)).predict
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match="lacks tokenizer.json"):
        bundle_on_this_machine({name: files[name] for name in files if name != "tokenizer.json"})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "spark"}, "no engine 'spark'; expected local or ray"),
        ({"workers": 2}, "choose the engine ray"),
        ({"engine": "ray", "workers": 0}, "0 workers"),
        ({"picture_seconds": 0}, "0 s for a picture"),
    ],
)
def test_engines_that_do_not_exist_are_refused(starter, tmp_path, options, sentence):
    (tmp_path / "in.csv").write_text("designation\nlivre\n")
    with pytest.raises(BatchError, match=sentence):
        score_catalog(tmp_path / "in.csv", tmp_path / "out", classifier=starter, **options)
    assert not (tmp_path / "out").exists()


def test_without_ray_the_engine_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "in.csv").write_text("designation\nlivre\n")
    arguments = [str(tmp_path / "in.csv"), str(tmp_path / "out"), "--engine", "ray", "--quiet"]
    assert run_command(main, arguments) == 2
    error = capsys.readouterr().err
    assert "pip install .[scale]" in error and error.count("\n") == 1
    # The other engine takes up the output that this one only began.
    assert run_command(main, [arguments[0], arguments[1], "--quiet"]) == 0


def test_without_its_library_a_url_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(BatchError, match=r"pip install \.\[scale\]"):
        read_header("s3://bucket/catalog.csv")


def test_an_output_under_a_url_is_refused(starter, tmp_path):
    (tmp_path / "in.csv").write_text("designation\nlivre\n")
    with pytest.raises(BatchError, match="give a local folder"):
        score_catalog(tmp_path / "in.csv", "s3://bucket/out", classifier=starter)


def test_a_file_url_is_its_path(starter, tmp_path):
    (tmp_path / "in.csv").write_text("designation\nlivre\n")
    summary = score_catalog((tmp_path / "in.csv").as_uri(), tmp_path / "out.csv", classifier=starter)
    assert summary.rows == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "glob", "folder"])
def test_a_catalog_under_a_url_gives_what_a_local_one_gives(starter, tmp_path, kind):
    upath = pytest.importorskip("upath", reason="needs requirements-scale.txt")
    local = tmp_path / "catalog"
    local.mkdir()
    table = pandas.DataFrame({"designation": [f"livre {n}" for n in range(20)], "image": ["pool.jpg", None] * 10})
    suffix = kind if kind in ("jsonl", "parquet") else "csv"
    for number in range(2):
        file = local / f"{number}.{suffix}"
        if suffix == "csv":
            table.to_csv(file, index=False)
        elif suffix == "jsonl":
            table.to_json(file, orient="records", lines=True)
        else:
            table.to_parquet(file)
    (local / "pool.jpg").write_bytes(PICTURE)
    remote = upath.UPath(f"memory://{tmp_path.name}/{kind}")
    remote.mkdir(parents=True, exist_ok=True)
    for file in local.iterdir():
        (remote / file.name).write_bytes(file.read_bytes())
    results = []
    for place, name in ((str(local), "local"), (str(remote), "remote")):
        source = {"folder": place, "glob": f"{place}/*.csv"}.get(kind, f"{place}/0.{suffix}")
        output = tmp_path / f"{name}.csv"
        summary = score_catalog(source, output, classifier=starter, images=place, chunk_rows=7)
        assert summary.rows == (40 if kind in ("folder", "glob") else 20) and not summary.left_out_pictures
        results.append(output.read_bytes())
    assert results[0] == results[1]
    assert score_catalog(source, output, classifier=starter, images=place, chunk_rows=7).already_finished
    changed = remote / f"0.{suffix}"
    changed.write_bytes(changed.read_bytes() * 1 + (b"" if suffix == "parquet" else b"\n"))
    with pytest.raises(BatchError, match="holds the scores of another input"):
        score_catalog(source, output, classifier=starter, images=place, chunk_rows=7)


def test_pictures_that_time_out_are_left_out_with_the_reason(starter, tmp_path, picture_server, capsys):
    for name in ("upath", "aiohttp"):
        pytest.importorskip(name, reason="needs requirements-scale.txt")
    names = ["pool.jpg", "slow.jpg", "secret.jpg", "none.jpg", "../up.jpg", "/etc/passwd", "deep/pool.jpg"]
    source = tmp_path / "in.csv"
    source.write_text("designation,image\n" + "".join(f"livre,{name}\n" for name in names))
    arguments = [str(source), str(tmp_path / "out.csv"), "--images", picture_server, "--picture-timeout", "0.5"]
    assert main([*arguments, "--quiet"]) == 0
    lines = capsys.readouterr().out
    with (tmp_path / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    errors = [row["predicted_error"] for row in rows]
    assert errors[0] == errors[6] == "" and 0 < float(rows[0]["predicted_image_weight"]) < 1
    assert errors[1].startswith("The picture 'slow.jpg' did not arrive within 0.5 s; ")
    assert errors[2].startswith("The picture 'secret.jpg' cannot be fetched (403")
    assert "not in the images folder" in errors[3]
    assert "leads out" in errors[4] and "leads out" in errors[5]
    assert all(row["predicted_prdtypecode"] for row in rows)
    assert "picture left out, 1: the picture did not arrive in time" in lines
    assert "picture left out, 1: the picture cannot be fetched" in lines


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (b"no Parquet", "2.parquet is no readable Parquet file"),
        ({"designation": ["livre"]}, r"2.parquet has other columns than 1.parquet \(without 'n: int64'\)"),
        ({"designation": ["livre"], "n": ["1"]}, "without 'n: int64' and with 'n: "),
        ({"n": [1], "designation": ["livre"]}, "in another order"),
    ],
)
def test_parts_that_do_not_go_together_are_named_before_anything_is_done(starter, tmp_path, second, words):
    parts = tmp_path / "parts"
    parts.mkdir()
    pandas.DataFrame({"designation": ["livre"], "n": [1]}).to_parquet(parts / "1.parquet")
    if isinstance(second, bytes):
        (parts / "2.parquet").write_bytes(second)
    else:
        pandas.DataFrame(second).to_parquet(parts / "2.parquet")
    with pytest.raises(BatchError, match=words):
        score_catalog(parts, tmp_path / "out", classifier=starter)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder on a disk of a few hundred kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_a_full_disk_is_one_sentence_and_nothing_done_is_lost(starter, tmp_path, tiny_disk, name):
    source = tmp_path / "in.csv"
    source.write_text("designation,notes\n" + "".join(f"livre {n},{os.urandom(200).hex()}\n" for n in range(1500)))
    code = (
        "import functools, sys; from rakuten_models.batch import __main__ as batch; "
        "batch.BatchSettings = functools.partial(batch.BatchSettings, chunk_rows=100); sys.exit(batch.command())"
    )
    arguments = [sys.executable, "-c", code, str(source), str(tiny_disk / name), "--quiet"]
    options = {"cwd": REPOSITORY_ROOT, "env": app_environment(), "capture_output": True, "text": True}
    done = subprocess.run(arguments, **options)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(sentences) == 1 and "free some space and run the command again" in sentences[0]
    subprocess.run(["mount", "-o", "remount,size=3m", str(tiny_disk)], check=True)
    kept = sum(1 for _ in Path(tiny_disk).rglob("part-*")) if name == "out" else None
    assert kept is None or kept > 0
    done = subprocess.run(arguments, **options)
    assert done.returncode == 0 and "1,500 rows: 1,500 scored" in done.stdout
    score_catalog(source, tmp_path / name, classifier=starter, chunk_rows=100)
    if name == "out":
        for part in (tmp_path / name).glob("part-*"):
            assert (tiny_disk / name / part.name).read_bytes() == part.read_bytes()
    else:
        assert (tiny_disk / name).read_bytes() == (tmp_path / name).read_bytes()
