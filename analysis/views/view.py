"""What a view is, and the words that captions share."""

import dataclasses
from collections.abc import Callable
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.exhibit import Exhibit
from analysis.figures.labels import site_label, visible
from analysis.figures.theme import ThemeName
from analysis.tables import sites_table
from uoe_model.trace import RoutingTrace

MAP: Final = "map"
MAX_NAME: Final = 24  # letters of a unit's text


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One way to look at an exhibit.

    Attributes:
        title: what the reader picks.
        rows: the table behind the figure, as it is filtered now.
        figure: the same drawn; None for the map, which is drawn by itself (`analysis.exports.maps`).
        caption: one or two sentences under the figure, without a full stop at the end of a name.
        missing: why there is nothing to show; "" if there is.
    """

    title: str
    rows: Callable[[Exhibit], pd.DataFrame]
    figure: Callable[[Exhibit, ThemeName], go.Figure] | None
    caption: Callable[[Exhibit], str]
    missing: Callable[[Exhibit], str] = lambda exhibit: ""


def site_name(exhibit: Exhibit) -> str:
    """Name of the selected site: `L2 MLP`."""
    rows = exhibit.run.tables.table(sites_table)
    row = rows[rows["site_id"] == exhibit.site_id].iloc[0]
    return site_label(int(row["layer"]), str(row["block"]))


def unit_name(trace: RoutingTrace, unit_id: int) -> str:
    """How a unit is called: its text and position, or its place in the picture."""
    units = trace.units
    if units.modality[unit_id] == "image" and units.grid_row[unit_id] < 0:
        return f"the class token {units.text[unit_id]}".rstrip()
    if units.modality[unit_id] == "image":
        return f"cell in row {int(units.grid_row[unit_id])}, column {int(units.grid_col[unit_id])}"
    text = visible(str(units.text[unit_id]))
    text = text.rstrip() or text
    return f"“{text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + '…'}” at {int(units.position[unit_id])}"


def subject(exhibit: Exhibit) -> str:
    """What a caption speaks of: the model and its input, with what was changed."""
    run = exhibit.run
    what = f"{len(exhibit.runs)} inputs pooled" if exhibit.is_pooled else run.name
    changes = f", routing changed: {run.changes}" if run.changes else ""
    return f"{run.trace.run.model} on {what}{changes}"


def lit_words(exhibit: Exhibit) -> str:
    """A sentence for captions on what the selection lights, after a space; "" if it filters nothing."""
    words = exhibit.describe_filter()
    return f" Only {words} are lit." if words else ""
