"""How much a visitor may send, and how much of the disk all of them get."""

import contextlib
import socket
import time
from pathlib import Path

import httpx
import pytest

from rakuten_models.app import launch, page
from rakuten_models.app.security import disk_quota
from rakuten_models.app.security.disk_quota import DiskLimits, DiskQuota
from rakuten_models.app.security.gradio_patches import MAX_FILES
from rakuten_models.classifier import STARTER_FOLDER
from tests.support.app_client import FILE, PICTURE, call, get_raw, upload
from tests.support.app_server import free_port


def test_a_request_that_is_too_large_is_refused_before_it_comes(address):
    for path, size in (("/gradio_api/upload", 300 << 20), ("/gradio_api/queue/join", 50 << 20)):
        answer = get_raw(address, path, "POST", [f"Content-Length: {size}", "Content-Type: application/json"])
        assert answer.split()[1] == "413" and "send at most" in answer


def test_a_request_without_a_size_is_cut_off(web):
    def endless():
        for _ in range(60):
            yield b"x" * (1 << 20)

    answer = web.post("/gradio_api/queue/join", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code in (400, 413)


def test_a_form_holds_few_files_and_no_large_fields(web, app_folder):
    """CVE-2024-8966, 2024-10624: forms that take memory, time or all room on the disk."""
    many = [("files", (f"{number}.txt", b"x")) for number in range(MAX_FILES + 1)]
    assert web.post("/gradio_api/upload", files=many).status_code == 400
    large = web.post("/gradio_api/upload", files={"files": ("a.txt", b"x")}, data={"text": "x" * (2 << 20)})
    assert large.status_code == 413
    boundary = "-" * 1000
    for body in (b"--" + boundary.encode() + b"\r\n" + b"-" * 100_000, b"\r\n" * 100_000):
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        assert web.post("/gradio_api/upload", content=body, headers=headers, timeout=20).status_code < 500
    # What broke off has left nothing.
    assert not [path for path in (app_folder / "uploads").glob("*/tmp*") if path.is_file()]


def test_an_upload_that_breaks_off_leaves_nothing(address, app_folder):
    host, port = address.removeprefix("http://").split(":")
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 1000000\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="files"; filename="half.jpg"\r\n\r\n'
    )
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(head.encode() + b"x" * 200_000)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            connection.recv(1000)
    assert wait_until(lambda: not [path for path in (app_folder / "uploads").glob("*/tmp*") if path.is_file()])


def wait_until(holds, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


@pytest.fixture
def small_demo(monkeypatch, tmp_path):
    """The app in this process, with room for next to nothing, and a folder in which no other test's files lie."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(page, "own_upload_folder", lambda: tmp_path)
    monkeypatch.setattr(
        page, "DiskQuota", lambda **settings: DiskQuota(DiskLimits(1_000_000, 100, 600_000, 1), **settings)
    )
    demo = launch.load_demo(str(STARTER_FOLDER))
    demo.launch(server_port=free_port(), prevent_thread_lock=True, quiet=True)
    try:
        yield demo
    finally:
        demo.close()


@pytest.fixture
def small_app(small_demo):
    with httpx.Client(base_url=small_demo.local_url, timeout=30) as web:
        yield web


def test_no_path_of_an_upload_is_remembered(small_app, small_demo):
    (path,) = upload(small_app, "photo.jpg", PICTURE.read_bytes()).json()
    event, answer = call(small_app, "classify", "", "", {"path": path, **FILE})
    assert event == "complete" and Path(path).is_file(), answer
    sets = [small_demo.upload_file_set, *small_demo.temp_file_sets]
    assert not any([*sets, *(block.temp_files for block in small_demo.blocks.values())])


def test_no_visitor_and_no_crowd_fills_the_disk(small_app):
    answers = [upload(small_app, f"{number}.csv", b"%d\n" % number + b"x" * 200_000) for number in range(8)]
    assert [answer.status_code for answer in answers][:2] == [200, 200]
    assert answers[-1].status_code == 507 and "try again in an hour" in answers[-1].text
    # A catalog that was uploaded is not scored either where its scored file would not fit.
    file = {"path": answers[0].json()[0], **FILE}
    event, answer = call(small_app, "classify_batch", file, None, "", "", "")
    assert event == "error" and ("try again in an hour" in answer or "column" in answer)


def test_the_disks_limits(tmp_path, monkeypatch):
    disk = DiskQuota(DiskLimits(total=1000, files=3, visitor=500, spare=1))
    disk.watch(tmp_path, sweep=True)
    with disk.reserve(400, "a") as first, disk.reserve(200, "a") as second, disk.reserve(500, "b") as third:
        assert (first, second, third) == (True, False, True)
        with disk.reserve(200) as fourth:
            assert not fourth
    with quota_at(tmp_path, DiskLimits(1000, 100, 1000, spare=1 << 60)).reserve(1) as granted:
        assert not granted
    for number in range(3):
        (tmp_path / str(number)).write_bytes(b"x")
    with quota_at(tmp_path, DiskLimits(1000, 3, 1000, spare=1)).reserve(1) as granted:
        assert not granted
    kept = str(tmp_path / "0")
    monkeypatch.setattr(disk_quota, "KEPT_SECONDS", -1.0)
    swept = DiskQuota(kept_files=lambda: [kept])
    swept.watch(tmp_path, sweep=True)
    swept.sweep()
    assert [str(path) for path in tmp_path.iterdir()] == [kept]


def quota_at(folder, limits):
    disk = DiskQuota(limits)
    disk.watch(folder, sweep=True)
    return disk
