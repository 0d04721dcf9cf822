import io

import numpy as np
import pytest
from PIL import Image

from analysis.exports.drawing import Drawing, Paint, Rect
from analysis.exports.png import MAX_PIXELS, write_png
from tests.drawings import build_drawing
from uoe_model.errors import ConfigError


def test_pixels_and_resolution_say_the_physical_size():
    picture = Image.open(io.BytesIO(write_png(build_drawing(), dpi=300)))
    assert picture.size == (975, 625)  # 234 x 150 pt
    assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.02)
    assert picture.mode == "RGB"


def test_colours_arrive():
    drawing = Drawing(
        width=72,
        height=72,
        items=(Rect(x=36, y=0, width=36, height=36, paint=Paint(fill="#D55E00")),),
        background="#EEEBE8",
    )
    pixels = np.asarray(Image.open(io.BytesIO(write_png(drawing, dpi=72))))
    assert pixels[18, 54].tolist() == [0xD5, 0x5E, 0x00]
    assert pixels[54, 18].tolist() == [0xEE, 0xEB, 0xE8]


def test_equal_drawings_give_equal_bytes():
    assert write_png(build_drawing(), dpi=150) == write_png(build_drawing(), dpi=150)


@pytest.mark.parametrize("dpi", [0, -300, 35, 1201])
def test_a_resolution_out_of_range_is_refused(dpi):
    with pytest.raises(ConfigError, match=r"36\.\.1200"):
        write_png(build_drawing(), dpi=dpi)


def test_too_many_pixels_are_refused_with_a_resolution_that_fits():
    drawing = Drawing(width=500, height=14_000, items=())
    with pytest.raises(ConfigError, match="choose dpi=") as refused:
        write_png(drawing, dpi=1200)
    fits = int(str(refused.value).split("choose dpi=")[1].split()[0])
    assert np.ceil(500 / 72 * fits) * np.ceil(14_000 / 72 * fits) <= MAX_PIXELS
    assert fits > 150
