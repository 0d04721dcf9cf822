"""The comparison as one column: loss of every way to route, what depends on routes, what learning them buys."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.theme import IDENTITIES, PAGE, QUIET_INK, ThemeName

TITLE: Final = "Routing in different ways"
VARIANT_NAMES: Final = {
    "dense": "dense",
    "data": "UoE data selection",
    "frozen": "UoE, frozen routers",
    "expert_choice": "UoE expert choice",
    "expert": "UoE expert selection",
    "switch": "Switch MLP",
}
COLOURS: Final = {"attention": IDENTITIES[4], "mlp": IDENTITIES[5]}
SYMBOLS: Final = {"attention": "circle", "mlp": "square"}
SHOWN_BY: Final = "balanced_random"
FILLED: Final = "data"
OPEN: Final = "frozen"
ROW_PX: Final = 26
AROUND_PX: Final = 330


def build_comparison_figure(
    runs: pd.DataFrame,
    table: pd.DataFrame,
    dependence: pd.DataFrame,
    differences: pd.DataFrame,
    *,
    kind: str,
    theme: ThemeName = "light",
) -> go.Figure:
    """Draw three panels under each other, each with its own axis of nats.

    Above: test loss of every variant, a dot per seed and a bar at their mean; the dotted line is the dense mean. In
    the middle: loss when the routes of one site are replaced by balanced random ones, filled for learned routers,
    open for routers that stayed frozen at random; a line spans the seeds. Below: learned minus frozen, a dot per seed
    with its 95% interval over test examples. What was not run says why, and a row that lacks
    seeds how many it has.

    Args:
        runs: `comparison_runs`. table: `comparison_table`. dependence: `comparison_dependence`.
        differences: `comparison_differences`.
        kind: `image` or `text`.
    """
    if runs.empty:
        return nothing_to_draw(TITLE, "No run was finished.", theme=theme)
    sites = [target for target in dict.fromkeys(dependence["target"]) if "." in target]
    learned = differences[(differences["variant"] == FILLED) & (differences["baseline"] == OPEN)]
    rows = (len(table), max(len(sites), 1), max(len(learned), 1))
    figure = build_frame(TITLE, theme=theme, height=sum(rows) * ROW_PX + AROUND_PX)
    _place_panels(figure, rows)
    _draw_losses(figure, runs, table, kind=kind, theme=theme)
    _draw_dependence(figure, dependence, sites, theme=theme)
    _draw_learned(figure, learned, theme=theme)
    figure.update_layout(showlegend=True, legend={"font": {"size": 11}, "y": -0.12, "yanchor": "top"})
    return figure


def _place_panels(figure: go.Figure, rows: tuple[int, int, int]) -> None:
    """Share the height by the number of rows, with room for the titles of the axes between."""
    gap = 0.1
    share = (1 - 2 * gap) / sum(rows)
    top = 1.0
    for number, count in enumerate(rows):
        name = "" if number == 0 else str(number + 1)
        domain = [max(top - count * share, 0.0), top]
        figure.update_layout(
            {
                f"xaxis{name}": {"anchor": f"y{name}", "zeroline": False},
                f"yaxis{name}": {
                    "anchor": f"x{name}",
                    "domain": domain,
                    "range": [-count + 0.5, 0.5],
                    "showgrid": False,
                    "zeroline": False,
                    "ticks": "",
                    "fixedrange": True,
                },
            }
        )
        top = domain[0] - gap


def _draw_losses(figure: go.Figure, runs: pd.DataFrame, table: pd.DataFrame, *, kind: str, theme: ThemeName) -> None:
    names = table["variant"].tolist()
    places = {name: -place for place, name in enumerate(names)}
    figure.add_scatter(
        x=runs["test_loss"],
        y=[places[name] for name in runs["variant"]],
        mode="markers",
        marker={"symbol": "circle", "size": 6, "color": PAGE[theme], "line": {"width": 1.5, "color": QUIET_INK[theme]}},
        customdata=[[VARIANT_NAMES[name], seed] for name, seed in zip(runs["variant"], runs["seed"], strict=True)],
        hovertemplate="<b>%{customdata[0]}</b><br>seed %{customdata[1]}: %{x:.4f} nats<extra></extra>",
        name="one seed",
        showlegend=False,
    )
    known = table[table["runs"] > 0]
    figure.add_scatter(
        x=known["test_loss"],
        y=[places[name] for name in known["variant"]],
        mode="markers",
        marker={"symbol": "diamond", "size": 9, "color": IDENTITIES[2]},
        customdata=[[VARIANT_NAMES[name], count] for name, count in zip(known["variant"], known["runs"], strict=True)],
        hovertemplate="<b>%{customdata[0]}</b><br>mean of %{customdata[1]}: %{x:.4f} nats<extra></extra>",
        name="mean over seeds",
        showlegend=False,
    )
    low, high = float(runs["test_loss"].min()), float(runs["test_loss"].max())
    room = max(high - low, 1e-3) * 0.08
    dense = known.loc[known["variant"] == "dense", "test_loss"]
    if len(dense):
        line = {"color": QUIET_INK[theme], "width": 1, "dash": "dot"}
        figure.add_shape(
            type="line", x0=dense.iloc[0], x1=dense.iloc[0], y0=0, y1=1, xref="x", yref="y domain", line=line
        )
    for row in table[table["runs"] == 0].itertuples():
        figure.add_annotation(
            text=str(row.reason),
            x=(low + high) / 2,
            y=places[str(row.variant)],
            showarrow=False,
            font={"size": 11, "color": QUIET_INK[theme]},
        )
    unit = "image" if kind == "image" else "token"
    figure.update_layout(
        xaxis={"title": f"Test loss (nats per {unit}; dotted: dense)", "range": [low - room, high + room]},
        yaxis={"tickvals": [places[name] for name in names], "ticktext": _row_labels(table)},
    )


def _row_labels(table: pd.DataFrame) -> list[str]:
    """Names of the variants; where seeds are missing, with how many there are."""
    most = table["runs"].max()
    labels = []
    for name, runs in zip(table["variant"], table["runs"], strict=True):
        few = f" ({runs} {'seed' if runs == 1 else 'seeds'})" if 0 < runs < most else ""
        labels.append(VARIANT_NAMES[name] + few)
    return labels


def _draw_dependence(figure: go.Figure, dependence: pd.DataFrame, sites: list[str], *, theme: ThemeName) -> None:
    chosen = dependence[(dependence["replacement"] == SHOWN_BY) & dependence["target"].isin(sites)]
    chosen = chosen[chosen["runs"] > 0]
    for variant, offset in ((FILLED, 0.16), (OPEN, -0.16)):
        for block, colour in COLOURS.items():
            rows = chosen[(chosen["variant"] == variant) & chosen["target"].str.endswith(f".{block}")]
            if rows.empty:
                continue
            y = [-sites.index(target) + offset for target in rows["target"]]
            _add_spans(figure, rows, y, colour, axis="2")
            says = "learned" if variant == FILLED else "frozen"
            figure.add_scatter(
                x=rows["loss_change"],
                y=y,
                xaxis="x2",
                yaxis="y2",
                mode="markers",
                name=f"{'MLP' if block == 'mlp' else block}, {says} routers",
                marker={
                    "symbol": SYMBOLS[block],
                    "size": 7,
                    "color": colour if variant == FILLED else PAGE[theme],
                    "line": {"width": 1.5, "color": colour},
                },
                customdata=list(zip(rows["target"], rows["runs"], strict=True)),
                hovertemplate="<b>%{customdata[0]}</b><br>%{x:+.4f} nats, %{customdata[1]} seeds<extra></extra>",
            )
    low, high = _reach(chosen[chosen["variant"].isin((FILLED, OPEN))])
    _mark_zero(figure, "2", theme=theme)
    figure.update_layout(
        xaxis2={"title": "Loss change, random routes (nats)", "range": [low, high]},
        yaxis2={
            "tickvals": [-place for place in range(len(sites))],
            "ticktext": [site.replace(".", " ").replace("mlp", "MLP") for site in sites],
        },
    )


def _draw_learned(figure: go.Figure, learned: pd.DataFrame, *, theme: ThemeName) -> None:
    y = [-place for place in range(len(learned))]
    _add_spans(figure, learned, y, IDENTITIES[2], axis="3")
    figure.add_scatter(
        x=learned["test_loss_difference"],
        y=y,
        xaxis="x3",
        yaxis="y3",
        mode="markers",
        marker={"symbol": "diamond", "size": 8, "color": IDENTITIES[2]},
        hovertemplate="%{x:+.4f} nats<extra></extra>",
        name="learned minus frozen",
        showlegend=False,
    )
    low, high = _reach(learned)
    _mark_zero(figure, "3", theme=theme)
    figure.update_layout(
        xaxis3={"title": "Loss, learned minus frozen (nats)", "range": [low, high]},
        yaxis3={"tickvals": y, "ticktext": [f"seed {seed}" for seed in learned["seed"]]},
    )
    if learned.empty:
        figure.add_annotation(
            text="no pair of twins was finished",
            x=0.5,
            y=0.0,
            xref="x3 domain",
            yref="y3",
            showarrow=False,
            font={"size": 11, "color": QUIET_INK[theme]},
        )


def _add_spans(figure: go.Figure, rows: pd.DataFrame, y: list[float] | list[int], colour: str, *, axis: str) -> None:
    line_x: list[float | None] = []
    line_y: list[float | None] = []
    for low, high, place in zip(rows["low"], rows["high"], y, strict=True):
        line_x += [low, high, None]
        line_y += [place, place, None]
    if line_x:
        figure.add_scatter(
            x=line_x,
            y=line_y,
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            mode="lines",
            line={"color": colour, "width": 2},
            hoverinfo="skip",
            showlegend=False,
        )


def _reach(rows: pd.DataFrame) -> tuple[float, float]:
    """From the smallest to the largest value and zero, with some room."""
    if rows.empty:
        return -0.1, 0.1
    low, high = min(0.0, float(rows["low"].min())), max(0.0, float(rows["high"].max()))
    room = max(high - low, 1e-3) * 0.05
    return low - room, high + room


def _mark_zero(figure: go.Figure, axis: str, *, theme: ThemeName) -> None:
    figure.add_shape(
        type="line",
        x0=0,
        x1=0,
        y0=0,
        y1=1,
        xref=f"x{axis}",
        yref=f"y{axis} domain",
        line={"color": QUIET_INK[theme], "width": 1},
    )
