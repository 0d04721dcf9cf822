"""Sizes of one figure on paper, and how far drawn items reach."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from analysis.exports.chart.text import ASCENT, DESCENT
from analysis.exports.chart.values import Colour, read_dash
from analysis.exports.drawing import LINE_PT, Group, Item, Paint, Path, Picture, Rect, Text
from analysis.exports.typeface import MIN_TEXT_PT, text_width

SCREEN_PX: Final = 700.0
"""Width for which the sizes of marks in our figures are chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A part of the page in points; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    def grown(self, by: float) -> "Box":
        """The box with a margin of `by` points around it."""
        return Box(left=self.left - by, top=self.top - by, right=self.right + by, bottom=self.bottom + by)

    def with_box(self, other: "Box | None") -> "Box":
        """The smallest box around both."""
        if other is None:
            return self
        return Box(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """How the pixels of a figure become points.

    Attributes:
        width: of the page. font_pt: size of normal type.
        base_px: size of normal type in the figure.
        ink: colour of type that names none.
        notes: collects what a reader of the file should know.
    """

    width: float
    font_pt: float
    base_px: float
    ink: str
    notes: list[str] = field(default_factory=list)

    def type_size(self, px: float | None = None) -> float:
        """Size of type in points, as large beside normal type as in the figure, but never under 7."""
        return max(MIN_TEXT_PT, self.font_pt * (1.0 if px is None else px / self.base_px))

    def length(self, px: float) -> float:
        """Length of a mark: narrow pages have smaller marks, not only smaller type."""
        return px * min(self.font_pt / self.base_px, self.width / SCREEN_PX)

    def line_width(self, px: float) -> float:
        """Width of a line: 0 stays 0, others are at least 0.5 points."""
        return max(LINE_PT, self.length(px)) if px > 0 else 0.0

    def line(self, colour: Colour, px: float, dash: str = "solid", where: str = "line") -> Paint:
        """Paint of a line without an area."""
        width = self.line_width(px)
        if not width or not colour.alpha:
            return Paint()
        return Paint(stroke=colour.code, stroke_width=width, dash=read_dash(dash, width, where))

    def note(self, sentence: str) -> None:
        """Remember a sentence once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def faded(items: Iterable[Item], alpha: float) -> list[Item]:
    """Items at an opacity; none at all at 0."""
    kept = tuple(items)
    if not kept or alpha <= 0:
        return []
    return list(kept) if alpha >= 1 else [Group(items=kept, opacity=alpha)]


def clipped(items: Iterable[Item], box: Box) -> list[Item]:
    """Items that are only seen inside a box."""
    kept = tuple(items)
    return [Group(items=kept, clip=(box.left, box.top, box.width, box.height))] if kept else []


def line_path(points: Iterable[tuple[float, float]], paint: Paint, *, closed: bool = False) -> Path:
    """A line through points."""
    commands: list[tuple[str | float, ...]] = [
        ("L" if place else "M", float(x), float(y)) for place, (x, y) in enumerate(points)
    ]
    return Path(commands=(*commands, ("Z",)) if closed else tuple(commands), paint=paint)


def extent(items: Iterable[Item]) -> Box | None:
    """The box around everything that is seen of some items; curves count with their control points."""
    found: Box | None = None
    for item in items:
        box = _extent(item)
        if box is not None:
            found = box.with_box(found)
    return found


def _extent(item: Item) -> Box | None:
    match item:
        case Group():
            inside = extent(item.items)
            if inside is None or item.clip is None:
                return inside
            x, y, width, height = item.clip
            return Box(
                left=max(x, inside.left),
                top=max(y, inside.top),
                right=min(x + width, inside.right),
                bottom=min(y + height, inside.bottom),
            )
        case Text():
            return _text_extent(item)
        case Rect() | Picture():
            half = item.paint.stroke_width / 2 if isinstance(item, Rect) and item.paint.stroke else 0.0
            box = Box(left=item.x, top=item.y, right=item.x + item.width, bottom=item.y + item.height)
            return box.grown(half)
        case Path():
            numbers = [[float(part) for part in command[1:]] for command in item.commands]
            xs = [x for row in numbers for x in row[0::2]]
            ys = [y for row in numbers for y in row[1::2]]
            if not xs:
                return None
            box = Box(left=min(xs), top=min(ys), right=max(xs), bottom=max(ys))
            return box.grown(item.paint.stroke_width / 2 if item.paint.stroke else 0.0)


def _text_extent(text: Text) -> Box:
    width = text_width(text.text, size=text.size, bold=text.bold)
    left = {"start": 0.0, "middle": -width / 2, "end": -width}[text.anchor]
    turn = math.radians(text.rotate)
    corners = [
        (
            text.x + across * math.cos(turn) + down * math.sin(turn),
            text.y - across * math.sin(turn) + down * math.cos(turn),
        )
        for across in (left, left + width)
        for down in (-ASCENT * text.size, DESCENT * text.size)
    ]
    xs, ys = zip(*corners, strict=True)
    return Box(left=min(xs), top=min(ys), right=max(xs), bottom=max(ys))
