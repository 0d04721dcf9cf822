"""Annotations of a layout: words at a place, without arrows."""

from dataclasses import dataclass
from typing import Any, Final, Literal

from analysis.exports.chart.axes import parse_reference, read_font
from analysis.exports.chart.frame import Frame
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Sheet, extent, faded
from analysis.exports.chart.text import Line, Side, parse_markup, place_text, wrap
from analysis.exports.chart.values import Colour, read_colour
from analysis.exports.drawing import Anchor, Item, Paint, Rect

_ANCHORS: Final[dict[str, Anchor]] = {"left": "start", "center": "middle", "right": "end"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Words at (x, y), which count in x_ref and y_ref; shifts in pixels, to the right and upwards."""

    lines: tuple[Line, ...]
    where: str
    x: float
    y: float
    x_ref: str
    y_ref: str
    anchor: Anchor
    side: Side
    align: Anchor | None
    x_shift: float
    y_shift: float
    angle: Literal[0, 90, -90]
    px: float | None
    colour: str | None
    ground: Colour
    opacity: float


def read_note(note: Properties) -> Note:
    """Read an annotation of the layout."""
    with note:
        note.skip("name", "hovertext", "hoverlabel", "captureevents", "clicktoshow", "xclick", "yclick", "ax", "ay")
        note.one_of("showarrow", (False,), True)
        note.one_of("visible", (True,), True)
        px, colour = read_font(note)
        x, y = note.number("x", 0.5), note.number("y", 0.5)
        x_ref, y_ref = note.text("xref", "x"), note.text("yref", "y")
        across = note.one_of("xanchor", ("auto", "left", "center", "right"), "auto")
        down = note.one_of("yanchor", ("auto", "top", "middle", "bottom"), "auto")
        if across == "auto":
            across = _nearest(x, x_ref, ("left", "center", "right"), note.where)
        if down == "auto":
            down = _nearest(y, y_ref, ("bottom", "middle", "top"), note.where)
        angle = note.take("textangle", 0)
        if angle not in (0, 90, -90):
            raise note.refuse("textangle", angle, "0, 90 or -90")
        note.skip("borderpad")
        return Note(
            lines=parse_markup(note.text("text")),
            where=note.where,
            x=x,
            y=y,
            x_ref=x_ref,
            y_ref=y_ref,
            anchor=_ANCHORS[across],
            side=down,
            align=_ANCHORS.get(note.one_of("align", (*_ANCHORS, None), None)),
            x_shift=note.number("xshift", 0.0),
            y_shift=note.number("yshift", 0.0),
            angle=0 if angle == 0 else -90 if angle == 90 else 90,  # plotly turns clockwise
            px=px,
            colour=colour,
            ground=read_colour(note.take("bgcolor", "transparent"), note.where),
            opacity=note.number("opacity", 1.0),
        )


def draw_note(note: Note, frame: Frame, sheet: Sheet) -> list[Item]:
    """Draw an annotation; lines wider than the page are broken."""
    size = sheet.type_size(note.px)
    x = frame.at(note.x, note.x_ref, "x", note.where, in_axis_units=True)
    y = frame.at(note.y, note.y_ref, "y", note.where, in_axis_units=True)
    lines = note.lines if note.angle else wrap(note.lines, size, 0.92 * sheet.width)
    pad = 0.25 * size  # plotly has a border of one pixel of space, which keeps words off lines
    down = {"top": pad, "middle": 0.0, "bottom": -pad}[note.side]
    right = {"start": pad, "middle": 0.0, "end": -pad}[note.anchor]
    x, y = x + right + sheet.length(note.x_shift), y + down - sheet.length(note.y_shift)
    anchor, side = note.anchor, note.side
    if note.angle:  # anchors name parts of the box after turning
        anchor, side = _turned(note)
    words: list[Item] = [
        *place_text(
            lines,
            x,
            y,
            size=size,
            colour=note.colour or sheet.ink,
            anchor=anchor,
            side=side,
            rotate=note.angle,
            align=note.align or (None if len(lines) > len(note.lines) else "middle"),
        )
    ]
    reach = extent(words)
    if reach is not None and note.ground.alpha:
        box = reach.grown(pad)
        paint = Paint(fill=note.ground.code, fill_opacity=note.ground.alpha)
        words.insert(0, Rect(x=box.left, y=box.top, width=box.width, height=box.height, paint=paint))
    return faded(words, note.opacity)


def _nearest(value: float, reference: str, names: tuple[Any, Any, Any], where: str) -> Any:
    if not parse_reference(reference, where)[1]:
        return names[1]
    return names[0] if value < 1 / 3 else names[2] if value > 2 / 3 else names[1]


def _turned(note: Note) -> tuple[Anchor, Side]:
    up = note.angle == 90
    along: dict[Side, Anchor] = {"top": "end", "middle": "middle", "bottom": "start"}
    across: dict[Anchor, Side] = {"start": "top", "middle": "middle", "end": "bottom"}
    anchor, side = along[note.side], across[note.anchor]
    if not up:
        anchor = {"start": "end", "end": "start", "middle": "middle"}[anchor]  # type: ignore[assignment]
        side = {"top": "bottom", "bottom": "top", "middle": "middle"}[side]  # type: ignore[assignment]
    return anchor, side
