"""What routing buys: how much the loss changes when learned routes are replaced, as dots with intervals."""

from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.theme import IDENTITIES, PAGE, QUIET_INK, ThemeName
from analysis.routing_value import COLUMN_ORDER

TITLE: Final = "Loss when learned routes are replaced"
REPLACEMENT_NAMES: Final = {
    "balanced_random": "balanced random",
    "permuted": "permuted over units",
    "untrained_router": "untrained router",
    "lookup": "lookup by token or cell",
}
BLOCK_NAMES: Final = {"attention": "attention", "mlp": "MLP", "both": "both blocks"}
CAPACITY_NAMES: Final = {"as trained": "capacity as trained (filled)", "none": "no capacity (open)"}
COLOURS: Final = {"attention": IDENTITIES[4], "mlp": IDENTITIES[5], "both": IDENTITIES[2]}
SYMBOLS: Final = {"attention": "circle", "mlp": "square", "both": "diamond"}
GROUP_PX: Final = 64
AROUND_PX: Final = 170
OFFSETS: Final = {"attention": 0.3, "mlp": 0.0, "both": -0.3}
CAPACITY_OFFSET: Final = {"as trained": 0.07, "none": -0.07}


def build_routing_value_figure(table: pd.DataFrame, *, theme: ThemeName = "light") -> go.Figure:
    """Draw a dot per replacement, block and capacity over a common axis of nats, with zero marked.

    Colour and shape say the block whose routes were replaced; filled dots keep the capacity, open ones lift it. A line
    is the 95% interval over examples, or for one input the smallest and largest of the random draws: the axis says
    which. What is unknown has no dot, and the row says so.

    Args:
        table: `routing_value_table` of one model, or `input_routing_value_table`.
    """
    if table.empty:
        return nothing_to_draw(TITLE, "Nothing was measured.", theme=theme)
    groups = [name for name in COLUMN_ORDER["replacement"] if (table["replacement"] == name).any()]
    figure = build_frame(TITLE, theme=theme, height=len(groups) * GROUP_PX + AROUND_PX)
    low = min(0.0, float(table[["loss_change", "low"]].min().min(skipna=True)))
    high = max(0.0, float(table[["loss_change", "high"]].max().max(skipna=True)))
    room = max(high - low, 1e-3) * 0.05
    figure.add_vline(x=0, line={"color": QUIET_INK[theme], "width": 1.5})
    for block in COLUMN_ORDER["block"]:
        for capacity in COLUMN_ORDER["capacity"]:
            rows = table[(table["block"] == block) & (table["capacity"] == capacity)]
            if not rows.empty:
                _add_dots(figure, rows, groups, block=block, capacity=capacity, theme=theme)
    for place, group in enumerate(groups):
        values = table.loc[table["replacement"] == group, "loss_change"]
        if values.isna().all():
            _say_unknown(figure, table[table["replacement"] == group], -place, theme=theme)
    spread = "smallest to largest of the random draws" if "draws" in table else "95 % interval over examples"
    figure.update_xaxes(title=f"Change of loss (nats; line: {spread})", range=[low - room, high + room], zeroline=False)
    figure.update_yaxes(
        tickvals=[-place for place in range(len(groups))],
        ticktext=[REPLACEMENT_NAMES[group] for group in groups],
        range=[-len(groups) + 0.5, 0.5],
        showgrid=False,
        zeroline=False,
        ticks="",
        fixedrange=True,
    )
    below = -58 / (len(groups) * GROUP_PX)  # of the plot's height, past the labels of the axis
    legend = {"y": below, "yanchor": "top", "font": {"size": 11}}
    figure.update_layout(margin_t=34, title_font_size=13, showlegend=True, legend=legend)
    return figure


def _add_dots(
    figure: go.Figure, rows: pd.DataFrame, groups: list[str], *, block: str, capacity: str, theme: ThemeName
) -> None:
    y = [-groups.index(replacement) + OFFSETS[block] + CAPACITY_OFFSET[capacity] for replacement in rows["replacement"]]
    name = f"{BLOCK_NAMES[block]}, {CAPACITY_NAMES[capacity]}"
    colour = COLOURS[block]
    has_line = rows["low"].notna() & rows["high"].notna()
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for low, high, place, is_known in zip(rows["low"], rows["high"], y, has_line, strict=True):
        if is_known:
            line_x += [low, high, None]
            line_y += [place, place, None]
    if line_x:
        line = {"color": colour, "width": 2}
        figure.add_scatter(x=line_x, y=line_y, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        name=name,
        x=rows["loss_change"],
        y=y,
        mode="markers",
        marker={
            "symbol": SYMBOLS[block],
            "size": 9,
            "color": colour if capacity == "as trained" else PAGE[theme],
            "line": {"width": 2, "color": colour},
        },
        customdata=_customdata(rows),
        hovertemplate="<b>%{customdata[0]}</b><br>" + name + "<br>%{customdata[1]}<extra></extra>",
    )


def _customdata(rows: pd.DataFrame) -> list[tuple[str, str]]:
    found = []
    for row in rows.to_dict("records"):
        words = f"{row['loss_change']:+.3f} nats"
        if not pd.isna(row["low"]):
            what = f"{row['draws']} draws" if "draws" in row else f"95 % over {row['examples']} examples"
            words += f" ({row['low']:+.3f} to {row['high']:+.3f}, {what})"
        found.append((REPLACEMENT_NAMES[str(row["replacement"])], words))
    return found


def _say_unknown(figure: go.Figure, rows: pd.DataFrame, place: float, *, theme: ThemeName) -> None:
    reasons: dict[str, Any] = dict.fromkeys(rows["reason"]) if "reason" in rows else {}
    figure.add_annotation(
        text="unknown" + "".join(f": {reason}" for reason in list(reasons)[:1]),
        x=0.5,
        xref="paper",
        y=place,
        showarrow=False,
        font={"size": 11, "color": QUIET_INK[theme]},
    )
