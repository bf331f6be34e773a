"""Texts as a person would read them; pictures of any kind to one array; bad files to one sentence."""

import io

import numpy
import pytest
from PIL import Image

from rakuten_models.cleaning import MAXIMUM_CHARACTERS
from rakuten_models.preprocessing import ImageSettings, clean_text, has_text, read_image
from rakuten_models.product import Product, ProductError

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
    assert len(clean_text("<" * 1_000_000)) <= MAXIMUM_CHARACTERS
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
    assert pixels.dtype == numpy.uint8
    numpy.testing.assert_allclose(pixels[16, 4], [255, 0, 0], atol=12)
    numpy.testing.assert_allclose(pixels[16, 27], [0, 0, 255], atol=12)


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
        numpy.asarray(halves()),
        numpy.asarray(halves("RGBA")),
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
    ramp = numpy.linspace(0, 65535, 64 * 64).astype(numpy.uint16).reshape(64, 64)
    pixels = read_image(encoded(Image.fromarray(ramp), "PNG"), SETTINGS)
    assert pixels.min() < 10 and pixels.max() > 245
    assert 100 < pixels.mean() < 155


def test_grey_array_and_transparency_on_white():
    assert read_image(numpy.full((10, 20), 7, numpy.uint8), SETTINGS)[16, 16].tolist() == [7, 7, 7]
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert read_image(clear, SETTINGS).min() == 255


def test_proportions_are_kept_on_white():
    pixels = read_image(Image.new("RGB", (100, 50), "black"), SETTINGS)
    assert pixels[0, 16].tolist() == [255, 255, 255]
    assert pixels[16, 16].tolist() == [0, 0, 0]
    assert read_image(Image.new("RGB", (1, 4000), "black"), SETTINGS).shape == (32, 32, 3)


def test_a_path_and_its_bytes_give_the_same(tmp_path):
    path = tmp_path / "photo.jpg"
    noise = numpy.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=numpy.uint8)
    Image.fromarray(noise).save(path, quality=90)
    expected = read_image(path, SETTINGS)
    numpy.testing.assert_array_equal(read_image(str(path), SETTINGS), expected)
    numpy.testing.assert_array_equal(read_image(path.read_bytes(), SETTINGS), expected)


def test_the_callers_picture_is_not_changed(tmp_path):
    path = tmp_path / "photo.jpg"
    halves(size=(640, 480)).save(path)
    with Image.open(path) as image:
        read_image(image, SETTINGS)
        assert image.size == (640, 480)


def test_bad_pictures_get_one_sentence(tmp_path):
    whole = encoded(
        Image.fromarray(numpy.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=numpy.uint8)), "PNG"
    )
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for image, words in [
        (tmp_path / "none.jpg", "'none.jpg' does not exist"),
        (empty, "'empty.jpg' is empty (0 bytes)"),
        (b"", "is empty (0 bytes)"),
        (tmp_path, "is a folder"),
        (b"hello, I am a text", "cannot be read as a picture"),
        (whole[: len(whole) // 2], "is damaged or cut off"),
        (numpy.zeros((4, 4), numpy.float32), "is an array of float32 with shape (4, 4); give uint8"),
        (numpy.zeros((4, 4, 7), numpy.uint8), "shape (4, 4, 7)"),
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
        read_image(encoded(Image.new("1", (20_000, 20_000)), "PNG"), SETTINGS)
