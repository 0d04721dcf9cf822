"""Points and lines: what a scatter trace says, and how it is drawn."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from analysis.exports.chart.axes import Axis
from analysis.exports.chart.errors import ErrorBars, draw_errors, read_errors
from analysis.exports.chart.markers import SYMBOLS, draw_marker
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Sheet, faded, line_path
from analysis.exports.chart.text import Side, parse_markup, place_text
from analysis.exports.chart.trace import Marks, Place, Trace, read_pair, read_trace
from analysis.exports.chart.values import (
    Colour,
    ColourScale,
    FloatArray,
    read_colour,
    read_colours,
    spread,
)
from analysis.exports.drawing import Anchor, Item, Paint

Point = tuple[float, float]
Shape = Literal["linear", "hv", "vh", "hvh"]

MODES: Final = tuple("+".join(parts) for parts in (
    ("lines",), ("markers",), ("text",), ("lines", "markers"), ("lines", "text"), ("markers", "text"),
    ("lines", "markers", "text"), ("none",),
))  # fmt: skip
_POSITIONS: Final = tuple(f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "center", "right"))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scatter:
    """N points.

    Attributes:
        x, y: (N,), NaN where a line is interrupted.
        line: None for no line. line_px, dash, shape: of the line. fill: to what the area under it reaches.
        symbols, sizes_px, fills, lines, line_widths_px: (N,) of the markers; empty for none.
        texts: (N,) empty for none.
    """

    trace: Trace
    x: FloatArray
    y: FloatArray
    line: Colour | None
    line_px: float
    dash: str
    shape: Shape
    is_gap_closed: bool
    fill: Literal["none", "tozeroy", "tozerox", "toself"]
    fill_colour: Colour
    symbols: tuple[str, ...]
    sizes_px: tuple[float, ...]
    fills: tuple[Colour, ...]
    lines: tuple[Colour, ...]
    line_widths_px: tuple[float, ...]
    texts: tuple[str, ...]
    text_px: float | None
    text_colour: str
    text_position: str
    error_x: ErrorBars | None
    error_y: ErrorBars | None

    def extents(self) -> tuple[FloatArray, FloatArray]:
        """Values that the x and y axis have to hold."""
        found = []
        for values, error, is_base in (
            (self.x, self.error_x, self.fill == "tozerox"),
            (self.y, self.error_y, self.fill == "tozeroy"),
        ):
            ends = [values] if error is None else [values, values - error.less, values + error.more]
            found.append(np.concatenate([*ends, np.zeros(int(is_base))]))
        return found[0], found[1]


def read_scatter(trace: Properties, *, colour: str, ink: str, scale: ColourScale | None) -> Scatter:
    """Read a scatter trace.

    Args:
        colour: of a trace that names none. ink: of texts that name none. scale: for colours that are numbers.
    """
    with trace:
        common = read_trace(trace)
        x, y = read_pair(trace)
        count = len(x)
        if "mode" not in trace.names():
            raise trace.refuse("mode", None, "given, such as 'lines' or 'markers'")
        mode = trace.one_of("mode", MODES, None)
        parts = mode.split("+")
        with trace.inner("line") as line:
            line_colour = read_colour(line.take("color", colour), line.where)
            line_px, dash = line.number("width", 2), line.text("dash", "solid")
            shape = line.one_of("shape", ("linear", "hv", "vh", "hvh"), "linear")
            line.skip("simplify")
        markers = _read_markers(trace, count, "markers" in parts, colour, line_colour, scale)
        fill = trace.one_of("fill", ("none", "tozeroy", "tozerox", "toself"), "none")
        fill_colour = trace.take("fillcolor")
        texts = trace.take("text")
        position = trace.one_of("textposition", _POSITIONS, "middle center")
        with trace.inner("textfont") as font:
            font.skip("family")
            text_px, text_colour = font.number("size", 0), read_colour(font.take("color", ink), font.where)
        main = markers[2][0] if markers[2] and "lines" not in parts else line_colour
        return Scatter(
            trace=common,
            x=x,
            y=y,
            line=line_colour if "lines" in parts else None,
            line_px=line_px,
            dash=dash,
            shape=shape,
            is_gap_closed=trace.flag("connectgaps", False),
            fill=fill,
            fill_colour=replace(line_colour, alpha=line_colour.alpha / 2)
            if fill_colour is None
            else read_colour(fill_colour, trace.where),
            symbols=markers[0],
            sizes_px=markers[1],
            fills=markers[2],
            lines=markers[3],
            line_widths_px=markers[4],
            texts=tuple(str(word or "") for word in spread(texts, count, trace.where)) if "text" in parts else (),
            text_px=text_px or None,
            text_colour=text_colour.code,
            text_position=position,
            error_x=read_errors(trace, "error_x", count, main),
            error_y=read_errors(trace, "error_y", count, main),
        )


def draw_scatter(points: Scatter, place: Place, sheet: Sheet) -> Marks:
    """Draw the area, the error bars, the line, the markers and the texts of a trace, in this order."""
    x, y = place.x.places(points.x), place.y.places(points.y)
    items: list[Item] = []
    pieces = _pieces(x, y, is_gap_closed=points.is_gap_closed)
    paths = [_stepped(piece, points.shape) for piece in pieces]
    items += _area(points, place, pieces, paths)
    if points.error_x is not None:
        items += draw_errors(points.error_x, place.x, points.x, y, sheet)
    if points.error_y is not None:
        items += draw_errors(points.error_y, place.y, points.y, x, sheet)
    if points.line is not None:
        paint = sheet.line(points.line, points.line_px, points.dash, "line of " + (points.trace.name or "a trace"))
        if paint.stroke is not None:
            items += faded([line_path(path, paint) for path in paths if len(path) > 1], points.line.alpha)
    for one, symbol in enumerate(points.symbols):
        if np.isfinite(x[one]) and np.isfinite(y[one]):
            items += draw_marker(
                symbol,
                float(x[one]),
                float(y[one]),
                size=max(2.0, sheet.length(points.sizes_px[one])),
                fill=points.fills[one],
                line=points.lines[one],
                line_px=points.line_widths_px[one],
                sheet=sheet,
            )
    items += _texts(points, x, y, sheet)
    drawn = faded(items, points.trace.opacity)
    return Marks(inside=drawn, outside=[]) if points.trace.is_clipped else Marks(inside=[], outside=drawn)


def _pieces(x: FloatArray, y: FloatArray, *, is_gap_closed: bool) -> list[list[Point]]:
    """Unbroken pieces of a line; one point alone is a piece, too."""
    pieces: list[list[Point]] = [[]]
    for here in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(here).all():
            pieces[-1].append(here)
        elif pieces[-1] and not is_gap_closed:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _stepped(piece: list[Point], shape: Shape) -> list[Point]:
    if shape == "linear":
        return piece
    path = piece[:1]
    for (x0, y0), (x1, y1) in pairwise(piece):
        path += {"hv": [(x1, y0)], "vh": [(x0, y1)], "hvh": [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)]}[shape]
        path.append((x1, y1))
    return path


def _area(points: Scatter, place: Place, pieces: list[list[Point]], paths: list[list[Point]]) -> list[Item]:
    if points.fill == "none" or not points.fill_colour.alpha:
        return []
    paint = Paint(fill=points.fill_colour.code, fill_opacity=points.fill_colour.alpha)
    items: list[Item] = []
    for piece, path in zip(pieces, paths, strict=True):
        if points.fill == "tozeroy":
            floor = _floor(place.y)
            path = [(piece[0][0], floor), *path, (piece[-1][0], floor)]
        elif points.fill == "tozerox":
            floor = _floor(place.x)
            path = [(floor, piece[0][1]), *path, (floor, piece[-1][1])]
        if len(path) > 2:
            items.append(line_path(path, paint, closed=True))
    return items


def _floor(axis: Axis) -> float:
    return axis.floor if axis.style.is_log else axis.of(0.0)


def _texts(points: Scatter, x: FloatArray, y: FloatArray, sheet: Sheet) -> list[Item]:
    vertical, horizontal = points.text_position.split()
    sides: dict[str, tuple[Side, float]] = {"top": ("bottom", -1), "middle": ("middle", 0), "bottom": ("top", 1)}
    anchors: dict[str, tuple[Anchor, float]] = {"left": ("end", -1), "center": ("middle", 0), "right": ("start", 1)}
    (side, down), (anchor, right) = sides[vertical], anchors[horizontal]
    size, items = sheet.type_size(points.text_px), list[Item]()
    for one, word in enumerate(points.texts):
        if word and np.isfinite(x[one]) and np.isfinite(y[one]):
            gap = 0.3 * size + (sheet.length(points.sizes_px[one]) / 2 if points.symbols else 0)
            at = (float(x[one]) + right * gap, float(y[one]) + down * gap)
            lines = parse_markup(word)
            items += place_text(lines, *at, size=size, colour=points.text_colour, anchor=anchor, side=side)
    return items


def _read_markers(
    trace: Properties, count: int, is_shown: bool, colour: str, line_colour: Colour, scale: ColourScale | None
) -> tuple[tuple[str, ...], tuple[float, ...], tuple[Colour, ...], tuple[Colour, ...], tuple[float, ...]]:
    with trace.inner("marker") as marker:
        if not is_shown:
            marker.skip(*marker.names())
            return (), (), (), (), ()
        marker.one_of("coloraxis", ("coloraxis",), "coloraxis")
        symbols = spread(marker.take("symbol", "circle"), count, marker.where)
        for symbol in symbols:
            if symbol not in SYMBOLS:
                raise marker.refuse("symbol", symbol, "one of " + ", ".join(SYMBOLS))
        sizes = spread(marker.take("size", 6), count, marker.where)
        marker.skip("sizemode") if not isinstance(sizes, list) else None
        alpha = marker.number("opacity", 1.0)
        fills = read_colours(marker.take("color", line_colour.code or colour), count, marker.where, scale)
        with marker.inner("line") as line:
            lines = read_colours(line.take("color", "#444444"), count, line.where, scale)
            widths = spread(line.take("width", 0), count, line.where)
        return (
            tuple(str(symbol) for symbol in symbols),
            tuple(float(size) for size in sizes),
            tuple(replace(fill, alpha=fill.alpha * alpha) for fill in fills),
            tuple(replace(one, alpha=one.alpha * alpha) for one in lines),
            tuple(float(width) for width in widths),
        )
