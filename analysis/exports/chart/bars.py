"""Bars: their rectangles, hatches and texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from analysis.exports.chart.axes import Axis, read_font
from analysis.exports.chart.bar_text import BarText, draw_bar_text
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Sheet, faded, line_path
from analysis.exports.chart.trace import Marks, Place, Trace, read_pair, read_trace
from analysis.exports.chart.values import (
    CLEAR,
    Colour,
    ColourScale,
    FloatArray,
    read_colour,
    read_colours,
    read_numbers,
    spread,
)
from analysis.exports.drawing import Item, Paint, Rect
from uoe_model.errors import ConfigError

BarMode = Literal["overlay", "stack", "relative", "group"]
TOUCHING_PT: Final = 0.3
"""Bars closer than this are drawn as one outline: many viewers show a hairline between rectangles that touch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hatch:
    """Diagonal lines over bars; `px` is their distance."""

    colour: Colour | None  # None for the colour of the bar, whose own area is then `ground`
    ground: Colour
    px: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bars:
    """N bars.

    Attributes:
        middle, width: (N,) across the bars. base, length: (N,) along them; the bar ends at base + length.
        fills, lines: (N,) colours. line_px: (N,) width of the border. hatches: (N,) None for none.
        texts: (N,) empty for none.
    """

    trace: Trace
    is_horizontal: bool
    middle: FloatArray
    width: FloatArray
    base: FloatArray
    length: FloatArray
    fills: tuple[Colour, ...]
    fill_alpha: float
    lines: tuple[Colour, ...]
    line_px: tuple[float, ...]
    hatches: tuple[Hatch | None, ...]
    texts: tuple[BarText | None, ...]

    def extents(self) -> tuple[FloatArray, FloatArray]:
        """Values that the x and y axis have to hold."""
        across = np.concatenate([self.middle - self.width / 2, self.middle + self.width / 2])
        along = np.concatenate([self.base, self.base + self.length])
        return (along, across) if self.is_horizontal else (across, along)


def read_bars(trace: Properties, *, colour: str, gap: float, scale: ColourScale | None) -> Bars:
    """Read a bar trace.

    Args:
        colour: of bars that name none. gap: share of a bar's place that stays free.
        scale: for colours that are numbers.
    """
    with trace:
        common = read_trace(trace)
        is_horizontal = trace.one_of("orientation", ("v", "h"), "v") == "h"
        x, y = read_pair(trace)
        middle, length = (y, x) if is_horizontal else (x, y)
        count = len(middle)
        base = read_numbers(spread(trace.take("base", 0.0), count, trace.where), trace.where + ".base")
        places = np.unique(middle[np.isfinite(middle)])
        widest = float(np.diff(places).min()) * (1 - gap) if len(places) > 1 else 1 - gap
        width = read_numbers(spread(trace.take("width", widest), count, trace.where), trace.where + ".width")
        with trace.inner("marker") as marker:
            marker.one_of("coloraxis", ("coloraxis",), "coloraxis")
            fills = read_colours(marker.take("color", colour), count, marker.where, scale)
            alpha = marker.number("opacity", 1.0)
            with marker.inner("line") as line:
                lines = read_colours(line.take("color", "#444444"), count, line.where)
                line_px = tuple(float(px) for px in spread(line.take("width", 0), count, line.where))
            hatches = _read_hatches(marker, count)
        return Bars(
            trace=common,
            is_horizontal=is_horizontal,
            middle=middle,
            width=width,
            base=base,
            length=length,
            fills=fills,
            fill_alpha=alpha,
            lines=lines,
            line_px=line_px,
            hatches=hatches,
            texts=_read_texts(trace, count),
        )


def arranged(bars: Sequence[Bars], mode: BarMode) -> list[Bars]:
    """Set the bases of stacked bars; bars of several traces otherwise have to say that they overlay.

    Raises:
        ConfigError: several traces of bars side by side.
    """
    if mode == "overlay":
        return list(bars)
    if mode == "group":
        axes = [(one.trace.x_axis, one.trace.y_axis) for one in bars]
        if len(set(axes)) < len(axes):
            raise ConfigError(
                "figure.layout: barmode='group' with several bar traces on one pair of axes cannot be drawn; use "
                "'overlay' with positions of their own, 'stack' or 'relative'."
            )
        return list(bars)
    ends: dict[tuple[str, str, float, bool], float] = {}
    stacked = []
    for one in bars:
        base = one.base.copy()
        for place, (middle, length) in enumerate(zip(one.middle.tolist(), one.length.tolist(), strict=True)):
            if np.isnan(length):
                continue
            key = (one.trace.x_axis, one.trace.y_axis, middle, mode == "relative" and length < 0)
            base[place] = ends.get(key, 0.0)
            ends[key] = base[place] + length
        stacked.append(replace(one, base=base))
    return stacked


def bar_paint(bars: Bars, place: int, sheet: Sheet) -> Paint:
    """How one bar looks."""
    fill, line, hatch = bars.fills[place], bars.lines[place], bars.hatches[place]
    lines = None
    if hatch is not None:
        lines = hatch.colour or fill
        fill = fill if hatch.colour is not None else hatch.ground
    width = sheet.line_width(bars.line_px[place])
    has_line = width > 0 and line.alpha > 0
    return Paint(
        fill=fill.code if fill.alpha * bars.fill_alpha > 0 else None,
        fill_opacity=fill.alpha * bars.fill_alpha,
        hatch=lines.code if lines is not None and lines.alpha > 0 else None,
        hatch_gap=max(2.0, sheet.length(hatch.px)) if hatch is not None else 2.5,
        stroke=line.code if has_line else None,
        stroke_width=width if has_line else Paint().stroke_width,
    )


def draw_bars(bars: Bars, place: Place, sheet: Sheet) -> Marks:
    """Draw the bars of a trace and their texts; bars without a finite length are not there."""
    across, along = (place.y, place.x) if bars.is_horizontal else (place.x, place.y)
    ends = _ends(bars, along)
    sides = np.stack([across.places(bars.middle - bars.width / 2), across.places(bars.middle + bars.width / 2)])
    shown = [
        one for one in range(len(bars.middle)) if np.isfinite(ends[:, one]).all() and np.isfinite(sides[:, one]).all()
    ]
    paints = {one: bar_paint(bars, one, sheet) for one in shown}
    areas: list[Item] = []
    texts: list[Item] = []
    for run in _runs(bars, shown, paints, sides, ends):
        if len(run) > 1:
            areas.append(_outline(bars, run, paints[run[0]], sides, ends))
            continue
        (one,) = run
        low, high = sorted(sides[:, one].tolist())
        first, last = sorted(ends[:, one].tolist())
        x, y, wide, tall = (
            (first, low, last - first, high - low) if bars.is_horizontal else (low, first, high - low, last - first)
        )
        if wide <= 0 or tall <= 0:
            continue
        areas.append(Rect(x=x, y=y, width=wide, height=tall, paint=paints[one]))
    for one in shown:
        text = bars.texts[one]
        if text is not None:
            low, high = sorted(sides[:, one].tolist())
            start, end = ends[:, one].tolist()
            ground = paints[one].fill if paints[one].fill_opacity > 0.5 else None
            texts += draw_bar_text(
                text, low, high, start, end, is_horizontal=bars.is_horizontal, ground=ground, sheet=sheet
            )
    drawn = faded(areas, bars.trace.opacity)
    texts = faded(texts, bars.trace.opacity)
    return Marks(inside=[*drawn, *texts], outside=[]) if bars.trace.is_clipped else Marks(inside=drawn, outside=texts)


def _ends(bars: Bars, along: Axis) -> FloatArray:
    ends = np.stack([along.places(bars.base), along.places(bars.base + bars.length)])
    if along.style.is_log:  # a bar from 0 begins at the edge of a log axis
        ends[0, np.isnan(ends[0]) & (bars.base == 0)] = along.floor
    return ends


def _runs(
    bars: Bars, shown: list[int], paints: dict[int, Paint], sides: FloatArray, ends: FloatArray
) -> list[list[int]]:
    """Neighbours that touch, look alike and stand on the same base, from low to high; others alone."""
    if not shown:
        return []
    order = sorted(shown, key=lambda one: bars.middle[one])
    runs = [[order[0]]]
    for before, one in pairwise(order):
        low, high = min(sides[:, one]), max(sides[:, before])
        touches = abs(low - high) < TOUCHING_PT and abs(ends[0, one] - ends[0, before]) < 1e-6
        same_side = (bars.length[one] >= 0) == (bars.length[before] >= 0)
        if touches and same_side and paints[one] == paints[before] and paints[one].stroke is None:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs if any(len(run) > 1 for run in runs) else [[one] for one in shown]


def _outline(bars: Bars, run: list[int], paint: Paint, sides: FloatArray, ends: FloatArray) -> Item:
    floor = float(ends[0, run[0]])
    steps: list[tuple[float, float]] = [(float(min(sides[:, run[0]])), floor)]
    for one in run:
        low, high = sorted(sides[:, one].tolist())
        steps += [(max(low, steps[-1][0]), float(ends[1, one])), (high, float(ends[1, one]))]
    steps.append((steps[-1][0], floor))
    return line_path([(along, across) for across, along in steps] if bars.is_horizontal else steps, paint, closed=True)


def _read_hatches(marker: Properties, count: int) -> tuple[Hatch | None, ...]:
    with marker.inner("pattern") as pattern:
        shapes = spread(pattern.take("shape", ""), count, pattern.where)
        overlay = pattern.one_of("fillmode", ("overlay", "replace"), "replace") == "overlay"
        front, ground = pattern.take("fgcolor"), pattern.take("bgcolor")
        px = pattern.number("size", 8)
        pattern.skip("solidity")  # every hatch of the exports has thin lines
        hatch = Hatch(
            colour=read_colour(front, pattern.where) if front is not None else None,
            ground=read_colour(ground, pattern.where) if ground is not None else CLEAR,
            px=px,
        )
        if overlay and hatch.colour is None:
            raise pattern.refuse("fgcolor", front, "a colour when fillmode='overlay'")
        for shape in shapes:
            if shape not in ("", "/"):
                raise pattern.refuse("shape", shape, "'/' or ''")
        return tuple(hatch if shape else None for shape in shapes)


def _read_texts(trace: Properties, count: int) -> tuple[BarText | None, ...]:
    words: Any = trace.take("text")
    where = trace.one_of("textposition", ("inside", "outside", "auto", "none"), "auto")
    anchor = trace.one_of("insidetextanchor", ("start", "middle", "end"), "end")
    trace.one_of("textangle", (0, "auto"), 0)
    trace.one_of("constraintext", ("none", "inside", "outside", "both"), "both")  # type never shrinks on paper
    with trace.inner("textfont") as font:
        font.skip("family")
        sizes = spread(font.take("size"), count, font.where)
        chosen = font.take("color")
        colours = [None] * count if chosen is None else [c.code for c in read_colours(chosen, count, font.where)]
    if words is None or where == "none":
        return (None,) * count
    read_font(trace, "insidetextfont"), read_font(trace, "outsidetextfont")
    return tuple(
        BarText(text=str(word), px=size, colour=colour, where=where, anchor=anchor) if word else None
        for word, size, colour in zip(spread(words, count, trace.where), sizes, colours, strict=True)
    )
