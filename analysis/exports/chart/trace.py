"""What every trace of a figure has: its axes, its name in the legend, and properties that only live on a screen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from analysis.exports.chart.axes import Axis
from analysis.exports.chart.properties import Properties
from analysis.exports.chart.values import FloatArray, read_numbers
from analysis.exports.drawing import Item

SCREEN_ONLY: Final[Mapping[str, Any]] = {"screen_only": True}
"""`meta` of a trace that is there to be clicked or hovered."""

_SCREEN: Final = (
    *("hoverinfo", "hovertemplate", "hovertext", "hoverlabel", "hoveron", "customdata", "ids", "uid", "uirevision"),
    *("selected", "unselected", "selectedpoints", "meta", "legendgroup", "type"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The common part of a trace.

    Attributes:
        name: in the legend. in_legend: None where the figure leaves it to the number of traces.
        x_axis, y_axis: names of its axes.
    """

    name: str
    in_legend: bool | None
    x_axis: str
    y_axis: str
    opacity: float
    is_clipped: bool

    def axes(self) -> tuple[str, str]:
        """Names of its axes."""
        return self.x_axis, self.y_axis


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """Drawn marks of a trace: those cut off at the edges of the plot, and those that may reach beyond."""

    inside: list[Item]
    outside: list[Item]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The pair of axes that a trace is drawn on."""

    x: Axis
    y: Axis


def read_trace(trace: Properties) -> Trace:
    """Take the common properties of a trace."""
    trace.skip(*_SCREEN)
    return Trace(
        name=trace.text("name"),
        in_legend=trace.one_of("showlegend", (True, False, None), None),
        x_axis=trace.text("xaxis", "x"),
        y_axis=trace.text("yaxis", "y"),
        opacity=trace.number("opacity", 1.0),
        is_clipped=trace.flag("cliponaxis", True),
    )


def read_pair(trace: Properties) -> tuple[FloatArray, FloatArray]:
    """Take x and y, equally long; one that is missing counts 0, 1, 2, ..."""
    sides = {name: trace.take(name) for name in ("x", "y")}
    numbers = {name: read_numbers(side, f"{trace.where}.{name}") for name, side in sides.items() if side is not None}
    count = max((len(side) for side in numbers.values()), default=0)
    x, y = (numbers.get(name, read_numbers(range(count), trace.where)) for name in ("x", "y"))
    if len(x) != len(y):
        raise trace.refuse("x", sides["x"], f"as long as y, which has {len(y)} values")
    return x, y
