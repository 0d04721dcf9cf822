"""Error bars: how far the values of points reach."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.exports.chart.axes import Axis
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Sheet, faded, line_path
from analysis.exports.chart.values import Colour, FloatArray, read_colour, read_numbers
from analysis.exports.drawing import Item


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ErrorBars:
    """How far the bars of N points reach: `less` and `more` (N,), in data units."""

    less: FloatArray
    more: FloatArray
    colour: Colour
    px: float
    cap_px: float


def read_errors(trace: Properties, name: str, count: int, colour: Colour) -> ErrorBars | None:
    """Read error_x or error_y of a trace; None if it has none.

    Args:
        colour: of bars that name none.
    """
    if name not in trace.names():
        return None
    with trace.inner(name) as error:
        error.one_of("type", ("data",), "data")
        is_visible = error.flag("visible", True)
        more = read_numbers(error.take("array"), error.where + ".array")
        less: Any = error.take("arrayminus")
        is_even = error.flag("symmetric", less is None)
        colour = read_colour(error.take("color", colour.code), error.where)
        found = ErrorBars(
            less=more if is_even else read_numbers(less, error.where + ".arrayminus"),
            more=more,
            colour=colour,
            px=error.number("thickness", 2),
            cap_px=error.number("width", 4),
        )
        if len(found.more) != count or len(found.less) != count:
            raise error.refuse("array", more.tolist(), f"{count} numbers, one for each point")
        return found if is_visible else None


def draw_errors(error: ErrorBars, axis: Axis, values: FloatArray, across: FloatArray, sheet: Sheet) -> list[Item]:
    """Draw the bars of points.

    Args:
        axis: along which the bars lie. values: (N,) of the points on it.
        across: (N,) places of the points on the other axis.
    """
    paint, cap = sheet.line(error.colour, error.px), sheet.length(error.cap_px)
    lows, highs = axis.places(values - error.less), axis.places(values + error.more)
    if axis.style.is_log:  # a bar down to 0 or less ends at the edge of a log axis
        lows = np.where(np.isnan(lows) & (values > 0) & np.isfinite(error.less), axis.floor, lows)
    lines: list[Item] = []
    for low, high, side in zip(lows.tolist(), highs.tolist(), across.tolist(), strict=True):
        if not np.isfinite([low, high, side]).all():
            continue
        strokes = [((low, side), (high, side))]
        if cap > 0:
            strokes += [((end, side - cap), (end, side + cap)) for end in (low, high)]
        is_x = axis.style.letter == "x"
        lines += [line_path(ends if is_x else [(b, a) for a, b in ends], paint) for ends in strokes]
    return faded(lines, error.colour.alpha)
