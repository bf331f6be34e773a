"""Pictures of any kind to pixels: the one decoder, for training and serving."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from rakuten_models.errors import ProductError

MAX_PIXELS = 50_000_000

# What shops and cameras write. Pillow opens many more: EPS starts another program, FITS unpacks without a limit, ICO,
# ICNS and BLP hold a second file with a size of its own, JPEG 2000 takes 20 s for 50 megapixels, and others are decoded
# by slow Python code.
PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

# Each passes over all pixels, and a file can hold thousands; a progressive JPEG has about 10.
_MAX_SCANS = 100

# Transparent pixels that are laid on white at a time, which bounds the memory.
_STRIP = 1_000_000

# Characters of a decoder's message about a damaged file.
_MAX_REASON = 200

# A JPEG's markers that begin a segment with a length, and its end marker; not those that stand alone in its data.
_SCAN, _MARKER = b"\xff\xda", re.compile(rb"\xff+[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)


@dataclass(frozen=True)
class ImageSettings:
    """How a picture becomes pixels.

    Attributes:
        size: Height and width of the array in pixels.
    """

    size: int = 224


def read_image(image: Any, settings: ImageSettings) -> np.ndarray:
    """Turn a picture of any kind into the image model's input.

    The first frame of an animation, turned upright as its EXIF orientation says, transparent parts on white,
    fitted into a square with its proportions kept and white around it.

    Args:
        image: A path, the file's bytes (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF), a PIL image, or an array
            (height, width[, 1, 3 or 4]) of uint8 0-255.
        settings: From the bundle.

    Returns:
        uint8 (size, size, 3), RGB, 0-255.

    Raises:
        ProductError: The file is missing, empty, cut off, no picture, or over 50 megapixels.
    """
    return fit_image(decode_image(image, settings.size), settings.size)


def decode_image(image: Any, size: int) -> Image.Image:
    """The first half of `read_image`: an upright RGB picture without transparency.

    Args:
        image: See `read_image`.
        size: Detail beyond so many pixels of height and width may be missing.

    Raises:
        ProductError: See `read_image`.
    """
    # For "The picture{name} ..." in the sentences.
    name = f" {Path(image).name!r}" if isinstance(image, (str, os.PathLike)) else ""
    try:
        picture = _open_image(image, name)
        _check_size(picture.size, name)
        _check_scans(picture)
        # Lets the JPEG decoder skip the detail that the resize would throw away; a no-op for other formats.
        picture.draft("RGB", (size, size))
        picture.load()
        _turn_upright(picture)
        return _to_rgb(picture)
    except ProductError:
        raise
    except FileNotFoundError as error:
        raise ProductError("product.picture_missing", name=name) from error
    except UnidentifiedImageError as error:
        raise ProductError("product.picture_unreadable", name=name) from error
    except Image.DecompressionBombError as error:
        limit = MAX_PIXELS // 1_000_000
        raise ProductError("product.picture_too_many_pixels", name=name, limit=limit) from error
    # Pillow's format readers raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        reason = " ".join(str(error).split())[:_MAX_REASON] or type(error).__name__
        raise ProductError("product.picture_damaged", name=name, reason=reason) from error


def fit_image(picture: Image.Image, size: int) -> np.ndarray:
    """The second half of `read_image`: uint8 (size, size, 3), RGB, padded to a square with white."""
    scale = size / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(fitted, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if fitted != (size, size):
        canvas = Image.new("RGB", (size, size), "white")
        canvas.paste(picture, ((size - fitted[0]) // 2, (size - fitted[1]) // 2))
        picture = canvas
    return np.asarray(picture)


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise ProductError("product.picture_too_large", name=name, width=width, height=height, limit=limit)


def _check_scans(picture: Image.Image) -> None:
    """ValueError for a JPEG of more than 100 scans, whose decoding would take minutes."""
    if not isinstance(picture, JpegImageFile) or picture.fp is None:
        return
    picture.fp.seek(0)
    data = picture.fp.read()
    # Comments, and data behind the picture's end, may hold these two bytes, too.
    if data.count(_SCAN) > _MAX_SCANS and _scans(data) > _MAX_SCANS:
        raise ValueError(f"a JPEG of more than {_MAX_SCANS} scans")


def _scans(data: bytes) -> int:
    """The number of scans of a JPEG up to its end, or to where it is broken."""
    scans, position = 0, 2
    while found := _MARKER.search(data, position):
        marker, position = found.group()[-1:], found.end()
        if marker == b"\xd9":
            break
        scans += marker == _SCAN[1:]
        # Segments say their length, and may hold anything.
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


def _turn_upright(picture: Image.Image) -> None:
    """Apply the EXIF orientation; EXIF data that cannot be read is ignored."""
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    # As with the pixels, nearly any error; but the pixels are good.
    except Exception:
        return


def _open_image(image: Any, name: str) -> Image.Image:
    """Open without decoding; arrays and PIL images are taken as they are."""
    if isinstance(image, Image.Image):
        # Before the copy, which decodes it.
        _check_size(image.size, name)
        # A copy, since what follows would change the caller's object.
        return image.copy()
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, (bytes, bytearray, memoryview)):
        if not len(image):
            raise ProductError("product.picture_empty", name=name)
        return Image.open(io.BytesIO(image), formats=PICTURE_FORMATS)
    if isinstance(image, (str, os.PathLike)):
        if os.path.isdir(image):
            raise ProductError("product.picture_is_folder", name=name)
        if os.path.getsize(image) == 0:
            raise ProductError("product.picture_empty", name=name)
        return Image.open(image, formats=PICTURE_FORMATS)
    raise ProductError("product.picture_wrong_type", kind=type(image).__name__)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not fits or array.size == 0:
        kind, shape = str(array.dtype), str(array.shape)
        raise ProductError("product.picture_wrong_array", name=name, dtype=kind, shape=shape)
    # Before the copy.
    _check_size((array.shape[1], array.shape[0]), name)
    return Image.fromarray(array)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """To RGB: 16 bits scaled to 8, transparency on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.array(picture, np.float32)
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        # Wide greyscale files hold 16 bits whatever Pillow calls the mode; one that stays under 256 holds 8.
        if values.max() > 255:
            values /= 257.0
        picture = Image.fromarray(np.clip(values, 0, 255, out=values).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    whole = Image.new("RGB", picture.size)
    height = max(1, _STRIP // picture.width)
    for top in range(0, picture.height, height):
        box = (0, top, picture.width, min(picture.height, top + height))
        strip = picture.crop(box).convert("RGBA")
        whole.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), box)
    return whole
