"""What run B's routing did to the loss of every token, along the input, with the units whose route changed marked."""

import math
from typing import Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.labels import plain, site_label
from analysis.figures.strip import build_low_frame, mark_examples, nothing_low
from analysis.figures.theme import DROPPED_BAR, INK, KEPT_BAR, QUIET_INK, ThemeName

TITLE: Final = "Loss of B minus loss of A"
HEIGHT_PX: Final = 160
STEP: Final = 2.0  # nats; the axis reaches from -2 to 2, and further in steps of 2 only when a token needs it
RUG: Final = -1.17  # of the end of the axis: where changed routes are marked
MARK_PX: Final = 6


def build_change_strip_figure(
    changes: pd.DataFrame, *, site_id: int | None = None, theme: ThemeName = "light"
) -> go.Figure:
    """Draw the loss change of every shared token as a bar up (worse in B) or down (better), and mark changed routes.

    The marks below the bars are diamonds: filled where another expert is the first that kept the unit, open where only
    the others changed. The loss changes with all sites of a run; the marks are those of one site. `customdata` starts
    with unit_id (of run B), site_id.

    Args:
        changes: `route_changes`.
        site_id: the site whose changed routes are marked; None: the first one in the table.
    """
    if site_id is None and len(changes):
        site_id = int(changes["site_id"].iloc[0])
    rows = changes[changes["site_id"] == site_id]
    if rows.empty:
        return nothing_low(TITLE, "The two runs share no unit.", theme=theme)
    name = site_label(int(rows["layer"].iloc[0]), str(rows["block"].iloc[0]))
    figure = build_low_frame(f"{TITLE}; ◆ route changed at {name}", theme=theme, height=HEIGHT_PX)
    known = rows[rows["loss_change"].notna()]
    largest = float(known["loss_change"].abs().max()) if len(known) else 0.0
    limit = STEP * max(math.ceil(largest / STEP - 1e-9), 1)
    figure.add_bar(
        x=known["unit_id"],
        y=known["loss_change"],
        width=1,
        marker={
            "color": np.where(known["loss_change"] > 0, DROPPED_BAR, KEPT_BAR).tolist(),
            "line": {"width": 0},
        },
        customdata=_customdata(known),
        hovertemplate="<b>%{customdata[2]}</b> · position %{customdata[3]}<br>loss %{customdata[4]}<br>"
        "%{customdata[5]}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
    changed = rows[rows["first_changed"] | rows["kept_changed"]]
    figure.add_scatter(
        x=changed["unit_id"],
        y=[RUG * limit] * len(changed),
        mode="markers",
        marker={
            "symbol": ["diamond" if first else "diamond-open" for first in changed["first_changed"]],
            "size": MARK_PX,
            "color": INK[theme],
            "line": {"width": 1, "color": INK[theme]},
        },
        customdata=_customdata(changed),
        hovertemplate="<b>%{customdata[2]}</b> · position %{customdata[3]}<br>%{customdata[5]}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
    mark_examples(figure, rows, theme=theme)
    if not len(known):
        _say(figure, "no loss is known in both runs", theme=theme)
    figure.add_hline(y=0, line={"color": QUIET_INK[theme], "width": 1})
    figure.update_xaxes(range=[float(rows["unit_id"].iloc[0]) - 0.5, float(rows["unit_id"].iloc[-1]) + 0.5])
    figure.update_yaxes(
        title="Nats",
        range=[1.34 * -limit, 1.08 * limit],
        tickvals=[-limit, -limit / 2, 0.0, limit / 2, limit],
        ticktext=[f"{-limit:g}", f"{-limit / 2:g}", "0 same", f"+{limit / 2:g}", f"+{limit:g}"],
        zeroline=False,
        fixedrange=True,
    )
    figure.update_layout(meta={"paper_titles": {"y": "Loss change (nats)"}})
    return figure


def _customdata(rows: pd.DataFrame) -> list[tuple[object, ...]]:
    losses = [
        "unknown" if math.isnan(change) else f"A {a:.3f}, B {b:.3f} nats: {change:+.3f}"
        for a, b, change in zip(rows["loss_a"], rows["loss_b"], rows["loss_change"], strict=True)
    ]
    routes = [
        f"kept by {a or 'none'} in A ({status_a}), by {b or 'none'} in B ({status_b})"
        for a, b, status_a, status_b in zip(
            rows["experts_a"], rows["experts_b"], rows["status_a"], rows["status_b"], strict=True
        )
    ]
    texts = [plain(text) for text in rows["text"]]
    return list(zip(rows["unit_id"], rows["site_id"], texts, rows["position"], losses, routes, strict=True))


def _say(figure: go.Figure, sentence: str, *, theme: ThemeName) -> None:
    figure.add_annotation(
        text=sentence,
        x=0.5,
        y=0.6,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"color": QUIET_INK[theme]},
    )
