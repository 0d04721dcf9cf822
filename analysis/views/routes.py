"""Views of where units went: the map, the flow, the experts of one unit."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.exhibit import Exhibit
from analysis.figures.flow import build_flow_figure
from analysis.figures.theme import ThemeName
from analysis.figures.unit_atlas import DOTS, build_unit_atlas_figure
from analysis.glossary import TERMS
from analysis.routes import unit_routes
from analysis.transitions import flow_sites, transitions
from analysis.unit_experts import unit_experts
from analysis.views.view import MAP, View, lit_words, site_name, subject, unit_name
from uoe_model.errors import TraceError
from uoe_model.trace import FILLER


def _map_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(unit_routes, site_ids=(exhibit.site_id,))
    return rows.assign(is_lit=True if exhibit.lit is None else exhibit.lit)


def _map_caption(exhibit: Exhibit) -> str:
    kind = "Cells of the picture" if exhibit.run.is_picture else "Tokens"
    return (
        f"{kind} coloured by the expert that kept them at {site_name(exhibit)} ({subject(exhibit)}). Hatched: dropped,"
        " kept by no expert; hatched at the foot: partly dropped"
        f"{'; dotted along the top: filler, taken unasked' if _has_filler(exhibit) else ''}.{lit_words(exhibit)}"
    )


def _has_filler(exhibit: Exhibit) -> bool:
    return bool((exhibit.trace.assignments.status == FILLER).any())


def _flow_rows(exhibit: Exhibit) -> pd.DataFrame:
    chain, lit = flow_sites(exhibit.trace, exhibit.site_id), exhibit.lit
    if lit is None or exhibit.is_pooled:
        return exhibit.statistics.table(transitions, site_ids=chain)
    selection = dataclasses.replace(exhibit.selection, units=(), pinned=())
    return exhibit.run.tables.part(f"flow {selection}", lambda: transitions(exhibit.trace, chain, lit=lit))


def _flow_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_flow_figure(_flow_rows(exhibit), palettes=exhibit.palettes, theme=theme, selection=exhibit.selection)


def _no_flow(exhibit: Exhibit) -> str:
    if len(flow_sites(exhibit.trace, exhibit.site_id)) > 1:
        return ""
    return f"A flow leads through layers of one block, and {site_name(exhibit)} is the only site of its block here."


def _unit_rows(exhibit: Exhibit) -> pd.DataFrame:
    unit = exhibit.selection.unit_id
    if unit is None:
        raise TraceError(_no_unit(exhibit))
    return exhibit.run.tables.table(unit_experts, unit_id=unit)


def _unit_caption(exhibit: Exhibit) -> str:
    unit = exhibit.selection.unit_id
    name = "" if unit is None else unit_name(exhibit.trace, unit)
    return (
        f"Router probabilities of {name} at every site ({subject(exhibit)}). Numbers: rank among the experts it asked"
        " for, 0 first; bordered: kept; hatched: dropped, because the expert was full"
        f"{f'; {DOTS}: filler, which took it unasked' if _has_filler(exhibit) else ''}."
    )


def _no_unit(exhibit: Exhibit) -> str:
    return "No unit is selected: click a token or a cell on the map." if exhibit.selection.unit_id is None else ""


ROUTE_VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        MAP: View(title="Map", rows=_map_rows, figure=None, caption=_map_caption),
        "flow": View(
            title="Flow between sites",
            rows=_flow_rows,
            figure=_flow_figure,
            caption=lambda e: f"Units from expert to expert ({subject(e)}). {TERMS['transition'].sentence}",
            missing=_no_flow,
        ),
        "unit": View(
            title="Experts of one unit",
            rows=_unit_rows,
            figure=lambda e, theme: build_unit_atlas_figure(_unit_rows(e), theme=theme),
            caption=_unit_caption,
            missing=_no_unit,
        ),
    }
)
