"""Every view by name: its table, its figure and its caption, the same for the page and for files."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import pandas as pd
import plotly.graph_objects as go

from analysis.compare import load_difference, route_changes
from analysis.confidence import router_entropy
from analysis.drops import dropped_assignments, drops_by_position
from analysis.exhibit import Exhibit
from analysis.figures.atlas import build_atlas_figure
from analysis.figures.candidates import build_candidates_figure, candidate_table
from analysis.figures.change_strip import build_change_strip_figure
from analysis.figures.class_bars import build_class_bars_figure, class_table
from analysis.figures.difference_atlas import build_difference_atlas_figure
from analysis.figures.drop_strip import build_drop_strip_figure
from analysis.figures.entropy_strip import build_entropy_strip_figure
from analysis.figures.flow import build_flow_figure
from analysis.figures.labels import site_label, visible
from analysis.figures.loss_strip import build_loss_strip_figure
from analysis.figures.routing_value import build_routing_value_figure
from analysis.figures.theme import ThemeName
from analysis.figures.unit_atlas import build_unit_atlas_figure
from analysis.figures.utilisation import build_utilisation_figure
from analysis.glossary import TERMS
from analysis.loss import loss_of_unit
from analysis.routes import unit_routes
from analysis.tables import sites_table, units_table
from analysis.transitions import flow_sites, transitions
from analysis.unit_experts import unit_experts
from analysis.utilisation import expert_load
from uoe_model.errors import MismatchError, TraceError
from uoe_model.result import ClassPrediction, EmbeddingPrediction, TextPrediction
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


def missing(exhibit: Exhibit, name: str) -> str:
    """Why a view has nothing to show; "" if it has."""
    if exhibit.trace.num_units == 0 or exhibit.trace.num_sites == 0:
        return "The trace has no units or no sites, so there is nothing to draw."
    return VIEWS[name].missing(exhibit)


def _subject(exhibit: Exhibit) -> str:
    run = exhibit.run
    what = f"{len(exhibit.runs)} inputs pooled" if exhibit.is_pooled else run.name
    changes = f", routing changed: {run.changes}" if run.changes else ""
    return f"{run.trace.run.model} on {what}{changes}"


def _lit_words(exhibit: Exhibit) -> str:
    words = exhibit.describe_filter()
    return f" Only {words} are lit." if words else ""


# ---------------------------------------------------------------- map


def _map_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(unit_routes, site_ids=(exhibit.site_id,))
    return rows.assign(is_lit=True if exhibit.lit is None else exhibit.lit)


def _map_caption(exhibit: Exhibit) -> str:
    kind = "Cells of the picture" if exhibit.run.is_picture else "Tokens"
    return (
        f"{kind} coloured by the expert that kept them at {site_name(exhibit)} ({_subject(exhibit)}). Hatched: dropped,"
        f" kept by no expert; hatched at the foot: partly dropped.{_lit_words(exhibit)}"
    )


# ---------------------------------------------------------------- atlas, load, drops


def _atlas_rows(exhibit: Exhibit) -> pd.DataFrame:
    statistic = dropped_assignments if exhibit.options.atlas == "drop_share" else expert_load
    return exhibit.statistics.table(statistic)


def _atlas_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    selection = exhibit.selection
    selected = (exhibit.site_id, selection.experts[-1]) if selection.experts else None
    return build_atlas_figure(_atlas_rows(exhibit), value=exhibit.options.atlas, theme=theme, selected=selected)


def _atlas_caption(exhibit: Exhibit) -> str:
    term = TERMS[exhibit.options.atlas]
    return f"{term.name.capitalize()} of every expert ({_subject(exhibit)}). {term.sentence}"


def _load_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.statistics.table(expert_load)
    return rows[rows["site_id"] == exhibit.site_id]


def _load_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_utilisation_figure(
        _load_rows(exhibit), site_id=exhibit.site_id, theme=theme, selected=exhibit.selection.experts
    )


def _load_caption(exhibit: Exhibit) -> str:
    return (
        f"Load of every expert at {site_name(exhibit)} in patches ({_subject(exhibit)}): kept, dropped on top, slots as"
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
    return f"Share of requests{of_whom} that was dropped at every position, at {where} ({_subject(exhibit)})."


# ---------------------------------------------------------------- strips along the input


def _entropy_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(router_entropy, site_ids=(exhibit.site_id,))
    return rows.assign(is_lit=True if exhibit.lit is None else exhibit.lit)


def _entropy_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    tables = exhibit.run.tables
    return build_entropy_strip_figure(
        _entropy_rows(exhibit),
        tables.table(units_table),
        tables.table(sites_table),
        site_id=exhibit.site_id,
        theme=theme,
        lit=exhibit.lit,
    )


def _loss_rows(exhibit: Exhibit) -> pd.DataFrame:
    rows = exhibit.run.tables.table(units_table)
    columns = ["unit_id", "example_id", "position", "text", "output_text", "output_probability"]
    return rows[columns].assign(loss=loss_of_unit(rows), is_lit=True if exhibit.lit is None else exhibit.lit)


def _loss_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    return build_loss_strip_figure(exhibit.run.tables.table(units_table), theme=theme, lit=exhibit.lit)


def _no_loss(exhibit: Exhibit) -> str:
    return "A picture has no loss per cell." if exhibit.run.is_picture else ""


# ---------------------------------------------------------------- flow and output


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


def _output_rows(exhibit: Exhibit) -> pd.DataFrame:
    prediction = exhibit.run.prediction
    if isinstance(prediction, ClassPrediction):
        return class_table(prediction)
    if isinstance(prediction, TextPrediction):
        return candidate_table(prediction)
    raise TraceError(_no_output(exhibit))


def _output_figure(exhibit: Exhibit, theme: ThemeName) -> go.Figure:
    rows = _output_rows(exhibit)
    if isinstance(exhibit.run.prediction, ClassPrediction):
        return build_class_bars_figure(rows, top=5, theme=theme)
    return build_candidates_figure(rows, top=5, theme=theme)


def _output_caption(exhibit: Exhibit) -> str:
    if isinstance(exhibit.run.prediction, ClassPrediction):
        return f"Probabilities of the classes ({_subject(exhibit)})."
    return f"The most probable next tokens, over the whole vocabulary ({_subject(exhibit)})."


def _no_output(exhibit: Exhibit) -> str:
    if isinstance(exhibit.run.prediction, EmbeddingPrediction):
        return "A text encoder answers with a vector; it names no class and no next token."
    return "A trace alone holds no answer of the model." if exhibit.run.prediction is None else ""


def _unit_rows(exhibit: Exhibit) -> pd.DataFrame:
    unit = exhibit.selection.unit_id
    if unit is None:
        raise TraceError(_no_unit(exhibit))
    return exhibit.run.tables.table(unit_experts, unit_id=unit)


def _unit_caption(exhibit: Exhibit) -> str:
    unit = exhibit.selection.unit_id
    name = "" if unit is None else unit_name(exhibit.trace, unit)
    return (
        f"Router probabilities of {name} at every site ({_subject(exhibit)}). Numbers: rank among the experts it asked"
        " for, 0 first; bordered: kept; hatched: dropped, because the expert was full."
    )


def _no_unit(exhibit: Exhibit) -> str:
    return "No unit is selected: click a token or a cell on the map." if exhibit.selection.unit_id is None else ""


def unit_name(trace: RoutingTrace, unit_id: int) -> str:
    """How a unit is called: its text and position, or its place in the picture."""
    units = trace.units
    if units.modality[unit_id] == "image" and units.grid_row[unit_id] < 0:
        return f"the class token {units.text[unit_id]}".rstrip()
    if units.modality[unit_id] == "image":
        return f"cell in row {int(units.grid_row[unit_id])}, column {int(units.grid_col[unit_id])}"
    text = visible(str(units.text[unit_id]))
    return f"“{text if len(text) <= MAX_NAME else text[: MAX_NAME - 1] + '…'}” at {int(units.position[unit_id])}"


# ---------------------------------------------------------------- comparison and routing value


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


VIEWS: Final[Mapping[str, View]] = MappingProxyType(
    {
        MAP: View(title="Map", rows=_map_rows, figure=None, caption=_map_caption),
        "atlas": View(title="Atlas", rows=_atlas_rows, figure=_atlas_figure, caption=_atlas_caption),
        "load": View(title="Load of every expert", rows=_load_rows, figure=_load_figure, caption=_load_caption),
        "drop-strip": View(title="Drop strip", rows=_drop_rows, figure=_drop_figure, caption=_drop_caption),
        "entropy-strip": View(
            title="Entropy strip",
            rows=_entropy_rows,
            figure=_entropy_figure,
            caption=lambda e: f"Router entropy of every unit at {site_name(e)}, nats ({_subject(e)}).{_lit_words(e)}",
        ),
        "loss-strip": View(
            title="Loss strip",
            rows=_loss_rows,
            figure=_loss_figure,
            caption=lambda e: f"Loss of every token, in nats ({_subject(e)}).{_lit_words(e)}",
            missing=_no_loss,
        ),
        "flow": View(
            title="Flow between sites",
            rows=_flow_rows,
            figure=_flow_figure,
            caption=lambda e: f"Units from expert to expert ({_subject(e)}). {TERMS['transition'].sentence}",
            missing=_no_flow,
        ),
        "unit": View(
            title="Experts of one unit",
            rows=_unit_rows,
            figure=lambda e, theme: build_unit_atlas_figure(_unit_rows(e), theme=theme),
            caption=_unit_caption,
            missing=_no_unit,
        ),
        "output": View(
            title="Output of the model",
            rows=_output_rows,
            figure=_output_figure,
            caption=_output_caption,
            missing=_no_output,
        ),
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
