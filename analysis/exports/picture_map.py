"""The picture map as a drawing: the photograph, and over it, as vectors, which expert kept each of its cells."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.columns import BoolArray
from analysis.exports.drawing import Drawing, Item, Paint, Path, Picture, Rect
from analysis.exports.map_frame import (
    DROPPED,
    PARTLY_DROPPED,
    SiteRoutes,
    chip,
    chip_width,
    corner,
    describe_filter,
    dots,
    draw_legend,
    draw_sentences,
    faded,
    routes_at,
    stripes,
)
from analysis.exports.shapes import rect_commands
from analysis.exports.typeface import MIN_TEXT_PT
from analysis.figures.picture_map import PictureMap
from analysis.figures.theme import FocusPalette
from analysis.selection import Selection

TINT: Final = 0.45
OUTSIDE: Final = 0.55
MAX_PICTURE_PT: Final = 576.0  # leaves room for a caption on a page of nine inches of text
LINE_SHARE: Final = 0.05
FOOT_SHARE: Final = 0.16


def draw_picture_map(
    cells: PictureMap,
    pixels: NDArray[np.uint8],
    palettes: Mapping[int, FocusPalette],
    selection: Selection,
    *,
    width_pt: float,
    font_pt: float,
    lit: BoolArray,
    changed: BoolArray | None = None,
) -> Drawing:
    """Draw the cells at the selected site over their picture.

    A number is written where it fits at 7 pt; in smaller cells the colour must do, and the notes say so.

    Args:
        pixels: (height, width, 3) uint8, the picture at any resolution.
        palettes: colours of every site.
        selection: its site, its experts and status as a sentence, its units as outlined cells.
        width_pt: of the page; a high picture is drawn narrower. font_pt: size of the legend, at least 7.
        lit: (N,) cells that are not faded.
        changed: (N,) cells whose route differs from that of the pinned run.

    Raises:
        ConfigError: a site that the trace does not have.
    """
    routes = routes_at(cells.routes, palettes, selection.site_id)
    sentence = describe_filter(selection, "cells")
    items: list[Item] = []
    top = 0.0
    if routes is not None:
        legend = draw_legend(routes, width=width_pt, font_pt=font_pt, sentence=sentence, changed=changed)
        items += legend.items
        top = legend.height
    scale = min(width_pt / cells.width, MAX_PICTURE_PT / cells.height)
    shown = np.flatnonzero((cells.grid_row >= 0) & ~np.isnan(cells.box).any(axis=1))
    boxes = cells.box.astype(np.float64) * scale + np.array([0.0, top, 0.0, top])
    width, height = cells.width * scale, cells.height * scale
    items.append(Picture(x=0, y=top, width=width, height=height, pixels=pixels))
    if len(shown):
        items += _outside((0.0, top, width, height), boxes[shown])
    remarks = _remarks(len(cells.grid_row), len(shown), routes)
    is_small = False
    if routes is not None:
        dimmed: list[Item] = []
        marks: list[Item] = []
        for unit in shown.tolist():
            box = (float(boxes[unit, 0]), float(boxes[unit, 1]), float(boxes[unit, 2]), float(boxes[unit, 3]))
            drawn, has_room = _cell(routes, unit, box)
            is_small |= not has_room
            if routes.is_filler[unit]:
                drawn += _filler_mark(box)
            if changed is not None and changed[unit]:
                drawn.append(corner(box[2], box[1], max(2.8, 0.2 * (box[2] - box[0])), border="#FFFFFF"))
            (items if lit[unit] else dimmed).extend(drawn)
            if unit in selection.units:
                marks += _mark(box)
        items += [*faded(dimmed), *marks]
    below = draw_sentences(remarks, y=top + height + 2, width=width_pt)
    items += below.items
    notes = (
        *([_explanation(routes, changed)] if routes is not None else []),
        *([sentence] if sentence else []),
        *(["Cells are too small for the numbers of their experts at 7 pt."] if is_small else []),
        *remarks,
    )
    page_height = top + height + (below.height + 2 if remarks else 0)
    return Drawing(width=width_pt, height=page_height, items=tuple(items), notes=notes)


def _remarks(count: int, shown: int, routes: SiteRoutes | None) -> tuple[str, ...]:
    said = [] if routes is not None else ["The trace has no sites: nothing was routed."]
    if shown < count:
        said.append(
            f"{count - shown:,} of {count:,} cells have no place in the picture (padding); the legend counts all."
        )
    return tuple(said)


def _explanation(routes: SiteRoutes, changed: BoolArray | None) -> str:
    text = f"Colour and number: the expert of {routes.label} that a cell preferred most among those that kept it; "
    text += "the numbers in the legend count cells."
    if routes.is_filler.any():
        text += " Dotted along the top: an expert took it as filler, unasked."
    return text + (" A black corner: the route differs from that in run A." if changed is not None else "")


def _outside(page: tuple[float, float, float, float], boxes: NDArray[np.float64]) -> list[Item]:
    """Shade what the model did not see: the picture without the rectangle that the cells cover."""
    x, y, width, height = page
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, foot = boxes[:, 2:].max(axis=0).tolist()
    if left <= x + 0.01 and top <= y + 0.01 and right >= x + width - 0.01 and foot >= y + height - 0.01:
        return []
    left, top, right, foot = max(left, x), max(top, y), min(right, x + width), min(foot, y + height)
    hole = (("M", left, top), ("L", left, foot), ("L", right, foot), ("L", right, top), ("Z",))  # the other way round
    shade = Paint(fill="#000000", fill_opacity=OUTSIDE)
    return [Path(commands=(*rect_commands(x, y, width, height), *hole), paint=shade)]


def _cell(routes: SiteRoutes, unit: int, box: tuple[float, float, float, float]) -> tuple[list[Item], bool]:
    """Tint, hatch, frame and number of a cell, and whether the number has room. Lines lie inside the cell."""
    left, top, right, foot = box
    width, height = right - left, foot - top
    line = max(0.5, LINE_SHARE * min(width, height))
    inner = {"x": left + line / 2, "y": top + line / 2, "width": width - line, "height": height - line}
    status = int(routes.status[unit])
    colour = routes.fill(unit)
    if colour is None:
        if status == DROPPED:
            area = Paint(fill="#FFFFFF", fill_opacity=0.35, hatch="#2F2D2B", hatch_gap=max(2.2, 0.14 * width))
            frame = Paint(stroke="#2F2D2B", stroke_width=line)
        else:
            area = Paint(fill="#FFFFFF", fill_opacity=0.35)
            frame = Paint(stroke="#FFFFFF", stroke_width=line, dash=(3 * line, 2 * line))
        return [Rect(x=left, y=top, width=width, height=height, paint=area), Rect(**inner, paint=frame)], True
    items: list[Item] = [
        Rect(x=left, y=top, width=width, height=height, paint=Paint(fill=colour, fill_opacity=TINT)),
        Rect(**inner, paint=Paint(stroke=colour, stroke_width=line)),
    ]
    if status == PARTLY_DROPPED:
        bar = max(2.0, FOOT_SHARE * height)
        items.append(Rect(x=left, y=foot - bar, width=width, height=bar, paint=Paint(fill="#FFFFFF")))
        items.append(stripes(left, foot - bar, width, bar, "#2F2D2B", stripe=max(1.0, 0.05 * width)))
    number = routes.number(unit, always=True)
    size = max(MIN_TEXT_PT, min(0.36 * min(width, height), 14.0))
    has_room = chip_width(number, size) <= width and 1.06 * size <= height
    if has_room:
        middle = (left + right - chip_width(number, size)) / 2
        items += chip(number, middle, (top + foot) / 2 + 0.5 * size, size=size, colour=colour)
    return items, has_room


def _filler_mark(box: tuple[float, float, float, float]) -> list[Item]:
    """Dots along the top of a cell, on white to be seen on any picture."""
    left, top, right, _ = box
    size = max(MIN_TEXT_PT, 0.36 * (right - left))
    edge = Rect(x=left, y=top, width=right - left, height=0.16 * size, paint=Paint(fill="#FFFFFF"))
    return [edge, dots(left, top + 0.02 * size, right - left, size)]


def _mark(box: tuple[float, float, float, float]) -> list[Item]:
    """A selected cell: black with a white line inside, to be seen on any picture."""
    left, top, right, foot = box
    return [
        Rect(
            x=left + inset,
            y=top + inset,
            width=right - left - 2 * inset,
            height=foot - top - 2 * inset,
            paint=Paint(stroke=stroke, stroke_width=line),
        )
        for inset, line, stroke in ((0.8, 1.6, "#000000"), (2.0, 0.8, "#FFFFFF"))
    ]
