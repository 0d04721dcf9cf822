"""The difference atlas: how the load of every expert moved from run A to run B, blue for less and orange for more."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from analysis.compare import DifferenceMeasure
from analysis.figures.frame import nothing_to_draw
from analysis.figures.labels import expert_label, site_label, term_title
from analysis.figures.lanes import CELL, build_lanes, colour_bar_carrier, lanes_of
from analysis.figures.theme import (
    DIFFERENCE,
    NEUTRAL,
    PAGE,
    QUIET_INK,
    ThemeName,
    difference_axis,
    text_on,
)

LIMITS: Final[dict[DifferenceMeasure, float]] = {
    "relative_load": 1.0,
    "load_share": 0.2,
    "utilisation": 0.5,
    "drop_share": 0.5,
}
"""Where the colour scale ends, the same for every pair of runs."""

NUMBERS: Final[dict[DifferenceMeasure, str]] = {
    "relative_load": ".2f",
    "load_share": ".3f",
    "utilisation": ".3f",
    "drop_share": ".3f",
}


def build_difference_atlas_figure(
    table: pd.DataFrame,
    *,
    measure: DifferenceMeasure = "relative_load",
    theme: ThemeName = "light",
    selected: tuple[int, int] | None = None,
) -> go.Figure:
    """Draw sites x experts, attention on the left and MLP on the right, coloured by B minus A.

    Every cell is a bar with a plus or a minus, so that the sign is not said by colour alone; `customdata` starts with
    site_id, expert_id. Cells whose difference is unknown carry a dash.

    Args:
        table: `load_difference`.
        measure: the one the table was made with.
        selected: (site_id, expert_id) of the cell to outline.
    """
    title = f"{term_title(measure)}: B minus A"
    if table.empty:
        return nothing_to_draw(title, "One of the runs has no units, so there is nothing to compare.", theme=theme)
    figure = build_lanes(table, title, theme=theme, selected=selected)
    for column, _, rows in lanes_of(table):
        figure.add_trace(_cells(rows, measure, theme=theme), row=1, col=column)
    figure.add_trace(colour_bar_carrier(), row=1, col=1)
    figure.update_layout(coloraxis=difference_axis("B minus A", LIMITS[measure]))
    return figure


def difference_colour(value: float, limit: float) -> str:
    """Colour of a difference on the scale -limit..limit; values outside take the colour of the nearer end."""
    place = min(max((value / limit + 1) / 2, 0.0), 1.0)
    return str(sample_colorscale([list(stop) for stop in DIFFERENCE], [place])[0])


def _cells(cells: pd.DataFrame, measure: DifferenceMeasure, *, theme: ThemeName) -> go.Bar:
    known = cells["difference"].notna().tolist()
    fills = [
        difference_colour(value, LIMITS[measure]) if is_known else PAGE[theme]
        for value, is_known in zip(cells["difference"], known, strict=True)
    ]
    names = [
        f"{site_label(layer, block)} · {expert_label(expert)}"
        for layer, block, expert in zip(cells["layer"], cells["block"], cells["expert_id"], strict=True)
    ]
    form = NUMBERS[measure]
    readings = [
        f"A {a:{form}}, B {b:{form}}<br>B minus A: {change:+{form}}" if is_known else f"unknown: {reason}"
        for a, b, change, is_known, reason in zip(
            cells["value_a"], cells["value_b"], cells["difference"], known, cells["reason"], strict=True
        )
    ]
    return go.Bar(
        x=cells["expert_id"],
        base=cells["layer"] - CELL / 2,
        y=[CELL] * len(cells),
        width=CELL,
        marker={
            "color": fills,
            "line": {"width": [0 if is_known else 1 for is_known in known], "color": NEUTRAL[theme]},
        },
        text=[_sign(value, LIMITS[measure]) for value in cells["difference"]],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={
            "size": 13,
            "color": [
                text_on(fill) if is_known else QUIET_INK[theme] for fill, is_known in zip(fills, known, strict=True)
            ],
        },
        constraintext="none",
        customdata=list(zip(cells["site_id"], cells["expert_id"], names, readings, cells["difference"], strict=True)),
        hovertemplate="<b>%{customdata[2]}</b><br>%{customdata[3]}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _sign(value: float, limit: float) -> str:
    """Plus or minus where the difference is at least a twentieth of the scale; a dash where it is unknown."""
    if pd.isna(value):
        return "–"
    return "" if abs(value) < limit / 20 else "+" if value > 0 else "−"
