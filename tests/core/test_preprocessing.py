"""Texts as a person would read them; pictures of any kind to one array; bad files to one sentence."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

import rakuten_models
from rakuten_models.errors import ProductError
from rakuten_models.preprocessing import image as image_module
from rakuten_models.preprocessing.cleaning import MAX_CHARACTERS, clean_text
from rakuten_models.preprocessing.image import ImageSettings, read_image
from rakuten_models.preprocessing.text import (
    TextSettings,
    clean_product,
    encode_cleaned,
    encode_texts,
    has_text,
    load_tokenizer,
)
from rakuten_models.product import Product
from tests.support import hostile_pictures, reference_preprocessing

TOKENIZER = Path(rakuten_models.__file__).parent / "starter" / "tokenizer.json"

SETTINGS = ImageSettings(size=32)


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ("Chaise d&#39;&eacute;t&eacute;", "Chaise d'été"),
        ("Porte-cl&amp;eacute;s &amp; nbsp; neuf", "Porte-clés neuf"),
        ("&lt;b&gt;Lampe&lt;/b&gt; LED", "Lampe LED"),
        ("<p>Écran</p><ul><li>noir</li><li>Taille M</li></ul>", "Écran noir Taille M"),
        ("<style>p {color: red}</style><script>if (a < b) alert(1)</script>Tapis", "Tapis"),
        ("l < 3 cm et h > 2 cm", "l < 3 cm et h > 2 cm"),
        ("DÃ©couvrez la lampe Ã  poser", "Découvrez la lampe à poser"),
        ("Un chef-d¿¿uvre".replace("¿¿", "'¿"), "Un chef-d'œuvre"),
        ("pression d¿utilisation, c¿ur net", "pression d'utilisation, cœur net"),
        ("grà¢ce à la pompe", "grâce à la pompe"),
        ("amateurs d\x92eau", "amateurs d'eau"),
        ("l’été ‘chaud’", "l'été 'chaud'"),
        ("Notice - pIn ancient times", "Notice - In ancient times"),
        ("pH neutre, iPhone 12, 3,66 m", "pH neutre, iPhone 12, 3,66 m"),
        ("zero\u200bwidth\xad and\ttab\x00nul", "zerowidth and tab nul"),
        ("half \ud83d a pair", "half a pair"),
        ("  many \n\n spaces ", "many spaces"),
        ("", ""),
        ("<br><br>&nbsp;", ""),
    ],
)
def test_text_is_read_as_a_person_would(raw, read):
    assert clean_text(raw) == read


def test_a_text_of_a_megabyte_is_no_error():
    assert clean_text("chaise " * 150_000).startswith("chaise chaise")
    assert len(clean_text("<" * 1_000_000)) <= MAX_CHARACTERS
    assert clean_text("&amp;" * 200_000)


@pytest.mark.parametrize(
    ("product", "found"),
    [
        (Product("Lampe"), True),
        (Product("", "<p>4</p>"), True),
        (Product("  ", "<br>&nbsp;"), False),
        (Product("?!…"), False),
        (Product(), False),
    ],
)
def test_a_text_needs_something_to_read(product, found):
    assert has_text(product) is found


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(mode="RGB", size=(64, 64)):
    """Left half red, right half blue."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    return image.convert(mode)


def assert_red_then_blue(pixels):
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[16, 4], [255, 0, 0], atol=12)
    np.testing.assert_allclose(pixels[16, 27], [0, 0, 255], atol=12)


@pytest.mark.parametrize(
    "image",
    [
        encoded(halves(), "PNG"),
        encoded(halves(), "JPEG", quality=95),
        encoded(halves("P"), "PNG"),
        encoded(halves("P"), "GIF"),
        encoded(halves("RGBA"), "WEBP", lossless=True),
        encoded(halves(), "BMP"),
        encoded(halves(), "TIFF"),
        encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64), "green")]),
        halves(),
        halves("RGBA"),
        np.asarray(halves()),
        np.asarray(halves("RGBA")),
        bytearray(encoded(halves(), "PNG")),
    ],
    ids=[
        "png",
        "jpeg",
        "palette",
        "gif",
        "webp",
        "bmp",
        "tiff",
        "animation",
        "pil",
        "pil-alpha",
        "rgb",
        "rgba",
        "bytearray",
    ],
)
def test_every_kind_of_picture_gives_the_same_pixels(image):
    assert_red_then_blue(read_image(image, SETTINGS))


def test_cmyk_is_read_as_printed():
    pixels = read_image(encoded(halves("CMYK"), "JPEG", quality=95), SETTINGS)
    assert pixels[16, 4, 0] > 200 > 60 > pixels[16, 4, 2]
    assert pixels[16, 27, 2] > 200 > 60 > pixels[16, 27, 0]


def test_exif_orientation_turns_the_picture_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    stored = halves().transpose(Image.Transpose.ROTATE_90)
    assert_red_then_blue(read_image(encoded(stored, "PNG", exif=exif), SETTINGS))


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    pixels = read_image(encoded(Image.fromarray(ramp), "PNG"), SETTINGS)
    assert pixels.min() < 10 and pixels.max() > 245
    assert 100 < pixels.mean() < 155


def test_grey_array_and_transparency_on_white():
    assert read_image(np.full((10, 20), 7, np.uint8), SETTINGS)[16, 16].tolist() == [7, 7, 7]
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert read_image(clear, SETTINGS).min() == 255


def test_proportions_are_kept_on_white():
    pixels = read_image(Image.new("RGB", (100, 50), "black"), SETTINGS)
    assert pixels[0, 16].tolist() == [255, 255, 255]
    assert pixels[16, 16].tolist() == [0, 0, 0]
    assert read_image(Image.new("RGB", (1, 4000), "black"), SETTINGS).shape == (32, 32, 3)


def test_a_path_and_its_bytes_give_the_same(tmp_path):
    path = tmp_path / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=90)
    expected = read_image(path, SETTINGS)
    np.testing.assert_array_equal(read_image(str(path), SETTINGS), expected)
    np.testing.assert_array_equal(read_image(path.read_bytes(), SETTINGS), expected)


def test_the_callers_picture_is_not_changed(tmp_path):
    path = tmp_path / "photo.jpg"
    halves(size=(640, 480)).save(path)
    with Image.open(path) as image:
        read_image(image, SETTINGS)
        assert image.size == (640, 480)


def test_bad_pictures_get_one_sentence(tmp_path):
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)), "PNG")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for image, words in [
        (tmp_path / "none.jpg", "'none.jpg' does not exist"),
        (empty, "'empty.jpg' is empty (0 bytes)"),
        (b"", "is empty (0 bytes)"),
        (tmp_path, "is a folder"),
        (b"hello, I am a text", "cannot be read as a picture"),
        (whole[: len(whole) // 2], "is damaged or cut off"),
        (np.zeros((4, 4), np.float32), "is an array of float32 with shape (4, 4); give uint8"),
        (np.zeros((4, 4, 7), np.uint8), "shape (4, 4, 7)"),
        (17, "is a int; give a path"),
    ]:
        with pytest.raises(ProductError) as caught:
            read_image(image, SETTINGS)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_picture_over_fifty_megapixels_is_refused():
    file = encoded(Image.new("1", (10_000, 6_000)), "PNG")
    with pytest.raises(ProductError, match="10000 x 6000 pixels, more than 50 million"):
        read_image(file, SETTINGS)
    with pytest.raises(ProductError, match="more than 50 million pixels"):
        read_image(hostile_pictures.png(20_000, 20_000), SETTINGS)


PRODUCTS = (
    Product("Piscine tubulaire ronde 3,66 m", "<p>Écran d&#39;&eacute;t&eacute;</p> " * 3),
    Product("", "seulement une description"),
    Product("seulement un titre"),
    Product("un mot " * 200, "deux mots " * 900),
    # Over the first 4,096 characters, and few tokens or few bytes in them.
    Product("x" * 4200 + " chaise bleue", "é" * 4096 + "a\u0301\u0323 bois"),
    Product("- " * 4096 + "table", "a" + "\u0301" * 4200 + " bois"),
    Product("mot " * 1024 + "e\u0301", "a" * 4096),
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(TOKENIZER)


@pytest.mark.parametrize("settings", [TextSettings(), TextSettings(4, 8, 16, 24), TextSettings(64, 900, 300, 3900)])
@pytest.mark.parametrize("products", [PRODUCTS, *[[product] for product in PRODUCTS], [Product()]])
def test_ids_are_those_of_the_plain_way(tokenizer, settings, products):
    expected = reference_preprocessing.encode_texts(products, tokenizer, settings)
    for encoded in (
        encode_texts(products, tokenizer, settings),
        encode_cleaned([clean_product(product) for product in products], tokenizer, settings),
    ):
        assert list(encoded) == ["token_ids", "character_ids"]
        for name, ids in encoded.items():
            assert ids.dtype == np.int32
            np.testing.assert_array_equal(ids, expected[name])


def test_columns_are_where_the_models_expect_them(tokenizer):
    settings = TextSettings(4, 8, 16, 24)
    ids = encode_texts([Product("a b", "c d e f g")], tokenizer, settings)
    # Five tokens need eight columns, eleven bytes sixteen.
    assert ids["token_ids"].shape == (1, 4 + 8) and ids["character_ids"].shape == (1, 16 + 16)
    assert bytes(ids["character_ids"][0, :5].astype(np.uint8)) == b" a b "
    assert bytes(ids["character_ids"][0, 16:27].astype(np.uint8)) == b" c d e f g "
    assert not ids["token_ids"][0, 2:4].any() and ids["token_ids"][0, 4:9].all()
    # One token needs one column; none needs none.
    assert encode_texts([Product("a", "b")], tokenizer, settings)["token_ids"].shape == (1, 5)
    assert encode_texts([Product("a")], tokenizer, settings)["token_ids"].shape == (1, 4)
    assert encode_texts([Product("a", "b " * 50)], tokenizer, settings)["token_ids"].shape == (1, 12)
    assert clean_product(Product("<b>a</b>", "&eacute;")) == ("a", "é")


def test_a_tokenizer_without_a_normaliser_reads_bytes_as_they_are():
    plain = Tokenizer(WordLevel({"[UNK]": 1}, unk_token="[UNK]"))
    ids = encode_texts([Product("ÉTÉ")], plain, TextSettings())
    assert bytes(ids["character_ids"][0, :7].astype(np.uint8)) == " ÉTÉ ".encode()


def test_a_tokenizers_own_marks_are_left_out():
    marking = Tokenizer(WordLevel({"[UNK]": 1, "[CLS]": 2, "a": 3}, unk_token="[UNK]"))
    marking.pre_tokenizer = Whitespace()
    marking.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    # At once, and as a whole where the head holds too little.
    for text, ids in (("a a", [3, 3, 0]), (" " * 10 + "a" * 5000 + " a", [1, 3, 0])):
        encoded = encode_cleaned([(text, "")], marking, TextSettings())
        assert encoded["token_ids"][0, :3].tolist() == ids


def test_a_tokenizers_own_cuts_are_switched_off(tmp_path):
    saved = Tokenizer.from_file(str(TOKENIZER))
    saved.enable_truncation(2)
    saved.enable_padding(length=9)
    saved.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert loaded.truncation is None and loaded.padding is None


def expected_pixels(picture, size=32):
    """A picture that is RGB already, fitted into the middle of a white square."""
    scale = size / max(picture.size)
    fitted = picture.resize(
        tuple(max(1, round(side * scale)) for side in picture.size), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    canvas = np.full((size, size, 3), 255, np.uint8)
    left, top = (size - fitted.width) // 2, (size - fitted.height) // 2
    canvas[top : top + fitted.height, left : left + fitted.width] = np.asarray(fitted)
    return canvas


@pytest.mark.parametrize("size", [(32, 32), (640, 480), (300, 1000), (1000, 41), (7, 3), (1, 500), (500, 1), (33, 34)])
def test_every_shape_is_fitted_into_the_middle(size):
    noise = hostile_pictures.photo("RGB", size)
    np.testing.assert_array_equal(read_image(noise, SETTINGS), expected_pixels(noise))
    np.testing.assert_array_equal(read_image(encoded(noise, "PNG"), SETTINGS), expected_pixels(noise))


def test_a_jpeg_is_decoded_no_larger_than_it_is_needed():
    file = encoded(hostile_pictures.photo("RGB", (1600, 1200)), "JPEG", quality=90)
    small = Image.open(io.BytesIO(file))
    small.draft("RGB", (32, 32))
    assert small.size == (200, 150)
    np.testing.assert_array_equal(read_image(file, SETTINGS), expected_pixels(small))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, None), *((number, Image.Transpose(turn)) for number, turn in enumerate((0, 3, 1, 5, 4, 6, 2), 2))],
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_every_orientation_is_undone(orientation, turn, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = hostile_pictures.photo("RGB", (40, 24))
    options = {"lossless": True} if kind == "WEBP" else {}
    upright = noise if turn is None else noise.transpose(turn)
    pixels = read_image(encoded(noise, kind, exif=exif, **options), SETTINGS)
    np.testing.assert_array_equal(pixels, expected_pixels(upright))


def test_wide_numbers_become_bytes():
    def read(values, kind="PNG"):
        return read_image(encoded(Image.fromarray(values), kind), ImageSettings(2))[:, :, 0].tolist()

    # 8 bits in a wide file stay; from 256 on they are 16 bits.
    assert read(np.array([[0, 255], [100, 7]], np.uint16)) == [[0, 255], [100, 7]]
    assert read(np.array([[0, 256], [257, 65535]], np.uint16)) == [[0, 0], [1, 255]]
    assert read(np.array([[0, 257 * 9], [257, 65535]], np.int32), "TIFF") == [[0, 9], [1, 255]]
    assert read(np.array([[-5.0, 9.7], [255.0, np.nan]], np.float32), "TIFF") == [[0, 9], [255, 0]]
    assert read(np.array([[-9e9, 9e9], [2570.0, np.inf]], np.float32), "TIFF") == [[0, 255], [10, 0]]
    assert read(np.array([[1.0, 2.0], [3.0, -np.inf]], np.float32), "TIFF") == [[1, 2], [3, 0]]


def test_arrays_of_every_shape():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.stack([grey] * 3, axis=2)
    expected = expected_pixels(Image.fromarray(colour))
    clear = np.dstack([colour, np.full((3, 4), 255, np.uint8)])
    for array in (grey, grey[:, :, np.newaxis], colour, clear):
        np.testing.assert_array_equal(read_image(array, SETTINGS), expected)


def said(image):
    """The sentence about a picture that cannot be read."""
    with pytest.raises(ProductError) as caught:
        read_image(image, SETTINGS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", (4, 4)),
        ("uint8", (4,)),
        ("uint8", (4, 4, 2)),
        ("uint8", (4, 4, 5)),
        ("uint8", (1, 4, 4, 3)),
        ("uint8", (0, 4, 3)),
        ("uint8", (4, 0)),
    ],
)
def test_arrays_of_no_picture_are_described(dtype, shape):
    assert said(np.zeros(shape, dtype)) == (
        f"The picture is an array of {dtype} with shape {shape}; give uint8 values 0-255 of shape (height, width), "
        "(height, width, 3) or (height, width, 4)."
    )


def test_every_refusal_word_by_word(tmp_path, monkeypatch):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    half = encoded(hostile_pictures.photo("RGB", (90, 90)), "JPEG")[:900]
    (tmp_path / "half.jpg").write_bytes(half)
    large = encoded(Image.new("1", (10_000, 5_001)), "PNG")
    huge = hostile_pictures.png(20_000, 20_000)
    for image, sentence in [
        (tmp_path / "none.jpg", "The picture 'none.jpg' does not exist; check the path."),
        (str(empty), "The picture 'empty.jpg' is empty (0 bytes); choose another picture."),
        (b"", "The picture is empty (0 bytes); choose another picture."),
        (tmp_path, f"The picture {tmp_path.name!r} is a folder; give the path of a picture."),
        (memoryview(b"text"), "The picture cannot be read as a picture; give a JPEG, PNG, WebP or GIF file."),
        (17, "The picture is a int; give a path, the file's bytes, a PIL image or an array."),
        (large, "The picture has 10000 x 5001 pixels, more than 50 million; make it smaller."),
        (huge, "The picture has more than 50 million pixels; make it smaller."),
        (Image.open(io.BytesIO(large)), "The picture has 10000 x 5001 pixels, more than 50 million; make it smaller."),
        (
            np.broadcast_to(np.uint8(0), (5_001, 10_000)),
            "The picture has 10000 x 5001 pixels, more than 50 million; make it smaller.",
        ),
    ]:
        assert said(image) == sentence
    damaged = r"The picture{} is damaged or cut off \((.+)\); save it again or choose another picture\."
    assert re.fullmatch(damaged.format(""), said(half))
    assert re.fullmatch(damaged.format(" 'half.jpg'"), said(tmp_path / "half.jpg"))
    # What a decoder says of it becomes a part of the sentence.
    for error, reason in (
        (MemoryError(), "MemoryError"),
        (ValueError("two\nlines  and more"), "two lines and more"),
        (OSError("a" * 500), "a" * 200),
    ):
        monkeypatch.setattr(image_module, "_to_rgb", fail(error))
        assert re.fullmatch(damaged.format(""), said(encoded(halves(), "PNG"))).group(1) == reason


def fail(error):
    def failing(*values, **options):
        raise error

    return failing


def test_exif_is_forgiven_but_not_a_lack_of_memory(monkeypatch):
    file = encoded(halves(), "PNG")
    monkeypatch.setattr(image_module.ImageOps, "exif_transpose", fail(KeyError("tag")))
    assert_red_then_blue(read_image(file, SETTINGS))
    monkeypatch.setattr(image_module.ImageOps, "exif_transpose", fail(MemoryError()))
    assert "is damaged or cut off (MemoryError)" in said(file)


def test_fifty_megapixels_are_read():
    assert read_image(encoded(Image.new("1", (10_000, 5_000)), "PNG"), ImageSettings(8)).shape == (8, 8, 3)
    with pytest.raises(ProductError):
        image_module._check_size((10_000, 5_001), "It")
    assert image_module._check_size((10_000, 5_000), "It") is None


def jpeg_with_scans(count, comment=b""):
    """A progressive JPEG of exactly so many passes."""
    base = encoded(Image.new("L", (16, 16)), "JPEG", progressive=True)
    file = hostile_pictures.scans(count - base.count(b"\xff\xda"), (16, 16))
    return file[:2] + (b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment if comment else b"") + file[2:]


def test_a_jpeg_has_at_most_a_hundred_scans():
    assert read_image(jpeg_with_scans(100), SETTINGS).shape == (32, 32, 3)
    damaged = "The picture is damaged or cut off ({}); save it again or choose another picture."
    sentence = damaged.format("a JPEG of more than 100 scans")
    assert said(jpeg_with_scans(101)) == sentence
    # Neither the mark of a scan nor that of the end counts in a note, nor anything behind the end.
    assert said(jpeg_with_scans(101, b"\xff\xd9" * 200)) == sentence
    assert said(jpeg_with_scans(101, b"\xff" * 3 + b"\xff\xd0")) == sentence
    assert read_image(jpeg_with_scans(9, b"\xff\xda" * 200) + b"\xff\xda" * 200, SETTINGS).shape == (32, 32, 3)
    for count in (9, 100, 250):
        assert image_module._scans(jpeg_with_scans(count, b"\xff\xda\xff\xd9")) == count
    assert image_module._scans(b"\xff\xd8" + b"\xff\xda\x00\x02" * 5) == 5
    # Other kinds of files may hold what they like.
    noise = encoded(halves(), "PNG") + b"\xff\xda\x00\x02" * 200
    assert_red_then_blue(read_image(noise, SETTINGS))


@pytest.mark.parametrize("size", [(1300, 1700), (3, 400_000), (1_200_000, 2)])
def test_transparency_in_strips_is_that_of_the_whole(size):
    picture = Image.new("RGBA", size, (200, 10, 60, 128))
    picture.paste((0, 0, 0, 0), (0, 0, max(1, size[0] // 2), max(1, size[1] // 2)))
    whole = Image.alpha_composite(Image.new("RGBA", size, "white"), picture).convert("RGB")
    assert image_module._to_rgb(picture).tobytes() == whole.tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_every_mode_becomes_rgb(mode):
    picture = image_module._to_rgb(hostile_pictures.photo(mode))
    assert picture.mode == "RGB" and picture.size == (61, 47)
    if mode in ("I", "I;16", "F", "L", "LA"):
        grey = hostile_pictures.photo("L").convert("RGB")
        assert picture.tobytes() == grey.tobytes()
