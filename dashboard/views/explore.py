"""Explore: inputs, their runs, and everything the routers did with them."""

import dataclasses
from typing import Final

import streamlit as st

from analysis.exhibit import STRIP_SITES, Exhibit
from analysis.figures.atlas import ATLAS_VALUES, AtlasValue
from dashboard import cache
from dashboard.address import follow_address, write_address
from dashboard.models import Catalogue
from dashboard.notices import guarded, render_notice
from dashboard.results import take_result
from dashboard.showing import Showing
from dashboard.state import PageState, page_state
from dashboard.widgets.badge import render_training_warning
from dashboard.widgets.charts import render_view
from dashboard.widgets.chips import render_chips
from dashboard.widgets.inputs import render_input_panel
from dashboard.widgets.maps import hear_map, render_map, skip_map
from dashboard.widgets.navigator import render_navigator
from dashboard.widgets.numbers import render_headlines
from dashboard.widgets.output import render_output
from dashboard.widgets.panels import render_panels
from dashboard.widgets.progress import render_progress
from dashboard.widgets.title import render_title
from dashboard.widgets.words import plain_markdown
from uoe_model.errors import UoEError

DEVICE: Final = ":material/memory: Models run on **{}** in float32."
NOT_LOADED: Final = ":material/memory: No model is loaded before the first run."
FIRST_EXAMPLE: Final = "text"
ATLAS_NAMES: Final[dict[str, AtlasValue]] = dict(
    zip(("Relative load", "Utilisation", "Dropped share"), ATLAS_VALUES, strict=True)
)
STRIP_NAMES: Final = dict(zip(("all sites", "this site"), STRIP_SITES, strict=True))


def render() -> None:
    """Draw the page."""
    state = page_state()
    with guarded("The link"):
        follow_address(state)
    if state.showing is None:
        problem = state.problem  # a link that shows nothing any more; the example must not hide that
        with guarded("The example"):
            state.show(cache.example(FIRST_EXAMPLE))
        state.problem = problem
    found = Catalogue(models=(), problems=())
    with st.sidebar, guarded("The input"):
        device = cache.device_name()
        st.caption(DEVICE.format(device) if device else NOT_LOADED)
        found = cache.catalogue()
        _render_inputs(found, state)
    if state.problem is not None:
        render_notice(state.problem, keeps_run=state.showing is not None)
    if state.showing is not None:
        with guarded("The run"):
            _render_run()


def _render_inputs(found: Catalogue, state: PageState) -> None:
    try:
        asked = render_input_panel(found, state)
        if asked is not None and not isinstance(asked, Showing):
            state.start(cache.device_worker(), asked)
        elif asked is not None:
            cache.keep_showing(asked)
            state.show(asked)
    except UoEError as error:
        state.fail(error)
    is_new = False
    with st.session_state["progress_place"]:
        while render_progress(state):  # work that finishes at once may ask for more, which is quick too
            take_result(state)
            is_new = True
    if is_new:
        st.rerun()  # what stands above was drawn for what was on show before
    for problem in found.problems:
        st.caption(f":material/folder_off: {plain_markdown(problem)}")


@st.fragment
def _render_run() -> None:
    """Draw what is on show; drawn alone when only the selection changes."""
    state = page_state()
    showing = state.showing
    if showing is None:
        return
    version = f"{showing.key}.{state.index}"
    if showing.runs[state.index].trace.num_units and showing.runs[state.index].trace.num_sites:
        hear_map(state.exhibit(), state, version=version)
    write_address(state)
    exhibit = state.exhibit()
    above = st.container()
    is_empty = exhibit.trace.num_units == 0 or exhibit.trace.num_sites == 0
    left, right = (None, None) if is_empty else st.columns([0.6, 0.4], gap="medium")
    if left is not None:
        with left, guarded("The map"):  # first of all: it is what the visitor waits for after a click
            render_map(exhibit, version=version)
    with above:
        _render_above(exhibit, state, showing, is_empty=is_empty)
    if left is None or right is None:
        return
    with right, guarded("The atlas"):
        _render_atlas(exhibit, state)
    with left, guarded("The drop strip"):
        _render_drop_strip(exhibit, state)
    with right, guarded("The model's output"):
        render_output(exhibit)
    render_panels(exhibit, state)


def _render_above(exhibit: Exhibit, state: PageState, showing: Showing, *, is_empty: bool) -> None:
    """Draw what stands over the map: what is on show, its numbers, and what is selected."""
    render_title(exhibit, state, showing, export=lambda: _open_export(exhibit))
    render_training_warning(exhibit.run)
    with guarded("The navigator"):
        render_navigator(exhibit, state, showing)
    if is_empty:
        st.info("This trace is valid and empty: it has no units or no sites, so there is nothing to draw.")
        return
    with guarded("The numbers"):
        render_headlines(exhibit)
    with guarded("The selection"):
        render_chips(exhibit, state)


def _open_export(exhibit: Exhibit) -> None:
    from dashboard.widgets.export import open_export  # the writers of files are not loaded before somebody wants one

    open_export(exhibit)


def _render_atlas(exhibit: Exhibit, state: PageState) -> None:
    names = {value: name for name, value in ATLAS_NAMES.items()}
    st.session_state["atlas_value"] = names[state.options.atlas]
    st.segmented_control(
        "Atlas: click a cell to select its expert",
        list(ATLAS_NAMES),
        required=True,
        key="atlas_value",
        label_visibility="collapsed",
        on_change=lambda: _choose(state, atlas=ATLAS_NAMES[st.session_state["atlas_value"]]),
    )
    render_view(exhibit, "atlas", on_select=lambda: _select_in_atlas(state))


def _select_in_atlas(state: PageState) -> None:
    """Select the clicked expert everywhere; a click beside the cells selects none."""
    points = st.session_state["chart_atlas"]["selection"]["points"]
    skip_map()
    if not points:
        state.select(experts=())
        return
    site_id, expert_id = points[0]["customdata"][:2]
    state.select(site_id=int(site_id), experts=(int(expert_id),), status=None)


def _render_drop_strip(exhibit: Exhibit, state: PageState) -> None:
    names = {value: name for name, value in STRIP_NAMES.items()}
    st.session_state["strip_sites"] = names[state.options.strip_sites]
    st.segmented_control(
        "Drops by position",
        list(STRIP_NAMES),
        required=True,
        key="strip_sites",
        label_visibility="collapsed",
        on_change=lambda: _choose(state, strip_sites=STRIP_NAMES[st.session_state["strip_sites"]]),
    )
    render_view(exhibit, "drop-strip")


def _choose(state: PageState, **options: object) -> None:
    state.options = dataclasses.replace(state.options, **options)  # type: ignore[arg-type]
