"""Axes of a figure: what the figure says about them, and how data become places on the page."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from analysis.exports.chart.properties import Properties
from analysis.exports.chart.values import Colour, FloatArray, read_colour, read_numbers
from uoe_model.errors import ConfigError

_SCREEN_ONLY: Final = (
    *("automargin", "fixedrange", "hoverformat", "uirevision", "minallowed", "maxallowed", "tickmode", "layer"),
    *("showspikes", "spikecolor", "spikemode", "spikesnap", "spikethickness", "spikedash", "constraintoward"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stroke:
    """A line of an axis; `px` is its width on the screen."""

    colour: Colour
    px: float
    dash: str = "solid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticks:
    """Where ticks stand and how they are named; what is None is found from the range.

    Attributes:
        values: data values. words: a label for each.
        step, start: distance of ticks and a value that has one. most: at most so many.
        number_format: d3. prefix, suffix: around every number.
    """

    values: tuple[float, ...] | None
    words: tuple[str, ...] | None
    step: float | None
    start: float
    most: int | None
    number_format: str
    prefix: str
    suffix: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AxisStyle:
    """What an axis says about itself.

    Attributes:
        name: `x`, `y2`: as traces name it.
        limits: both ends in axis order (exponents on a log axis), None to fit the data.
        domain: part of the plot it takes, in shares of the plot's width or height.
        anchor: the axis it stands at. matches: the axis whose limits it shares.
        grid, zero, line, marks: None is not drawn. marks: the short lines at ticks.
    """

    name: str
    is_log: bool
    limits: tuple[float, float] | None
    is_reversed: bool
    from_zero: bool
    domain: tuple[float, float]
    anchor: str
    matches: str
    far_side: bool
    is_visible: bool
    has_labels: bool
    ticks: Ticks
    grid: Stroke | None
    zero: Stroke | None
    line: Stroke | None
    marks: Stroke | None
    mark_px: float
    title: str
    title_px: float | None
    title_colour: str | None
    label_px: float | None
    label_colour: str | None
    angle: Literal[0, 90, -90]

    @property
    def letter(self) -> str:
        """`x` or `y`."""
        return self.name[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An axis on the page: `low` (in axis units) lies at `start` points, `high` at `end`."""

    style: AxisStyle
    low: float
    high: float
    start: float
    end: float

    def of_axis(self, value: float) -> float:
        """Place of a value in axis units, which are exponents of ten on a log axis."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def of(self, value: float) -> float:
        """Place of a data value; NaN where it has none."""
        if self.style.is_log:
            return self.of_axis(math.log10(value)) if value > 0 else math.nan
        return self.of_axis(value)

    def places(self, values: Sequence[float] | FloatArray) -> FloatArray:
        """Places of data values; NaN where one has none."""
        return np.array([self.of(float(value)) for value in values], dtype=np.float64)

    @property
    def floor(self) -> float:
        """Place of the lowest value."""
        return self.start if self.low < self.high else self.end

    @property
    def length(self) -> float:
        """In points."""
        return abs(self.end - self.start)


def axis_id(key: str) -> str:
    """Name of an axis from its key in the layout: `xaxis2` is `x2`."""
    return key[0] + key[5:]


def read_axis(name: str, axis: Properties, *, ink: str) -> AxisStyle:
    """Read an axis of the layout."""
    with axis:
        axis.skip(*_SCREEN_ONLY)
        kind = axis.one_of("type", ("linear", "log", "-"), "linear")
        auto = axis.one_of("autorange", (True, False, "reversed"), True)
        limits = axis.take("range")
        if limits is not None and (len(limits) != 2 or any(end is None for end in limits) or limits[0] == limits[1]):
            raise axis.refuse("range", limits, "two different numbers")
        values, words = axis.take("tickvals"), axis.take("ticktext")
        if words is not None and (values is None or len(values) != len(words)):
            raise axis.refuse("ticktext", words, "as many labels as there are tickvals")
        grid = _stroke(axis, "grid", has_dash=True)
        with axis.inner("title") as title:
            title.skip("standoff")
            title_px, title_colour = read_font(title)
            words_of_title = title.text("text")
        label_px, label_colour = read_font(axis, "tickfont")
        far, near = ("top", "bottom") if name[0] == "x" else ("right", "left")
        angle = axis.take("tickangle", 0)
        if angle not in (0, 90, -90, "auto"):
            raise axis.refuse("tickangle", angle, "0, 90 or -90")
        if axis.one_of("ticks", ("outside", ""), "") == "":
            marks = None
            axis.skip("tickcolor", "tickwidth")
        else:
            colour = read_colour(axis.take("tickcolor", ink), axis.where)
            marks = Stroke(colour=colour, px=axis.number("tickwidth", 1))
        return AxisStyle(
            name=name,
            is_log=kind == "log",
            limits=None if limits is None else (float(limits[0]), float(limits[1])),
            is_reversed=auto == "reversed",
            from_zero=axis.one_of("rangemode", ("normal", "tozero"), "normal") == "tozero",
            domain=_domain(axis),
            anchor=axis.text("anchor", "y" if name[0] == "x" else "x"),
            matches=axis.text("matches"),
            far_side=axis.one_of("side", (near, far), near) == far,
            is_visible=axis.flag("visible", True),
            has_labels=axis.flag("showticklabels", True),
            ticks=Ticks(
                values=None if values is None else tuple(read_numbers(values, axis.where + ".tickvals").tolist()),
                words=None if words is None else tuple(str(word) for word in words),
                step=_dtick(axis, is_log=kind == "log"),
                start=axis.number("tick0", 0.0),
                most=int(axis.number("nticks", 0)) or None,
                number_format=axis.text("tickformat"),
                prefix=axis.text("tickprefix"),
                suffix=axis.text("ticksuffix"),
            ),
            grid=grid,
            zero=_stroke(axis, "zeroline", default=kind != "log" and grid is not None),
            line=_stroke(axis, "line", default=False),
            marks=marks,
            mark_px=axis.number("ticklen", 5),
            title=words_of_title,
            title_px=title_px,
            title_colour=title_colour,
            label_px=label_px,
            label_colour=label_colour,
            angle=0 if angle == "auto" else angle,
        )


def read_font(owner: Properties, name: str = "font") -> tuple[float | None, str | None]:
    """Size in pixels and colour of a font; None for those of normal type. The family is the exports' own."""
    with owner.inner(name) as font:
        font.skip("family")
        size = font.number("size", 0)
        colour = font.take("color")
        return size or None, None if colour is None else read_colour(colour, font.where).code


def fitted(style: AxisStyle, values: Sequence[FloatArray], *, pad: bool, from_zero: bool) -> AxisStyle:
    """The axis with limits around data, for an axis that names none.

    Args:
        values: everything drawn along it. pad: leave 5 % free at both ends.
        from_zero: bars stand on it, so that 0 belongs to it.
    """
    if style.limits is not None:
        return style
    known = np.concatenate([np.empty(0), *values])
    known = known[np.isfinite(known) & ((known > 0) | (not style.is_log))]
    if style.is_log:
        known = np.log10(known)
    elif from_zero or style.from_zero:
        known = np.append(known, 0.0)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    space = 0.05 * (high - low) if pad else 0.0
    is_base = from_zero and not style.is_log
    low, high = low - (0 if is_base and low == 0 else space), high + (0 if is_base and high == 0 else space)
    return replace(style, limits=(high, low) if style.is_reversed else (low, high))


def parse_reference(reference: str, where: str) -> tuple[str, bool]:
    """Split `x2 domain` into the axis and whether the domain is meant; `paper` is the axis of the whole plot."""
    if reference == "paper":
        return "paper", True
    found = re.fullmatch(r"([xy]\d*)( domain)?", reference)
    if not found:
        raise ConfigError(f"{where}: the reference {reference!r} cannot be drawn; it must be an axis or 'paper'.")
    return found[1], bool(found[2])


def _dtick(axis: Properties, *, is_log: bool) -> float | None:
    step = axis.take("dtick")
    if step is not None and (isinstance(step, str) or (is_log and step != 1)):
        raise axis.refuse("dtick", step, "a number, and 1 on a log axis")
    return None if step is None or is_log else float(step)


def _domain(axis: Properties) -> tuple[float, float]:
    low, high = axis.take("domain", (0.0, 1.0))
    if not 0 <= low < high <= 1:
        raise axis.refuse("domain", (low, high), "two rising shares in 0..1")
    return float(low), float(high)


def _stroke(axis: Properties, name: str, *, default: bool = True, has_dash: bool = False) -> Stroke | None:
    colour: Any = axis.take(f"{name}color", "#EEEEEE" if name == "grid" else "#444444")
    px = axis.number(f"{name}width", 1)
    dash = axis.text("griddash", "solid") if has_dash else "solid"
    if not axis.flag("zeroline" if name == "zeroline" else f"show{name}", default):
        return None
    return Stroke(colour=read_colour(colour, f"{axis.where}.{name}color"), px=px, dash=dash)
