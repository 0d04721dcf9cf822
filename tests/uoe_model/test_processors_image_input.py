import io
import struct
import subprocess
import sys
import zlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, PngImagePlugin

from uoe_model.errors import InputError
from uoe_model.processors.image_input import open_image, read_image, upright_rgb

WIDTH, HEIGHT = 24, 16


def picture() -> Image.Image:
    """A quadrant of each colour: red, green / blue, white."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    image.paste("red", (0, 0, WIDTH // 2, HEIGHT // 2))
    image.paste((0, 255, 0), (WIDTH // 2, 0, WIDTH, HEIGHT // 2))
    image.paste("blue", (0, HEIGHT // 2, WIDTH // 2, HEIGHT))
    return image


def save(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_promising(width: int, height: int) -> bytes:
    """A PNG that says it has this size, and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    right, bottom = image.width - 1, image.height - 1
    return [image.getpixel(place) for place in ((0, 0), (right, 0), (0, bottom), (right, bottom))]


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

FILES = {
    name: save(picture(), name)
    for name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "PCX", "TGA", "SGI", "DIB", "QOI", "AVIF")
}


# What is opened ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", sorted(set(FILES) - {"ICO"}))
def test_raster_formats_open_by_content(file_format):
    opened = read_image(FILES[file_format], name="picture.wrong")
    assert opened.image.mode == "RGB"
    assert opened.image.size == (WIDTH, HEIGHT)
    assert np.allclose(corners(opened.image), [RED, GREEN, BLUE, WHITE], atol=60)  # lossy formats blur
    assert opened.notes == ()


def test_a_path_opens_like_its_content(tmp_path):
    (tmp_path / "picture.jpg").write_bytes(FILES["PNG"])  # the extension is wrong, the content decides
    assert read_image(tmp_path / "picture.jpg").file_format == "PNG"
    assert corners(open_image(tmp_path / "picture.jpg")) == corners(open_image(FILES["PNG"]))


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
        (99, [RED, GREEN, BLUE, WHITE]),
    ],
)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, expected, file_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    opened = open_image(save(picture(), file_format, exif=exif, **options))
    assert corners(opened) == expected
    assert opened.size == ((HEIGHT, WIDTH) if 5 <= orientation <= 8 else (WIDTH, HEIGHT))
    assert corners(upright_rgb(opened).image) == expected


def test_transparency_is_laid_over_white():
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half.putpixel((1, 0), (0, 0, 0, 0))
    assert corners(open_image(save(half, "PNG")))[:2] == [(255, 127, 127), WHITE]

    grey = Image.new("LA", (1, 1), (0, 0))
    assert open_image(save(grey, "PNG")).getpixel((0, 0)) == WHITE

    palette = picture().quantize(8)
    transparent = save(palette, "PNG", transparency=palette.getpixel((0, 0)))
    assert corners(open_image(transparent)) == [WHITE, GREEN, BLUE, WHITE]

    keyed = save(picture(), "PNG", transparency=RED)
    assert corners(open_image(keyed)) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "RGBX"]
)
def test_every_common_mode_becomes_rgb(mode):
    image = Image.new("L", (4, 3), 255).convert("RGB").convert("LA" if mode == "PA" else "RGB").convert(mode)
    assert upright_rgb(image).image.mode == "RGB"
    assert upright_rgb(image).image.size == (4, 3)


def test_cmyk_jpeg_keeps_its_colours():
    opened = open_image(save(picture().convert("CMYK"), "JPEG", quality=95))
    assert np.allclose(corners(opened), [RED, GREEN, BLUE, WHITE], atol=40)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(file_format):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    opened = read_image(save(Image.fromarray(values), file_format))
    assert np.asarray(opened.image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert opened.notes == ()


def test_floating_point_greys_outside_0_to_1_are_stretched_and_said_so():
    values = np.array([[-2.0, np.nan, np.inf, 2.0, 0.0]], dtype=np.float32)
    opened = read_image(save(Image.fromarray(values), "TIFF"), name="depth.tif")
    assert np.asarray(opened.image)[0, :, 0].tolist() == [0, 0, 255, 255, 128]
    assert opened.notes == ("depth.tif has values from -2 to 2; they are stretched to black..white.",)

    within = read_image(save(Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), "TIFF"))
    assert np.asarray(within.image)[0, :, 0].tolist() == [0, 128, 255]
    assert within.notes == ()


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_is_used_and_said_so(file_format):
    more = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("black", "white")]
    opened = read_image(save(picture(), file_format, save_all=True, append_images=more), name="film.gif")
    assert np.allclose(corners(opened.image), [RED, GREEN, BLUE, WHITE], atol=60)
    assert opened.notes == ("film.gif has several frames; the first one is used.",)


def test_one_pixel_is_a_picture():
    opened = open_image(save(Image.new("RGB", (1, 1), "red"), "PNG"))
    assert opened.size == (1, 1)
    assert opened.getpixel((0, 0)) == RED


def test_the_callers_picture_is_left_alone():
    image = picture().convert("RGBA")
    image.info["note"] = "mine"
    upright_rgb(image)
    assert image.mode == "RGBA"
    assert image.info == {"note": "mine"}


def test_plain_parts_need_neither_torch_nor_transformers():
    code = (
        "import sys; import uoe_model.processors.image_input, uoe_model.processors.crop, "
        "uoe_model.processors.text_input; print({'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cat.png is an empty file: choose a picture."),
        (b"x" * 2_000_000, "cat.png has 2,000,000 bytes; at most 1,000,000 are opened: make it smaller."),
        (
            b"Just some text.\n",
            "cat.png holds plain text, not a picture: "
            "choose a picture such as JPEG, PNG or WebP, or use the text input.",
        ),
        (
            "grün".encode("latin-1"),
            "cat.png is no picture in a known format: choose a picture such as JPEG, PNG or WebP.",
        ),
        (
            b"%PDF-1.7\n\xff",
            "cat.png is a PDF document, which cannot be opened here: save it as JPEG or PNG and try again.",
        ),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "cat.png is a HEIC picture, which cannot be opened here: save it as JPEG or PNG and try again.",
        ),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "cat.png is an SVG drawing, which cannot be opened here: save it as JPEG or PNG and try again.",
        ),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            "cat.png is a PostScript document, which cannot be opened here: save it as JPEG or PNG and try again.",
        ),
        (
            b"\x89PNG\r\n\x1a\n",
            "cat.png begins like a PNG picture, but is damaged or incomplete: save it again and retry.",
        ),
        (
            png_promising(8000, 7000),
            "cat.png has 8,000 x 7,000 = 56,000,000 pixels; at most 50,000,000 are opened: "
            "make it smaller, 1,000 x 1,000 is plenty.",
        ),
        (
            png_promising(20_000, 20_000),
            "cat.png has 400,000,000 pixels; at most 50,000,000 are opened: make it smaller, 1,000 x 1,000 is plenty.",
        ),
    ],
    ids=["empty", "large", "text", "noise", "PDF", "HEIC", "SVG", "EPS", "cut", "56 MP", "400 MP"],
)
def test_a_bad_file_gets_one_clear_sentence(data, sentence):
    with pytest.raises(InputError) as caught:
        open_image(data, name="cat.png", max_bytes=1_000_000)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_a_truncated_jpeg_is_refused(keep):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = save(noise, "JPEG")
    with pytest.raises(InputError, match="The picture is damaged or incomplete"):
        open_image(data[: int(len(data) * keep)])


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (12_000, 12_000), (8_000, 8_000), (1, 50_000_001)])
def test_too_many_pixels_are_refused_before_decoding(width, height, monkeypatch):
    def refuse(*_: object) -> None:
        pytest.fail("the picture was decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", refuse)
    with pytest.raises(InputError, match="at most 50,000,000 are opened"):
        open_image(png_promising(width, height))


@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_whatever_the_warning_filter_says():
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(InputError, match=r"12,000 x 12,000 = 144,000,000 pixels"),
    ):
        open_image(png_promising(12_000, 12_000))


def test_a_compressed_text_chunk_that_explodes_is_refused():
    chunk = png_chunk(b"zTXt", b"key\0\0" + zlib.compress(b"\0" * 50_000_000))
    data = save(picture(), "PNG")
    with pytest.raises(InputError, match="damaged or incomplete"):
        open_image(data[:33] + chunk + data[33:])


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            open_image(path)


def test_colours_without_a_meaning_in_rgb_are_refused():
    with pytest.raises(InputError, match="mode La"):
        upright_rgb(Image.new("La", (2, 2)))


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(InputError, match="0 x 3 pixels"):
        upright_rgb(Image.new("RGB", (0, 3)))


def test_running_out_of_memory_is_said_as_such(monkeypatch):
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", exhaust)
    with pytest.raises(InputError, match="does not fit into memory"):
        open_image(FILES["PNG"])


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_files_give_a_picture_or_a_sentence(file_format, data):
    content = bytearray(FILES[file_format])
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        opened = read_image(bytes(content[:kept]), max_pixels=1_000_000)
    except InputError as error:
        sentence = str(error)
        assert sentence.isprintable()  # either outcome is right
    else:
        assert opened.image.mode == "RGB"


@pytest.mark.filterwarnings("ignore")
@given(st.binary(max_size=200))
def test_noise_gives_a_sentence(data):
    with pytest.raises(InputError):
        open_image(data, max_pixels=1_000_000)
