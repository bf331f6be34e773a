"""Uploaded files, ZIPs and downloads: names, folders, archive bombs and spreadsheet formulas."""

import contextlib
import csv
import os
import random
import re
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from rakuten_models.app.catalog_job import write_labels
from rakuten_models.catalog import image_store
from rakuten_models.catalog.image_store import open_pictures
from rakuten_models.errors import ProductError, RakutenModelsError
from tests.support.app_client import PICTURE, upload


def test_an_uploads_name_stays_a_name(web, app_folder):
    for name in ("../../../escaped.jpg", "/abs/escaped.jpg", "..\\..\\escaped.jpg", "a/../../escaped.jpg", ".escaped"):
        answer = upload(web, name)
        if answer.status_code == 200:
            path = Path(answer.json()[0]).resolve()
            assert path.is_relative_to((app_folder / "uploads").resolve()) and path.is_file()
    outside = [
        path for path in app_folder.rglob("*escaped*") if not path.resolve().is_relative_to(app_folder / "uploads")
    ]
    assert not outside and not list(app_folder.parent.glob("*escaped*"))


def test_a_folder_of_uploads_is_not_listed_and_a_name_is_not_guessed(web):
    path = Path(upload(web, "mine.csv", b"designation\nmy own secret\n").json()[0])
    assert re.fullmatch("[0-9a-f]{64}", path.parent.name)
    for guess in (
        path.parent,
        path.parent.parent,
        path.parent / "other.csv",
        path.parent.parent / ("0" * 64) / path.name,
    ):
        assert web.get(f"/gradio_api/file={guess}").status_code == 403
    answer = web.get(f"/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "private, no-store"


def test_the_apps_files_lie_in_folders_of_its_own(web, app_folder):
    own = list((app_folder / "uploads").glob("rakuten-uploads-*"))
    assert len(own) == 1 and own[0].stat().st_mode & 0o077 == 0
    foreign = app_folder / "uploads" / "of_another_app.txt"
    foreign.write_text("another app's")
    assert web.get(f"/gradio_api/file={foreign}").status_code == 403
    foreign.unlink()


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


SLIPS = [
    "../a.jpg",
    "..\\a.jpg",
    "/etc/a.jpg",
    "C:\\a.jpg",
    "C:/a.jpg",
    "x/../../a.jpg",
    "\\\\host\\a.jpg",
    "a\0.jpg",
    "~/a.jpg",
]


def test_no_name_in_a_zip_becomes_a_path(tmp_path):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    pictures = open_pictures(
        zip_of(tmp_path / "a.zip", [*((name, name.encode()) for name in SLIPS), (link, b"/etc/passwd")])
    )
    before = sorted(tmp_path.rglob("*"))
    for name in SLIPS:
        with contextlib.suppress(ProductError):
            assert pictures.named(name).decode() in SLIPS
    # A link is its own text, never what it points to.
    assert pictures.named("link.jpg") == b"/etc/passwd"
    assert sorted(tmp_path.rglob("*")) == before
    pictures.close()


def test_bombs_are_refused_each_with_a_sentence(tmp_path, monkeypatch):

    monkeypatch.setattr(image_store, "MAX_MEMBERS", 100)
    many = zip_of(tmp_path / "many.zip", [(f"{number}.jpg", b"") for number in range(image_store.MAX_MEMBERS + 1)])
    with pytest.raises(RakutenModelsError, match="members"):
        open_pictures(many)
    member = zip_of(tmp_path / "large.zip", [("a.jpg", b"\0" * 60_000_000)])
    with pytest.raises(ProductError, match="more than 50 MB"):
        open_pictures(member).named("a.jpg")
    # A member whose size in the list is a lie, and members that lie over one another.
    content = bytearray(member.read_bytes())
    position = content.index(b"PK\x01\x02") + 24
    content[position : position + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "lie.zip").write_bytes(content)
    with pytest.raises(ProductError):
        open_pictures(tmp_path / "lie.zip").named("a.jpg")
    # A member without a name in the list.
    content = bytearray(member.read_bytes())
    position = content.index(b"PK\x01\x02")
    content[position + 28 : position + 30] = bytes(2)
    del content[position + 46 : position + 46 + len("a.jpg")]
    end = content.index(b"PK\x05\x06")
    content[end + 12 : end + 16] = (end - position).to_bytes(4, "little")
    (tmp_path / "nameless.zip").write_bytes(content)
    with pytest.raises(RakutenModelsError, match="has no name"):
        open_pictures(tmp_path / "nameless.zip")
    inner = zip_of(tmp_path / "inner.zip", [("a.jpg", PICTURE.read_bytes())])
    nested = open_pictures(zip_of(tmp_path / "nested.zip", [("a.jpg", inner.read_bytes())]))
    assert nested.named("a.jpg")[:2] == b"PK"
    with pytest.raises(RakutenModelsError, match="lie over one another"):
        open_pictures(overlapping(tmp_path / "overlapping.zip"))


def overlapping(path):
    """Many members that are one and the same bytes of the file."""
    zip_of(path, [("a.jpg", b"\0" * 1_000_000)])
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    count = 50
    entries = b"".join(entry.replace(b"a.jpg", b"%05d" % number) for number in range(count))
    tail = bytearray(content[end:])
    tail[8:12] = count.to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    path.write_bytes(content[:start] + entries + bytes(tail))
    return path


@pytest.mark.trust
def test_generated_zips_are_read_or_refused_with_a_sentence(tmp_path, cases):
    random_ = random.Random(11)
    whole = zip_of(
        tmp_path / "whole.zip", [(name, os.urandom(200) + b"\0" * 2000) for name in ("a.jpg", "b/c.jpg", "../d.jpg")]
    ).read_bytes()
    path = tmp_path / "mutated.zip"
    for _ in range(cases(5000)):
        content = bytearray(whole)
        for _ in range(random_.randint(1, 8)):
            kind = random_.random()
            position = random_.randrange(len(content))
            if kind < 0.6:
                content[position] = random_.randrange(256)
            elif kind < 0.8:
                del content[position : position + random_.randint(1, 40)]
            else:
                content[position:position] = random_.randbytes(random_.randint(1, 40))
            content = content or bytearray(b"PK")
        path.write_bytes(content)
        try:
            pictures = open_pictures(path)
        except RakutenModelsError as error:
            assert re.match("[^\n]+[.]$", str(error)), str(error)
            continue
        for name in ("a.jpg", "b/c.jpg", "d.jpg", "../d.jpg"):
            try:
                assert len(pictures.named(name)) < 1_000_000
            except ProductError as error:
                assert "\n" not in str(error)
        pictures.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mutated.zip", "whole.zip"]


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"]


def is_formula(cell):
    return bool(re.match("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", cell)) and not re.fullmatch(
        r"[+-]?\d+(?:[.,]\d+)?", cell
    )


def test_no_downloaded_cell_is_a_formula(address, tmp_path):
    """The scored file and the corrections, whose texts a spreadsheet opens."""
    file = tmp_path / "catalog.csv"
    names = ["=HYPERLINK(1)", "description", "@photo"]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows([formula, formula, "-5"] for formula in FORMULAS)
    with contextlib.closing(Client(address, verbose=False)) as client:
        scored, counts = client.predict(
            handle_file(file), None, names[0], "description", "", api_name="/classify_batch"
        )
    assert counts["scored"] == len(FORMULAS)
    with open(scored, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows[0][:3] == ["'=HYPERLINK(1)", "description", "'@photo"]
    assert not [cell for row in rows for cell in row if is_formula(cell)]
    assert [row[0] for row in rows[1:]] == ["'" + formula for formula in FORMULAS]
    assert {row[2] for row in rows[1:]} == {"-5"}


def test_corrections_are_no_formulas_and_still_a_catalog(tmp_path):
    from rakuten_models.app.catalog_summary import ScoredRow
    from training.data.catalog import read_catalog

    rows = [
        ScoredRow(number, str(number), f"{formula} chaise", formula, "", ((10, 0.5),), "review")
        for number, formula in enumerate(FORMULAS, start=1)
    ]
    path = write_labels(tmp_path, rows, {row.number: (10, 1560)[row.number % 2] for row in rows})
    with path.open(newline="", encoding="utf-8") as stream:
        assert not [cell for row in csv.reader(stream) for cell in row if is_formula(cell)]
    assert read_catalog(path).table["prdtypecode"].tolist() == [1560, 10] * (len(rows) // 2)
