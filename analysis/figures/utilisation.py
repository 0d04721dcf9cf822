"""How full every expert of one site is: load, drops on top, slots as outline, and the load of the test set."""

import math
from collections.abc import Collection
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.labels import expert_label, site_label
from analysis.figures.theme import DROPPED_BAR, GRID, INK, KEPT_BAR, QUIET_INK, STATUS_HATCH, ThemeName, text_on

HEIGHT_PX: Final = 240
MAX_TICKS: Final = 32
UNFADED: Final = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}
"""A click selects an expert everywhere; plotly would fade all other bars."""


def build_utilisation_figure(
    load: pd.DataFrame, *, site_id: int, theme: ThemeName = "light", selected: Collection[int] = ()
) -> go.Figure:
    """Draw one bar per expert of a site, in patches, from 0; `customdata` starts with site_id, expert_id.

    Args:
        load: `analysis.utilisation.expert_load`.
        selected: experts to outline.
    """
    rows = load[load["site_id"] == site_id].sort_values("expert_id")
    if rows.empty:
        sentence = "The trace has no units at this site."
        return nothing_to_draw("Load of every expert", sentence, theme=theme, height=HEIGHT_PX)
    title = f"Load at {site_label(rows['layer'].iloc[0], rows['block'].iloc[0])}"
    figure = build_frame(title, theme=theme, height=HEIGHT_PX)
    experts = rows["expert_id"].astype(int)
    names = [expert_label(expert) for expert in experts]
    details = [
        f"load {load} of {requested} requested, {dropped} dropped<br>"
        + (
            "never full"
            if math.isnan(slots)
            else f"{slots:.0f} slots, {load / slots:.1%} used"
            if slots
            else "no slots"
        )
        + (f"<br>{filler} slots hold filler" if filler else "")
        + ("" if load else "<br>idle: nothing kept")
        for load, requested, dropped, slots, filler in zip(
            rows["load"], rows["requested"], rows["dropped"], rows["slots"], rows["filler"], strict=True
        )
    ]
    hover = "<b>%{customdata[2]}</b><br>%{customdata[3]}<extra></extra>"
    customdata = list(zip(rows["site_id"], experts, names, details, strict=True))
    has_band = rows["reference_low"].notna() & rows["reference_high"].notna()
    if has_band.any():
        figure.add_bar(
            name="95 % chance band",
            x=experts[has_band],
            base=rows.loc[has_band, "reference_low"],
            y=(rows["reference_high"] - rows["reference_low"])[has_band],
            width=0.94,
            marker={"color": GRID[theme], "line": {"width": 0}},
            hoverinfo="skip",
        )
    figure.add_bar(
        name="kept (load)",
        x=experts,
        y=rows["load"],
        width=0.6,
        marker={"color": KEPT_BAR, "line": {"width": 0}},
        customdata=customdata,
        hovertemplate=hover,
        **UNFADED,
    )
    figure.add_bar(
        name="dropped",
        x=experts,
        base=rows["load"],
        y=rows["dropped"],
        width=0.6,
        marker={
            "color": DROPPED_BAR,
            "line": {"width": 0},
            "pattern": {
                "shape": STATUS_HATCH,
                "fillmode": "overlay",
                "fgcolor": text_on(DROPPED_BAR),
                "size": 6,
                "solidity": 0.25,
            },
        },
        customdata=customdata,
        hovertemplate=hover,
        **UNFADED,
    )
    if rows["filler"].any():  # an expert with filler has room, and drops nothing
        figure.add_bar(
            name="filler",
            x=experts,
            base=rows["load"] + rows["dropped"],
            y=rows["filler"],
            width=0.6,
            marker={"color": GRID[theme], "line": {"width": 1, "color": INK[theme]}},
            customdata=customdata,
            hovertemplate=hover,
            **UNFADED,
        )
    has_slots = rows["slots"].notna()
    if has_slots.any():
        figure.add_bar(
            name="slots",
            x=experts[has_slots],
            y=rows.loc[has_slots, "slots"],
            width=0.72,
            marker={"color": "rgba(0,0,0,0)", "line": {"width": 1.5, "color": QUIET_INK[theme]}},
            hoverinfo="skip",
        )
    has_reference = rows["reference_load"].notna()
    if has_reference.any():
        figure.add_scatter(
            name="reference load",
            x=experts[has_reference],
            y=rows.loc[has_reference, "reference_load"],
            mode="markers",
            marker={"symbol": "line-ew", "size": 16, "line": {"width": 2.5, "color": INK[theme]}},
            hovertemplate="reference load %{y:.1f} patches<extra></extra>",
        )
    idle = rows[rows["is_idle"]]
    if not idle.empty:
        figure.add_scatter(
            name="idle expert",
            x=idle["expert_id"],
            y=[0] * len(idle),
            mode="markers",
            marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": INK[theme]}},
            cliponaxis=False,
            hoverinfo="skip",
        )
    step = 1 if len(rows) <= MAX_TICKS else -(-len(rows) // MAX_TICKS)
    top = max(
        1.0, float(rows[["requested", "slots", "reference_load", "reference_high"]].max(skipna=True).max(skipna=True))
    )
    figure.update_xaxes(
        title="Expert",
        tickvals=experts.iloc[::step],
        ticktext=names[::step],
        tickangle=0,
        range=[-0.6, len(rows) - 0.4],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(title="Patches", range=[0, top * 1.06], rangemode="tozero")
    for expert in dict.fromkeys(selected):
        if 0 <= expert < len(rows):
            figure.add_shape(
                type="rect",
                x0=expert - 0.47,
                x1=expert + 0.47,
                y0=0,
                y1=top * 1.05,
                line={"color": INK[theme], "width": 2},
            )
    figure.update_layout(
        barmode="overlay",
        margin_t=30,
        title_font_size=13,
        legend={"y": -0.42, "yanchor": "top", "font": {"size": 11}},
    )
    return figure
