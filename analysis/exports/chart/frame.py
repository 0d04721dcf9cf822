"""The plot of a figure on the page: its subplots in rows and columns, and where coordinates of the figure lie."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analysis.exports.chart.axes import Axis, AxisStyle, parse_reference
from analysis.exports.chart.sheet import Box
from uoe_model.errors import ConfigError

Domain = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracks:
    """Columns or rows of subplots.

    Attributes:
        domains: the parts of the plot that subplots take, in shares, rising and apart.
        gaps: points between a track and the next, one less than domains.
    """

    domains: tuple[Domain, ...]
    gaps: tuple[float, ...]

    def places(self, length: float) -> tuple[tuple[float, float], ...]:
        """Start and end of every track in `length` points; they share it in the proportions of their domains."""
        sizes = [high - low for low, high in self.domains]
        unit = max(length - sum(self.gaps), 1.0) / sum(sizes)
        places, at = [], 0.0
        for size, gap in zip(sizes, (*self.gaps, 0.0), strict=True):
            places.append((at, at + size * unit))
            at += size * unit + gap
        return tuple(places)

    def of_share(self, share: float, length: float) -> float:
        """Place of a share of the plot, between tracks in proportion; beyond the plot as far as it says."""
        known = [0.0, 1.0]
        found = [0.0, length]
        for (low, high), (start, end) in zip(self.domains, self.places(length), strict=True):
            known += [low, high]
            found += [start, end]
        if not 0 <= share <= 1:
            return share * length
        order = np.argsort(known, kind="stable")
        return float(np.interp(share, np.array(known)[order], np.array(found)[order]))


def find_domains(styles: Sequence[AxisStyle], letter: str) -> tuple[Domain, ...]:
    """Domains of the axes of one letter, rising.

    Raises:
        ConfigError: two of them overlap.
    """
    found = tuple(sorted({style.domain for style in styles if style.letter == letter}))
    for one, other in pairwise(found):
        if other[0] < one[1]:
            raise ConfigError(
                f"figure.layout: the domains {one} and {other} of {letter} axes overlap; give subplots equal domains, "
                "or domains apart from each other."
            )
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where everything lies.

    Attributes:
        plot: the box around all subplots. axes: by name, placed in it.
    """

    plot: Box
    columns: Tracks
    rows: Tracks
    axes: Mapping[str, Axis]

    def axis(self, name: str, where: str) -> Axis:
        """An axis by name."""
        if name not in self.axes:
            raise ConfigError(f"{where}: there is no axis {name!r} in the figure; it has {', '.join(self.axes)}.")
        return self.axes[name]

    def box(self, name: str, other: str = "") -> Box:
        """The subplot of an axis, at the axis it stands at or at `other`."""
        axis = self.axis(name, "figure")
        partner = self.axes.get(other or axis.style.anchor)
        x, y = (axis, partner) if axis.style.letter == "x" else (partner, axis)
        left, right = sorted((x.start, x.end)) if x is not None else (self.plot.left, self.plot.right)
        top, bottom = sorted((y.start, y.end)) if y is not None else (self.plot.top, self.plot.bottom)
        return Box(left=left, top=top, right=right, bottom=bottom)

    def at(self, value: float, reference: str, letter: str, where: str, *, in_axis_units: bool = False) -> float:
        """Place of a coordinate of a shape or an annotation.

        Args:
            reference: `paper`, `x2` or `x2 domain`. letter: `x` or `y`.
            in_axis_units: annotations give exponents on log axes where shapes give data.
        """
        name, is_share = parse_reference(reference, where)
        if name == "paper":
            if letter == "x":
                return self.plot.left + self.columns.of_share(value, self.plot.width)
            return self.plot.bottom - self.rows.of_share(value, self.plot.height)
        axis = self.axis(name, where)
        if is_share:  # counted along the page, also on reversed axes
            low, high = sorted((axis.start, axis.end), reverse=letter == "y")
            return low + value * (high - low)
        return axis.of_axis(value) if in_axis_units else axis.of(value)


def place_axes(styles: Sequence[AxisStyle], plot: Box, columns: Tracks, rows: Tracks) -> Frame:
    """Place axes whose limits are known in a plot."""
    axes = {}
    for style in styles:
        tracks, length = (columns, plot.width) if style.letter == "x" else (rows, plot.height)
        start, end = tracks.places(length)[tracks.domains.index(style.domain)]
        if style.limits is None:
            raise AssertionError(f"axis {style.name} has no limits")
        low, high = style.limits
        ends = (plot.left + start, plot.left + end) if style.letter == "x" else (plot.bottom - start, plot.bottom - end)
        axes[style.name] = Axis(style=style, low=low, high=high, start=ends[0], end=ends[1])
    return Frame(plot=plot, columns=columns, rows=rows, axes=axes)


def axis_order(name: str) -> tuple[str, int]:
    """Key that sorts x, x2, x10, y."""
    return name[0], int(re.sub(r"\D", "", name) or 1)
