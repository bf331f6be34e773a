"""Untrusted products: whatever a text or a picture holds, there is a sound answer or one clear sentence, soon.

Through the real classifier and the starter bundle. The generated cases run in full with `make trust`; memory and time
are measured in a process of their own, since this one has held much before.
"""

import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from PIL import Image

from rakuten_models import Product, ProductError
from rakuten_models.preprocessing.image import ImageSettings, read_image
from tests.support import hostile_pictures
from tests.support.app_server import REPOSITORY_ROOT
from tests.support.hostile_pictures import bombs, encoded, outcome, photo
from tests.support.hostile_texts import EXTREME, TEXTS

# Bytes that a product may cost beside the loaded classifier: texts of 10 MB twice, a picture of 25 megapixels of the
# kind that takes most (WebP), one of 50, one that is refused; and seconds of a processor, many times what is measured.
TEXT_MEMORY, PICTURE_MEMORY, MAX_PICTURE_MEMORY, REFUSAL_MEMORY = 60e6, 500e6, 1_200e6, 40e6

SECONDS = 20

# Runs what its standard input says in a process of its own, and prints each case's cost beside the loaded classifier.
MEASURE = """
import sys, time, pickle, json, pathlib, numpy
from rakuten_models import Product, ProductClassifier
from tests.support.hostile_pictures import outcome, peak_memory, photo
classifier = ProductClassifier.from_pretrained()
classifier.explain(Product("chaise ete \\u200b\\u00e9 A\\u0303\\u00a9", "table", photo()))
for name, product in pickle.load(sys.stdin.buffer):
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before, started = peak_memory(), time.process_time()
    prediction = classifier.predict([product])[0]
    if prediction.error is None:
        classifier.explain(product)
    seconds = time.process_time() - started
    print(json.dumps([name, outcome(prediction), peak_memory() - before, seconds]), flush=True)
"""


def check_explanation(starter, product):
    """Its words lie in the product's cleaned text, in reading order and without overlap."""
    explanation = starter.explain(product)
    last = {"designation": 0, "description": 0}
    for word in explanation.words:
        text = explanation.texts[word.field]
        assert last[word.field] <= word.start < word.end <= len(text)
        assert word.text == text[word.start : word.end] and np.isfinite(word.contribution)
        last[word.field] = word.end
    return explanation


@pytest.mark.trust
def test_texts_get_a_sound_answer_or_a_sentence(starter, cases):
    found = Counter()
    answered = []

    @settings(
        max_examples=cases(20_000),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(TEXTS, TEXTS)
    # The same sign twice, without a word between: both were taken for the first.
    @example("\U0001f3fb &#700000000 \U0001f3fb 10", "")
    @example("!! !! x ( ) ( )", "- - -")
    # What stopped the chunk, and what took a minute to explain.
    @example("&#" + "9" * 5000 + ";", "&amp;#" + "9" * 5000)
    @example(("a\u200b" * 350 + " ") * 40, "<script" * 2000)
    def answer(designation, description):
        product = Product(designation, description)
        started = time.process_time()
        prediction = starter.predict([product])[0]
        found[outcome(prediction)] += 1
        if prediction.error is None and zlib.crc32(repr((designation[:99], description[:99])).encode()) % 4 == 0:
            check_explanation(starter, product)
            found["explained"] += 1
        found["seconds"] = max(found["seconds"], time.process_time() - started)
        if prediction.error is None and len(designation) + len(description) < 2000:
            answered.append((product, prediction.probabilities))

    answer()
    print(dict(found))
    assert found["answer"] > cases(20_000) / 2
    # The same products together, as a catalog has them.
    together = starter.predict([product for product, _ in answered])
    difference = np.stack([each.probabilities for each in together]) - [alone for _, alone in answered]
    assert np.abs(difference).max() <= 1e-6


@pytest.mark.trust
def test_pictures_get_a_sound_answer_or_a_sentence(cases):
    """In a process with limited memory: a crash or a hang would be its, and fails here."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_pictures", str(cases(5_000))],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        timeout=600 + cases(5_000),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    measured = json.loads(done.stdout)
    assert measured["outcomes"]["answer"] > cases(5_000) / 20
    assert measured["memory"] < MAX_PICTURE_MEMORY and measured["seconds"] < SECONDS


def measured(products):
    """{name: (outcome, bytes, seconds)} of products, each measured in one other process."""
    import pickle

    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=REPOSITORY_ROOT,
        input=pickle.dumps(products),
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        print(f"{row[0]}: {row[1]}, {row[2] / 1e6:.0f} MB, {row[3]:.2f} s")
    return {name: tuple(values) for name, *values in rows}


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is read from /proc")
def test_extreme_texts_take_bounded_memory_and_time():
    rows = measured([(name, Product(text, text)) for name, text in EXTREME.items()])
    assert set(rows) == set(EXTREME)
    assert max(memory for _, memory, _ in rows.values()) < TEXT_MEMORY
    assert max(seconds for _, _, seconds in rows.values()) < SECONDS


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is read from /proc")
def test_a_bomb_is_refused_before_it_is_decoded():
    rows = measured([(name, Product(image=data)) for name, data in bombs().items()])
    assert set(rows) == set(bombs())
    for said, memory, seconds in rows.values():
        assert said != "answer" and memory < REFUSAL_MEMORY and seconds < SECONDS
    assert "JPEG of more than 100 scans" in refusal(bombs()["jpeg of 200 scans"])


def large_pictures(side):
    """Of the kinds that take most, for their size in megapixels."""
    values = np.random.default_rng(0).integers(0, 255, (side // 50, side // 50, 4), dtype=np.uint8)
    clear = Image.fromarray(values).resize((side, side), Image.Resampling.NEAREST)
    wide = Image.fromarray(np.tile(np.arange(side, dtype=np.float32) * 9, (side, 1)))
    return {
        "progressive JPEG": encoded(clear.convert("RGB"), "JPEG", progressive=True),
        "WebP": encoded(clear.convert("RGB"), "WEBP", method=0),
        "transparent PNG": encoded(clear, "PNG", compress_level=1),
        "TIFF of floats": encoded(wide, "TIFF"),
        "CMYK TIFF": encoded(clear.convert("CMYK"), "TIFF"),
    }


@pytest.mark.trust
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("side", "most"), [(5_000, PICTURE_MEMORY), (7_000, MAX_PICTURE_MEMORY)])
def test_large_pictures_take_bounded_memory_and_time(side, most, request):
    if not request.config.getoption("--thorough"):
        pytest.skip("pictures of 25 and 49 megapixels only with --thorough")
    rows = measured([(name, Product(image=data)) for name, data in large_pictures(side).items()])
    for said, memory, seconds in rows.values():
        # Explained as well: the picture is read twice, one after the other.
        assert said == "answer" and memory < most and seconds < SECONDS


def refusal(image):
    with pytest.raises(ProductError) as caught:
        read_image(image, ImageSettings(32))
    return str(caught.value)


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1)])
def test_pictures_of_one_line_are_read(size):
    for kind in ("PNG", "BMP", "TIFF"):
        assert read_image(encoded(Image.new("RGB", size, "red"), kind), ImageSettings(32)).shape == (32, 32, 3)


def test_a_page_description_starts_no_program(tmp_path, monkeypatch):
    """Pillow reads EPS through Ghostscript; a program of that name would leave a trace here."""
    trace = tmp_path / "started"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho 10.0\ntouch {trace}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / "page.jpg"
    path.write_bytes(hostile_pictures.eps())
    script = (
        "import sys; from rakuten_models.errors import ProductError\n"
        "from rakuten_models.preprocessing.image import ImageSettings, read_image\n"
        "try: read_image(sys.argv[1], ImageSettings(32))\n"
        "except ProductError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=REPOSITORY_ROOT, capture_output=True, text=True)
    assert "cannot be read as a picture" in done.stdout
    assert not trace.exists()
    # The trap works: Pillow itself starts it.
    opened = "import sys; from PIL import Image\ntry: Image.open(sys.argv[1]).load()\nexcept Exception: pass"
    subprocess.run([sys.executable, "-c", opened, path], capture_output=True)
    assert trace.exists()


@pytest.mark.parametrize("name", [name for name in hostile_pictures.other_kinds() if name != "nothing"])
def test_files_of_other_kinds_are_no_pictures(name):
    assert "cannot be read as a picture" in refusal(hostile_pictures.other_kinds()[name])


def test_exif_that_lies_costs_the_orientation_not_the_picture():
    plain = read_image(encoded(photo(), "JPEG"), ImageSettings(32))
    exif = Image.Exif()
    exif[hostile_pictures.ORIENTATION] = 77
    for data in (exif.tobytes(), b"Exif\x00\x00" + b"\xff" * 40, b"Exif\x00\x00MM\x00*\x7f\xff\xff\xff"):
        np.testing.assert_array_equal(read_image(encoded(photo(), "JPEG", exif=data), ImageSettings(32)), plain)


def test_numbers_that_are_none_are_black():
    values = np.full((8, 8), 100, np.float32)
    values[0], values[1], values[2] = np.nan, np.inf, -np.inf
    pixels = read_image(encoded(Image.fromarray(values), "TIFF"), ImageSettings(8))
    assert pixels[:3].max() == 0 and pixels[3:].min() == 100


def test_a_picture_of_the_caller_is_refused_before_it_is_decoded():
    opened = Image.open(io.BytesIO(encoded(Image.new("1", (10_000, 6_000)), "PNG")))
    assert "10000 x 6000 pixels" in refusal(opened)
    # Not loaded: its decoder still waits.
    assert opened.tile
    assert "10000 x 6000 pixels" in refusal(np.broadcast_to(np.uint8(0), (6_000, 10_000)))


def test_a_jpeg_may_hold_the_mark_of_a_scan_elsewhere():
    """In its notes and behind its end, as a phone's moving picture has it."""
    notes = encoded(photo(), "JPEG", comment=b"\xff\xda" * 500) + b"\xff\xda" * 500
    np.testing.assert_array_equal(
        read_image(notes, ImageSettings(32)), read_image(encoded(photo(), "JPEG"), ImageSettings(32))
    )


def test_transparency_is_laid_on_white_in_strips_as_at_once():
    picture = photo("RGBA", (1300, 1700))
    picture.putalpha(photo("L", (1300, 1700)))
    whole = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    np.testing.assert_array_equal(
        read_image(encoded(picture, "PNG"), ImageSettings(224)), read_image(whole, ImageSettings(224))
    )


def test_the_same_signs_again_are_other_words(starter):
    words = check_explanation(starter, Product("!! !! x ( ) ( )")).words
    assert [word.text for word in words] == ["!!", "!!", "x", "(", ")", "(", ")"]
    assert [word.start for word in words] == [0, 3, 6, 8, 10, 12, 14]


def test_one_bad_product_stops_no_other(starter):
    bad = [Product(EXTREME["a number of 20,000 digits"]), Product(image=b"x"), Product("\ud800"), Product(image="\0")]
    predictions = starter.predict([Product("piscine tubulaire"), *bad])
    assert predictions[0].error is None and all(each.error for each in predictions[1:])
    assert outcome(predictions[0]) == "answer"
