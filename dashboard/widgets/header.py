"""The top of every page: what this is, and what it is not."""

import streamlit as st

from dashboard.widgets.deviations import DEVIATIONS, PAPER_URL


def render_header() -> None:
    """Draw the title and the list of deviations, folded."""
    title, deviations = st.columns([0.3, 0.7], vertical_alignment="top")
    with title:
        st.markdown("### UoE, repaired")
    with deviations, st.expander(f"Not the released UoE: {len(DEVIATIONS)} deviations", icon=":material/build:"):
        render_deviations()


def render_deviations() -> None:
    """Draw the list of deviations."""
    st.markdown(
        f"These models follow the design of [Union of Experts]({PAPER_URL}) but not the authors' released code. The "
        "defects of that code have our ids (L: its long-range arena model, M: its language model)."
    )
    st.table(
        {
            "Decision": [f"{deviation.number}. {deviation.title}" for deviation in DEVIATIONS],
            "Repairs": [deviation.defects or "–" for deviation in DEVIATIONS],
            "Here": [deviation.here for deviation in DEVIATIONS],
            "Released code": [deviation.released for deviation in DEVIATIONS],
        },
        border="horizontal",
        hide_index=True,
    )
