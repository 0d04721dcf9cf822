"""One number per token or cell, drawn along the input: what the loss strip and the entropy strip have in common."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame
from analysis.figures.labels import plain
from analysis.figures.theme import KEPT_BAR, QUIET_INK, ThemeName

MAX_BARS: Final = 2048  # beyond that one outline is drawn instead of a bar per unit, which browsers draw faster


def build_strip(
    title: str, units: pd.DataFrame, values: pd.Series, *, axis: str, top: float, number: str, theme: ThemeName
) -> go.Figure:
    """Draw a value per unit from 0 to `top`; missing values stay blank, examples are parted by dotted lines.

    Args:
        units: `units_table`, one row per unit.
        values: aligned with the rows of `units`.
        number: hover line of a value, with d3 format, such as `loss %{y:.2f} nats`.
    """
    figure = build_frame(title, theme=theme)
    x = units["unit_id"].astype(int).reset_index(drop=True)
    y = values.reset_index(drop=True)
    customdata = list(zip([plain(text) for text in units["text"]], units["position"], units["example_id"], strict=True))
    hover = f"<b>%{{customdata[0]}}</b> · position %{{customdata[1]}}<br>{number}<extra></extra>"
    if len(units) <= MAX_BARS:
        known = y.notna()
        figure.add_bar(
            x=x[known],
            y=y[known],
            width=1,
            marker={"color": KEPT_BAR, "line": {"width": 0}},
            customdata=[row for row, is_known in zip(customdata, known, strict=True) if is_known],
            hovertemplate=hover,
        )
    else:
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"shape": "hvh", "width": 1, "color": KEPT_BAR},
            fill="tozeroy",
            connectgaps=False,
            customdata=customdata,
            hovertemplate=hover,
        )
    for start in example_starts(units):
        figure.add_vline(x=start - 0.5, line={"color": QUIET_INK[theme], "width": 1, "dash": "dot"})
    is_one_example = units["example_id"].nunique() == 1
    figure.update_xaxes(
        title="Position" if is_one_example else "Unit (dotted: a new example begins)",
        range=[x.iloc[0] - 0.5, x.iloc[-1] + 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(title=axis, range=[0, top], fixedrange=True)
    figure.update_layout(dragmode="zoom", showlegend=False, bargap=0)
    return figure


def example_starts(units: pd.DataFrame) -> list[int]:
    """unit_id of the first unit of every example but the first one."""
    is_start = units["example_id"].ne(units["example_id"].shift())
    return [int(unit) for unit in units.loc[is_start, "unit_id"]][1:]
