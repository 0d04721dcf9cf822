"""The token map as a drawing: every token of a text on its expert's colour, dropped ones hatched."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from analysis.columns import BoolArray
from analysis.exports.drawing import LINE_PT, Drawing, Item, Paint, Path, Rect, Text
from analysis.exports.map_frame import (
    DROPPED,
    HATCH,
    HATCH_BORDER,
    PARTLY_DROPPED,
    QUIET,
    TEXT_COLOUR,
    UNROUTED,
    SiteRoutes,
    blend,
    chip,
    corner,
    describe_filter,
    dots,
    draw_legend,
    draw_sentences,
    faded,
    routes_at,
    stripes,
)
from analysis.exports.token_layout import PADDING_PT, Fragment, Row, lay_out, shown_text
from analysis.exports.typeface import MIN_TEXT_PT, character_notes, text_width
from analysis.figures.theme import FocusPalette
from analysis.figures.token_map import TokenMap
from analysis.selection import Selection

MAX_TOKENS: Final = 4096
MAX_HEIGHT_PT: Final = 14_000.0  # PDF pages end at 14,400
TINT: Final = 0.30
HEADING_PT: Final = 1.7 * MIN_TEXT_PT


def draw_token_map(
    tokens: TokenMap,
    palettes: Mapping[int, FocusPalette],
    selection: Selection,
    *,
    width_pt: float,
    font_pt: float,
    lit: BoolArray,
    changed: BoolArray | None = None,
    numbered: bool = False,
) -> Drawing:
    """Draw the tokens at the selected site; the drawing is as high as the text needs.

    Of a trace with more than MAX_TOKENS tokens only the MAX_TOKENS around the selected one are drawn, and the figure
    says so.

    Args:
        palettes: colours of every site.
        selection: its site, its experts and status as a sentence, its units as outlined tokens.
        width_pt: of the page. font_pt: size of the text, at least 7.
        lit: (N,) tokens that are not faded.
        changed: (N,) tokens whose route differs from that of the pinned run.
        numbered: write the number of every expert, for print without colour; else only of those without a colour.

    Raises:
        ConfigError: a site that the trace does not have.
    """
    routes = routes_at(tokens.routes, palettes, selection.site_id)
    sentence = describe_filter(selection, "tokens")
    items: list[Item] = []
    y = 0.0
    if routes is not None:
        legend = draw_legend(routes, width=width_pt, font_pt=font_pt, sentence=sentence, changed=changed)
        items += legend.items
        y = legend.height
    units = _shown_units(len(tokens.text), selection.unit_id)
    font_pt = max(font_pt, MIN_TEXT_PT)
    page = _Page(routes, lit, changed, set(selection.units), font_pt, width_pt)
    last = units.start - 1
    for row in lay_out(tokens, routes, units=units, width=width_pt, size=font_pt, numbered=numbered):
        if y > MAX_HEIGHT_PT:
            units = range(units.start, last + 1)
            break
        y = page.row(row, y)
        last = row.fragments[-1].unit if row.fragments else last
    remarks = _remarks(len(tokens.text), units, routes)
    below = draw_sentences(remarks, y=y + 2, width=width_pt)
    items += [*faded(page.dimmed), *page.lit, *page.marks, *below.items]
    drawn = [shown_text(tokens.text[unit]) for unit in units]
    notes = (
        *([_explanation(routes, changed)] if routes is not None else []),
        *([sentence] if sentence else []),
        *remarks,
        *character_notes(drawn),
    )
    height = y + below.height + (2 if remarks else 0) + 1
    return Drawing(width=width_pt, height=height, items=tuple(items), notes=notes)


def _shown_units(count: int, unit: int | None) -> range:
    first = (unit or 0) // MAX_TOKENS * MAX_TOKENS
    return range(first, min(first + MAX_TOKENS, count))


def _remarks(count: int, units: range, routes: SiteRoutes | None) -> tuple[str, ...]:
    """What the figure itself must say, so that nobody takes a part for the whole."""
    if count == 0:
        return ("The trace has no tokens.",)
    said = [] if routes is not None else ["The trace has no sites: nothing was routed."]
    if len(units) < count:
        said.append(f"Tokens {units.start:,} to {units.stop - 1:,} of {count:,}; the legend counts all of them.")
    return tuple(said)


def _explanation(routes: SiteRoutes, changed: BoolArray | None) -> str:
    text = f"Colour: the expert of {routes.label} that a token preferred most among those that kept it; "
    text += "the numbers in the legend count tokens."
    if routes.is_filler.any():
        text += " Dotted along the top: an expert took it as filler, unasked."
    return text + (" A black corner: the route differs from that in run A." if changed is not None else "")


class _Page:
    """Items of the rows drawn so far, in three layers."""

    def __init__(
        self,
        routes: SiteRoutes | None,
        lit: BoolArray,
        changed: BoolArray | None,
        chosen: set[int],
        size: float,
        width: float,
    ) -> None:
        self.routes, self.is_lit, self.chosen, self.size, self.width = routes, lit, chosen, size, width
        self.is_changed = np.zeros(len(lit), dtype=np.bool_) if changed is None else changed
        self.dimmed: list[Item] = []
        self.lit: list[Item] = []
        self.marks: list[Item] = []

    def row(self, row: Row, y: float) -> float:
        """Draw a row whose upper edge is `y`; returns that of the next one."""
        if row.heading:
            return self.heading(row.heading, y)
        for fragment in row.fragments:
            (self.lit if self.is_lit[fragment.unit] else self.dimmed).extend(self.token(fragment, y))
        return y + 1.72 * self.size

    def heading(self, text: str, y: float) -> float:
        line = y + 0.6 * HEADING_PT
        start = text_width(text, MIN_TEXT_PT) + 3
        commands = (("M", start, line), ("L", self.width, line))
        self.lit.append(Path(commands=commands, paint=Paint(stroke=QUIET, stroke_width=LINE_PT, dash=(2, 1.5))))
        self.lit.append(Text(x=0, y=line + 0.33 * MIN_TEXT_PT, text=text, size=MIN_TEXT_PT, colour=QUIET))
        return y + HEADING_PT + 2

    def token(self, one: Fragment, y: float) -> list[Item]:
        """Area, bar at the foot, text, place in its character, number of its expert."""
        size = self.size
        foot = 0.18 * size
        height = 1.3 * size + foot
        status = UNROUTED if self.routes is None else int(self.routes.status[one.unit])
        colour = None if self.routes is None else self.routes.fill(one.unit)
        items: list[Item] = []
        if colour is not None:
            items.append(
                Rect(x=one.x, y=y, width=one.width, height=height - foot, paint=Paint(fill=blend(colour, TINT)))
            )
            if status == PARTLY_DROPPED:
                items.append(stripes(one.x, y + height - foot, one.width, foot, colour))
            else:
                items.append(Rect(x=one.x, y=y + height - foot, width=one.width, height=foot, paint=Paint(fill=colour)))
        elif self.routes is not None:
            paint = (
                Paint(hatch=HATCH, stroke=HATCH_BORDER) if status == DROPPED else Paint(stroke=QUIET, dash=(1.5, 1.0))
            )
            inner = LINE_PT / 2
            box = {"width": one.width - LINE_PT, "height": height - LINE_PT}
            items.append(Rect(x=one.x + inner, y=y + inner, **box, paint=paint))
        baseline = y + 1.02 * size
        x = one.x + PADDING_PT
        if one.text:
            items.append(Text(x=x, y=baseline, text=one.text, size=size, colour=TEXT_COLOUR))
            x += text_width(one.text, size)
        if one.piece:
            items.append(Text(x=x + 0.8, y=baseline, text=one.piece, size=MIN_TEXT_PT, colour=QUIET))
            x += text_width(one.piece, MIN_TEXT_PT) + 0.8
        if one.number:
            items += chip(one.number, x + 0.8, baseline + 0.16 * MIN_TEXT_PT)
        if self.routes is not None and self.routes.is_filler[one.unit]:
            items.append(dots(one.x, y, one.width, size))
        if self.is_changed[one.unit]:
            items.append(corner(one.x + one.width, y))
        if one.unit in self.chosen:
            border = Paint(stroke="#000000", stroke_width=1.2)  # inside, so that the edge of the page cuts nothing
            inside = {"width": one.width - 1.2, "height": height - 1.2}
            self.marks.append(Rect(x=one.x + 0.6, y=y + 0.6, **inside, paint=border))
        return items
