"""How surprising every token was, or how sure the model was of its next one, along the text."""

import math
from typing import Final, Literal

import pandas as pd
import plotly.graph_objects as go

from analysis.columns import BoolArray
from analysis.figures.labels import axis_title
from analysis.figures.strip import build_strip, nothing_low
from analysis.figures.theme import ThemeName
from analysis.loss import loss_of_unit

LOSS_TOP: Final = 12.0  # nats; a uniform guess over 8,000 tokens costs 9.0
LOSS_STEP: Final = 4.0

StripValue = Literal["loss", "output_probability"]


def build_loss_strip_figure(
    units: pd.DataFrame,
    *,
    value: StripValue = "loss",
    theme: ThemeName = "light",
    lit: BoolArray | None = None,
) -> go.Figure:
    """Draw the loss of every token, or the probability of the model's own next token, along the text.

    The loss axis reaches from 0 to 12 nats, and further in steps of 4 only when a token needs it.

    Args:
        units: `units_table`.
        lit: bool (units,), the units in colour, the others are grey; None for all.
    """
    if value == "loss":
        title, axis, number = "Loss of every token", "Nats", "loss %{y:.3f} nats"
        quantity = axis_title("loss")
        values = loss_of_unit(units)
        missing = "The trace holds no loss."
    else:
        title, axis, number = (
            "Probability of the model's own next token",
            axis_title("probability"),
            "probability %{y:.3f}",
        )
        quantity = axis
        values = units["output_probability"]
        missing = "The trace holds no output."
    if not values.notna().any():
        return nothing_low(title, missing, theme=theme)
    top = _loss_top(values.max()) if value == "loss" else 1.0
    return build_strip(title, units, values, axis=axis, quantity=quantity, top=top, number=number, theme=theme, lit=lit)


def _loss_top(largest: float) -> float:
    steps = math.ceil(max(0.0, largest - LOSS_TOP) / LOSS_STEP)
    return LOSS_TOP + LOSS_STEP * steps
