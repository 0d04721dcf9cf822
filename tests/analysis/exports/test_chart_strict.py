"""Nothing of a figure is left out in silence."""

import plotly.graph_objects as go
import pytest

from analysis.exports.chart.draw import draw_chart
from analysis.figures.theme import template
from uoe_model.errors import ConfigError


def figure_of(*traces: object, **layout: object) -> go.Figure:
    return go.Figure(data=list(traces), layout={"template": template("light"), **layout})


BAR = {"x": [0, 1], "y": [1, 2]}

UNKNOWN = {
    "heatmap": figure_of(go.Heatmap(z=[[1, 2]])),
    "offset": figure_of(go.Bar(**BAR, offset=0.2)),
    "texttemplate": figure_of(go.Bar(**BAR, texttemplate="%{y}")),
    "shape='x'": figure_of(go.Bar(**BAR, marker={"pattern": {"shape": "x", "fgcolor": "#000000"}})),
    "cornerradius": figure_of(go.Bar(**BAR, marker={"cornerradius": 4})),
    "barmode='group'": figure_of(go.Bar(**BAR), go.Bar(**BAR)),
    "error_y": figure_of(go.Bar(**BAR, error_y={"array": [1, 1]})),
    "symbol": figure_of(go.Scatter(**BAR, mode="markers", marker={"symbol": "star"})),
    "'spline'": figure_of(go.Scatter(**BAR, mode="lines", line={"shape": "spline"})),
    "fill='tonexty'": figure_of(go.Scatter(**BAR, mode="lines", fill="tonexty")),
    "mode=None": figure_of(go.Scatter(**BAR)),
    "type='category'": figure_of(go.Bar(**BAR), xaxis={"type": "category"}),
    "could not convert": figure_of(go.Bar(x=["a", "b"], y=[1, 2])),
    "rangebreaks": figure_of(go.Bar(**BAR), xaxis={"rangebreaks": [{"bounds": [1, 2]}]}),
    "tickangle=45": figure_of(go.Bar(**BAR), xaxis={"tickangle": 45}),
    "overlaying": figure_of(go.Bar(**BAR), yaxis2={"overlaying": "y"}),
    "domains": figure_of(go.Bar(**BAR), xaxis={"domain": [0, 0.6]}, xaxis2={"domain": [0.5, 1]}),
    "showarrow=True": figure_of(annotations=[{"text": "there", "x": 0, "y": 0}]),
    "'<i>'": figure_of(annotations=[{"text": "<i>slanted</i>", "showarrow": False}]),
    "type='circle'": figure_of(shapes=[{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]),
    "the path": figure_of(shapes=[{"type": "path", "path": "M 0,0 A 1,1 0 0 1 2,2"}]),
    "images": figure_of(images=[{"source": "https://example.org/a.png"}]),
    "orientation='v'": figure_of(go.Bar(**BAR), legend={"orientation": "v"}),
    "is a number": figure_of(go.Bar(**BAR, marker={"color": [1.0, 2.0]})),
    "theme='light'": go.Figure(layout={"template": template("dark")}),
    "template": go.Figure(go.Bar(**BAR)),
    "'x9'": figure_of(shapes=[{"type": "line", "xref": "x9", "yref": "y", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]),
    "paper_titles": figure_of(meta={"paper_titles": {"y7": "Loss"}}),
}


@pytest.mark.parametrize("reason", UNKNOWN)
def test_what_cannot_be_drawn_is_an_error_that_names_it(reason):
    with pytest.raises(ConfigError) as error:
        draw_chart(UNKNOWN[reason], width_pt=234, font_pt=7.5)
    assert reason in str(error.value)


def test_the_error_says_where_the_property_stands():
    figure = figure_of(go.Bar(**BAR), go.Bar(**BAR, offset=1.0), barmode="overlay")
    with pytest.raises(ConfigError, match=r"figure\.data\[1\] \(bar\): .*offset=1\.0"):
        draw_chart(figure, width_pt=234, font_pt=7.5)
