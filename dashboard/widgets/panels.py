"""Everything about a run that stands below the map and the atlas, one subject at a time."""

from typing import Final

import streamlit as st

from analysis.compare import compare_runs
from analysis.exhibit import Exhibit
from analysis.glossary import TERMS
from analysis.views import missing
from dashboard import results
from dashboard.notices import guarded
from dashboard.state import PageState
from dashboard.widgets import tables
from dashboard.widgets.charts import render_csv, render_view
from dashboard.widgets.numbers import render_numbers
from dashboard.widgets.output import render_both_outputs
from dashboard.widgets.unit_card import render_unit_card
from dashboard.widgets.words import write_number
from uoe_model.errors import MismatchError

SITE: Final = "Site and unit"
STRIPS: Final = "Loss and entropy"
FLOW: Final = "Flow"
FULL: Final = "Who was full"
COMPARE: Final = "A and B"
VALUE: Final = "What routing buys"
NUMBERS: Final = "Numbers"
TABLES: Final = "Tables"
PANELS: Final = (SITE, STRIPS, FLOW, FULL, COMPARE, VALUE, NUMBERS, TABLES)
KEY: Final = "panel"


def render_panels(exhibit: Exhibit, state: PageState) -> None:
    """Draw the tabs; only the open one is computed."""
    draw = {
        SITE: _render_site,
        STRIPS: _render_strips,
        FLOW: _render_flow,
        FULL: tables.render_drops,
        COMPARE: _render_comparison,
        VALUE: _render_value,
        NUMBERS: lambda exhibit, state: render_numbers(exhibit),
        TABLES: tables.render_tables,
    }
    for name, tab in zip(PANELS, st.tabs(list(PANELS), key=KEY, on_change="rerun"), strict=True):
        if tab.open:
            with tab, guarded(name):
                draw[name](exhibit, state)


def _render_site(exhibit: Exhibit, state: PageState) -> None:
    left, right = st.columns(2, gap="medium")
    with left, guarded("The unit"):
        render_unit_card(exhibit)
    with right, guarded("The load of the site"):
        render_view(exhibit, "load", on_select=lambda: _select_bar(state))


def _render_strips(exhibit: Exhibit, state: PageState) -> None:
    if not exhibit.run.is_picture:
        with guarded("The loss strip"):
            render_view(exhibit, "loss-strip")
    with guarded("The entropy strip"):
        render_view(exhibit, "entropy-strip")


def _select_bar(state: PageState) -> None:
    """Select the expert whose bar was clicked, or no expert."""
    points = st.session_state["chart_load"]["selection"]["points"]
    experts = tuple({int(point["x"]) for point in points})
    state.select(experts=experts)


def _render_flow(exhibit: Exhibit, state: PageState) -> None:
    render_view(exhibit, "flow", on_select=lambda: _select_in_flow(state))
    st.caption(
        "Every unit counts once per step, at the expert it preferred of those that kept it. Click a node or a band to "
        "select its expert: the map shows the units."
    )


def _select_in_flow(state: PageState) -> None:
    points = st.session_state["chart_flow"]["selection"]["points"]
    if not points:
        state.select(experts=(), status=None)
        return
    site_id, expert_id = (int(value) for value in points[0]["customdata"][:2])
    if expert_id >= 0:
        state.select(site_id=site_id, experts=(expert_id,), status=None)
    else:
        state.select(site_id=site_id, experts=(), status="dropped" if expert_id == -1 else "unrouted")


def _render_comparison(exhibit: Exhibit, state: PageState) -> None:
    pinned = exhibit.pinned
    if pinned is None:
        st.info(
            "Press **Pin as A** above, change the routing, the text or the model, and run again: B then stands beside A"
            " here, and the map marks every route that changed.",
            icon=":material/compare_arrows:",
        )
        return
    if pinned is exhibit.run:
        st.info("A is the run on show. Change something and run again to see B beside it.", icon=":material/push_pin:")
        return
    render_both_outputs(exhibit)
    try:
        rows = compare_runs(pinned.trace, exhibit.trace)
    except MismatchError as error:
        st.info(str(error), icon=":material/block:")
        return
    left, right = st.columns(2, gap="medium")
    with left, guarded("The change of load"):
        render_view(exhibit, "atlas-difference", on_select=lambda: _select_difference(state))
    with right, guarded("The change of loss and routes"):
        render_view(exhibit, "route-changes")
    units = [TERMS[term].unit for term in rows["term"]]
    shown = {
        "Number": [TERMS[term].name for term in rows["term"]],
        "Where": [
            {"": "all sites", "attention": "attention", "mlp": "MLP"}.get(block, block) for block in rows["block"]
        ],
        **{
            title: [write_number(value, unit) for value, unit in zip(rows[column], units, strict=True)]
            for title, column in (("A", "a"), ("B", "b"), ("B minus A, or changed", "change"))
        },
        "Note": rows["note"],
    }
    st.dataframe(shown, hide_index=True, height="content", key="comparison")
    render_csv(rows, name="comparison", label="CSV of this comparison")


def _select_difference(state: PageState) -> None:
    points = st.session_state["chart_atlas-difference"]["selection"]["points"]
    if points:
        site_id, expert_id = (int(value) for value in points[0]["customdata"][:2])
        state.select(site_id=site_id, experts=(expert_id,))


def _render_value(exhibit: Exhibit, state: PageState) -> None:
    if missing(exhibit, "routing-value"):
        st.markdown(
            "How much does the model lose on this input when its learned routes are replaced: by balanced random ones,"
            " by the same routes permuted, by those of the untrained router, or looked up by token or"
            " cell? The model routes as trained, whatever was changed for the run. It takes a few dozen forward passes."
        )
        can = results.can_measure(state)
        if st.button(
            "Measure what routing buys",
            key="measure_value",
            type="primary",
            disabled=not can or state.job is not None,
        ):
            results.ask_routing_value(state)
            st.rerun(scope="app")  # the place of its progress is outside of what is drawn alone
        if not can:
            st.caption("Only a live run can be measured: its model and input are at hand. Press Run first.")
        return
    render_view(exhibit, "routing-value")
    st.caption(
        "This measures how much the experts *depend* on the routes, here for one input; the bars span the random draws"
        " and are no interval over data. Whether *learning* the routes helped takes a twin with frozen routers: see the"
        " model cards. Intervals over the test set stand there too."
    )
    rows = exhibit.routing_value
    if rows is not None:
        st.dataframe(rows, hide_index=True, key="routing_value", placeholder="–")
        render_csv(rows, name="routing-value", label="CSV of this table")
