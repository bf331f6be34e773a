"""Picture files that nobody should send: whole ones of every kind, and what damage and malice make of them.

    python -m tests.support.hostile_pictures CASES

runs so many through the starter bundle, in a process whose memory is limited, and prints what came of them as JSON:
how many of each outcome, the largest memory and the longest time. A crash or a hang is then the caller's to see.
"""

import io
import json
import random
import re
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from rakuten_models.preprocessing.image import PICTURE_FORMATS

MEMORY_LIMIT = 6_000_000_000

# Address space, of which the models' threads reserve more than they use.
MODES = ("RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB")

ORIENTATION, WIDTH = 0x0112, 0xA002

PNG = b"\x89PNG\r\n\x1a\n"

# What damaged fields of a header like to hold.
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000, 0x10000)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photo(mode: str = "RGB", size: tuple[int, int] = (61, 47)) -> Image.Image:
    """Something with edges, gradients and noise, always the same."""
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    picture = Image.fromarray(values).filter(ImageFilter.BoxBlur(1))
    picture.paste("red", (5, 5, size[0] // 2, size[1] // 2))
    if mode == "LAB":
        return Image.merge("LAB", picture.split())
    return picture.convert("L").convert(mode) if mode in ("I", "F", "I;16") else picture.convert(mode)


def whole_files() -> dict[str, bytes]:
    """A small file of every kind and mode that Pillow writes, by a name that says which."""
    Image.init()
    files = {}
    for kind in sorted(Image.SAVE):
        for mode in MODES:
            try:
                files[f"{kind} {mode}"] = encoded(photo(mode), kind)
            # Not every format takes every mode, and some need a handler; they say so in many ways.
            except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
                continue
    frames = [photo("RGB").rotate(angle) for angle in (90, 180)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO", "PDF"):
        files[f"{kind} of three"] = encoded(photo(), kind, save_all=True, append_images=frames)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        files[f"TIFF {compression}"] = encoded(photo(), "TIFF", compression=compression)
    files["TIFF group4"] = encoded(photo("1"), "TIFF", compression="group4")
    files["JPEG progressive"] = encoded(photo(), "JPEG", progressive=True)
    files["PNG transparent palette"] = encoded(photo("P"), "PNG", transparency=bytes(range(256)))
    files["GIF transparent"] = encoded(photo("P"), "GIF", transparency=3)
    files["WEBP lossless"] = encoded(photo("RGBA"), "WEBP", lossless=True)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        files[f"{kind} broken colour profile"] = encoded(photo(), kind, icc_profile=b"\xff\x00no profile" * 50)
        exif = Image.Exif()
        exif[ORIENTATION], exif[WIDTH], exif[0x9286] = 6, 100_000, b"\x00" * 30
        files[f"{kind} exif"] = encoded(photo(), kind, exif=exif)
        exif[ORIENTATION] = 77
        files[f"{kind} no such orientation"] = encoded(photo(), kind, exif=exif)
    return {**files, **other_kinds()}


def other_kinds() -> dict[str, bytes]:
    """Files that are no pictures, or none that are read."""
    return {
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
        "html": b"<html><img src='file:///etc/passwd'></html>",
        "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(60),
        "text": b"hello, I am a text",
        "gzip": zlib.compress(bytes(5000)),
        "eps": eps(),
        "one byte": b"\xff",
        "nothing": b"",
        "nul": bytes(5000),
    }


def eps() -> bytes:
    """A page that a PostScript interpreter would run."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n20 20 scale showpage\n%%EOF\n"


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, body: bytes = b"") -> bytes:
    """A PNG file that claims a size; its pixels are whatever `body` unpacks to."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files that claim, or grow to, far more pixels than are read."""
    inner = png(12_000, 12_000, body=bytes(12_001) * 200)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 8, len(inner), 22) + inner
    gif = bytearray(encoded(photo("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    webp = bytearray(encoded(photo(), "WEBP", lossless=True))
    position = webp.index(b"VP8L") + 9
    webp[position : position + 4] = struct.pack("<I", 16_382 | 16_382 << 14)
    bitmap = bytearray(encoded(photo(), "BMP"))
    bitmap[18:26] = struct.pack("<ii", 60_000, 60_000)
    fits = b"".join(
        f"{line:80}".encode()
        for line in ("SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 90000", "NAXIS2  = 90000", "END")
    )
    return {
        "png of 60 megapixels": encoded(Image.new("1", (10_000, 6_000)), "PNG"),
        "png of 150 megapixels": png(15_000, 10_000, body=bytes(15_001) * 100),
        "png of 4 gigapixels": png(65_535, 65_535, body=bytes(1000)),
        "webp of 268 megapixels": bytes(webp),
        "gif of 4 gigapixels": bytes(gif),
        "bmp of 4 gigapixels": bytes(bitmap),
        "icon with a png of 144 megapixels": icon,
        "fits": fits.ljust(2880) + bytes(100),
        "jpeg of 5,000 scans": scans(5_000, (4_000, 4_000)),
        "jpeg of 200 scans": scans(200, (300, 300)),
    }


def scans(count: int, size: tuple[int, int]) -> bytes:
    """A progressive JPEG whose last pass over the pixels comes so many times more."""
    file = encoded(Image.new("L", size), "JPEG", progressive=True)
    last = file[file.rindex(b"\xff\xda") : -2]
    return file[:-2] + last * count + b"\xff\xd9"


def mutated(files: list[bytes], random_: random.Random) -> bytes:
    """One of the files, changed in one way or several."""
    data = bytearray(random_.choice(files))
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        size = max(1, len(data))
        # Headers are where it hurts.
        position = random_.randrange(size if random_.random() < 0.5 else min(size, 120))
        how = random_.randrange(8)
        if how == 0:
            del data[position:]
        elif how == 1:
            for _ in range(random_.randint(1, 20)):
                position = random_.randrange(size)
                if position < len(data):
                    data[position] ^= 1 << random_.randrange(8)
        elif how == 2:
            # A chunk's length, a size, a count, an offset.
            form = random_.choice(("<H", ">H", "<I", ">I"))
            number = random_.choice(NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            data[position : position + struct.calcsize(form)] = struct.pack(form, number)
        elif how == 3:
            data[position : position + random_.randint(1, 60)] = random_.randbytes(random_.randint(0, 60))
        elif how == 4:
            del data[position : position + random_.randint(1, 200)]
        elif how == 5:
            part = data[position : position + random_.randint(1, 200)]
            data[position:position] = part * random_.randint(1, 50)
        elif how == 6:
            other = random_.choice(files)
            data[position:] = other[random_.randrange(max(1, len(other))) :]
        else:
            data += random_.randbytes(random_.randint(1, 500))
    return with_checksums(bytes(data)) if data.startswith(PNG) and random_.random() < 0.5 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    """A PNG file whose chunks have right checksums again, as far as their lengths can be followed."""
    found, position = bytearray(data), len(PNG)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            break
        found[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(found)


def readable(data: bytes) -> bool:
    """Whether the file begins like one of the kinds that are read."""
    try:
        Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found.group(1)) * 1024


def outcome(prediction) -> str:
    """What came of a product, without the case's own figures.

    Raises:
        AssertionError: Neither an answer with sound probabilities nor one clear sentence.
    """
    for values in (prediction.probabilities, prediction.text_probabilities, prediction.image_probabilities):
        if values is not None:
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
            assert abs(float(values.sum(dtype=np.float64)) - 1) <= 1e-6
    error = prediction.error
    assert (prediction.probabilities is not None) or error
    if error is None:
        return "answer"
    assert "\n" not in error and len(error) < 500 and error.endswith(".") and "Traceback" not in error
    kind = re.sub(r"'[^']*'|\d+|\(.*\)", "...", error.partition(";")[0])
    return f"answer from the text, {kind}" if prediction.probabilities is not None else kind


def main(cases: int) -> None:
    """Run the cases and print what came of them."""
    from rakuten_models import Product, ProductClassifier
    from rakuten_models.inference.explanation import heat_map_image

    classifier = ProductClassifier.from_pretrained()
    classifier.predict(Product(image=np.zeros((300, 300, 3), np.uint8)))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    before = peak_memory()
    found: Counter[str] = Counter()
    longest, slowest = 0.0, b""
    files = list(whole_files().values())
    # Mostly such as get as far as a decoder.
    files += 2 * [data for data in files if readable(data)]
    random_ = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(cases):
            data = mutated(files, random_)
            image: object = data
            if number % 4 == 0:
                image = Path(folder) / f"{number}{random_.choice(('.jpg', '.png', '.txt', '.eps', ''))}"
                image.write_bytes(data)
            # For whoever looks at a crash.
            (Path(folder) / "last").write_bytes(data)
            product = Product("chaise" if number % 3 == 0 else "", "", image)
            started = time.process_time()
            prediction = classifier.predict([product])[0]
            found[outcome(prediction)] += 1
            if number % 10 == 0 and prediction.error is None:
                explanation = classifier.explain(product)
                if explanation.heat_map is not None:
                    heat_map_image(explanation.picture, explanation.heat_map)
                found["explained"] += 1
            if (taken := time.process_time() - started) > longest:
                longest, slowest = taken, data
            if number % 4 == 0:
                image.unlink()
    print(
        json.dumps(
            {
                "outcomes": found,
                "memory": peak_memory() - before,
                "seconds": longest,
                "slowest": slowest[:16].hex(),
                "files": len(files),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
