"""The pages and their order; a new page is one line here."""

import streamlit as st

from dashboard.notices import guarded
from dashboard.views import explore, guide
from dashboard.widgets.header import render_header


def render_page() -> None:
    """Draw what every page has, then the page itself."""
    st.set_page_config(page_title="UoE, repaired", layout="wide", initial_sidebar_state=330)
    page = st.navigation(
        [
            st.Page(explore.render, title="Explore", url_path="explore", default=True),
            st.Page(guide.render, title="Guide", url_path="guide"),
        ],
        position="top",
    )
    with guarded("The header"):
        render_header()
    with guarded("This page"):
        page.run()
