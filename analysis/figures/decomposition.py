"""What fewer experts cost a decomposed model: error and quality against the share of experts chosen."""

from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.theme import IDENTITIES, INK, PAGE, QUIET_INK, ThemeName
from uoe_model.checkpoint_json import ROUTES, SCOPES

TITLE: Final = "Error with fewer experts"
SCOPE_NAMES: Final = {"both": "both blocks", "attention": "attention", "mlp": "MLP"}
ROUTE_NAMES: Final = {"calibrated": "calibrated routers", "random": "random", "longest": "longest outputs (no router)"}
COLOURS: Final = {"calibrated": IDENTITIES[4], "random": IDENTITIES[5], "longest": IDENTITIES[2]}
SYMBOLS: Final = {"calibrated": "circle", "random": "square", "longest": "diamond"}
DASHES: Final = {"calibrated": "solid", "random": "dot", "longest": "dash"}
QUALITIES: Final = {"loss": "Loss (nats)", "agreement": "Same class", "cosine": "Cosine"}
"""What the second row may show; the first of these that was measured."""

CHOSEN_NAME: Final = "what the model runs with"
HEIGHT_PX: Final = 460
GAP: Final = 0.06
MOST_TICKS: Final = 4


def build_decomposition_figure(table: pd.DataFrame, *, theme: ThemeName = "light") -> go.Figure:
    """Draw the error of the hidden states, and below it the model's quality, in one column per scope.

    All columns count in the same share of experts, from none to all, where every way to choose meets the dense model.
    The second row is the loss of a language model, the share of unchanged classes of a classifier, or the cosine of
    pooled vectors. A ring marks the numbers of experts that the model runs with; where they are not the same share of
    both blocks, the ring stands beside the lines.

    Args:
        table: `decomposition_curve`.
    """
    if table.empty:
        return nothing_to_draw(TITLE, "Its routers were not calibrated, so nothing was measured.", theme=theme)
    quality = next(name for name in QUALITIES if table[name].notna().any())
    figure = build_frame(TITLE, theme=theme, height=HEIGHT_PX)
    scopes = [scope for scope in SCOPES if (table["scope"] == scope).any()]
    for row, value in enumerate(("hidden_error", quality)):
        for column, scope in enumerate(scopes):
            number = row * len(scopes) + column + 1
            axes = {"xaxis": f"x{number}" if number > 1 else "x", "yaxis": f"y{number}" if number > 1 else "y"}
            part = table[table["scope"] == scope]
            _add_rings(figure, part, value, axes, is_named=number == 1, theme=theme)
            for routes in ROUTES:
                _add_line(figure, part, value, routes, axes, is_named=number == 1)
    _lay_out(figure, table, scopes, quality, theme=theme)
    return figure


def _add_line(
    figure: go.Figure, part: pd.DataFrame, value: str, routes: str, axes: dict[str, str], *, is_named: bool
) -> None:
    everything = (part["attention_top_k"] == part["attention_experts"]) & (part["mlp_top_k"] == part["mlp_experts"])
    rows = part[(part["routes"] == routes) | everything]
    for is_in_step, line in rows.groupby("is_in_step"):
        line = line.sort_values("expert_share", kind="stable")
        figure.add_scatter(
            x=line["expert_share"],
            y=line[value],
            **axes,
            name=ROUTE_NAMES[routes],
            mode="lines+markers" if is_in_step else "markers",
            line={"color": COLOURS[routes], "width": 2, "dash": DASHES[routes]},
            marker={"symbol": SYMBOLS[routes], "size": 7, "color": COLOURS[routes]},
            legendgroup=routes,
            showlegend=is_named and bool(is_in_step),
            customdata=[_words(row, value) for row in line.to_dict("records")],
            hovertemplate="<b>" + ROUTE_NAMES[routes] + "</b><br>%{customdata}<extra></extra>",
        )


def _add_rings(
    figure: go.Figure, part: pd.DataFrame, value: str, axes: dict[str, str], *, is_named: bool, theme: ThemeName
) -> None:
    rows = part[part["is_chosen"] & (part["routes"] == "calibrated")]
    if rows.empty:
        return
    figure.add_scatter(
        x=rows["expert_share"],
        y=rows[value],
        **axes,
        name=CHOSEN_NAME,
        mode="markers",
        marker={"symbol": "circle", "size": 14, "color": PAGE[theme], "line": {"width": 1.5, "color": INK[theme]}},
        legendgroup="chosen",
        showlegend=is_named,
        hoverinfo="skip",
    )


def _words(row: dict[Any, Any], value: str) -> str:
    number = f"{row[value]:.1%} off" if value == "hidden_error" else f"{QUALITIES[value]} {row[value]:.4f}"
    return (
        f"attention {row['attention_top_k']} of {row['attention_experts']}, "
        f"MLP {row['mlp_top_k']} of {row['mlp_experts']}: {number}"
    )


def _lay_out(figure: go.Figure, table: pd.DataFrame, scopes: list[str], quality: str, *, theme: ThemeName) -> None:
    width = (1 - GAP * (len(scopes) - 1)) / len(scopes)
    for row, value in enumerate(("hidden_error", quality)):
        for column, scope in enumerate(scopes):
            number = row * len(scopes) + column + 1
            name = str(number) if number > 1 else ""
            left = column * (width + GAP)
            figure.layout[f"xaxis{name}"] = {
                "domain": [left, left + width],
                "anchor": f"y{name}",
                "range": [0, 1.05],
                "zeroline": False,
                "title": _x_title(table, scope) if row else None,
                **_ticks(table, scope, is_labelled=bool(row)),
            }
            figure.layout[f"yaxis{name}"] = {
                "domain": [0, 0.46] if row else [0.54, 1],
                "anchor": f"x{name}",
                "range": _range(table[value], value),
                "zeroline": False,
                "tickformat": ".0%" if value in ("hidden_error", "agreement") else None,
                "showticklabels": column == 0,
                "title": None if column else QUALITIES[value] if row else "Hidden-state error",
            }
            if not row:
                figure.add_annotation(
                    text=SCOPE_NAMES[scope],
                    x=0.5,
                    xref=f"x{name} domain",
                    y=1,
                    yref=f"y{name} domain",
                    yanchor="bottom",
                    showarrow=False,
                    font={"size": 12, "color": QUIET_INK[theme]},
                )
    legend = {"y": -0.2, "yanchor": "top", "font": {"size": 11}}
    figure.update_layout(margin_t=56, showlegend=True, legend=legend)


def _x_title(table: pd.DataFrame, scope: str) -> str:
    return "share chosen" if scope == "both" else f"chosen of {table[f'{scope}_experts'].iloc[0]}"


def _ticks(table: pd.DataFrame, scope: str, *, is_labelled: bool) -> dict[str, Any]:
    """Shares where both blocks change, else whole numbers of experts."""
    if scope == "both":
        values, words = [0.0, 0.5, 1.0], ["0", "50 %", "100 %"]
    else:
        most = int(table[f"{scope}_experts"].iloc[0])
        step = -(-most // MOST_TICKS)
        counts = list(range(most, 0, -step))[::-1]
        values, words = [count / most for count in counts], [str(count) for count in counts]
    return {"tickvals": values, "ticktext": words, "showticklabels": is_labelled}


def _range(values: pd.Series, value: str) -> list[float]:
    """From nothing to all for shares and cosines; around what was measured for errors and losses."""
    low, high = float(values.min()), float(values.max())
    if value == "hidden_error":
        return [0.0, max(high, 0.01) * 1.05]
    if value == "loss":
        room = max(high - low, 1e-3) * 0.05
        return [low - room, high + room]
    return [min(low, 0.0), 1.05]
