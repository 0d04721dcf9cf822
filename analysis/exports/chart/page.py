"""One try at the page of a figure: everything drawn around plots of a given room, and the room that it needs."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from analysis.exports.chart.annotations import draw_note
from analysis.exports.chart.axis_lines import axis_ticks, draw_axis, draw_grid
from analysis.exports.chart.bars import draw_bars
from analysis.exports.chart.colour_bar import draw_colour_bar
from analysis.exports.chart.content import WHITE, Content
from analysis.exports.chart.frame import Frame, Tracks, find_domains, place_axes
from analysis.exports.chart.legend import draw_legend, entries
from analysis.exports.chart.scatter import draw_scatter
from analysis.exports.chart.shapes import Layer, draw_shape
from analysis.exports.chart.sheet import Box, Sheet, clipped, extent
from analysis.exports.chart.size import plot_height
from analysis.exports.chart.trace import Place
from analysis.exports.drawing import Item, Paint, Rect
from uoe_model.errors import ConfigError

EDGE_PT: Final = 1.0
"""Free border of the page."""

LEAST_PLOT: Final = 0.2
"""Least share of the page's width for the plots."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What stands around the plots, in points: borders of the page, gaps between columns and between rows."""

    left: float = EDGE_PT
    top: float = EDGE_PT
    right: float = EDGE_PT
    bottom: float = EDGE_PT
    column_gaps: tuple[float, ...] = ()
    row_gaps: tuple[float, ...] = ()

    def lengths(self) -> tuple[float, ...]:
        """All lengths in a fixed order."""
        return (self.left, self.top, self.right, self.bottom, *self.column_gaps, *self.row_gaps)

    def differs(self, other: "Room", by: float) -> bool:
        """Whether any length differs by more than `by` points."""
        return any(abs(one - two) > by for one, two in zip(self.lengths(), other.lengths(), strict=True))

    def grown(self, other: "Room") -> "Room":
        """At least as much room as either has."""
        left, top, right, bottom, *gaps = map(max, self.lengths(), other.lengths())
        columns = len(self.column_gaps)
        return Room(
            left=left,
            top=top,
            right=right,
            bottom=bottom,
            column_gaps=tuple(gaps[:columns]),
            row_gaps=tuple(gaps[columns:]),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What was drawn.

    Attributes:
        reaches: the boxes of subplots, and how far their axes and headings reach around them.
    """

    items: tuple[Item, ...]
    frame: Frame
    sheet: Sheet
    reaches: dict[Box, Box]

    def room(self) -> Room:
        """The room that these items need."""
        plot = self.frame.plot
        reach = plot.with_box(extent(self.items))
        return Room(
            left=EDGE_PT + plot.left - reach.left,
            top=EDGE_PT + plot.top - reach.top,
            right=EDGE_PT + reach.right - plot.right,
            bottom=EDGE_PT + reach.bottom - plot.bottom,
            column_gaps=self._gaps(self.frame.columns, plot.width, is_across=True),
            row_gaps=self._gaps(self.frame.rows, plot.height, is_across=False),
        )

    def _gaps(self, tracks: Tracks, length: float, *, is_across: bool) -> tuple[float, ...]:
        before, after = [0.0] * len(tracks.domains), [0.0] * len(tracks.domains)
        for place, (start, _) in enumerate(tracks.places(length)):
            for box, reach in self.reaches.items():
                at = box.left - self.frame.plot.left if is_across else self.frame.plot.bottom - box.bottom
                if abs(at - start) > 1e-6:
                    continue
                low, high = box.left - reach.left, reach.right - box.right
                if not is_across:  # rows are counted from the foot
                    low, high = reach.bottom - box.bottom, box.top - reach.top
                before[place], after[place] = max(before[place], low), max(after[place], high)
        em = self.sheet.font_pt
        free = [min((b[0] - a[1]) * length, 2 * em) for a, b in pairwise(tracks.domains)]
        needed = [high + low + 0.6 * em for high, low in zip(after, before[1:], strict=False)]
        return tuple(map(max, free, needed))


def first_room(content: Content) -> tuple[Room, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Room before anything is measured, and the domains of the columns and rows."""
    columns, rows = find_domains(content.axes, "x"), find_domains(content.axes, "y")
    room = Room(column_gaps=(0.0,) * (len(columns) - 1), row_gaps=(0.0,) * (len(rows) - 1))
    return room, columns, rows


def draw_page(
    content: Content, room: Room, columns: Tracks, rows: Tracks, sheet: Sheet, height_pt: float | None
) -> Page:
    """Draw a figure around plots that leave some room.

    Raises:
        ConfigError: the room leaves too little of the page.
    """
    width = sheet.width - room.left - room.right
    if width - sum(columns.gaps) < LEAST_PLOT * sheet.width:
        raise ConfigError(f"width_pt={sheet.width:g} leaves no room for the plot beside its labels; use a wider page.")
    if height_pt is None:
        height = plot_height(content, columns, rows, width, sheet) + sum(rows.gaps)
    else:
        height = height_pt - room.top - room.bottom
        if height - sum(rows.gaps) < 2 * sheet.font_pt:
            raise ConfigError(f"height_pt={height_pt:g} leaves no room for the plot and its labels; use a higher page.")
    plot = Box(left=room.left, top=room.top, right=room.left + width, bottom=room.top + height)
    frame = place_axes(content.axes, plot, columns, rows)
    axes = [(axis, axis_ticks(axis, sheet), frame.box(axis.style.name)) for axis in frame.axes.values()]
    boxes = dict.fromkeys(box for _, _, box in axes)
    items: list[Item] = []
    if content.ground != WHITE:
        for box in boxes:
            paint = Paint(fill=content.ground)
            items.append(Rect(x=box.left, y=box.top, width=box.width, height=box.height, paint=paint))
    items += _shapes(content, frame, sheet, "below")
    items += [item for axis, ticks, box in axes for item in draw_grid(axis, ticks, box, sheet)]
    items += _shapes(content, frame, sheet, "between")
    items += _traces(content, frame, sheet)
    reaches = {box: box for box in boxes}
    for axis, ticks, box in axes:
        drawn = draw_axis(axis, ticks, box, sheet)
        items += drawn
        reaches[box] = reaches[box].with_box(extent(drawn))
    items += _shapes(content, frame, sheet, "above")
    for note in content.notes:
        drawn = draw_note(note, frame, sheet)
        items += drawn
        _add_heading(reaches, extent(drawn), frame.at(note.y, note.y_ref, "y", note.where, in_axis_units=True))
    if content.colours and content.colours.is_shown:
        items += draw_colour_bar(content.colours, plot, plot.with_box(extent(items)), sheet)
    named = entries(content.traces, is_shown=content.shows_legend)
    if named:
        items += draw_legend(named, content.legend, plot, plot.with_box(extent(items)), sheet)
    return Page(items=tuple(items), frame=frame, sheet=sheet, reaches=reaches)


def _add_heading(reaches: dict[Box, Box], words: Box | None, at: float) -> None:
    """Count an annotation that stands on the upper edge of a subplot as part of it."""
    if words is None:
        return
    for box, reach in reaches.items():
        if abs(at - box.top) < 1e-6 and words.top < box.top and box.left <= (words.left + words.right) / 2 <= box.right:
            reaches[box] = reach.with_box(Box(left=box.left, top=words.top, right=box.right, bottom=box.bottom))


def _traces(content: Content, frame: Frame, sheet: Sheet) -> list[Item]:
    """Bars below points and lines, as plotly has them; each pair of axes in its own window."""
    items: list[Item] = []
    for pair in dict.fromkeys((one.trace.x_axis, one.trace.y_axis) for one in content.traces):
        place = Place(x=frame.axis(pair[0], "figure"), y=frame.axis(pair[1], "figure"))
        marks = [draw_bars(one, place, sheet) for one in content.bars() if one.trace.axes() == pair]
        marks += [draw_scatter(one, place, sheet) for one in content.scatters() if one.trace.axes() == pair]
        items += clipped([item for one in marks for item in one.inside], frame.box(*pair))
        items += [item for one in marks for item in one.outside]
    return items


def _shapes(content: Content, frame: Frame, sheet: Sheet, layer: Layer) -> list[Item]:
    return [item for shape in content.shapes if shape.layer == layer for item in draw_shape(shape, frame, sheet)]
