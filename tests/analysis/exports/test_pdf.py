import re
import shutil
import subprocess
import threading
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest

from analysis.exports.drawing import Drawing, Group, Paint, Rect, Text
from analysis.exports.pdf import write_pdf
from analysis.exports.typeface import text_width
from tests.drawings import HOSTILE, build_drawing, pdf_object_kinds, pdf_text, pdf_type_sizes
from uoe_model.errors import ConfigError

IMAGE = pypdfium2.raw.FPDF_PAGEOBJ_IMAGE


def pixels(drawing: Drawing, scale: float = 1.0) -> np.ndarray:
    document = pypdfium2.PdfDocument(write_pdf(drawing, title=""))
    found = document[0].render(scale=scale).to_numpy().copy()[:, :, ::-1]
    document.close()
    return found


def test_the_page_has_its_physical_size():
    document = pypdfium2.PdfDocument(write_pdf(build_drawing(), title="x"))
    assert document[0].get_size() == (234, 150)
    document.close()


def test_text_can_be_read_and_keeps_its_size():
    data = write_pdf(build_drawing("Hello Wörld"), title="x")
    assert pdf_text(data).count("Hello Wörld") == 2
    assert pdf_type_sizes(data) == {8.0, 9.0}


def test_the_only_images_are_pictures():
    drawing = build_drawing()
    assert pdf_object_kinds(write_pdf(drawing, title="x")).count(IMAGE) == 1
    without = replace(drawing, items=drawing.items[:-1])
    assert IMAGE not in pdf_object_kinds(write_pdf(without, title="x"))


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="pdffonts is not installed")
def test_all_fonts_are_embedded_subsets(tmp_path):
    path = tmp_path / "x.pdf"
    path.write_bytes(write_pdf(build_drawing("Text ⏎ " + HOSTILE), title="x"))
    lines = subprocess.run(["pdffonts", path], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    assert [line.split()[0].split("+")[1] for line in lines] == ["NotoSans-Regular", "DejaVuSans", "NotoSans-Bold"]
    for line in lines:
        assert re.search(r"TrueType .* yes +yes +yes", line)


def test_equal_drawings_give_equal_bytes_without_times():
    one, other = (write_pdf(build_drawing(HOSTILE), title=HOSTILE) for _ in range(2))
    assert one == other
    assert b"Date" not in one


def test_properties_are_the_title_and_the_notes():
    document = pypdfium2.PdfDocument(write_pdf(build_drawing(), title="Tokens (1) é"))
    found = {name: text for name, text in document.get_metadata_dict().items() if text}
    document.close()
    assert found == {"Title": "Tokens (1) é", "Subject": "A note."}


def test_a_group_fades_as_one():
    items = (
        Rect(x=0, y=0, width=6, height=10, paint=Paint(fill="#FF0000")),
        Rect(x=4, y=0, width=6, height=10, paint=Paint(fill="#0000FF")),
    )
    found = pixels(Drawing(width=10, height=10, items=(Group(items=items, opacity=0.5),)))
    assert found[5, 1].tolist() == pytest.approx([255, 128, 128], abs=2)
    assert found[5, 5].tolist() == pytest.approx([128, 128, 255], abs=2)  # nothing of the red one behind it
    assert found[5, 8].tolist() == pytest.approx([128, 128, 255], abs=2)


def test_opacity_ends_with_its_item():
    items = (
        Rect(x=0, y=0, width=5, height=10, paint=Paint(fill="#000000", fill_opacity=0.2)),
        Rect(x=5, y=0, width=5, height=10, paint=Paint(fill="#000000")),
    )
    found = pixels(Drawing(width=10, height=10, items=items))
    assert found[5, 2].tolist() == pytest.approx([204] * 3, abs=2)
    assert found[5, 7].tolist() == [0, 0, 0]


def test_a_clip_cuts_what_lies_outside():
    inside = Rect(x=0, y=0, width=10, height=10, paint=Paint(fill="#000000"))
    found = pixels(Drawing(width=10, height=10, items=(Group(items=(inside,), clip=(0, 0, 10, 4)),)))
    assert found[2, 5].tolist() == [0, 0, 0]
    assert found[7, 5].tolist() == [255, 255, 255]


def test_hatch_lines_go_up_to_the_right():
    paint = Paint(hatch="#000000", hatch_gap=20)
    found = pixels(Drawing(width=20, height=20, items=(Rect(x=0, y=0, width=20, height=20, paint=paint),)), scale=4)
    rows, columns = np.nonzero(found[:, :, 0] < 128)
    across, along = (rows + columns) / np.sqrt(2) / 4, (columns - rows) / np.sqrt(2) / 4
    assert np.ptp(across) == pytest.approx(5, abs=0.5)  # one line, a quarter of the gap wide
    assert np.ptp(along) > 15


def test_letters_stand_where_the_measures_say():
    text = Text(x=50, y=30, text="H⏎日H", size=20, colour="#000000", anchor="middle")
    dark = np.nonzero(pixels(Drawing(width=100, height=40, items=(text,)), scale=4)[:, :, 0].min(axis=0) < 128)[0] / 4
    width = text_width("H⏎日H", 20)
    assert dark[0] == pytest.approx(50 - width / 2 + 0.097 * 20, abs=0.5)  # bearings of H
    assert dark[-1] == pytest.approx(50 + width / 2 - 0.097 * 20, abs=0.5)


def test_rotated_text_reads_upwards():
    text = Text(x=20, y=90, text="HHHH", size=10, colour="#000000", rotate=90)
    rows, columns = np.nonzero(pixels(Drawing(width=40, height=100, items=(text,)), scale=2)[:, :, 0] < 128)
    assert columns.max() / 2 <= 20.5
    assert rows.max() / 2 <= 90
    assert rows.min() / 2 == pytest.approx(90 - text_width("HHHH", 10), abs=1.5)


def test_threads_do_not_disturb_each_other():
    expected = [write_pdf(build_drawing(f"text {number}"), title="x") for number in range(4)]
    found: dict[int, bytes] = {}

    def write(number: int) -> None:
        for _ in range(5):
            found[number] = write_pdf(build_drawing(f"text {number}"), title="x")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == expected


def test_a_page_longer_than_pdf_allows_is_refused():
    with pytest.raises(ConfigError, match="14400 pt"):
        write_pdf(Drawing(width=100, height=20_000, items=()), title="x")
