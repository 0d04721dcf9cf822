"""A drawing at its physical size: what every figure becomes on its way into a file.

Lengths are points (1/72 inch), x grows to the right and y downwards from the upper left corner. A drawing holds
everything that is drawn and nothing that exists for clicking; SVG, PDF and PNG are written from the same items.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Anchor = Literal["start", "middle", "end"]

LINE_PT: Final = 0.5
"""Thinnest line of a figure: thinner ones disappear in print."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paint:
    """How an area and its border look.

    Attributes:
        fill: `#rrggbb`, None for none. fill_opacity: 0 to 1.
        hatch: `#rrggbb` of diagonal lines (45 degrees, going up to the right) over the fill, None for none.
        hatch_gap: distance of these lines in points.
        stroke: `#rrggbb` of the border, None for none. stroke_width: points. dash: lengths of dashes and gaps, points.
    """

    fill: str | None = None
    fill_opacity: float = 1.0
    hatch: str | None = None
    hatch_gap: float = 2.5
    stroke: str | None = None
    stroke_width: float = LINE_PT
    dash: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Rect:
    """A rectangle, with round corners if radius > 0."""

    x: float
    y: float
    width: float
    height: float
    paint: Paint
    radius: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Path:
    """Lines and cubic curves: ("M", x, y), ("L", x, y), ("C", x1, y1, x2, y2, x, y), ("Z",)."""

    commands: tuple[tuple[str | float, ...], ...]
    paint: Paint


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One line of text.

    Attributes:
        x, y: the point on the baseline that `anchor` names.
        size: in points. colour: `#rrggbb`.
        rotate: degrees counterclockwise about (x, y); 90 reads upwards.
    """

    x: float
    y: float
    text: str
    size: float
    colour: str
    anchor: Anchor = "start"
    bold: bool = False
    rotate: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """Pixels, uint8 (height, width, 3), stretched over a rectangle; `smooth` False keeps their edges sharp."""

    x: float
    y: float
    width: float
    height: float
    pixels: NDArray[np.uint8]
    smooth: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Items drawn together: at one opacity, and only inside `clip` (x, y, width, height) if that is given."""

    items: tuple["Item", ...]
    opacity: float = 1.0
    clip: tuple[float, float, float, float] | None = None


Item = Rect | Path | Text | Picture | Group


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A finished figure.

    Attributes:
        width, height: of the page, in points.
        items: from back to front.
        background: `#rrggbb` of the page.
        notes: what a reader of the file should know, one sentence each (for example which characters have no glyph).
    """

    width: float
    height: float
    items: tuple[Item, ...]
    background: str = "#FFFFFF"
    notes: tuple[str, ...] = field(default=())
