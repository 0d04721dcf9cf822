"""A chart with its two ways out: the figure through its own camera button, its table as CSV."""

from collections.abc import Callable
from typing import Final, Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.theme import ThemeName, chart_config

FORMATS: Final = ("SVG", "PNG")
FORMAT_KEY: Final = "image_format"
NO_ROOM: Final = ("zoom2d", "pan2d", "zoomIn2d", "zoomOut2d")  # dragging zooms, a double click undoes it


def page_theme() -> ThemeName:
    """Theme of the visitor's page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def render_format_picker() -> None:
    """Let the visitor choose what the camera buttons of the charts save."""
    st.session_state.setdefault(FORMAT_KEY, FORMATS[0])
    st.segmented_control(
        "Charts are saved as",
        FORMATS,
        key=FORMAT_KEY,
        required=True,
        persist_state="session",
        help="The camera button above each chart saves it in this format. SVG is vector graphics, PNG three times the "
        "size on screen. Maps have their own SVG and PNG buttons.",
    )


def render_chart(
    figure: go.Figure,
    rows: pd.DataFrame,
    *,
    name: str,
    alt: str,
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
) -> None:
    """Draw a figure of a run and the button that saves the table it was drawn from.

    Args:
        name: key of the chart, and name of the files.
        alt: what the chart shows, for those who cannot see it.
    """
    config = chart_config(f"uoe-{name}", "png" if st.session_state.get(FORMAT_KEY) == "PNG" else "svg")
    config["modeBarButtonsToRemove"] = [*config["modeBarButtonsToRemove"], *NO_ROOM]
    st.plotly_chart(
        figure,
        theme=None,
        key=f"chart_{name}",
        config=config,
        on_select=on_select,
        selection_mode="points",
        alt=alt,
    )
    render_csv(rows, name=name, label="CSV of this figure")


def render_csv(rows: pd.DataFrame, *, name: str, label: str) -> None:
    """Draw a button that saves a table; the file is made when it is asked for."""
    st.download_button(
        label,
        data=lambda: rows.to_csv(index=False).encode("utf-8"),
        file_name=f"uoe-{name}.csv",
        mime="text/csv",
        key=f"csv_{name}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )
