import io
from dataclasses import replace

import numpy as np
import pypdfium2
import pytest
from PIL import Image

from analysis.exports.drawing import Drawing, Group, Path, Picture, Rect
from analysis.exports.map_frame import DIM
from analysis.exports.pdf import write_pdf
from analysis.exports.picture_map import draw_picture_map
from analysis.exports.png import write_png
from analysis.exports.svg import write_svg
from analysis.figures.picture_map import PictureMap, build_picture_map
from analysis.figures.theme import IDENTITIES, focus_palette
from analysis.selection import Selection, lit_units
from tests.drawings import flat, pdf_object_kinds, pdf_type_sizes, rects, texts, written
from tests.traces import make_trace
from uoe_model.errors import ConfigError

PHOTO = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
ROUTES = "0>E0 1>E1 2>E0,E1! 3>E1! 4 5>E2"
PALETTES = {0: focus_palette(9, pinned=(0, 1))}


def cells_of(trace, *, width: int = 80, height: int = 60, left: float = 10.0, side: float = 20.0) -> PictureMap:
    """Cells in rows of three; the first begins at (left, 0)."""
    count = trace.num_units
    row, col = (np.arange(count) // 3).astype(np.int16), (np.arange(count) % 3).astype(np.int16)
    box = np.stack([left + col * side, row * side, left + (col + 1) * side, (row + 1) * side], axis=1)
    cells = build_picture_map(trace, width=width, height=height)
    return replace(cells, box=box.astype(np.float32), grid_row=row, grid_col=col, rows=2, cols=3)


def draw(selection: Selection | None = None, *, width_pt: float = 234, routes: str = ROUTES, **options) -> Drawing:
    trace = make_trace(f"L0.attention: {routes}", num_experts=9, capacity=9)
    selection = (selection or Selection(site_id=0)).fitted(trace)
    cells = options.pop("cells", None) or cells_of(trace)
    lit = lit_units(trace, selection)
    return draw_picture_map(cells, PHOTO, PALETTES, selection, width_pt=width_pt, font_pt=8, lit=lit, **options)


def picture(drawing: Drawing) -> Picture:
    (found,) = [item for item in flat(drawing.items) if isinstance(item, Picture)]
    return found


def test_the_photograph_is_as_wide_as_the_page_and_unchanged():
    found = picture(draw())
    assert (found.x, found.width, found.height) == (0, 234, 234 * 60 / 80)
    assert found.pixels is PHOTO


def test_a_high_picture_is_drawn_narrower():
    trace = make_trace(f"L0.mlp: {ROUTES}", num_experts=9, capacity=9)
    found = picture(draw(cells=cells_of(trace, width=80, height=800)))
    assert found.height == 576
    assert found.width == pytest.approx(57.6)


def test_cells_lie_where_they_lay_in_the_picture():
    drawing = draw()
    scale = 234 / 80
    top = picture(drawing).y
    tints = [rect for rect in rects(drawing) if rect.paint.fill in IDENTITIES and rect.paint.fill_opacity < 1]
    assert [(rect.x, rect.y) for rect in tints[:3]] == [
        (pytest.approx((10 + 20 * col) * scale), pytest.approx(top)) for col in range(3)
    ]
    assert tints[0].width == pytest.approx(20 * scale)


def test_every_kept_cell_carries_the_number_of_its_expert():
    assert [text.text for text in texts(draw())][-4:] == ["0", "1", "0", "2"]


def test_cells_too_small_for_a_number_at_seven_points_have_none_and_the_notes_say_so():
    drawing = draw(width_pt=25)
    numbers = [text.text for text in texts(drawing) if text.anchor == "middle" and text.text != "n"]
    assert numbers == []
    assert any("too small" in note for note in drawing.notes)
    assert not any("too small" in note for note in draw().notes)


def test_status_is_shown_without_colour():
    drawing = draw()
    hatched = [rect for rect in rects(drawing) if rect.paint.hatch and rect.width > 20]
    assert len(hatched) == 1  # dropped
    dashed = [rect for rect in rects(drawing) if rect.paint.dash and rect.width > 20]
    assert len(dashed) == 1  # unrouted
    feet = [rect for rect in rects(drawing) if rect.paint.fill == "#FFFFFF" and rect.paint.fill_opacity == 1]
    assert len(feet) == 1  # partly dropped
    assert "partly dropped 1 dropped 1 unrouted 1" in written(drawing)


def test_filler_is_dotted_along_the_top_of_its_cell_and_explained():
    plain, filled = draw(), draw(routes=ROUTES.replace("1>E1", "1>E1,E0~", 1))
    found = picture(filled)

    def dotted(drawing: Drawing) -> list[Path]:
        return [item for item in drawing.items if isinstance(item, Path) and len(item.commands) > 20]

    [marks] = [item for item in dotted(filled) if item not in dotted(plain) and item.commands[0][2] >= found.y]
    xs = [command[1] for command in marks.commands if len(command) > 1]
    assert min(xs) == pytest.approx(30 * found.width / 80)
    assert max(xs) == pytest.approx(50 * found.width / 80)
    assert marks.commands[0][2] == pytest.approx(found.y, abs=0.5)
    assert "filler" in " ".join(filled.notes)
    assert "filler" not in " ".join(plain.notes)


def test_what_the_model_did_not_see_is_shaded():
    (shade,) = [item for item in draw().items if isinstance(item, Path) and item.paint.fill_opacity < 1]
    assert shade.paint.fill == "#000000"
    white = np.full((6, 8, 3), 255, dtype=np.uint8)
    shown = [replace(item, pixels=white) if isinstance(item, Picture) else item for item in draw().items]
    pixels = np.asarray(Image.open(io.BytesIO(write_png(replace(draw(), items=tuple(shown)), dpi=72))))
    assert pixels[-10, 3].tolist() == pytest.approx([115] * 3, abs=2)  # below the cells: 45 % of white
    assert pixels[int(picture(draw()).y) + 10, 3].tolist() == pytest.approx([115] * 3, abs=2)  # left of the cells
    assert pixels[int(picture(draw()).y) + 8, 34].tolist() != pytest.approx([115] * 3, abs=2)
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0", num_experts=9)
    whole = draw(routes="0>E0 1>E0 2>E0", cells=cells_of(trace, width=60, height=20, left=0))
    assert not [item for item in whole.items if isinstance(item, Path) and item.paint.fill_opacity < 1]


def test_cells_in_the_padding_are_not_drawn_and_counted():
    trace = make_trace(f"L0.attention: {ROUTES}", num_experts=9, capacity=9)
    cells = cells_of(trace)
    box = cells.box.copy()
    box[:2] = np.nan
    drawing = draw(cells=replace(cells, box=box))
    assert [text.text for text in texts(drawing) if text.anchor == "middle" and text.text != "n"] == ["0", "2"]
    assert "2 of 6 cells have no place in the picture" in written(drawing)


def test_cells_that_are_not_lit_are_faded_and_selected_ones_outlined():
    drawing = draw(Selection(site_id=0, experts=(1,), units=(0,)))
    (group,) = [item for item in drawing.items if isinstance(item, Group)]
    assert group.opacity == DIM
    assert len([item for item in group.items if isinstance(item, Rect) and item.paint.fill == IDENTITIES[0]]) == 4
    assert "In full colour: cells kept by E1." in written(drawing)
    assert [item.paint.stroke for item in drawing.items[-2:]] == ["#000000", "#FFFFFF"]


def test_changed_cells_are_marked_and_counted():
    drawing = draw(changed=np.array([True, False, False, True, False, False]))
    corners = [item for item in flat(drawing.items) if isinstance(item, Path) and item.paint.stroke == "#FFFFFF"]
    assert len(corners) == 2
    assert "route differs from A 2" in written(drawing)


def test_a_site_that_does_not_exist_is_refused():
    trace = make_trace("L0.mlp: 0>E0", num_experts=9)
    with pytest.raises(ConfigError, match="site_id=3"):
        draw_picture_map(
            cells_of(trace), PHOTO, {}, Selection(site_id=3), width_pt=99, font_pt=8, lit=np.ones(1, dtype=np.bool_)
        )


def test_the_photograph_is_the_only_image_of_the_file():
    data = write_pdf(draw(Selection(site_id=0, experts=(1,), units=(0,))), title="x")
    assert pdf_object_kinds(data).count(pypdfium2.raw.FPDF_PAGEOBJ_IMAGE) == 1
    document = pypdfium2.PdfDocument(data)
    (image,) = document[0].get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE])
    stored = image.get_bitmap().to_numpy()[:, :, ::-1].copy()
    document.close()
    assert np.array_equal(stored, PHOTO)
    assert min(pdf_type_sizes(data)) >= 7
    assert write_svg(draw()).count(b"<image") == 1


def test_equal_maps_give_equal_files():
    assert write_svg(draw()) == write_svg(draw())
    assert write_pdf(draw(), title="x") == write_pdf(draw(), title="x")
