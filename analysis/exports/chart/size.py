"""How high a figure becomes on paper when nobody says so."""

from typing import Final

import numpy as np

from analysis.exports.chart.axes import AxisStyle
from analysis.exports.chart.axis_lines import ROW_EM, row_label
from analysis.exports.chart.bar_text import ROW_EM as BAR_ROW_EM
from analysis.exports.chart.bar_text import SIGNS
from analysis.exports.chart.content import Content
from analysis.exports.chart.frame import Tracks
from analysis.exports.chart.sheet import SCREEN_PX, Sheet
from analysis.exports.chart.text import parse_markup

SCREEN_AXES_PX: Final = 50.0
"""Room for the labels and the title of an x axis on the screen, and as much for those of a y axis."""

LEAST_EM: Final = 9.0
"""Least height of a plot whose ticks are numbers, in sizes of type."""

CELL_EM: Final = 4.0
"""Greatest height of a cell of a grid, in sizes of type."""


def plot_height(content: Content, columns: Tracks, rows: Tracks, width: float, sheet: Sheet) -> float:
    """Height of the plot: the screen's proportions, cells about square, and room for every name of a row.

    Args:
        width: of the plot, in points.
    """
    shares = {domain: high - low for domain, (low, high) in zip(rows.domains, rows.places(1.0), strict=True)}
    axes = [style for style in content.axes if style.letter == "y"]
    shown = [style for style in axes if style.is_visible and style.has_labels]
    least = max([_least(style, sheet) / shares[style.domain] for style in shown], default=4 * sheet.font_pt)
    if content.colours:
        least = max(least, content.colours.words_height(sheet))
    square = _square(content, columns, width, sheet)
    if square is not None:
        return max(least, square / max(shares.values()))
    screen = content.height_px if content.height_px is not None else 450.0
    has_axis = any(style.is_visible for style in content.axes if style.letter == "x")
    screen_plot = max(40.0, screen - content.frame_px - (SCREEN_AXES_PX if has_axis else 0))
    height = max(least, screen_plot * width / (SCREEN_PX - SCREEN_AXES_PX))
    return max(height, min(_for_texts(content, sheet) / max(shares.values()), 2 * height))


def _least(style: AxisStyle, sheet: Sheet) -> float:
    size = sheet.type_size(style.label_px)
    if style.ticks.words is None or style.limits is None or style.is_log:
        return LEAST_EM * sheet.font_pt
    places = np.unique(list(style.ticks.values or ()))
    if len(places) < 2:
        return 3 * size
    lines = max(len(row_label(word, sheet, size)) for word in style.ticks.words)
    return float(lines * ROW_EM * size * abs(style.limits[1] - style.limits[0]) / np.diff(places).min())


def _for_texts(content: Content, sheet: Sheet) -> float:
    """Height at which upright bars hold the texts inside them."""
    styles = {style.name: style for style in content.axes}
    least = 0.0
    for bars in content.bars():
        limits = styles[bars.trace.y_axis].limits
        if bars.is_horizontal or limits is None or styles[bars.trace.y_axis].is_log:
            continue
        for text, length in zip(bars.texts, np.abs(bars.length).tolist(), strict=True):
            if text is not None and text.where == "inside" and text.text not in SIGNS and length > 0:
                rows = BAR_ROW_EM * sheet.type_size(text.px) * len(parse_markup(text.text))
                least = max(least, rows * abs(limits[1] - limits[0]) / length)
    return least


def _square(content: Content, columns: Tracks, width: float, sheet: Sheet) -> float | None:
    """Height at which bars that are as wide as they are long in data are square; None where there are none."""
    styles = {style.name: style for style in content.axes}
    for bars in content.bars():
        sides = np.concatenate([bars.width, np.abs(bars.length)])
        if len(bars.middle) < 2 or not np.isfinite(sides).all() or np.ptp(sides) > 1e-9:
            continue
        x, y = styles[bars.trace.x_axis], styles[bars.trace.y_axis]
        if x.limits is None or y.limits is None or x.is_log or y.is_log:
            continue
        start, end = columns.places(width)[columns.domains.index(x.domain)]
        cell = (end - start) / abs(x.limits[1] - x.limits[0])
        return min(cell, CELL_EM * sheet.font_pt) * abs(y.limits[1] - y.limits[0])
    return None
