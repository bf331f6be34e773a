"""The only place where a product becomes arrays: text into ids, a picture into pixels.

Training and serving call the same functions on the same strings and bytes, so that a model is never shown
anything it was not trained on. Settings travel inside the bundle's config.json.
"""

from __future__ import annotations

import html
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftfy
import ftfy.badness
import ftfy.fixes
import numpy
from PIL import Image, ImageOps, UnidentifiedImageError
from tokenizers import Tokenizer

from rakuten_models.product import Product, ProductError

# A listing's first 20,000 characters decide; more would only cost time (a text of 1 MB is not an error).
MAXIMUM_CHARACTERS = 20_000
MAXIMUM_PIXELS = 50_000_000

# An escaped ampersand in front of an entity, as double escaping leaves it: "&amp; nbsp;", "&amp;eacute;".
_DOUBLE_ESCAPE = re.compile(r"&amp;\s?(?=#?\w{2,8};)")
_INVISIBLE_ELEMENT = re.compile(r"<(script|style)\b[^<]*(?:<(?!/\1)[^<]*)*</\1\s*>", re.IGNORECASE)
_TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_ZERO_WIDTH = re.compile(r"[\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_APOSTROPHE = re.compile("[\u2018\u2019\u201b\u02bc\u00b4\u0060\u2032]")
# Exports that knew no "œ" and no typographic apostrophe wrote an inverted question mark for both.
_LOST_LIGATURE = re.compile(r"¿(?=uvre|uf|urs?\b|uds?\b|il|ux?\b)", re.IGNORECASE)
_LOST_APOSTROPHE = re.compile(r"(?<=[^\W\d_])¿(?=[^\W\d_])")
# UTF-8 read as Latin-1 and lower-cased afterwards, which ftfy cannot see: "grà¢ce" was "grâce".
_LOWERED_MOJIBAKE = re.compile(r"(?<=[^\W\d_])[ãà]([\xa2\xa7-\xab\xae\xb4\xb9\xbb])(?=[^\W\d_])")
# A paragraph tag of which only the letter is left: "pIn Ancient Persia".
_TAG_LETTER = re.compile(r"(?<![^\s\-.!?])p(?=[A-ZÀ-Ý][a-zà-ÿ])")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class TextSettings:
    """How a text becomes ids.

    Attributes:
        designation_tokens: Tokens of the designation that are read, the rest is cut.
        description_tokens: Tokens of the description that are read.
        designation_characters: UTF-8 bytes of the normalised designation that are read.
        description_characters: UTF-8 bytes of the normalised description that are read.
    """

    designation_tokens: int = 64
    description_tokens: int = 192
    designation_characters: int = 256
    description_characters: int = 1024


@dataclass(frozen=True)
class ImageSettings:
    """How a picture becomes pixels.

    Attributes:
        size: Height and width of the array in pixels.
    """

    size: int = 224


def clean_text(text: str) -> str:
    """What a person would read: no HTML, no entities, no broken encoding, single spaces.

    Letter case and accents stay; the tokenizer's own normaliser deals with them.

    Args:
        text: As the catalog holds it: HTML, escaped once or twice, mojibake, any length.

    Returns:
        At most 20,000 characters of plain text; "" if nothing is left.
    """
    text = text[:MAXIMUM_CHARACTERS]
    if "&" in text:
        text = html.unescape(_DOUBLE_ESCAPE.sub("&", text))
        if "&" in text:
            text = html.unescape(_DOUBLE_ESCAPE.sub("&", text))
    if "<" in text:
        text = _TAG.sub(" ", _INVISIBLE_ELEMENT.sub(" ", text))
    if not text.isascii():
        text = _mend_encoding(text)
    text = _TAG_LETTER.sub("", text)
    return _SPACES.sub(" ", _CONTROL.sub(" ", text)).strip()


def _mend_encoding(text: str) -> str:
    """Undo what wrong encodings did; drop what no reader sees."""
    # Half of a surrogate pair cannot be written as UTF-8, and the tokenizer refuses it.
    text = text.encode("utf-8", "ignore").decode("utf-8")
    text = ftfy.fixes.fix_c1_controls(text)
    if ftfy.badness.is_bad(text):
        text = ftfy.fix_encoding(text)
    if "¿" in text:
        text = _LOST_APOSTROPHE.sub("'", _LOST_LIGATURE.sub("œ", text))
    text = _LOWERED_MOJIBAKE.sub(lambda match: chr(ord(match.group(1)) + 0x40), text)
    return _APOSTROPHE.sub("'", _ZERO_WIDTH.sub("", text))


def has_text(product: Product) -> bool:
    """Whether the designation or the description holds at least one letter or digit to read."""
    return any(
        character.isalnum()
        for text in (product.designation, product.description)
        for character in clean_text(text)
    )


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizers` file; truncation and padding are ours and are switched off."""
    tokenizer = Tokenizer.from_file(os.fspath(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encode_texts(
    products: Sequence[Product], tokenizer: Tokenizer, settings: TextSettings
) -> dict[str, numpy.ndarray]:
    """Turn products into the text model's inputs.

    Args:
        products: n products; a missing text is "".
        tokenizer: From `load_tokenizer`.
        settings: From the bundle.

    Returns:
        {"token_ids": int32 (n, tokens), "character_ids": int32 (n, characters)}; 0 is padding. The designation starts
        at column 0, the description at column `designation_tokens` and `designation_characters`. character_ids are
        the UTF-8 bytes (1-255) of the text as the tokenizer normalises it, with a space before and after. Both are
        only as wide as the longest text needs, rounded up to a power of two, or to the designation's part.
    """
    designations = [clean_text(product.designation) for product in products]
    descriptions = [clean_text(product.description) for product in products]
    token_ids = _two_parts(
        [
            [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
            for texts in (designations, descriptions)
        ],
        settings.designation_tokens,
        settings.description_tokens,
    )
    character_ids = _two_parts(
        [[_normalised_bytes(text, tokenizer) for text in texts] for texts in (designations, descriptions)],
        settings.designation_characters,
        settings.description_characters,
    )
    return {"token_ids": token_ids, "character_ids": character_ids}


def _normalised_bytes(text: str, tokenizer: Tokenizer) -> list[int]:
    """UTF-8 of the text between two spaces, [] for no text."""
    if not text:
        return []
    normalised = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    return list(f" {normalised} ".encode())


def _two_parts(
    parts: Sequence[Sequence[Sequence[int]]], first_length: int, second_length: int
) -> numpy.ndarray:
    """The first part's ids from column 0, the second's from column `first_length`, cut to their lengths."""
    first, second = parts
    longest = min(second_length, max(map(len, second), default=0))
    # Few different widths, or the compiled model would be resized for nearly every call.
    width = first_length + (min(second_length, 1 << (longest - 1).bit_length()) if longest else 0)
    ids = numpy.zeros((len(first), width), numpy.int32)
    for row, (first_ids, second_ids) in enumerate(zip(first, second, strict=True)):
        first_ids, second_ids = first_ids[:first_length], second_ids[:second_length]
        ids[row, : len(first_ids)] = first_ids
        ids[row, first_length : first_length + len(second_ids)] = second_ids
    return ids


def read_image(image: Any, settings: ImageSettings) -> numpy.ndarray:
    """Turn a picture of any kind into the image model's input.

    The first frame of an animation, turned upright as its EXIF orientation says, transparent parts on white,
    fitted into a square with its proportions kept and white around it.

    Args:
        image: A path, the file's bytes, a PIL image, or an array (height, width[, 1, 3 or 4]) of uint8 0-255.
        settings: From the bundle.

    Returns:
        uint8 (size, size, 3), RGB, 0-255.

    Raises:
        ProductError: The file is missing, empty, cut off, no picture, or over 50 megapixels.
    """
    name = _image_name(image)
    try:
        picture = _open_image(image, name)
        width, height = picture.size
        if width * height > MAXIMUM_PIXELS:
            raise ProductError(
                f"{name} has {width} x {height} pixels, more than {MAXIMUM_PIXELS // 1_000_000} million; "
                "make it smaller."
            )
        # Lets the JPEG decoder skip the detail that the resize would throw away; a no-op for other formats.
        picture.draft("RGB", (settings.size, settings.size))
        picture = _to_rgb(ImageOps.exif_transpose(picture))
    except ProductError:
        raise
    except FileNotFoundError as error:
        raise ProductError(f"{name} does not exist; check the path.") from error
    except UnidentifiedImageError as error:
        raise ProductError(
            f"{name} cannot be read as a picture; give a JPEG, PNG, WebP or GIF file."
        ) from error
    except Image.DecompressionBombError as error:
        raise ProductError(
            f"{name} has more than {MAXIMUM_PIXELS // 1_000_000} million pixels; make it smaller."
        ) from error
    # Pillow's format readers raise nearly anything on damaged files: OSError, SyntaxError, ValueError, struct.error.
    except Exception as error:
        raise ProductError(
            f"{name} is damaged or cut off ({error}); save it again or choose another picture."
        ) from error
    scale = settings.size / max(picture.size)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(fitted, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if fitted != (settings.size, settings.size):
        canvas = Image.new("RGB", (settings.size, settings.size), "white")
        canvas.paste(picture, ((settings.size - fitted[0]) // 2, (settings.size - fitted[1]) // 2))
        picture = canvas
    return numpy.asarray(picture)


def _image_name(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return f"The picture {Path(image).name!r}"
    return "The picture"


def _open_image(image: Any, name: str) -> Image.Image:
    """Open without decoding; arrays and PIL images are taken as they are."""
    if isinstance(image, Image.Image):
        # A copy, since what follows would change the caller's object.
        return image.copy()
    if isinstance(image, numpy.ndarray):
        return _from_array(image, name)
    if isinstance(image, (bytes, bytearray, memoryview)):
        if not len(image):
            raise ProductError(f"{name} is empty (0 bytes); choose another picture.")
        return Image.open(io.BytesIO(image))
    if isinstance(image, (str, os.PathLike)):
        if os.path.isdir(image):
            raise ProductError(f"{name} is a folder; give the path of a picture.")
        if os.path.getsize(image) == 0:
            raise ProductError(f"{name} is empty (0 bytes); choose another picture.")
        return Image.open(image)
    raise ProductError(
        f"The picture is a {type(image).__name__}; give a path, the file's bytes, a PIL image or an array."
    )


def _from_array(array: numpy.ndarray, name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.dtype != numpy.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
        or array.size == 0
    ):
        raise ProductError(
            f"{name} is an array of {array.dtype} with shape {array.shape}; give uint8 values 0-255 of shape "
            "(height, width), (height, width, 3) or (height, width, 4)."
        )
    return Image.fromarray(array)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """To RGB as a person would see it: 16 bits scaled down, transparency on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = numpy.asarray(picture, numpy.float32)
        # Wide greyscale files hold 16 bits whatever Pillow calls the mode; one that stays under 256 holds 8.
        picture = Image.fromarray(
            (values / 257.0 if values.max() > 255 else values).clip(0, 255).astype(numpy.uint8)
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        canvas = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(canvas, picture).convert("RGB")
    return picture.convert("RGB")
