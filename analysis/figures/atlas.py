"""The atlas: every expert of every router in two lanes, attention and MLP, as cells that stay vector when exported."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import nothing_to_draw
from analysis.figures.labels import site_label, term_title
from analysis.figures.lanes import CELL, build_lanes, colour_bar_carrier, lanes_of
from analysis.figures.theme import (
    MAGNITUDE,
    NEUTRAL,
    PAGE,
    QUIET_INK,
    ThemeName,
    colour_bar,
    magnitude_colour,
    text_on,
)

AtlasValue = Literal["relative_load", "utilisation", "drop_share"]
ATLAS_VALUES: Final[tuple[AtlasValue, ...]] = get_args(AtlasValue)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """How one value is coloured: fixed for every run, so that two atlases can be laid side by side."""

    unit: str
    high: float  # the scale starts at 0
    ticks: tuple[float, ...]
    words: tuple[str, ...]
    number: str  # d3 format of the hover
    unknown: str  # why a cell has no value


_SCALES: Final[dict[AtlasValue, _Scale]] = {
    "relative_load": _Scale(
        unit="1 = fair share",
        high=2.0,
        ticks=(0.0, 0.5, 1.0, 1.5, 2.0),
        words=("0", "0.5", "1 fair", "1.5", "≥ 2"),
        number=".2f",
        unknown="nothing was kept at this site",
    ),
    "utilisation": _Scale(
        unit="load / slots",
        high=1.0,
        ticks=(0.0, 0.25, 0.5, 0.75, 1.0),
        words=("0 %", "25 %", "50 %", "75 %", "100 % full"),
        number=".1%",
        unknown="experts are never full here",
    ),
    "drop_share": _Scale(
        unit="share of requests",
        high=0.5,
        ticks=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        words=("0 %", "10 %", "20 %", "30 %", "40 %", "≥ 50 %"),
        number=".1%",
        unknown="nobody requested it",
    ),
}


def build_atlas_figure(
    table: pd.DataFrame,
    *,
    value: AtlasValue = "relative_load",
    theme: ThemeName = "light",
    selected: tuple[int, int] | None = None,
) -> go.Figure:
    """Draw sites x experts, attention on the left and MLP on the right, layer 0 on top.

    Every cell is a bar, so it can be hovered and clicked (`customdata` starts with site_id, expert_id), and an exported
    PDF or SVG has no raster image. Idle experts carry a cross, cells without a value a dash.

    Args:
        table: `expert_load` for relative_load and utilisation, `dropped_assignments` for drop_share: one row per
            (site, expert) with site_id, layer, block, expert_id, requested, dropped and the value.
        selected: (site_id, expert_id) of the cell to outline.
    """
    scale, name = _SCALES[value], term_title(value)
    title = f"{name} of every expert ({scale.unit})"
    if table.empty:
        return nothing_to_draw(title, "The trace has no sites or no units.", theme=theme)
    figure = build_lanes(table, title, theme=theme, selected=selected)
    for column, _, rows in lanes_of(table):
        for is_known in (True, False):
            cells = rows[rows[value].notna() == is_known]
            if not cells.empty:
                figure.add_trace(_cells(cells, value, is_known=is_known, theme=theme), row=1, col=column)
    figure.add_trace(colour_bar_carrier(), row=1, col=1)
    figure.update_layout(
        coloraxis={
            "colorscale": MAGNITUDE,
            "cmin": 0.0,
            "cmax": scale.high,
            "colorbar": colour_bar(name, list(scale.ticks), list(scale.words)),
        }
    )
    return figure


def _cells(cells: pd.DataFrame, value: AtlasValue, *, is_known: bool, theme: ThemeName) -> go.Bar:
    scale = _SCALES[value]
    is_idle = cells["is_idle"] if "is_idle" in cells else pd.Series(False, index=cells.index)
    fills = [magnitude_colour(v, 0.0, scale.high) if is_known else PAGE[theme] for v in cells[value]]
    names = [site_label(layer, block) for layer, block in zip(cells["layer"], cells["block"], strict=True)]
    counts = [
        f"requested by {requested} patches, {dropped} dropped" + ("<br>idle: nothing kept" if idle else "")
        for requested, dropped, idle in zip(cells["requested"], cells["dropped"], is_idle, strict=True)
    ]
    reading = f"%{{customdata[4]:{scale.number}}}" if is_known else scale.unknown
    return go.Bar(
        x=cells["expert_id"],
        base=cells["layer"] - CELL / 2,
        y=[CELL] * len(cells),
        width=CELL,
        marker={
            "color": fills,
            "line": {"width": 0 if is_known else 1, "color": NEUTRAL[theme]},
        },
        text=["×" if idle else "" if is_known else "–" for idle in is_idle],
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 14, "color": [text_on(fill) if is_known else QUIET_INK[theme] for fill in fills]},
        constraintext="none",
        customdata=list(zip(cells["site_id"], cells["expert_id"], names, counts, cells[value], strict=True)),
        hovertemplate="<b>%{customdata[2]} · E%{customdata[1]}</b><br>"
        + f"{term_title(value)}: {reading}<br>%{{customdata[3]}}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )
