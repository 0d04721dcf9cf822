"""Views of how full experts were: the atlas, the bars of a site, drops by position."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.drops import dropped_assignments, drops_by_position
from analysis.exhibit import Exhibit
from analysis.figures.atlas import build_atlas_figure
from analysis.figures.drop_strip import build_drop_strip_figure
from analysis.figures.theme import ThemeName
from analysis.figures.utilisation import build_utilisation_figure
from analysis.glossary import TERMS
from analysis.utilisation import expert_load
from analysis.views.view import View, site_name, subject


def _atlas_rows(exhibit: Exhibit) -> pd.DataFrame:
    statistic = dropped_assignments if exhibit.options.atlas == "drop_share" else expert_load
    return exhibit.statistics.table(statistic)


def _atlas_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    selection = exhibit.selection
    selected = (exhibit.site_id, selection.experts[-1]) if selection.experts else None
    return build_atlas_figure(_atlas_rows(exhibit), value=exhibit.options.atlas, theme=theme, selected=selected)


def _atlas_caption(exhibit: Exhibit) -> str:
    term = TERMS[exhibit.options.atlas]
    return f"{term.name.capitalize()} of every expert ({subject(exhibit)}). {term.sentence}"


def _load_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.statistics.table(expert_load)
    return rows[rows["site_id"] == exhibit.site_id]


def _load_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_utilisation_figure(
        _load_rows(exhibit), site_id=exhibit.site_id, theme=theme, selected=exhibit.selection.experts
    )


def _load_caption(exhibit: Exhibit) -> str:
    return (
        f"Load of every expert at {site_name(exhibit)} in patches ({subject(exhibit)}): kept, dropped on top, slots as"
        " outline, and the load of the model's test set with its 95% chance band."
    )


def _drop_rows(exhibit: Exhibit) -> pd.DataFrame:
    if exhibit.selection.experts:
        return exhibit.statistics.table(
            drops_by_position, site_id=exhibit.site_id, expert_ids=exhibit.selection.experts
        )
    rows = exhibit.statistics.table(drops_by_position)
    return rows if exhibit.options.strip_sites == "all" else rows[rows["site_id"] == exhibit.site_id]


def _drop_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    experts_chosen, lit = bool(exhibit.selection.experts), exhibit.lit  # whom an expert turned away it has not lit
    positions = None if lit is None or experts_chosen or exhibit.is_pooled else exhibit.trace.units.position[lit]
    figure = build_drop_strip_figure(
        _drop_rows(exhibit), theme=theme, lit_positions=None if positions is None else positions.tolist()
    )
    if experts_chosen:
        experts = ", ".join(f"E{expert}" for expert in exhibit.selection.experts)
        figure.update_layout(title_text=f"{figure.layout.title.text} to {experts}")
    return figure


def _drop_caption(exhibit: Exhibit) -> str:
    experts = ", ".join(f"E{expert}" for expert in exhibit.selection.experts)
    where = "all sites" if exhibit.options.strip_sites == "all" and not experts else site_name(exhibit)
    of_whom = f" of {experts}" if experts else ""
    return f"Share of requests{of_whom} that was dropped at every position, at {where} ({subject(exhibit)})."


LOAD_VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        "atlas": View(title="Atlas", rows=_atlas_rows, figure=_atlas_figure, caption=_atlas_caption),
        "load": View(title="Load of every expert", rows=_load_rows, figure=_load_figure, caption=_load_caption),
        "drop-strip": View(title="Drop strip", rows=_drop_rows, figure=_drop_figure, caption=_drop_caption),
    }
)
