"""What an image classifier answered: its most probable classes."""

from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.labels import axis_title, plain
from analysis.figures.theme import KEPT_BAR, NEUTRAL, ROW_PX, ThemeName
from uoe_model.result import ClassPrediction

TITLE: Final = "Class probabilities"


def class_table(prediction: ClassPrediction) -> pd.DataFrame:
    """List the classes of a prediction, most probable first, lower ids first among equals.

    Returns:
        class_id (int32), label (str), probability (float64): 0 to 1
    """
    table = pd.DataFrame(
        {
            "class_id": pd.Series(range(len(prediction.labels)), dtype="int32"),
            "label": pd.Series(list(prediction.labels), dtype="str"),
            "probability": prediction.probabilities,
        }
    )
    return table.sort_values(["probability", "class_id"], ascending=[False, True], ignore_index=True)


def build_class_bars_figure(classes: pd.DataFrame, *, top: int = 10, theme: ThemeName = "light") -> go.Figure:
    """Draw the first `top` classes as bars from 0 to 1.

    Args:
        classes: `class_table`.
    """
    rows = classes.head(top)
    if rows.empty:
        return nothing_to_draw(TITLE, "The model has no classes.", theme=theme)
    return bar_rows(
        TITLE,
        [plain(label) for label in rows["label"]],
        rows["probability"].tolist(),
        [f"class {class_id}" for class_id in rows["class_id"]],
        theme=theme,
    )


def bar_rows(
    title: str, labels: list[str], probabilities: list[float], details: list[str], *, theme: ThemeName
) -> go.Figure:
    """Draw one horizontal bar per answer, the first on top and set apart, with its probability printed.

    Args:
        labels, details: already escaped for plotly.
    """
    figure = build_frame(title, theme=theme, height=len(labels) * ROW_PX + 110)
    places = list(range(len(labels)))
    figure.add_bar(
        orientation="h",
        y=places,
        x=probabilities,
        width=0.72,
        marker={"color": [KEPT_BAR] + [NEUTRAL[theme]] * (len(labels) - 1), "line": {"width": 0}},
        text=[_percent(probability) for probability in probabilities],
        textposition="outside",
        textangle=0,
        cliponaxis=False,
        customdata=list(zip(labels, details, strict=True)),
        hovertemplate="<b>%{customdata[0]}</b><br>probability %{x:.4f}<br>%{customdata[1]}<extra></extra>",
    )
    figure.update_xaxes(
        title=axis_title("probability"), range=[0, 1.12], tickvals=[0, 0.25, 0.5, 0.75, 1], fixedrange=True
    )
    figure.update_yaxes(
        tickvals=places, ticktext=labels, range=[len(labels) - 0.5, -0.5], showgrid=False, ticks="", fixedrange=True
    )
    return figure


def _percent(probability: float) -> str:
    return "< 0.1 %" if 0 < probability < 0.001 else f"{probability:.1%}".replace("%", " %")
