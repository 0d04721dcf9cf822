"""The pages and their order; a new page is one line here."""

from typing import Final

import streamlit as st

from dashboard.notices import guarded
from dashboard.views import explore, guide

ROOM: Final = """<style>
.stMainBlockContainer { padding: 3.9rem 1.4rem 2rem; }
.stSidebar [data-testid="stSidebarHeader"] { height: 1.2rem; margin-bottom: 0; }
.stApp [data-testid="stCaptionContainer"] { color: light-dark(#5f5e5c, #b4b2ae); opacity: 1; }
.st-key-chips { min-height: 2.5rem; }
.stApp button[kind="primary"]:not(:disabled) { color: light-dark(#ffffff, #10202b); }
</style>"""
"""Streamlit leaves a sixth of the window empty around the page; what matters must be visible without scrolling. Its
captions and the words on its blue buttons have too little contrast."""


def render_page() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="UoE, repaired", layout="wide", initial_sidebar_state=340)
    st.html(ROOM)
    page = st.navigation(
        [
            st.Page(explore.render, title="Explore", url_path="explore", default=True),
            st.Page(guide.render, title="Guide", url_path="guide"),
        ],
        position="top",
    )
    with guarded("This page"):
        page.run()
