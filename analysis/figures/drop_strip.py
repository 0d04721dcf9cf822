"""Where along the input requests were dropped, one lane per site."""

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.labels import site_label
from analysis.figures.strip import build_low_frame, nothing_low
from analysis.figures.theme import DROPPED_BAR, GRID, NEUTRAL, QUIET_INK, ThemeName

TITLE: Final = "Dropped share of requests"
LANE: Final = 0.86  # height of 100 % in a lane
LANE_PX: Final = 17
ALONE_PX: Final = 52  # of a lane that is the only one
AROUND_PX: Final = 68


def build_drop_strip_figure(
    drops: pd.DataFrame,
    *,
    site_ids: Iterable[int] | None = None,
    theme: ThemeName = "light",
    lit_positions: Collection[int] | None = None,
) -> go.Figure:
    """Draw the share of requests that was dropped at every position; the full height of a lane is 100 %.

    Positions where nothing was requested stay blank. `customdata` starts with site_id, position_start, position_end.

    Args:
        drops: `drops_by_position`.
        site_ids: lanes to draw; None for all sites. Lanes are always in site order.
        lit_positions: bars without any of these positions are grey; None for none.
    """
    rows = drops if site_ids is None else drops[drops["site_id"].isin(list(site_ids))]
    if rows.empty:
        return nothing_low(TITLE, "No site is chosen, or the trace has no units.", theme=theme)
    lanes = rows.drop_duplicates("site_id").sort_values("site_id")
    height = AROUND_PX + max(ALONE_PX, len(lanes) * LANE_PX)
    figure = build_low_frame(TITLE, theme=theme, height=height)
    lit = None if lit_positions is None else np.unique(np.array(list(lit_positions), dtype=np.int64))
    names = []
    for place, lane in enumerate(lanes.itertuples()):
        floor = -place - 1
        name = site_label(int(str(lane.layer)), str(lane.block))
        names.append(name)
        bins = rows[(rows["site_id"] == lane.site_id) & rows["drop_share"].notna()]
        start, end = bins["position_start"], bins["position_end"]
        where = [
            f"position {a}" if b == a + 1 else f"positions {a} to {b - 1}" for a, b in zip(start, end, strict=True)
        ]
        colours: str | list[str] = DROPPED_BAR
        if lit is not None:
            is_lit = np.searchsorted(lit, start) < np.searchsorted(lit, end)
            colours = [DROPPED_BAR if one else NEUTRAL[theme] for one in is_lit]
        figure.add_bar(
            x=(start + end - 1) / 2,
            width=end - start,
            base=floor,
            y=bins["drop_share"] * LANE,
            marker={"color": colours, "line": {"width": 0}},
            customdata=list(
                zip(
                    bins["site_id"],
                    start,
                    end,
                    where,
                    bins["drop_share"],
                    bins["dropped"],
                    bins["requested"],
                    bins["dropped_units"],
                    strict=True,
                )
            ),
            hovertemplate=f"<b>{name}</b> · %{{customdata[3]}}<br>dropped %{{customdata[5]}} of %{{customdata[6]}} "
            "requests (%{customdata[4]:.1%})<br>dropped units: %{customdata[7]}<extra></extra>",
        )
        for line, dash in ((floor, "solid"), (floor + LANE, "dot")):
            figure.add_hline(y=line, layer="below", line={"color": GRID[theme], "width": 1, "dash": dash})
    figure.update_xaxes(
        title={"text": "Position in the example (a lane's height is 100 %)", "standoff": 12},
        range=[-0.5, float(rows["position_end"].max()) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=[-place - 1 + LANE / 2 for place in range(len(lanes))],
        ticktext=names,
        tickfont_size=11,
        range=[-len(lanes) - 0.06, 0.06],
        showgrid=False,
        zeroline=False,
        ticks="",
        fixedrange=True,
    )
    figure.update_layout(barmode="overlay")
    if not rows["dropped"].sum():
        figure.add_annotation(
            text="nothing was dropped",
            x=0.5,
            y=0.5,
            xref="paper",
            yref="paper",
            showarrow=False,
            font={"color": QUIET_INK[theme]},
        )
    return figure
