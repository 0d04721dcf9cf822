"""Drawing of axes: grid, ticks with their labels, and titles."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.exports.chart.axes import Axis, Stroke
from analysis.exports.chart.sheet import Box, Sheet, extent, line_path
from analysis.exports.chart.text import LEADING, Line, Side, line_width, parse_markup, place_text, shorten, wrap
from analysis.exports.chart.ticks import linear_ticks, log_ticks, nice_step, number_labels, thinned
from analysis.exports.drawing import Anchor, Item, Path

LONGEST_LABEL: Final = 0.38
"""Share of the page's width that labels of a vertical axis may take."""

ROW_EM: Final = 1.3
"""Height of a row with a label of one line, in sizes of its type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedTicks:
    """Ticks that have room: their places in points and the lines of their labels."""

    places: tuple[float, ...]
    labels: tuple[tuple[Line, ...], ...]


def axis_ticks(axis: Axis, sheet: Sheet) -> PlacedTicks:
    """Find the ticks of an axis and leave out those whose labels would overlap."""
    style = axis.style
    size = sheet.type_size(style.label_px)
    if style.ticks.values is not None or style.ticks.step is not None:
        return _with_room(axis, *_values_and_labels(axis, 0), sheet)
    most = style.ticks.most or 6
    if style.letter == "y":
        most = max(1, min(most, int(axis.length / (1.7 * size))))
    found = PlacedTicks(places=(), labels=())
    for tried in range(most, 0, -1):
        values, labels = _values_and_labels(axis, tried)
        found = _with_room(axis, values, labels, sheet)
        if len(found.places) == len(values):
            break
    return found


def draw_grid(axis: Axis, ticks: PlacedTicks, box: Box, sheet: Sheet) -> list[Item]:
    """Lines across the plot at ticks and at zero."""
    style, items = axis.style, list[Item]()
    if not style.is_visible:
        return items
    if style.grid:
        items += [_across(axis, place, box, style.grid, sheet) for place in ticks.places]
    if style.zero and not style.is_log and min(axis.low, axis.high) <= 0 <= max(axis.low, axis.high):
        items.append(_across(axis, axis.of(0.0), box, style.zero, sheet))
    return items


def draw_axis(axis: Axis, ticks: PlacedTicks, box: Box, sheet: Sheet) -> list[Item]:
    """The line of an axis, its ticks and its title, outside of the plot."""
    style, items = axis.style, list[Item]()
    if not style.is_visible:
        return items
    is_x = style.letter == "x"
    edge = (box.top if style.far_side else box.bottom) if is_x else (box.right if style.far_side else box.left)
    out = (-1 if style.far_side else 1) if is_x else (1 if style.far_side else -1)
    mark = sheet.length(style.mark_px) if style.marks else 0.0
    if style.line:
        paint = sheet.line(style.line.colour, style.line.px)
        ends = ((box.left, edge), (box.right, edge)) if is_x else ((edge, box.top), (edge, box.bottom))
        items.append(line_path(ends, paint))
    if style.marks:
        paint = sheet.line(style.marks.colour, style.marks.px)
        for place in ticks.places:
            tip = edge + out * mark
            items.append(line_path(((place, edge), (place, tip)) if is_x else ((edge, place), (tip, place)), paint))
    size = sheet.type_size(style.label_px)
    colour = style.label_colour or sheet.ink
    if style.has_labels:
        at = edge + out * (mark + 0.25 * size)
        for place, lines in zip(ticks.places, ticks.labels, strict=True):
            if is_x and style.angle:
                turned = style.angle
                end: Anchor = "start" if (turned == -90) != style.far_side else "end"
                items += place_text(lines, place, at, size=size, colour=colour, anchor=end, rotate=turned)
            elif is_x:
                side: Side = "bottom" if style.far_side else "top"
                items += place_text(lines, place, at, size=size, colour=colour, side=side)
            else:
                near: Anchor = "start" if style.far_side else "end"
                items += place_text(lines, at, place, size=size, colour=colour, anchor=near)
    return items + _title(axis, items, box, edge, out, sheet)


def _title(axis: Axis, drawn: list[Item], box: Box, edge: float, out: int, sheet: Sheet) -> list[Item]:
    style = axis.style
    if not style.title:
        return []
    size, colour = sheet.type_size(style.title_px), style.title_colour or sheet.ink
    reach = extent(drawn)
    gap = 0.3 * size
    side: Side
    if style.letter == "x":
        lines = wrap(parse_markup(style.title), size, max(box.width, 0.6 * sheet.width))
        far = edge if reach is None else (reach.top if style.far_side else reach.bottom)
        side = "bottom" if style.far_side else "top"
        return [
            *place_text(lines, (box.left + box.right) / 2, far + out * gap, size=size, colour=colour, side=side),
        ]
    lines = wrap(parse_markup(style.title), size, max(box.height, 8 * size))
    far = edge if reach is None else (reach.right if style.far_side else reach.left)
    middle = (box.top + box.bottom) / 2
    side = "top" if style.far_side else "bottom"
    return [*place_text(lines, far + out * gap, middle, size=size, colour=colour, side=side, rotate=90)]


def _values_and_labels(axis: Axis, most: int) -> tuple[list[float], list[str]]:
    style, ticks = axis.style, axis.style.ticks
    low, high = min(axis.low, axis.high), max(axis.low, axis.high)
    ends = (10.0**low, 10.0**high) if style.is_log else (low, high)
    step = ticks.step or nice_step(ends[1] - ends[0], most or 6)
    if ticks.values is not None:
        slack = 1e-9 * abs(ends[1] - ends[0])
        inside = [one for one, value in enumerate(ticks.values) if ends[0] - slack <= value <= ends[1] + slack]
        values = [ticks.values[one] for one in inside]
        if ticks.words is not None:
            return values, [ticks.words[one] for one in inside]
        gaps = [abs(b - a) for a, b in pairwise(values) if a != b]
        step = min([*gaps, *(abs(value) for value in values if value)], default=1.0)
    elif style.is_log:
        values = log_ticks(low, high, most or 6)
    else:
        values = linear_ticks(low, high, step, ticks.start)
    labels = number_labels(values, step, ticks.number_format, is_log=style.is_log)
    return values, [ticks.prefix + label + ticks.suffix for label in labels]


def _with_room(axis: Axis, values: list[float], labels: list[str], sheet: Sheet) -> PlacedTicks:
    size = sheet.type_size(axis.style.label_px)
    places = [axis.of(value) for value in values]
    if not axis.style.has_labels or not axis.style.is_visible:
        return PlacedTicks(places=tuple(places), labels=((),) * len(places))
    along = axis.style.letter == "x" and not axis.style.angle
    if axis.style.letter == "x":
        blocks = [parse_markup(label) for label in labels]
    else:
        distance = np.diff(sorted(places)).min() if len(places) > 1 else axis.length
        blocks = [row_label(label, sheet, size, 2 if distance >= 2 * ROW_EM * size else 1) for label in labels]
    lengths = [
        max(line_width(line, size) for line in lines) if along else (1 + LEADING * (len(lines) - 1)) * size
        for lines in blocks
    ]
    kept = thinned(places, lengths, 0.5 * size if along else 0.1 * size)
    return PlacedTicks(places=tuple(places[one] for one in kept), labels=tuple(blocks[one] for one in kept))


def row_label(label: str, sheet: Sheet, size: float, most_lines: int = 2) -> tuple[Line, ...]:
    """A label of a vertical axis: broken where it is long, and cut with a note where that is not enough."""
    longest = LONGEST_LABEL * sheet.width
    lines = wrap(parse_markup(label), size, longest)
    if len(lines) <= most_lines and max(line_width(line, size) for line in lines) <= longest:
        return lines
    sheet.note("Long labels are cut; the table of the figure has them whole.")
    return parse_markup(shorten(label, size, longest))


def _across(axis: Axis, place: float, box: Box, stroke: Stroke, sheet: Sheet) -> Path:
    ends = (
        ((place, box.top), (place, box.bottom)) if axis.style.letter == "x" else ((box.left, place), (box.right, place))
    )
    return line_path(ends, sheet.line(stroke.colour, stroke.px, stroke.dash))
