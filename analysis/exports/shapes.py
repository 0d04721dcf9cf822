"""Geometry that all writers of drawings share: round corners, hatches, extents."""

import math
from typing import Final

from analysis.exports.drawing import LINE_PT

Commands = tuple[tuple[str | float, ...], ...]
Segment = tuple[float, float, float, float]

ROUND: Final = 0.5523  # distance of the control points of a quarter circle


def hatch_width(gap: float) -> float:
    """Width of hatch lines at a distance, in points."""
    return max(LINE_PT, 0.25 * gap)


def hatch_segments(x: float, y: float, width: float, height: float, gap: float) -> tuple[Segment, ...]:
    """Lines at 45 degrees, going up to the right, cut at a rectangle; they meet those of a neighbour.

    Args:
        gap: distance of the lines, measured across them.
    """
    step = gap * math.sqrt(2)
    right, foot = x + width, y + height
    segments = []
    for number in range(math.ceil((x + y) / step), math.floor((right + foot) / step) + 1):
        total = number * step  # x + y is the same along such a line
        start, end = max(x, total - foot), min(right, total - y)
        if end > start:
            segments.append((start, total - start, end, total - end))
    return tuple(segments)


def rect_commands(x: float, y: float, width: float, height: float, radius: float = 0.0) -> Commands:
    """A rectangle as a closed path, clockwise on a page whose y grows downwards."""
    right, foot = x + width, y + height
    r = min(radius, width / 2, height / 2)
    if r <= 0:
        return (("M", x, y), ("L", right, y), ("L", right, foot), ("L", x, foot), ("Z",))
    k = r * (1 - ROUND)
    return (
        ("M", x + r, y),
        ("L", right - r, y),
        ("C", right - k, y, right, y + k, right, y + r),
        ("L", right, foot - r),
        ("C", right, foot - k, right - k, foot, right - r, foot),
        ("L", x + r, foot),
        ("C", x + k, foot, x, foot - k, x, foot - r),
        ("L", x, y + r),
        ("C", x, y + k, x + k, y, x + r, y),
        ("Z",),
    )


def extent(commands: Commands) -> tuple[float, float, float, float]:
    """x, y, width, height of a rectangle that holds a path and its control points."""
    values = [[float(value) for value in command[1:]] for command in commands]
    xs = [value for row in values for value in row[0::2]] or [0.0]
    ys = [value for row in values for value in row[1::2]] or [0.0]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
