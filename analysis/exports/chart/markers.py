"""Symbols of points, as paths around their middle."""

import math
from collections.abc import Mapping
from typing import Final

from analysis.exports.chart.sheet import Sheet, faded
from analysis.exports.chart.values import Colour
from analysis.exports.drawing import Item, Paint, Path

Point = tuple[float, float]

_ROUND: Final = 0.5523  # distance of the control points of a quarter circle
_T: Final = 2 / math.sqrt(3)
# In halves of the marker's size; the sizes of triangles and diamonds are plotly's.
_AREAS: Final[Mapping[str, tuple[Point, ...]]] = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "triangle-up": ((0, -1), (_T, 0.5), (-_T, 0.5)),
    "triangle-down": ((0, 1), (_T, -0.5), (-_T, -0.5)),
    "triangle-left": ((-1, 0), (0.5, _T), (0.5, -_T)),
    "triangle-right": ((1, 0), (-0.5, _T), (-0.5, -_T)),
}
_LINES: Final[Mapping[str, tuple[tuple[Point, Point], ...]]] = {
    "line-ew": (((-1, 0), (1, 0)),),
    "line-ns": (((0, -1), (0, 1)),),
    "x-thin": (((-1, -1), (1, 1)), ((-1, 1), (1, -1))),
    "cross-thin": (((-1, 0), (1, 0)), ((0, -1), (0, 1))),
}
SYMBOLS: Final = (
    "circle",
    "circle-open",
    *_AREAS,
    *(f"{name}-open" for name in _AREAS),
    *_LINES,
    *(f"{name}-open" for name in _LINES),
)


def draw_marker(
    symbol: str, x: float, y: float, *, size: float, fill: Colour, line: Colour, line_px: float, sheet: Sheet
) -> list[Item]:
    """Draw one of `SYMBOLS` of `size` points; thin and open ones have only a line."""
    name = symbol.removesuffix("-open")
    is_open, half = name != symbol, size / 2
    colour = fill if is_open else line
    width = sheet.line_width(max(line_px, 1.0) if is_open or name in _LINES else line_px)
    has_line = width > 0 and colour.alpha > 0
    paint = Paint(
        fill=None if is_open or name in _LINES or not fill.alpha else fill.code,
        fill_opacity=fill.alpha,
        stroke=colour.code if has_line else None,
        stroke_width=width if has_line else Paint().stroke_width,
    )
    if paint.fill is None and paint.stroke is None:
        return []
    if name == "circle":
        item = Path(commands=_circle(x, y, half), paint=paint)
    elif name in _AREAS:
        item = Path(commands=_lines([_AREAS[name]], x, y, half, is_closed=True), paint=paint)
    else:
        item = Path(commands=_lines(_LINES[name], x, y, half, is_closed=False), paint=paint)
    return faded([item], colour.alpha if paint.fill is None else 1.0)


def _lines(
    strokes: tuple[tuple[Point, ...], ...] | list[tuple[Point, ...]],
    x: float,
    y: float,
    half: float,
    *,
    is_closed: bool,
) -> tuple[tuple[str | float, ...], ...]:
    commands: list[tuple[str | float, ...]] = []
    for stroke in strokes:
        for place, (dx, dy) in enumerate(stroke):
            commands.append(("L" if place else "M", x + dx * half, y + dy * half))
        if is_closed:
            commands.append(("Z",))
    return tuple(commands)


def _circle(x: float, y: float, r: float) -> tuple[tuple[str | float, ...], ...]:
    k = _ROUND * r
    return (
        ("M", x + r, y),
        ("C", x + r, y + k, x + k, y + r, x, y + r),
        ("C", x - k, y + r, x - r, y + k, x - r, y),
        ("C", x - r, y - k, x - k, y - r, x, y - r),
        ("C", x + k, y - r, x + r, y - k, x + r, y),
        ("Z",),
    )
