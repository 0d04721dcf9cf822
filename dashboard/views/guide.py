"""Guide: how to read the page, what every word means, and what differs from the released UoE."""

import streamlit as st

from analysis.glossary import TERMS
from dashboard.notices import guarded
from dashboard.widgets.header import render_deviations


def render() -> None:
    """Draw the page."""
    reading, words, deviations = st.tabs(["How to read Explore", "Every word", "What differs from the released UoE"])
    with reading, guarded("How to read"):
        _render_reading()
    with words, guarded("The words"):
        _render_words()
    with deviations, guarded("The deviations"):
        render_deviations()


def _render_reading() -> None:
    st.markdown(
        """
1. **Run something.** Nothing is computed before you press Run. A text is cut into tokens, a picture into cells; both
   are *units*. Text longer than the model's context runs as consecutive *examples*; capacity starts anew in each, and
   the map draws the border.
2. **The map** colours every unit by the expert that kept it (the preferred one of several). Choose the *site*, that is
   the router of one layer's attention or MLP, above the map. Hatched units are *dropped*: no expert had room, and only
   their residual goes on. Hatched along the foot: *partly dropped*. Hover over a unit for its whole route.
3. **The atlas** has one cell for every expert of every site, attention on the left, MLP on the right. Click a cell to
   see the units that expert took.
4. **Load of every expert**: what it kept, what it had to drop on top, its slots as an outline, and behind it what the
   model's own test set would give an input of this size, with the band that chance alone allows.
5. **The drop strip** shows where along the input requests were dropped. A *dropped assignment* found one expert full; a
   *dropped unit* was kept by none. They are different numbers.
6. **Numbers** stand beside the test set and the chance band. A number inside the band says nothing about this input.
7. **Capture** says whether the tables agree with each other and with the model; a trace that fails is shown as failed.
8. **Take it with you**: every chart has a camera button (SVG or PNG) and its table as CSV; *Save trace* keeps the whole
   run, and the input *Trace* opens it again without a model.
"""
    )


def _render_words() -> None:
    terms = TERMS.values()
    st.dataframe(
        {
            "Word": [term.name for term in terms],
            "Meaning": [term.sentence for term in terms],
            "Formula": [term.formula for term in terms],
            "Unit": [term.unit for term in terms],
            "Source": [term.source for term in terms],
        },
        hide_index=True,
        height=720,
        column_config={"Meaning": st.column_config.TextColumn(width="large")},
        row_height=35,
        key="words",
    )
