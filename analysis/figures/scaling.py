"""Time or memory of one block against the length of the input, both axes logarithmic."""

import math
from typing import Final, Literal

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.theme import IDENTITIES, ThemeName
from analysis.scaling import VARIANTS

HEIGHT_PX: Final = 320
TITLES: Final = {"milliseconds": "Time of one block, forward", "megabytes": "Memory kept for a backward pass"}
UNITS: Final = {"milliseconds": "Milliseconds", "megabytes": "Megabytes"}
NAMES: Final = {"dense": "dense, fused attention", "union": "Union of Experts", "union, Triton": "with Triton kernels"}
COLOURS: Final = dict(zip(VARIANTS, (IDENTITIES[5], IDENTITIES[4], IDENTITIES[2]), strict=True))
SYMBOLS: Final = dict(zip(VARIANTS, ("square", "circle", "diamond"), strict=True))


def build_scaling_figure(
    growth: pd.DataFrame, *, value: Literal["milliseconds", "megabytes"] = "milliseconds", theme: ThemeName = "light"
) -> go.Figure:
    """Draw a line per variant; the logarithms are taken here, so that ticks are whole powers.

    Args:
        growth: `analysis.scaling.cost_growth`.
    """
    if growth.empty:
        return nothing_to_draw(TITLES[value], "Nothing was measured.", theme=theme)
    figure = build_frame(TITLES[value], theme=theme, height=HEIGHT_PX)
    for variant in VARIANTS:
        rows = growth[growth["variant"] == variant]
        if rows.empty:
            continue
        figure.add_scatter(
            name=NAMES[variant],
            x=[math.log2(length) for length in rows["length"]],
            y=[math.log10(cost) for cost in rows[value]],
            mode="lines+markers",
            line={"color": COLOURS[variant], "width": 2},
            marker={"symbol": SYMBOLS[variant], "size": 7, "color": COLOURS[variant]},
            customdata=list(zip(rows["length"], rows[value], strict=True)),
            hovertemplate=f"%{{customdata[0]}} units: %{{customdata[1]:.3g}} {UNITS[value].lower()}<extra></extra>",
        )
    powers = range(int(math.log2(growth["length"].min())), math.ceil(math.log2(growth["length"].max())) + 1)
    low, high = math.floor(math.log10(growth[value].min())), math.ceil(math.log10(growth[value].max()))
    figure.update_xaxes(
        title="Length (units)",
        tickvals=list(powers),
        ticktext=[f"{2**power // 1024}k" if power >= 10 else str(2**power) for power in powers],
        range=[powers[0] - 0.2, powers[-1] + 0.2],
        zeroline=False,
    )
    figure.update_yaxes(
        title=UNITS[value],
        tickvals=list(range(low, high + 1)),
        ticktext=[f"{10.0**power:g}" for power in range(low, high + 1)],
        range=[low - 0.05, high + 0.05],
        zeroline=False,
    )
    figure.update_layout(
        margin_t=34, title_font_size=13, showlegend=True, legend={"y": -0.28, "yanchor": "top", "font": {"size": 11}}
    )
    return figure
