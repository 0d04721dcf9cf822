import base64
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from analysis.exports.drawing import Drawing, Paint, Path, Rect, Text
from analysis.exports.shapes import hatch_segments
from analysis.exports.svg import number, write_svg
from tests.drawings import HOSTILE, build_drawing

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"
KNOWN = {"svg", "desc", "defs", "clipPath", "path", "rect", "g", "use", "image"}


def parse(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(write_svg(drawing))


def test_the_page_has_its_physical_size():
    root = parse(build_drawing())
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("234pt", "150pt", "0 0 234 150")


def test_every_reference_is_defined():
    root = parse(build_drawing())
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    used = {element.get(LINK)[1:] for element in root.iter(f"{SVG}use")}
    clips = {element.get("clip-path")[5:-1] for element in root.iter() if element.get("clip-path")}
    assert used
    assert clips
    assert used | clips == ids


def test_text_is_drawn_as_outlines_one_per_letter():
    drawing = Drawing(width=50, height=20, items=(Text(x=1, y=10, text="aba b", size=8, colour="#123456"),))
    root = parse(drawing)
    used = [element.get(LINK) for element in root.iter(f"{SVG}use")]
    assert [used.index(name) for name in used] == [0, 1, 0, 1]
    assert not list(root.iter(f"{SVG}text"))
    (group,) = root.iter(f"{SVG}g")
    assert group.get("fill") == "#123456"


@pytest.mark.parametrize(("anchor", "share"), [("start", 0), ("middle", 0.5), ("end", 1)])
def test_anchors_move_the_line(anchor, share):
    text = Text(x=20, y=10, text="HH", size=10, colour="#000000", anchor=anchor)
    first = next(parse(Drawing(width=50, height=20, items=(text,))).iter(f"{SVG}use"))
    assert int(first.get("x")) == pytest.approx(-share * 2 * 741, abs=1)  # H is 741 wide


def test_text_and_notes_cannot_bring_markup_in():
    root = parse(replace(build_drawing(HOSTILE), notes=(HOSTILE,)))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= KNOWN
    assert "<script>alert(1)</script>" in root.find(f"{SVG}desc").text


@pytest.mark.parametrize("value", ["red", '#000000"/><script/>', "#fff", "rgb(0,0,0)"])
def test_a_colour_that_is_no_colour_is_refused(value):
    with pytest.raises(ValueError, match="#rrggbb"):
        write_svg(Drawing(width=9, height=9, items=(Rect(x=0, y=0, width=1, height=1, paint=Paint(fill=value)),)))


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (-0.001, "0"), (100.0, "100"), (2.345678, "2.35"), (0.5, "0.5")]
)
def test_lengths_are_short(value, text):
    assert number(value) == text


def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        number(float("nan"))


def test_a_picture_is_stored_without_loss():
    drawing = build_drawing()
    (image,) = parse(drawing).iter(f"{SVG}image")
    data = base64.b64decode(image.get(LINK).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), drawing.items[-1].pixels)
    assert "pixelated" in image.get("style")


def test_hatches_are_lines_and_no_patterns():
    paint = Paint(hatch="#000000", hatch_gap=3)
    root = parse(Drawing(width=50, height=50, items=(Rect(x=10, y=10, width=20, height=10, paint=paint),)))
    (lines,) = root.iter(f"{SVG}path")
    assert lines.get("d").count("M") == lines.get("d").count("L") >= 5
    assert lines.get("stroke") == "#000000"


def test_hatch_lines_stay_inside_and_keep_their_distance():
    segments = hatch_segments(3, 4, 20, 10, 2.5)
    for x1, y1, x2, y2 in segments:
        assert min(x1, x2) >= 3 - 1e-9
        assert max(x1, x2) <= 23 + 1e-9
        assert min(y1, y2) >= 4 - 1e-9
        assert max(y1, y2) <= 14 + 1e-9
        assert x2 - x1 == pytest.approx(y1 - y2)  # 45 degrees, going up to the right
    offsets = [(x1 + y1) / np.sqrt(2) for x1, y1, _, _ in segments]
    assert np.diff(offsets) == pytest.approx([2.5] * (len(segments) - 1))
    assert len(segments) in (8, 9)  # the diagonal of 30 / sqrt(2) holds 8.5 of them


def test_a_shape_without_area_has_no_hatch():
    drawing = Drawing(width=9, height=9, items=(Path(commands=(("M", 1, 1),), paint=Paint(hatch="#000000")),))
    assert ElementTree.fromstring(write_svg(drawing)) is not None


def test_equal_drawings_give_equal_bytes_in_every_process():
    script = "import sys; from analysis.exports.svg import write_svg; from analysis.exports.pdf import write_pdf; "
    script += "from tests.drawings import HOSTILE, build_drawing; d = build_drawing(HOSTILE); "
    script += "sys.stdout.buffer.write(write_svg(d) + write_pdf(d, title='t'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert found.pop().startswith(write_svg(build_drawing(HOSTILE)))
