"""Tables of a run: what was dropped and who was full, the route of every unit, how the sites are built, what ran."""

import pandas as pd
import streamlit as st

from analysis.balance import load_balance
from analysis.drops import drop_events, dropped_assignments, dropped_units
from analysis.routes import unit_routes
from analysis.tables import sites_table
from analysis.utilisation import expert_load
from dashboard import cache
from dashboard.state import ShownRun
from dashboard.widgets.charts import render_csv


def render_drops(run: ShownRun, site_id: int, site_name: str) -> None:
    """Draw who was dropped at a site, and which expert was full."""
    events = cache.table(run, drop_events)
    here = events[events["site_id"] == site_id]
    if here.empty:
        st.caption(f"Nothing was dropped at {site_name}: no unit asked for an expert that was full.")
    else:
        st.caption(f"Every dropped assignment at {site_name}: who asked, and the expert that was full.")
        _show(here, "drop_events", "dropped assignments", rename={"expert_id": "full_expert"})
    st.markdown("**By expert, at this site**")
    experts = cache.table(run, dropped_assignments)
    _show(experts[experts["site_id"] == site_id], "dropped_assignments", "drops by expert")
    st.markdown("**Dropped units, by site** (no expert kept them)")
    _show(cache.table(run, dropped_units), "dropped_units", "dropped units")


def render_routes(run: ShownRun, site_id: int, site_name: str) -> None:
    """Draw the route of every unit through one site."""
    st.caption(f"Every unit at {site_name}, in order. Status, requested and kept experts are those of this site.")
    _show(cache.table(run, unit_routes, site_ids=(site_id,)), "routes", "routes at this site")


def render_load(run: ShownRun, site_id: int) -> None:
    """Draw the load of every expert of one site, and the balance of all sites."""
    load = cache.table(run, expert_load)
    _show(load[load["site_id"] == site_id], "load_of_site", "load at this site")
    st.markdown("**Balance, by site**")
    _show(cache.table(run, load_balance), "balance", "balance")


def render_record(run: ShownRun) -> None:
    """Draw how the sites are built and what ran."""
    st.markdown("**Sites as they ran**")
    _show(cache.table(run, sites_table), "sites", "sites")
    record = run.trace.run
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
