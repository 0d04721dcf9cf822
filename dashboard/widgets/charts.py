"""A view on the page: its figure, and the way to its files."""

from collections.abc import Callable
from typing import Final, Literal

import pandas as pd
import streamlit as st

from analysis.exhibit import Exhibit
from analysis.figures.theme import ThemeName
from analysis.views import VIEWS, missing
from dashboard import cache

CONFIG: Final = {"displaylogo": False, "displayModeBar": False}  # files are made under Export


def page_theme() -> ThemeName:
    """Theme of the visitor's page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def render_view(exhibit: Exhibit, name: str, *, on_select: Callable[[], None] | Literal["ignore"] = "ignore") -> None:
    """Draw the figure of a view, or say why there is none."""
    view = VIEWS[name]
    if view.figure is None:
        raise ValueError(f"{name} is drawn by its own element")
    if reason := missing(exhibit, name):
        st.info(reason, icon=":material/block:")
        return
    build, theme = view.figure, page_theme()
    figure = cache.part(_identity(exhibit), f"{name} {theme}", lambda: build(exhibit, theme))
    st.plotly_chart(
        figure,
        theme=None,
        key=f"chart_{name}",
        config=CONFIG,
        on_select=on_select,
        selection_mode="points",
        alt=view.caption(exhibit),
    )


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


def _identity(exhibit: Exhibit) -> str:
    """A text that differs whenever a figure of the exhibit may differ."""
    pinned = "" if exhibit.pinned is None else str(exhibit.pinned.serial)
    measured = "" if exhibit.routing_value is None else "measured"
    return f"{exhibit.run.serial} {exhibit.selection} {exhibit.options} {pinned} {measured}"
