"""Everything a figure says, read once before it is drawn: traces, axes, shapes, annotations, legend and colours."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from analysis.exports.chart.annotations import Note, read_note
from analysis.exports.chart.axes import AxisStyle, axis_id, fitted, parse_reference, read_axis, read_font
from analysis.exports.chart.bars import Bars, arranged, read_bars
from analysis.exports.chart.colour_bar import ColourAxis, read_colour_axis
from analysis.exports.chart.frame import axis_order
from analysis.exports.chart.legend import LegendStyle, read_legend
from analysis.exports.chart.properties import Properties, layout_of
from analysis.exports.chart.scatter import Scatter, read_scatter
from analysis.exports.chart.shapes import Shape, read_shape
from analysis.exports.chart.trace import SCREEN_ONLY
from analysis.exports.chart.values import FloatArray, read_colour
from uoe_model.errors import ConfigError

WHITE: Final = "#FFFFFF"
PLOTLY_COLOURS: Final = ("#636EFA", "#EF553B", "#00CC96", "#AB63FA", "#FFA15A", "#19D3F3")

PAPER_TITLES: Final = "paper_titles"
"""`layout.meta={"paper_titles": {"y": "Loss (nats)"}}`: titles of axes where the figure's own title is left out."""

_SCREEN: Final = (
    *("title", "hovermode", "hoverlabel", "hoverdistance", "spikedistance", "dragmode", "clickmode", "selectdirection"),
    *("uirevision", "editrevision", "selectionrevision", "datarevision", "modebar", "autosize", "width"),
    *("transition", "newshape", "newselection", "activeshape", "hoversubplots", "separators"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """A figure as its parts.

    Attributes:
        axes: with limits, x before y. traces: in the order of the figure.
        base_px: size of normal type. height_px: None if the figure leaves it open; frame_px of it are margins.
    """

    axes: tuple[AxisStyle, ...]
    traces: tuple[Bars | Scatter, ...]
    shapes: tuple[Shape, ...]
    notes: tuple[Note, ...]
    legend: LegendStyle
    shows_legend: bool | None
    colours: ColourAxis | None
    base_px: float
    height_px: float | None
    frame_px: float
    ink: str
    ground: str

    def bars(self) -> list[Bars]:
        """The traces that are bars."""
        return [one for one in self.traces if isinstance(one, Bars)]

    def scatters(self) -> list[Scatter]:
        """The traces that are points or lines."""
        return [one for one in self.traces if isinstance(one, Scatter)]


def read_content(figure: go.Figure) -> Content:
    """Read a figure.

    Raises:
        ConfigError: it has something that cannot be drawn.
    """
    with layout_of(figure) as layout:
        layout.skip(*_SCREEN)
        px, colour = read_font(layout)
        ink = colour or "#444444"
        _check_page(layout)
        ground = read_colour(layout.take("plot_bgcolor", WHITE), "figure.layout.plot_bgcolor")
        with layout.inner("margin") as margin:
            frame_px = margin.number("t", 100) + margin.number("b", 80)
            margin.skip("l", "r", "pad", "autoexpand")
        titles = _paper_titles(layout)
        colours = read_colour_axis(layout.inner("coloraxis"))
        styles = [
            read_axis(axis_id(name), layout.inner(name), ink=ink)
            for name in sorted(layout.names())
            if name.startswith(("xaxis", "yaxis"))
        ]
        if strays := sorted(set(titles) - {style.name for style in styles}):
            raise layout.refuse("meta", {PAPER_TITLES: titles}, f"titles of axes there are, not of {', '.join(strays)}")
        styles = [replace(style, title=titles.get(style.name, style.title)) for style in styles]
        colourway = layout.take("colorway") or PLOTLY_COLOURS
        gap, mode = (
            layout.number("bargap", 0.2),
            layout.one_of("barmode", ("overlay", "stack", "relative", "group"), "group"),
        )
        layout.skip("bargroupgap")
        traces = _read_traces(figure, colourway, ink, gap, colours)
        stacked = iter(arranged([one for one in traces if isinstance(one, Bars)], mode))
        traces = [next(stacked) if isinstance(one, Bars) else one for one in traces]
        shapes = tuple(read_shape(shape, ink=ink) for shape in layout.each("shapes"))
        return Content(
            axes=tuple(sorted(_limited(styles, traces, shapes), key=lambda style: axis_order(style.name))),
            traces=tuple(traces),
            shapes=shapes,
            notes=tuple(read_note(note) for note in layout.each("annotations")),
            legend=read_legend(layout.inner("legend")),
            shows_legend=layout.one_of("showlegend", (True, False, None), None),
            colours=colours,
            base_px=px or 12.0,
            height_px=layout.number("height", 0) or None,
            frame_px=frame_px,
            ink=ink,
            ground=ground.code if ground.alpha else WHITE,
        )


def _paper_titles(layout: Properties) -> dict[str, str]:
    meta = layout.take("meta")
    return dict(meta.get(PAPER_TITLES, {})) if isinstance(meta, dict) else {}


def _check_page(layout: Properties) -> None:
    page = read_colour(layout.take("paper_bgcolor", WHITE), "figure.layout.paper_bgcolor")
    if page.alpha and page.code != WHITE:
        raise layout.refuse("paper_bgcolor", page.code, "white: build the figure with theme='light'")


def _read_traces(
    figure: go.Figure, colourway: Sequence[str], ink: str, gap: float, colours: ColourAxis | None
) -> list[Bars | Scatter]:
    traces: list[Bars | Scatter] = []
    scale = colours.scale if colours else None
    for place, one in enumerate(figure.data):
        values = one.to_plotly_json()
        if values.get("meta") == SCREEN_ONLY or values.get("visible") is False:
            continue
        trace = Properties(values, f"figure.data[{place}] ({one.type})")
        trace.one_of("visible", (True,), True)
        colour: Any = colourway[place % len(colourway)]
        if one.type == "bar":
            traces.append(read_bars(trace, colour=colour, gap=gap, scale=scale))
        elif one.type in ("scatter", "scattergl"):
            traces.append(read_scatter(trace, colour=colour, ink=ink, scale=scale))
        else:
            raise ConfigError(f"figure.data[{place}]: traces of type {one.type!r} cannot be drawn; use bar or scatter.")
    return traces


def _limited(styles: Sequence[AxisStyle], traces: Sequence[Bars | Scatter], shapes: Sequence[Shape]) -> list[AxisStyle]:
    """Give every axis its limits: its own, those of the axis it matches, or around what is drawn along it."""
    by_name = {style.name: style for style in styles}
    roots = {name: _root(name, by_name) for name in by_name}
    values: dict[str, list[FloatArray]] = {name: [] for name in by_name}
    padded, based = set[str](), set[str]()
    for one in traces:
        for name, found in zip((one.trace.x_axis, one.trace.y_axis), one.extents(), strict=True):
            if name not in by_name:
                raise ConfigError(f"figure: a trace stands on the axis {name!r}, which the layout does not have.")
            values[roots[name]].append(found)
            if name[0] == "y" or (isinstance(one, Scatter) and one.symbols):
                padded.add(roots[name])
            if isinstance(one, Bars) and (name[0] == "x") == one.is_horizontal:
                padded.add(roots[name])
                based.add(roots[name])
    for shape in shapes:
        for reference, found in zip((shape.x_ref, shape.y_ref), _shape_extents(shape), strict=True):
            name, is_share = parse_reference(reference, shape.where)
            if not is_share and name in by_name:
                values[roots[name]].append(found)
    limited = []
    for style in styles:
        root = roots[style.name]
        group = [by_name[name] for name in by_name if roots[name] == root]
        known = [one for one in group if one.limits is not None]
        source = known[0] if known else by_name[root]
        limits = fitted(source, values[root], pad=root in padded, from_zero=root in based).limits
        limited.append(replace(style, limits=style.limits or limits))
    return limited


def _root(name: str, styles: dict[str, AxisStyle]) -> str:
    seen = set[str]()
    while styles[name].matches in styles and name not in seen:
        seen.add(name)
        name = styles[name].matches
    return name


def _shape_extents(shape: Shape) -> tuple[FloatArray, FloatArray]:
    if shape.kind != "path":
        return np.array(shape.corners[:2]), np.array(shape.corners[2:])
    xs: list[float] = []
    ys: list[float] = []
    for letter, numbers in shape.steps:
        xs += numbers if letter == "H" else () if letter == "V" else numbers[0::2]
        ys += numbers if letter == "V" else () if letter == "H" else numbers[1::2]
    return np.array(xs), np.array(ys)
