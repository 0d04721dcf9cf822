"""Texts of bars: inside if they fit, or at the end."""

from dataclasses import dataclass
from typing import Final, Literal

from analysis.exports.chart.sheet import Sheet, line_path
from analysis.exports.chart.text import LEADING, line_width, parse_markup, place_text
from analysis.exports.drawing import Anchor, Item, Paint
from analysis.figures.theme import text_on

FLAT: Final = ((-1, 0, 1, 0),)
SIGNS: Final = {
    "×": ((-1, -1, 1, 1), (-1, 1, 1, -1)),
    "–": FLAT,
    "−": FLAT,
    "+": (*FLAT, (0, -1, 0, 1)),
}
"""Signs of cells as lines x0, y0, x1, y1 about their middle."""

ROW_EM: Final = 1.15
"""Height of a bar that holds one line of text, in sizes of its type."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BarText:
    """A text at a bar.

    Attributes:
        px: size on the screen, None for normal type. colour: None for one that is read well where the text stands.
        anchor: for a text inside, where along the bar.
    """

    text: str
    px: float | None
    colour: str | None
    where: Literal["inside", "outside", "auto"]
    anchor: Literal["start", "middle", "end"]


def draw_bar_text(
    text: BarText,
    low: float,
    high: float,
    start: float,
    end: float,
    *,
    is_horizontal: bool,
    ground: str | None,
    sheet: Sheet,
) -> list[Item]:
    """Draw the text of a bar.

    Signs of cells are drawn as lines where a cell is too small for type. Other text that does not fit
    inside is left out, which the drawing's notes say.

    Args:
        low, high: sides of the bar, points. start, end: where it begins and where it ends, points.
        ground: colour of the bar, None if it lets the page through.
    """
    size = sheet.type_size(text.px)
    lines = parse_markup(text.text)
    wide, tall = max(line_width(line, size) for line in lines), len(lines) * LEADING * size
    room = (abs(end - start), high - low) if is_horizontal else (high - low, abs(end - start))
    fits = wide <= room[0] and tall <= room[1] + 0.4 * size
    gap = 0.3 * size
    direction = 1 if end >= start else -1
    middle = (low + high) / 2
    colour = text.colour or sheet.ink
    if text.where == "outside" or (text.where == "auto" and not fits):
        at = end + direction * gap
        if is_horizontal:
            anchor: Anchor = "start" if direction > 0 else "end"
            return [*place_text(lines, at, middle, size=size, colour=colour, anchor=anchor)]
        side: Literal["top", "bottom"] = "top" if direction > 0 else "bottom"
        return [*place_text(lines, middle, at, size=size, colour=colour, side=side)]
    colour = text.colour or (sheet.ink if ground is None else text_on(ground))
    along = {"start": start + direction * gap, "middle": (start + end) / 2, "end": end - direction * gap}[text.anchor]
    if not fits and text.text in SIGNS:
        x, y = (along, middle) if is_horizontal else (middle, along)
        return _sign(SIGNS[text.text], colour, x, y, 0.25 * min(room), sheet)
    if not fits:
        sheet.note("Some bars are too small for their text, which is left out; the table of the figure has it.")
        return []
    if is_horizontal:
        inner: dict[str, Anchor] = {"start": "start", "middle": "middle", "end": "end"}
        anchor = inner[text.anchor] if direction > 0 or text.anchor == "middle" else inner[_other(text.anchor)]
        return [*place_text(lines, along, middle, size=size, colour=colour, anchor=anchor)]
    sides: dict[str, Literal["top", "middle", "bottom"]] = {"start": "top", "middle": "middle", "end": "bottom"}
    block = sides[text.anchor] if direction > 0 or text.anchor == "middle" else sides[_other(text.anchor)]
    return [*place_text(lines, middle, along, size=size, colour=colour, side=block)]


def _sign(
    strokes: tuple[tuple[int, int, int, int], ...], colour: str, x: float, y: float, reach: float, sheet: Sheet
) -> list[Item]:
    paint = Paint(stroke=colour, stroke_width=sheet.line_width(1.5))
    return [
        line_path([(x + x0 * reach, y + y0 * reach), (x + x1 * reach, y + y1 * reach)], paint)
        for x0, y0, x1, y1 in strokes
    ]


def _other(anchor: str) -> str:
    return {"start": "end", "end": "start"}[anchor]
