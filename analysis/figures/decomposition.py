"""The error of a decomposed model against the number of experts it chooses, for three ways to choose them."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.decomposition import ROUTES
from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.theme import IDENTITIES, ThemeName

TITLE: Final = "What fewer experts cost"
HEIGHT_PX: Final = 340
NAMES: Final = {
    "calibrated": "calibrated routers",
    "random": "random experts",
    "longest": "longest outputs (no router knows them)",
}
COLOURS: Final = {"calibrated": IDENTITIES[4], "random": IDENTITIES[5], "longest": IDENTITIES[2]}
SYMBOLS: Final = {"calibrated": "circle", "random": "square", "longest": "diamond"}
SCOPE_NAMES: Final = {"both": "attention · MLP", "attention": "attention", "mlp": "MLP"}


def build_decomposition_figure(curve: pd.DataFrame, *, scope: str = "both", theme: ThemeName = "light") -> go.Figure:
    """Draw the relative error of the final hidden states at every number of chosen experts.

    Args:
        curve: `analysis.decomposition.decomposition_curve`. scope: at which blocks fewer experts are chosen.
    """
    rows = curve[curve["scope"] == scope]
    if rows.empty:
        return nothing_to_draw(TITLE, "Nothing was measured: the routers are not calibrated.", theme=theme)
    figure = build_frame(TITLE, theme=theme, height=HEIGHT_PX)
    steps = list(dict.fromkeys(zip(rows["attention_top_k"], rows["mlp_top_k"], strict=True)))
    words = {
        "both": [f"{a} · {m}" for a, m in steps],
        "attention": [str(a) for a, _ in steps],
        "mlp": [str(m) for _, m in steps],
    }[scope]
    ends = rows[rows["routes"] == "calibrated"].tail(1)  # with all experts every way to choose is the same
    for routes in ROUTES:
        own = rows[rows["routes"] == routes]
        if own.empty:
            continue
        shown = own if routes == "calibrated" else pd.concat([own, ends])
        places = [steps.index(pair) for pair in zip(shown["attention_top_k"], shown["mlp_top_k"], strict=True)]
        figure.add_scatter(
            name=NAMES[routes],
            x=places,
            y=shown["hidden_error"],
            mode="lines+markers",
            line={"color": COLOURS[routes], "width": 2},
            marker={"symbol": SYMBOLS[routes], "size": 8, "color": COLOURS[routes]},
            customdata=[(words[place], NAMES[routes]) for place in places],
            hovertemplate="<b>%{customdata[0]}</b> experts<br>%{customdata[1]}: off by %{y:.3f}<extra></extra>",
        )
    most = float(rows["hidden_error"].max())
    figure.update_xaxes(
        title=f"Experts chosen per unit ({SCOPE_NAMES[scope]})",
        tickvals=list(range(len(steps))),
        ticktext=words,
        range=[-0.3, len(steps) - 0.7],
        zeroline=False,
    )
    figure.update_yaxes(
        title="Relative error of hidden states", range=[0, max(most, 1e-3) * 1.08], rangemode="tozero", zeroline=False
    )
    figure.update_layout(
        margin_t=34, title_font_size=13, showlegend=True, legend={"y": -0.28, "yanchor": "top", "font": {"size": 11}}
    )
    return figure
