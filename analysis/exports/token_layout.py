"""Where the tokens of a text stand on a page: newline-true rows, broken between words where the page ends."""

import dataclasses
import unicodedata
from collections.abc import Iterator
from typing import Final

from analysis.exports.map_frame import SiteRoutes, chip_width
from analysis.exports.typeface import MIN_TEXT_PT, text_width
from analysis.figures.labels import visible
from analysis.figures.token_map import TokenMap

PADDING_PT: Final = 0.9
GAP_PT: Final = 0.7


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fragment:
    """What stands on one row of one token; most tokens have one.

    Attributes:
        text: what is written. piece: its place in a character that was cut into several tokens, "2/3", else "".
        number: of the expert that kept it, where that is written, else "".
        x, width, gap: left edge and width of its area, and distance to the next one, in points.
        can_begin_row: whether a row may be broken before it without cutting a word.
        ends_row: whether the text has a line break after it.
    """

    unit: int
    text: str
    piece: str
    number: str
    width: float
    can_begin_row: bool
    ends_row: bool
    gap: float
    x: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Fragments from left to right, or a heading that separates what stands above and below."""

    fragments: tuple[Fragment, ...] = ()
    heading: str = ""


def lay_out(
    tokens: TokenMap, routes: SiteRoutes | None, *, units: range, width: float, size: float, numbered: bool
) -> Iterator[Row]:
    """Put tokens into rows.

    Args:
        routes: of the shown site, for the numbers of neutral experts. numbered: write the number of every expert.
        units: consecutive tokens to draw. width: of a row; size: of the type; both in points.
    """
    row: list[Fragment] = []
    word: list[Fragment] = []
    several = len(tokens.example) > 0 and int(tokens.example[-1]) > 0
    for unit in units:
        heading = _heading(tokens, unit, several=several, is_first=unit == units.start)
        if heading:
            yield from _finish(row, word, width)
            row, word = [], []
            yield from (Row(heading=text) for text in heading)
        for fragment in _fragments(tokens, routes, unit, width=width, size=size, numbered=numbered):
            if fragment.can_begin_row and word:
                row, full = _append(row, word, width)
                yield from full
                word = []
            word.append(fragment)
            if fragment.ends_row:
                yield from _finish(row, word, width)
                row, word = [], []
    yield from _finish(row, word, width)


def shown_text(text: str) -> str:
    """Text of a token as it is written: spaces at the start, line breaks and control characters visible."""
    shown = visible(text)
    return "◌" + shown if unicodedata.category(shown[0]).startswith("M") else shown


def _heading(tokens: TokenMap, unit: int, *, several: bool, is_first: bool) -> list[str]:
    found = []
    if several and (is_first or tokens.example[unit] != tokens.example[unit - 1]):
        found.append(f"example {int(tokens.example[unit])}")
    if tokens.is_decoded[unit] and (is_first or not tokens.is_decoded[unit - 1]):
        found.append("written by the model")
    if tokens.is_padding[unit] and (is_first or not tokens.is_padding[unit - 1]):
        found.append(f"padding: {_padding_from(tokens, unit):,} units behind the end of the example")
    return found


def _padding_from(tokens: TokenMap, unit: int) -> int:
    """How many units of padding stand in a row from this one on, in its example."""
    ends = (tokens.is_padding[unit:] == 0) | (tokens.example[unit:] != tokens.example[unit])
    return int(ends.argmax()) if ends.any() else len(ends)


def _fragments(
    tokens: TokenMap, routes: SiteRoutes | None, unit: int, *, width: float, size: float, numbered: bool
) -> Iterator[Fragment]:
    is_first_part = tokens.part[unit] == 0
    shown = shown_text(tokens.text[unit]) if is_first_part else ""
    piece = f"{int(tokens.part[unit]) + 1}/{int(tokens.parts[unit])}" if tokens.parts[unit] > 1 else ""
    number = routes.number(unit, always=numbered) if routes is not None else ""
    can_begin = is_first_part and _begins_word(tokens, unit)
    lines = shown.split("⏎") if tokens.text[unit].count("\n") else [shown]
    breaks = len(lines) - 1
    if breaks and not lines[-1]:
        lines.pop()
    for place, line in enumerate(lines):
        text = line + "⏎" if place < breaks else line
        is_last = place == len(lines) - 1
        extra = _extra_width(piece, number) if is_last else 0.0
        for start, end in _cuts(text, size, max(size, width - extra - 2 * PADDING_PT)):
            is_end = is_last and end == len(text)
            yield Fragment(
                unit=unit,
                text=text[start:end],
                piece=piece if is_end else "",
                number=number if is_end else "",
                width=text_width(text[start:end], size) + 2 * PADDING_PT + (extra if is_end else 0.0),
                can_begin_row=start > 0 or place > 0 or can_begin,
                ends_row=place < breaks and end == len(text),
                gap=0.0 if tokens.part[unit] + 1 < tokens.parts[unit] else GAP_PT,  # parts of one character touch
            )


def _extra_width(piece: str, number: str) -> float:
    width = text_width(piece, MIN_TEXT_PT) + 0.8 if piece else 0.0
    return width + (chip_width(number) + 0.8 if number else 0.0)


def _cuts(text: str, size: float, width: float) -> Iterator[tuple[int, int]]:
    """Cut a text that is wider than a row into parts that are not; at least one character each."""
    if text_width(text, size) <= width:
        yield 0, len(text)
        return
    start = 0
    taken = 0.0
    for place, letter in enumerate(text):
        step = text_width(letter, size)
        if taken + step > width and place > start:
            yield start, place
            start, taken = place, 0.0
        taken += step
    yield start, len(text)


def _begins_word(tokens: TokenMap, unit: int) -> bool:
    text = tokens.text[unit]
    before = tokens.text[unit - int(tokens.parts[unit - 1])] if unit and tokens.parts[unit - 1] > 1 else ""
    before = before or (tokens.text[unit - 1] if unit else "")
    if not text or not before or text[0].isspace() or before[-1].isspace():
        return True
    return any(unicodedata.east_asian_width(letter) in ("W", "F") for letter in (text[0], before[-1]))


def _append(row: list[Fragment], word: list[Fragment], width: float) -> tuple[list[Fragment], list[Row]]:
    """Put a word at the end of a row or on the next one; a word wider than a row is broken between its tokens."""
    if _row_width(row + word) <= width:
        return row + word, []
    full = [_placed(row)] if row else []
    row = []
    for fragment in word:
        if row and _row_width([*row, fragment]) > width:
            full.append(_placed(row))
            row = []
        row.append(fragment)
    return row, full


def _finish(row: list[Fragment], word: list[Fragment], width: float) -> Iterator[Row]:
    row, full = _append(row, word, width)
    yield from full
    if row:
        yield _placed(row)


def _row_width(row: list[Fragment]) -> float:
    return sum(fragment.width + fragment.gap for fragment in row) - (row[-1].gap if row else 0.0)


def _placed(row: list[Fragment]) -> Row:
    fragments = []
    x = 0.0
    for fragment in row:
        fragments.append(dataclasses.replace(fragment, x=x))
        x += fragment.width + fragment.gap
    return Row(fragments=tuple(fragments))
