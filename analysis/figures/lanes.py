"""Sites x experts in two lanes, attention and MLP, layer 0 on top: the frame that all atlases share."""

from collections.abc import Iterator
from typing import Final

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.labels import BLOCK_NAMES, expert_label
from analysis.figures.theme import INK, ROW_PX, ThemeName, template

CELL: Final = 0.92  # of the distance between two cells
MAX_TICKS: Final = 10  # over both lanes; layers may have three times as many
AROUND_PX: Final = 110  # height of what is not cells
LEAST_PX: Final = 200


def build_lanes(
    table: pd.DataFrame, title: str, *, theme: ThemeName, selected: tuple[int, int] | None = None
) -> go.Figure:
    """A figure with one column of axes per block, labelled, and nothing in it but the outline of a selected cell.

    Args:
        table: one row per (site, expert) with site_id, layer, block, expert_id; not empty.
        selected: (site_id, expert_id) of the cell to outline.
    """
    lanes = list(lanes_of(table))
    experts = [int(rows["expert_id"].max()) + 1 for _, _, rows in lanes]
    layers = int(table["layer"].max()) + 1
    figure = make_subplots(
        cols=len(lanes),
        shared_yaxes=True,
        horizontal_spacing=0.04,
        column_widths=experts,
        subplot_titles=["Attention" if block == "attention" else BLOCK_NAMES[block] for _, block, _ in lanes],
    )
    for (column, _, rows), num_experts in zip(lanes, experts, strict=True):
        ticks = list(range(0, num_experts, _tick_step(sum(experts), MAX_TICKS)))
        figure.update_xaxes(
            title="Expert",
            range=[-0.5, num_experts - 0.5],
            tickvals=ticks,
            ticktext=[expert_label(expert) for expert in ticks],
            tickangle=0,
            showgrid=False,
            zeroline=False,
            fixedrange=True,
            col=column,
        )
        if selected is not None:
            _outline(figure, rows, selected, column=column, theme=theme)
    steps = list(range(0, layers, _tick_step(layers, 3 * MAX_TICKS)))
    figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False, zeroline=False, fixedrange=True, ticks="")
    figure.update_yaxes(title="Layer", tickvals=steps, ticktext=[f"L{layer}" for layer in steps], col=1)
    figure.update_annotations(font_size=13, yanchor="bottom")
    figure.update_layout(
        template=template(theme),
        title=title,
        height=max(LEAST_PX, layers * ROW_PX + AROUND_PX),
        margin_t=56,
        barmode="overlay",
        showlegend=False,
    )
    return figure


def lanes_of(table: pd.DataFrame) -> Iterator[tuple[int, str, pd.DataFrame]]:
    """Column (from 1), block and rows of every lane that the table has."""
    blocks = [block for block in BLOCK_NAMES if (table["block"] == block).any()]
    for column, block in enumerate(blocks, start=1):
        yield column, block, table[table["block"] == block]


def colour_bar_carrier() -> go.Scatter:
    """A trace without points: plotly shows a colour bar only for numbers, and the cells have colours of their own."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": [0.0], "coloraxis": "coloraxis"},
        hoverinfo="skip",
        showlegend=False,
        meta={"screen_only": True},
    )


def _tick_step(count: int, most: int) -> int:
    """Distance of tick labels: the smallest power of two that leaves at most `most` of them."""
    step = 1
    while count > most * step:
        step *= 2
    return step


def _outline(
    figure: go.Figure, rows: pd.DataFrame, selected: tuple[int, int], *, column: int, theme: ThemeName
) -> None:
    site_id, expert_id = selected
    for layer in rows.loc[(rows["site_id"] == site_id) & (rows["expert_id"] == expert_id), "layer"]:
        figure.add_shape(
            type="rect",
            x0=expert_id - 0.5,
            x1=expert_id + 0.5,
            y0=layer - 0.5,
            y1=layer + 0.5,
            line={"color": INK[theme], "width": 2.5},
            row=1,
            col=column,
        )
