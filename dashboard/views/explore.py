"""Explore: one input, its run, and everything the routers did with it."""

from typing import Final

import streamlit as st

from dashboard import cache
from dashboard.models import Catalogue
from dashboard.notices import guarded, render_notice
from dashboard.samples import IMAGE_SAMPLES, TEXT_SAMPLES
from dashboard.state import PageState, page_state
from dashboard.widgets.inputs import choose_sample, render_input_panel
from dashboard.widgets.maps import tell_maps
from dashboard.widgets.results import render_results
from dashboard.widgets.words import plain_markdown
from dashboard.worker import RunRequest
from uoe_model.errors import UoEError

POLL_S: Final = 0.25
DEVICE: Final = ":material/memory: Models run on {} in float32."


def render() -> None:
    """Draw the page."""
    state = page_state()
    found, place_of_device = Catalogue(models=(), problems=()), st.sidebar.empty()
    place_of_device.caption(DEVICE.format("…"))  # holds its place, so that nothing moves
    with st.sidebar, guarded("The input"):
        found = cache.catalogue()
        _render_inputs(found, state)
    if state.problem is not None:
        render_notice(state.problem, keeps_run=state.run is not None)
    if state.run is not None:
        with guarded("The run"):
            render_results(state.run)
    else:
        with guarded("The start"):
            _render_start(found, state)
    with guarded("The device"):  # last: the first time, this imports torch
        place_of_device.caption(DEVICE.format(f"**{cache.device_name()}**"))


def _render_inputs(found: Catalogue, state: PageState) -> None:
    try:
        asked = render_input_panel(found, state)
        if isinstance(asked, RunRequest):
            state.start(cache.device_worker(), asked)
        elif asked is not None:
            state.open_trace(*asked)
            tell_maps(state)
    except UoEError as error:
        state.fail(error)
    _wait(state)
    for problem in found.problems:
        st.caption(f":material/folder_off: {plain_markdown(problem)}")


def _wait(state: PageState) -> None:
    """Wait for the run that is under way, if there is one; another click of the visitor may interrupt it any time."""
    job = state.job
    if job is None:
        return
    place, cancel = st.empty(), st.empty()
    cancel.button("Cancel", on_click=state.cancel, key="cancel", width="stretch")
    worker = cache.device_worker()
    while not job.is_done(POLL_S):
        ahead = worker.ahead(job)
        place.info(
            f"Waiting: {ahead} before this one." if ahead else f"Running {plain_markdown(job.request.name)} …",
            icon=":material/hourglass_top:",
        )
    place.empty()
    cancel.empty()
    state.finish()
    tell_maps(state)


def _render_start(found: Catalogue, state: PageState) -> None:
    st.markdown("#### Nothing has run yet")
    st.markdown(
        "Type a text or upload a picture on the left and press **Run**. Here you will then see which expert took which "
        "token or cell at every layer, in attention and in the MLP, what was dropped because an expert was full, and "
        "what the model itself said. Or open a saved trace, which needs no model."
    )
    for kind, samples in (("text", TEXT_SAMPLES), ("image", IMAGE_SAMPLES)):
        if not any(model.kind == kind for model in found.models):
            continue
        st.markdown(f"**Run a bundled {'text' if kind == 'text' else 'picture'} now**")
        with st.container(horizontal=True):
            for sample in samples:
                st.button(
                    sample.title,
                    key=f"sample_{sample.file_name}",
                    on_click=choose_sample,
                    args=(sample, state),
                    help=f"{sample.description} {sample.credit}.",
                )
