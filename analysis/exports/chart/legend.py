"""The legend of a figure: one entry per named trace in the order of the data, in rows that fit the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from analysis.exports.chart.axes import read_font
from analysis.exports.chart.bars import Bars, bar_paint
from analysis.exports.chart.markers import draw_marker
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.scatter import Scatter
from analysis.exports.chart.sheet import Box, Sheet, faded, line_path
from analysis.exports.chart.text import LEADING, line_width, parse_markup, place_text
from analysis.exports.drawing import Item, Paint, Rect

KEY_EM: Final = 1.5
"""Width of an entry's sample, in sizes of its type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LegendStyle:
    """Where the legend stands, and its type."""

    side: Literal["above", "below"]
    px: float | None
    colour: str | None


def read_legend(legend: Properties) -> LegendStyle:
    """Read layout.legend; its place on paper is above the plot, or below it where the figure has it there."""
    with legend:
        legend.skip(
            "x", "xanchor", "yanchor", "xref", "yref", "itemclick", "itemdoubleclick", "itemsizing", "itemwidth"
        )
        legend.skip("entrywidth", "entrywidthmode", "tracegroupgap", "uirevision")
        legend.one_of("orientation", ("h",), "v")
        legend.one_of("traceorder", ("normal",), "normal")
        px, colour = read_font(legend)
        return LegendStyle(side="below" if legend.number("y", 1.0) < 0 else "above", px=px, colour=colour)


def entries(traces: Sequence[Bars | Scatter], *, is_shown: bool | None) -> list[Bars | Scatter]:
    """Traces that the legend names: by default those of a figure with at least two, as plotly has it."""
    if is_shown is False:
        return []
    asked = any(one.trace.in_legend for one in traces)
    if is_shown is None and not asked and sum(one.trace.in_legend is not False for one in traces) < 2:
        return []
    return [one for one in traces if one.trace.in_legend is not False and one.trace.name]


def draw_legend(
    traces: Sequence[Bars | Scatter], style: LegendStyle, plot: Box, reach: Box, sheet: Sheet
) -> list[Item]:
    """Draw the entries in rows, outside of everything drawn so far.

    Args:
        plot: all subplots. reach: everything drawn so far.
    """
    size = sheet.type_size(style.px)
    names = [parse_markup(one.trace.name)[0] for one in traces]
    widths = [(KEY_EM + 0.4) * size + line_width(name, size) for name in names]
    gap, right = 1.2 * size, sheet.width
    left = plot.left if plot.left + sum(widths) + gap * (len(widths) - 1) <= right else min(reach.left, plot.left)
    rows: list[list[int]] = [[]]
    used = left
    for one, width in enumerate(widths):
        if rows[-1] and used + width > right - 1:
            rows.append([])
            used = left
        rows[-1].append(one)
        used += width + gap
    height = LEADING * size * len(rows)
    top = reach.bottom + 0.6 * size if style.side == "below" else reach.top - 0.5 * size - height
    items: list[Item] = []
    for number, row in enumerate(rows):
        x, y = left, top + (number + 0.5) * LEADING * size
        for one in row:
            items += _key(traces[one], x, y, size, sheet)
            at = x + (KEY_EM + 0.4) * size
            items += place_text((names[one],), at, y, size=size, colour=style.colour or sheet.ink, anchor="start")
            x += widths[one] + gap
    return items


def _key(trace: Bars | Scatter, x: float, y: float, size: float, sheet: Sheet) -> list[Item]:
    wide, tall = KEY_EM * size, 0.8 * size
    if isinstance(trace, Bars):
        if not len(trace.middle):
            return []
        paint = bar_paint(trace, 0, sheet)
        return faded([Rect(x=x, y=y - tall / 2, width=wide, height=tall, paint=paint)], trace.trace.opacity)
    items: list[Item] = []
    if trace.fill != "none" and trace.fill_colour.alpha:
        paint = Paint(fill=trace.fill_colour.code, fill_opacity=trace.fill_colour.alpha)
        items.append(Rect(x=x, y=y - (0 if trace.line else tall / 2), width=wide, height=tall / 2, paint=paint))
    if trace.line is not None:
        paint = sheet.line(trace.line, trace.line_px, trace.dash)
        items += faded([line_path([(x, y), (x + wide, y)], paint)], trace.line.alpha)
    for error in (trace.error_x, trace.error_y):
        if error is not None:
            reach = wide / 2 if error is trace.error_x else tall / 2
            ends = [(-reach, 0.0), (reach, 0.0)] if error is trace.error_x else [(0.0, -reach), (0.0, reach)]
            moved = [(x + wide / 2 + dx, y + dy) for dx, dy in ends]
            items += faded([line_path(moved, sheet.line(error.colour, error.px))], error.colour.alpha)
    if trace.symbols:
        items += draw_marker(
            trace.symbols[0],
            x + wide / 2,
            y,
            size=min(max(2.0, sheet.length(trace.sizes_px[0])), size),
            fill=trace.fills[0],
            line=trace.lines[0],
            line_px=trace.line_widths_px[0],
            sheet=sheet,
        )
    return faded(items, trace.trace.opacity)
