"""Tables of a run: what was dropped and who was full, the route of every unit, loads, how the sites are built."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from analysis.balance import load_balance
from analysis.drops import drop_events, dropped_assignments, dropped_units
from analysis.exhibit import Exhibit
from analysis.full_experts import full_experts
from analysis.routes import unit_routes
from analysis.tables import sites_table
from analysis.unit_drops import drops_by_unit
from analysis.utilisation import expert_load
from analysis.views import site_name
from dashboard.state import PageState
from dashboard.widgets.charts import render_csv


def render_drops(exhibit: Exhibit, state: PageState) -> None:
    """Draw which experts were full, and who was dropped there."""
    tables, site_id, name = exhibit.statistics, exhibit.site_id, site_name(exhibit)
    left, right = st.columns(2, gap="medium")
    with left:
        _render_full_experts(exhibit, state)
    with right:
        _render_dropped_most(exhibit, state)
    events = tables.table(drop_events)
    here = events[events["site_id"] == site_id]
    if exhibit.selection.experts:
        here = here[here["expert_id"].isin(exhibit.selection.experts)]
    if here.empty:
        st.caption(f"Nothing was dropped at {name}: no unit asked for an expert that was full.")
    else:
        st.markdown(f"**Dropped assignments at {name}**: who asked, and the expert that was full")
        _show(here, "drop_events", "dropped assignments", rename={"expert_id": "full_expert"})
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**By expert, at this site**")
        experts = tables.table(dropped_assignments)
        _show(experts[experts["site_id"] == site_id], "dropped_assignments", "drops by expert")
    with right:
        st.markdown("**Dropped units, by site** (no expert kept them)")
        _show(tables.table(dropped_units), "dropped_units", "dropped units")


def _render_full_experts(exhibit: Exhibit, state: PageState) -> None:
    found = exhibit.statistics.table(full_experts)
    full = found[found["is_full"]].sort_values(["dropped", "site_id", "expert_id"], ascending=[False, True, True])
    st.markdown("**Experts that were full**, over all sites. Select a row to select its expert.")
    columns = [
        "site_name",
        "expert_id",
        "example_id",
        "capacity",
        "requested",
        "kept",
        "dropped",
        "first_drop_position",
    ]
    _show_choice(
        full[columns].rename(columns={"site_name": "site", "expert_id": "expert", "first_drop_position": "full at"}),
        "full_experts",
        lambda place: state.select(
            site_id=int(full["site_id"].iloc[place]), experts=(int(full["expert_id"].iloc[place]),), status=None
        ),
    )
    render_csv(full, name="full_experts", label="CSV: experts that were full")


def _render_dropped_most(exhibit: Exhibit, state: PageState) -> None:
    units = exhibit.run.tables.table(drops_by_unit)
    lost = units[units["dropped"] > 0]
    kind = "Cells" if exhibit.run.is_picture else "Tokens"
    st.markdown(f"**{kind} that lost most**, over all sites. Select a row to select the unit.")
    columns = ["unit_id", "position", "text", "requested", "dropped", "drop_share", "dropped_sites"]
    _show_choice(
        lost[columns].rename(columns={"dropped_sites": "sites that dropped it"}),
        "dropped_most",
        lambda place: state.select(units=(int(lost["unit_id"].iloc[place]),)),
    )
    render_csv(units, name="drops_by_unit", label="CSV: drops by unit")


def _show_choice(rows: pd.DataFrame, name: str, select: Callable[[int], None]) -> None:
    """A table of which a row can be selected."""

    def take() -> None:
        chosen = st.session_state[f"table_{name}"]["selection"]["rows"]
        if chosen and chosen[0] < len(rows):
            select(chosen[0])

    st.dataframe(
        rows,
        hide_index=True,
        height=240,
        key=f"table_{name}",
        placeholder="–",
        on_select=take,
        selection_mode="single-row",
        column_config={"drop_share": st.column_config.NumberColumn(format="percent")},
    )


def render_tables(exhibit: Exhibit, state: PageState) -> None:
    """Draw routes, loads, balance, sites and what ran."""
    name = site_name(exhibit)
    st.markdown(f"**Routes at {name}**" + (f", of {exhibit.describe_filter()}" if exhibit.lit is not None else ""))
    routes = exhibit.run.tables.table(unit_routes, site_ids=(exhibit.site_id,))
    _show(routes if exhibit.lit is None else routes[exhibit.lit], "routes", "routes at this site")
    st.markdown(f"**Load at {name}**")
    load = exhibit.statistics.table(expert_load)
    _show(load[load["site_id"] == exhibit.site_id], "load_of_site", "load at this site")
    st.markdown("**Balance, by site**")
    _show(exhibit.statistics.table(load_balance), "balance", "balance")
    st.markdown("**Sites as they ran**")
    _show(exhibit.run.tables.table(sites_table), "sites", "sites")
    _render_record(exhibit)


def _render_record(exhibit: Exhibit) -> None:
    record = exhibit.trace.run
    rows = {
        "model": record.model,
        "weights (SHA-256)": record.weights_digest,
        "device": record.device,
        "dtype": record.dtype,
        "backend": record.backend,
        "source": record.source,
        "adapter": record.adapter,
        "input digest": record.input_digest,
        "trace schema": str(record.schema_version),
        "seed": "none" if record.seed is None else str(record.seed),
        **{f"{name} (ms)": f"{value:.1f}" for name, value in record.timings_ms.items()},
        **dict(record.library_versions),
        **{f"note: {name}": note for name, note in record.notes.items()},
    }
    st.markdown("**What ran**")
    st.dataframe({"Field": list(rows), "Value": list(rows.values())}, hide_index=True, height="content", key="record")


def _show(rows: pd.DataFrame, name: str, what: str, *, rename: dict[str, str] | None = None) -> None:
    shown = rows.drop(columns=["layer", "block"], errors="ignore")
    shown = shown.rename(columns={"site_name": "site", **(rename or {})})
    st.dataframe(shown, hide_index=True, key=f"table_{name}", placeholder="–")
    render_csv(rows, name=name, label=f"CSV: {what}")
