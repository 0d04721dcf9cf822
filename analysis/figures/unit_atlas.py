"""One unit at all experts of all sites: how probable each was, which it asked for, and which of those were full."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import nothing_to_draw
from analysis.figures.labels import expert_label, site_label
from analysis.figures.lanes import CELL, build_lanes, colour_bar_carrier, lanes_of
from analysis.figures.theme import (
    MAGNITUDE,
    NEUTRAL,
    PAGE,
    QUIET_INK,
    STATUS_HATCH,
    ThemeName,
    colour_bar,
    magnitude_colour,
    text_on,
)

KEPT_BORDER: Final = "#E69F00"
DOTS: Final = "•••"  # of an expert that took the unit unasked, as on the map
HATCH: Final = "#8A94A0"  # seen on dark and light cells, and quieter than the rank printed over it


def build_unit_atlas_figure(table: pd.DataFrame, *, theme: ThemeName = "light") -> go.Figure:
    """Draw the router probabilities of one unit, from 0 to 1, with the rank of every requested expert printed.

    Dropped requests are hatched, and their rank carries a cross; kept ones have a border; filler has three dots.
    `customdata` starts with site_id, expert_id.

    Args:
        table: `unit_experts`.
    """
    title = "Experts of the unit: rank of those it asked for"
    if table.empty:
        return nothing_to_draw(title, "The trace has no sites.", theme=theme)
    figure = build_lanes(
        table, title + (f"; {DOTS} filler" if (table["outcome"] == "filler").any() else ""), theme=theme
    )
    for column, _, rows in lanes_of(table):
        for outcome, cells in rows.groupby("outcome", sort=True):
            figure.add_trace(_cells(cells, str(outcome), theme=theme), row=1, col=column)
    figure.add_trace(colour_bar_carrier(), row=1, col=1)
    figure.update_layout(
        coloraxis={
            "colorscale": MAGNITUDE,
            "cmin": 0.0,
            "cmax": 1.0,
            "colorbar": colour_bar("Probability", [0.0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"]),
        }
    )
    return figure


def _cells(cells: pd.DataFrame, outcome: str, *, theme: ThemeName) -> go.Bar:
    known = cells["probability"].notna().tolist()
    fills = [
        magnitude_colour(value, 0.0, 1.0) if is_known else PAGE[theme]
        for value, is_known in zip(cells["probability"], known, strict=True)
    ]
    inks = [text_on(fill) if is_known else QUIET_INK[theme] for fill, is_known in zip(fills, known, strict=True)]
    is_dropped, is_filler = outcome == "dropped", outcome == "filler"
    texts = [
        f"{rank}{'×' if is_dropped else ''}" if rank >= 0 else DOTS if is_filler else "" if is_known else "–"
        for rank, is_known in zip(cells["rank"], known, strict=True)
    ]
    pattern = {"shape": STATUS_HATCH, "fillmode": "overlay", "fgcolor": HATCH, "size": 7, "solidity": 0.2}
    border = KEPT_BORDER if outcome == "kept" else NEUTRAL[theme]
    width = [2.5 if outcome == "kept" else 0 if is_known else 1 for is_known in known]
    names = [
        f"{site_label(layer, block)} · {expert_label(expert)}"
        for layer, block, expert in zip(cells["layer"], cells["block"], cells["expert_id"], strict=True)
    ]
    readings = [
        f"probability {value:.3f}" if is_known else f"probability unknown: {reason}"
        for value, is_known, reason in zip(cells["probability"], known, cells["reason"], strict=True)
    ]
    fates = [
        {
            "kept": f"rank {rank}, kept",
            "dropped": f"rank {rank}, dropped: the expert was full",
            "filler": "filler: not asked for, in a free slot of the expert",
        }.get(outcome, outcome)
        for rank in cells["rank"]
    ]
    return go.Bar(
        x=cells["expert_id"],
        base=cells["layer"] - CELL / 2,
        y=[CELL] * len(cells),
        width=CELL,
        marker={
            "color": fills,
            "line": {"width": width, "color": border},
            **({"pattern": pattern} if is_dropped else {}),
        },
        text=texts,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 13, "color": inks},
        constraintext="none",
        customdata=list(zip(cells["site_id"], cells["expert_id"], names, readings, fates, strict=True)),
        hovertemplate="<b>%{customdata[2]}</b><br>%{customdata[3]}<br>%{customdata[4]}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
