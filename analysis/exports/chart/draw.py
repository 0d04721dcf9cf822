"""Our plotly figures at the size of a page, without a browser: what they are made of, laid out anew for print.

Only what our figures use is known. Anything else is an error, so that no file lacks a part of its figure; left out are
titles, which papers set in captions, and what only a screen has, such as hover and `meta={"screen_only": True}`.
"""

from collections.abc import Iterable
from typing import Final

import plotly.graph_objects as go

from analysis.exports.chart.content import read_content
from analysis.exports.chart.frame import Tracks
from analysis.exports.chart.page import draw_page, first_room
from analysis.exports.chart.sheet import Sheet
from analysis.exports.drawing import Drawing, Group, Item, Text
from analysis.exports.typeface import MIN_TEXT_PT, character_notes
from uoe_model.errors import ConfigError

_PASSES: Final = 12
_CLOSE_PT: Final = 0.05


def draw_chart(figure: go.Figure, *, width_pt: float, font_pt: float, height_pt: float | None = None) -> Drawing:
    """Lay out a figure for a page.

    Args:
        figure: of one of our builders, in the light theme.
        width_pt: of the page. font_pt: size of normal type, at least 7 points.
        height_pt: of the page; None for one that suits the figure.

    Raises:
        ConfigError: the figure has something that cannot be drawn, or the page is too small for it.
    """
    if font_pt < MIN_TEXT_PT:
        raise ConfigError(f"font_pt={font_pt:g} must be {MIN_TEXT_PT:g} or more: smaller type is not read in print.")
    content = read_content(figure)
    room, columns, rows = first_room(content)
    for number in range(_PASSES):
        sheet = Sheet(width=width_pt, font_pt=font_pt, base_px=content.base_px, ink=content.ink)
        across, down = Tracks(domains=columns, gaps=room.column_gaps), Tracks(domains=rows, gaps=room.row_gaps)
        page = draw_page(content, room, across, down, sheet, height_pt)
        needed = page.room()
        if not needed.differs(room, _CLOSE_PT):
            break
        # Labels that come and go with the room could move it to and fro for ever: later passes only add.
        room = needed if number < _PASSES // 2 else room.grown(needed)
    return Drawing(
        width=width_pt,
        height=page.frame.plot.bottom + needed.bottom if height_pt is None else height_pt,
        items=page.items,
        notes=(*page.sheet.notes, *character_notes(sorted(_texts(page.items)))),
    )


def _texts(items: Iterable[Item]) -> set[str]:
    found = set[str]()
    for item in items:
        if isinstance(item, Group):
            found |= _texts(item.items)
        elif isinstance(item, Text):
            found.add(item.text)
    return found
