"""Shapes of a layout: rectangles, lines and paths with curves."""

import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from analysis.exports.chart.axes import parse_reference
from analysis.exports.chart.frame import Frame
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.sheet import Box, Sheet, clipped, faded
from analysis.exports.chart.values import CLEAR, Colour, read_colour, read_dash
from analysis.exports.drawing import Item, Paint, Path, Rect
from uoe_model.errors import ConfigError

Layer = Literal["below", "between", "above"]
LAYERS: Final[tuple[Layer, ...]] = ("below", "between", "above")

_PART: Final = re.compile(r"([A-Za-z])|(-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
_COUNTS: Final = {"M": 2, "L": 2, "H": 1, "V": 1, "Q": 4, "C": 6, "Z": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """A shape in coordinates of the figure.

    Attributes:
        steps: of a path, letters with absolute coordinates; a line and a rectangle have `corners` instead.
        x_ref, y_ref: what the coordinates count in.
    """

    kind: Literal["rect", "line", "path"]
    where: str
    corners: tuple[float, float, float, float]
    steps: tuple[tuple[str, tuple[float, ...]], ...]
    x_ref: str
    y_ref: str
    fill: Colour
    line: Colour
    line_px: float
    dash: str
    opacity: float
    layer: Layer


def read_shape(shape: Properties, *, ink: str) -> Shape:
    """Read a shape of the layout."""
    with shape:
        shape.skip("name", "editable", "legendgroup", "showlegend")
        kind = shape.one_of("type", ("rect", "line", "path"), "rect")
        path = shape.text("path")
        with shape.inner("line") as line:
            colour = read_colour(line.take("color", ink), line.where)
            px, dash = line.number("width", 2), line.text("dash", "solid")
        ends = tuple(float(shape.take(name, default)) for name, default in (("x0", 0), ("x1", 1), ("y0", 0), ("y1", 1)))
        shape.one_of("fillrule", ("evenodd", "nonzero"), "evenodd")
        shape.one_of("visible", (True,), True)
        return Shape(
            kind=kind,
            where=shape.where,
            corners=(ends[0], ends[1], ends[2], ends[3]),
            steps=parse_path(path) if kind == "path" else (),
            x_ref=shape.text("xref", "x"),
            y_ref=shape.text("yref", "y"),
            fill=CLEAR if kind == "line" else read_colour(shape.take("fillcolor", "transparent"), shape.where),
            line=colour,
            line_px=px,
            dash=dash,
            opacity=shape.number("opacity", 1.0),
            layer=shape.one_of("layer", LAYERS, "above"),
        )


def parse_path(path: str) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Read M, L, H, V, Q, C and Z with absolute coordinates; a letter may be followed by several groups of numbers.

    Raises:
        ConfigError: other letters, or numbers that do not fit their letter.
    """
    rest = _PART.sub("", path).replace(",", " ").strip()
    steps: list[tuple[str, tuple[float, ...]]] = []
    letter, numbers = "", list[float]()
    for found in [*_PART.finditer(path), None]:
        if found is None or found[1]:
            count = _COUNTS.get(letter, 0)
            if letter and (
                letter not in _COUNTS or (len(numbers) % count if count else numbers) or len(numbers) < count
            ):
                rest = rest or letter
                break
            for start in range(0, len(numbers), count) if count else ([0] if letter else []):
                name = "L" if letter == "M" and start else letter
                steps.append((name, tuple(numbers[start : start + count])))
            letter, numbers = (found[1], []) if found else ("", [])
        else:
            numbers.append(float(found[2]))
    if rest or not steps or steps[0][0] != "M":
        raise ConfigError(
            f"figure.layout.shapes: the path {path[:60]!r} cannot be drawn; it must start with M and use only M, L, H, "
            "V, Q, C and Z with absolute coordinates."
        )
    return tuple(steps)


def draw_shape(shape: Shape, frame: Frame, sheet: Sheet) -> list[Item]:
    """Draw a shape; one that counts in data is cut off at its subplot."""
    width = sheet.line_width(shape.line_px)
    has_line = width > 0 and shape.line.alpha > 0
    paint = Paint(
        fill=shape.fill.code if shape.fill.alpha else None,
        fill_opacity=shape.fill.alpha,
        stroke=shape.line.code if has_line else None,
        stroke_width=width if has_line else Paint().stroke_width,
        dash=read_dash(shape.dash, width, shape.where) if has_line else (),
    )
    if paint.fill is None and paint.stroke is None:
        return []
    item = _item(shape, frame, paint)
    if item is None:
        return []
    drawn = faded([item], shape.opacity * (shape.line.alpha if paint.fill is None else 1.0))
    region = _region(shape, frame)
    return drawn if region is None else clipped(drawn, region.grown(width / 2))


def _item(shape: Shape, frame: Frame, paint: Paint) -> Item | None:
    if shape.kind == "path":
        return Path(commands=_commands(shape, frame), paint=paint)
    x0, x1 = (_x(shape, frame, value) for value in shape.corners[:2])
    y0, y1 = (_y(shape, frame, value) for value in shape.corners[2:])
    if not all(map(math.isfinite, (x0, x1, y0, y1))):
        return None
    if shape.kind == "line":
        return Path(commands=(("M", x0, y0), ("L", x1, y1)), paint=paint)
    return Rect(x=min(x0, x1), y=min(y0, y1), width=abs(x1 - x0), height=abs(y1 - y0), paint=paint)


def _commands(shape: Shape, frame: Frame) -> tuple[tuple[str | float, ...], ...]:
    commands: list[tuple[str | float, ...]] = []
    x = y = 0.0
    for letter, numbers in shape.steps:
        match letter:
            case "Z":
                commands.append(("Z",))
                continue
            case "H":
                x = _x(shape, frame, numbers[0])
                commands.append(("L", x, y))
                continue
            case "V":
                y = _y(shape, frame, numbers[0])
                commands.append(("L", x, y))
                continue
        points = [
            (_x(shape, frame, numbers[one]), _y(shape, frame, numbers[one + 1])) for one in range(0, len(numbers), 2)
        ]
        if letter == "Q":  # the same curve as a cubic one
            (cx, cy), (ex, ey) = points
            points = [
                (x + 2 / 3 * (cx - x), y + 2 / 3 * (cy - y)),
                (ex + 2 / 3 * (cx - ex), ey + 2 / 3 * (cy - ey)),
                (ex, ey),
            ]
            letter = "C"
        x, y = points[-1]
        commands.append((letter, *(part for point in points for part in point)))
    return tuple(commands)


def _region(shape: Shape, frame: Frame) -> Box | None:
    names: dict[str, Any] = {}
    for letter, reference in (("x", shape.x_ref), ("y", shape.y_ref)):
        name, is_share = parse_reference(reference, shape.where)
        names[letter] = None if is_share else name
    if names["x"] is None and names["y"] is None:
        return None
    box = frame.plot
    for letter, name in names.items():
        if name is None:
            continue
        axis = frame.axis(name, shape.where)
        low, high = sorted((axis.start, axis.end))
        box = (
            Box(left=low, right=high, top=box.top, bottom=box.bottom)
            if letter == "x"
            else Box(left=box.left, right=box.right, top=low, bottom=high)
        )
    return box


def _x(shape: Shape, frame: Frame, value: float) -> float:
    return frame.at(value, shape.x_ref, "x", shape.where)


def _y(shape: Shape, frame: Frame, value: float) -> float:
    return frame.at(value, shape.y_ref, "y", shape.where)
