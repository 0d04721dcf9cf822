"""The work under way: its place in the queue, how far it is, what it has written so far, and Cancel."""

from typing import Final

import streamlit as st

from analysis.figures.theme import focus_palette
from analysis.routes import NOBODY
from analysis.views import site_name
from dashboard import cache
from dashboard.components.stream_strip import stream_strip
from dashboard.state import PageState, page_state
from dashboard.widgets.words import plain_markdown
from dashboard.worker import Progress

QUICK_S: Final = 0.6
"""Work that is done so soon is not announced."""

POLL_S: Final = 0.3


def render_progress(state: PageState) -> bool:
    """Draw the progress of the visitor's job, if there is one; say whether it is finished."""
    job = state.job
    if job is None:
        return False
    if job.is_done(QUICK_S):
        return True
    _follow_job()
    return False


@st.fragment(run_every=POLL_S)
def _follow_job() -> None:
    state = page_state()
    job = state.job
    if job is None:
        return
    if job.is_done(0.0):
        st.rerun(scope="app")
    progress, ahead = job.progress, cache.device_worker().ahead(job)
    if ahead:
        st.info(f"Waiting: {ahead} before this one.", icon=":material/hourglass_top:")
    else:
        share = min(1.0, progress.done / progress.total) if progress.total else 0.0
        st.progress(share, text=_describe(progress))
    if progress.tokens:
        _render_stream(state, progress)
    st.button("Cancel", on_click=state.cancel, key="cancel", width="stretch", icon=":material/cancel:")


def _describe(progress: Progress) -> str:
    name = plain_markdown(progress.input_name)
    which = f" ({progress.input_number + 1} of {progress.num_inputs})" if progress.num_inputs > 1 else ""
    count = f" {progress.done} of {progress.total}" if progress.total else ""
    return f"{name}{which}: {progress.stage}{count} …"


def _render_stream(state: PageState, progress: Progress) -> None:
    """Draw what was written so far, coloured by the expert that kept each token at the selected site."""
    site, label, palette = state.selection.site_id or 0, "", None
    if state.showing is not None and state.selection.site_id is not None:
        exhibit = state.exhibit()
        label, palette = site_name(exhibit), exhibit.palettes.get(site)
    experts = [token.experts[site] if site < len(token.experts) else NOBODY for token in progress.tokens]
    stream_strip(
        [token.text for token in progress.tokens],
        experts,
        palette or focus_palette(max(experts, default=0) + 1),
        key="stream",
        site_label=label,
    )
