"""How undecided one router was about every unit, along the input."""

import math

import pandas as pd
import plotly.graph_objects as go

from analysis.columns import BoolArray
from analysis.figures.labels import axis_title, site_label, term_title
from analysis.figures.strip import build_strip, nothing_low
from analysis.figures.theme import QUIET_INK, ThemeName


def build_entropy_strip_figure(
    entropy: pd.DataFrame,
    units: pd.DataFrame,
    sites: pd.DataFrame,
    *,
    site_id: int,
    theme: ThemeName = "light",
    lit: BoolArray | None = None,
) -> go.Figure:
    """Draw the router entropy of every unit at one site, from 0 to ln(num_experts), where the router is undecided.

    Args:
        entropy: `router_entropy`.
        units: `units_table`.
        sites: `sites_table`.
        lit: bool (units,), the units in colour, the others are grey; None for all.
    """
    site = sites[sites["site_id"] == site_id].iloc[0]
    title = f"{term_title('entropy')} at {site_label(site['layer'], site['block'])}"
    rows = entropy[entropy["site_id"] == site_id]
    if not rows["entropy"].notna().any():
        reason = str(rows["reason"].iloc[0]) if len(rows) else "the trace has no units"
        return nothing_low(title, f"Nothing to draw: {reason}.", theme=theme)
    num_experts = int(site["num_experts"])
    undecided = max(math.log(num_experts), 0.1)
    figure = build_strip(
        title,
        units,
        rows["entropy"],
        axis="Nats",
        quantity=axis_title("entropy"),
        top=undecided * 1.08,
        number="entropy %{y:.3f} nats",
        theme=theme,
        lit=lit,
    )
    if num_experts > 1:
        figure.add_hline(
            y=math.log(num_experts),
            line={"color": QUIET_INK[theme], "width": 1, "dash": "dash"},
            annotation={"text": f"undecided: ln {num_experts}", "font": {"size": 11, "color": QUIET_INK[theme]}},
            annotation_position="top right",
        )
    return figure
