"""Views of two runs side by side, and of what routing buys."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.compare import load_difference, route_changes
from analysis.exhibit import Exhibit
from analysis.figures.change_strip import build_change_strip_figure
from analysis.figures.difference_atlas import build_difference_atlas_figure
from analysis.figures.routing_value import build_routing_value_figure
from analysis.figures.theme import ThemeName
from analysis.views.view import View
from uoe_model.errors import MismatchError, TraceError


def _difference_rows(exhibit: Exhibit) -> pd.DataFrame:
    pinned = exhibit.pinned
    if pinned is None:
        raise TraceError(_not_comparable(exhibit))
    return exhibit.run.tables.part(f"difference {pinned.serial}", lambda: load_difference(pinned.trace, exhibit.trace))


def _difference_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    selection = exhibit.selection
    selected = (exhibit.site_id, selection.experts[-1]) if selection.experts else None
    return build_difference_atlas_figure(_difference_rows(exhibit), theme=theme, selected=selected)


def _change_rows(exhibit: Exhibit) -> pd.DataFrame:
    pinned = exhibit.pinned
    if pinned is None:
        raise TraceError(_not_comparable(exhibit))
    rows = exhibit.run.tables.part(f"changes {pinned.serial}", lambda: route_changes(pinned.trace, exhibit.trace))
    return rows[rows["site_id"] == exhibit.site_id]


def _change_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_change_strip_figure(_change_rows(exhibit), site_id=exhibit.site_id, theme=theme)


def _not_comparable(exhibit: Exhibit) -> str:
    if exhibit.pinned is None:
        return "No run is pinned as A: pin one, change something, and run again."
    return ""


def _not_alignable(exhibit: Exhibit) -> str:
    if exhibit.pinned is None:
        return _not_comparable(exhibit)
    try:
        rows = _change_rows(exhibit)
    except MismatchError as error:
        return str(error)
    return "" if len(rows) else "The two runs have no unit in common: routes can be compared for the same input only."


def _compared(exhibit: Exhibit) -> str:
    pinned = exhibit.pinned
    name = "" if pinned is None else f"{pinned.name}{', ' + pinned.changes if pinned.changes else ''}"
    return f"A: {name}; B: {exhibit.run.name}{', ' + exhibit.run.changes if exhibit.run.changes else ''}"


def _value_rows(exhibit: Exhibit) -> pd.DataFrame:
    if exhibit.routing_value is None:
        raise TraceError(_no_value(exhibit))
    return exhibit.routing_value


def _value_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_routing_value_figure(_value_rows(exhibit), theme=theme)


def _no_value(exhibit: Exhibit) -> str:
    return "" if exhibit.routing_value is not None else "What routing buys was not measured for this input yet."


CHANGE_VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        "atlas-difference": View(
            title="A and B: change of load",
            rows=_difference_rows,
            figure=_difference_figure,
            caption=lambda e: f"Relative load of B minus that of A, for every expert ({_compared(e)}).",
            missing=_not_comparable,
        ),
        "route-changes": View(
            title="A and B: change of loss and routes",
            rows=_change_rows,
            figure=_change_figure,
            caption=lambda e: f"Loss of B minus loss of A, for every unit; marks: changed routes ({_compared(e)}).",
            missing=_not_alignable,
        ),
        "routing-value": View(
            title="What routing buys",
            rows=_value_rows,
            figure=_value_figure,
            caption=lambda e: f"Loss added to {e.run.name} when routes of {e.trace.run.model} as trained are replaced.",
            missing=_no_value,
        ),
    }
)
