"""The colour axis of a figure and its bar: beside the plot, or below it where the page is narrow."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.exports.chart.axes import read_font
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Box, Sheet, line_path
from analysis.exports.chart.text import Line, label_width, parse_markup, place_text
from analysis.exports.chart.ticks import linear_ticks, nice_step, number_labels, thinned
from analysis.exports.chart.values import ColourScale, read_numbers, read_scale
from analysis.exports.drawing import Item, Paint, Rect

NARROW_PT: Final = 300.0
STEPS: Final = 64
"""Areas of the bar: each reaches to its end under the next one, so that no viewer shows gaps between them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourAxis:
    """Colours of numbers and the words at its ticks."""

    scale: ColourScale
    is_shown: bool
    title: tuple[Line, ...]
    title_px: float | None
    values: tuple[float, ...]
    words: tuple[str, ...]
    word_px: float | None
    thickness_px: float
    has_marks: bool

    def words_height(self, sheet: Sheet) -> float:
        """Least height in points at which all words stand free beside the bar."""
        places = sorted(self.values)
        gaps = [b - a for a, b in pairwise(places) if b > a]
        span = self.scale.high - self.scale.low
        return 1.15 * sheet.type_size(self.word_px) * span / min(gaps) if gaps and self.is_shown else 0.0


def read_colour_axis(axis: Properties) -> ColourAxis | None:
    """Read layout.coloraxis; None if there is none."""
    if not axis.names():
        return None
    with axis:
        axis.skip("cmid", "cauto", "autocolorscale")
        axis.one_of("reversescale", (False,), False)
        stops = read_scale(axis.take("colorscale", "Viridis"))
        low, high = axis.number("cmin", np.nan), axis.number("cmax", np.nan)
        if not low < high:
            raise axis.refuse("cmin", low, f"a number below cmax={high}; both have to be given")
        is_shown = axis.flag("showscale", True)
        with axis.inner("colorbar") as bar:
            # Where it stands and how long it is follows from the page.
            bar.skip(*("len", "lenmode", "x", "y", "xanchor", "yanchor", "xpad", "ypad", "xref", "yref", "orientation"))
            bar.skip("tickmode", "ticklen", "tickwidth", "tickcolor", "outlinecolor", "thicknessmode", "borderwidth")
            bar.one_of("outlinewidth", (0,), 1)
            with bar.inner("title") as title:
                title.skip("side")
                title_px, _ = read_font(title)
                lines = parse_markup(title.text("text"))
            word_px, _ = read_font(bar, "tickfont")
            values, words = bar.take("tickvals"), bar.take("ticktext")
            step = nice_step(high - low, 5)
            ticks = linear_ticks(low, high, step) if values is None else read_numbers(values, bar.where).tolist()
            labels = number_labels(ticks, step, bar.text("tickformat")) if words is None else [str(w) for w in words]
            if len(labels) != len(ticks):
                raise bar.refuse("ticktext", words, "as many labels as there are tickvals")
            return ColourAxis(
                scale=ColourScale(low=low, high=high, stops=stops),
                is_shown=is_shown,
                title=lines,
                title_px=title_px,
                values=tuple(ticks),
                words=tuple(labels),
                word_px=word_px,
                thickness_px=bar.number("thickness", 30),
                has_marks=bar.one_of("ticks", ("outside", ""), "") == "outside",
            )


def draw_colour_bar(axis: ColourAxis, plot: Box, reach: Box, sheet: Sheet) -> list[Item]:
    """Draw the bar along the plot, outside of everything drawn so far.

    Args:
        plot: all subplots. reach: everything drawn so far.
    """
    is_below = sheet.width < NARROW_PT
    thick = max(4.0, sheet.length(axis.thickness_px))
    size, gap = sheet.type_size(axis.word_px), sheet.font_pt
    items: list[Item] = []
    start, end = (plot.left, plot.right) if is_below else (plot.bottom, plot.top)
    near = (reach.bottom + 0.6 * gap) if is_below else (reach.right + gap)
    for step in range(STEPS):
        at = start + (end - start) * step / STEPS
        value = axis.scale.low + (axis.scale.high - axis.scale.low) * (step + 0.5) / STEPS
        paint = Paint(fill=axis.scale.at(value).code)
        if is_below:
            items.append(Rect(x=at, y=near, width=end - at, height=thick, paint=paint))
        else:
            items.append(Rect(x=near, y=end, width=thick, height=at - end, paint=paint))
    span = axis.scale.high - axis.scale.low
    places = [start + (value - axis.scale.low) / span * (end - start) for value in axis.values]
    sizes = [label_width(word, size) if is_below else size for word in axis.words]
    mark = 0.3 * size if axis.has_marks else 0.0
    tip = near + thick + mark
    widest = 0.0
    for one in thinned(places, sizes, 0.4 * size if is_below else 0.1 * size):
        place, lines = places[one], parse_markup(axis.words[one])
        if mark:
            ends = ((place, tip - mark), (place, tip)) if is_below else ((tip - mark, place), (tip, place))
            items.append(line_path(ends, Paint(stroke=sheet.ink)))
        if is_below:
            low, high = start + sizes[one] / 2, end - sizes[one] / 2  # words at the ends stay beside the bar
            at = min(max(place, low), high) if low < high else place
            items += place_text(lines, at, tip + 0.2 * size, size=size, colour=sheet.ink, side="top")
        else:
            items += place_text(lines, tip + 0.25 * size, place, size=size, colour=sheet.ink, anchor="start")
            widest = max(widest, label_width(axis.words[one], size))
    title = sheet.type_size(axis.title_px)
    if is_below:
        at = tip + 0.2 * size + 1.15 * size
        return [*items, *place_text(axis.title, (start + end) / 2, at, size=title, colour=sheet.ink, side="top")]
    at, middle = tip + 0.25 * size + widest + 0.4 * title, (start + end) / 2
    return [*items, *place_text(axis.title, at, middle, size=title, colour=sheet.ink, side="top", rotate=90)]
