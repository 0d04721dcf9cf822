"""One number per token or cell, drawn along the input: what the loss strip and the entropy strip have in common."""

from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.columns import BoolArray
from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.labels import plain
from analysis.figures.theme import KEPT_BAR, NEUTRAL, QUIET_INK, ThemeName

LOW_PX: Final = 130  # map, atlas and a strip share one screen
MAX_BARS: Final = 2048  # beyond that one outline is drawn instead of a bar per unit, which browsers draw faster


def build_strip(
    title: str,
    units: pd.DataFrame,
    values: pd.Series,
    *,
    axis: str,
    quantity: str,
    top: float,
    number: str,
    theme: ThemeName,
    lit: BoolArray | None = None,
) -> go.Figure:
    """Draw a value per unit from 0 to `top`; missing values stay blank, examples are parted by dotted lines.

    Args:
        units: `units_table`, one row per unit.
        values: aligned with the rows of `units`.
        axis: title of the value's axis, short, as the figure has a title.
        quantity: what to call the axis on paper, where figures have no titles.
        number: hover line of a value, with d3 format, such as `loss %{y:.2f} nats`.
        lit: bool (units,), the units in colour, the others are grey; None for all.
    """
    figure = build_low_frame(title, theme=theme)
    x = units["unit_id"].astype(int).reset_index(drop=True)
    y = values.reset_index(drop=True)
    is_lit = np.ones(len(units), dtype=np.bool_) if lit is None else lit
    customdata = np.empty((len(units), 3), dtype=np.object_)  # plotly walks through lists, which takes far longer
    customdata[:, 0] = [plain(text) for text in units["text"].tolist()]
    customdata[:, 1], customdata[:, 2] = units["position"].tolist(), units["example_id"].tolist()
    hover = f"<b>%{{customdata[0]}}</b> · position %{{customdata[1]}}<br>{number}<extra></extra>"
    if len(units) <= MAX_BARS:
        known = y.notna()
        figure.add_bar(
            x=x[known],
            y=y[known],
            width=1,
            marker={
                "color": KEPT_BAR if lit is None else [KEPT_BAR if one else NEUTRAL[theme] for one in is_lit[known]],
                "line": {"width": 0},
            },
            customdata=customdata[known.to_numpy()],
            hovertemplate=hover,
        )
    else:
        outline = {"mode": "lines", "fill": "tozeroy", "connectgaps": False}
        figure.add_scatter(
            x=x,
            y=y,
            line={"shape": "hvh", "width": 1, "color": KEPT_BAR if lit is None else NEUTRAL[theme]},
            customdata=customdata,
            hovertemplate=hover,
            **outline,
        )
        if lit is not None:  # 0 instead of a gap elsewhere: a lit unit between two gaps would have no outline
            line = {"shape": "hvh", "width": 1, "color": KEPT_BAR}
            figure.add_scatter(x=x, y=y.where(is_lit, 0.0), line=line, hoverinfo="skip", **outline)
    mark_examples(figure, units, theme=theme)
    figure.update_xaxes(range=[x.iloc[0] - 0.5, x.iloc[-1] + 0.5])
    figure.update_yaxes(title=axis, range=[0, top], fixedrange=True, nticks=4)
    figure.update_layout(meta={"paper_titles": {"y": quantity}})
    return figure


def build_low_frame(title: str, *, theme: ThemeName, height: int = LOW_PX) -> go.Figure:
    """The frame of a strip: a small title close to a low plot that can be zoomed along the input."""
    figure = build_frame(title, theme=theme, height=height)
    figure.update_layout(title_font_size=13, margin_t=26, dragmode="zoom", showlegend=False, bargap=0)
    return figure


def nothing_low(title: str, sentence: str, *, theme: ThemeName) -> go.Figure:
    """A figure as low as a strip that says why it is empty."""
    figure = nothing_to_draw(title, sentence, theme=theme, height=LOW_PX)
    figure.update_layout(title_font_size=13, margin_t=26)
    return figure


def mark_examples(figure: go.Figure, units: pd.DataFrame, *, theme: ThemeName) -> None:
    """Part the examples by dotted lines, and name the axis along the input.

    Args:
        units: rows with unit_id and example_id, in order.
    """
    line = {"color": QUIET_INK[theme], "width": 1, "dash": "dot"}
    across = {"type": "line", "xref": "x", "yref": "y domain", "y0": 0, "y1": 1, "line": line}
    # All at once: `add_vline` goes through the whole layout for each of them.
    lines = [{**across, "x0": start - 0.5, "x1": start - 0.5} for start in example_starts(units)]
    figure.layout.shapes = [*figure.layout.shapes, *lines]
    is_one_example = units["example_id"].nunique() == 1
    figure.update_xaxes(
        title="Position" if is_one_example else "Unit (dotted: a new example begins)", showgrid=False, zeroline=False
    )


def example_starts(units: pd.DataFrame) -> list[int]:
    """unit_id of the first unit of every example but the first one."""
    is_start = units["example_id"].ne(units["example_id"].shift())
    return [int(unit) for unit in units.loc[is_start, "unit_id"]][1:]
