"""Several inputs: which of them is looked at, and whether statistics are of that one or of all together."""

import dataclasses

import streamlit as st

from analysis.exhibit import Exhibit
from dashboard.showing import Showing
from dashboard.state import PageState
from dashboard.widgets.words import plain_markdown


def render_navigator(exhibit: Exhibit, state: PageState, showing: Showing) -> None:
    """Draw the row; nothing for a single input."""
    for failure in showing.failures:
        st.warning(f"**{plain_markdown(failure.name)}** was left out. {plain_markdown(failure.sentence)}")
    count = len(exhibit.runs)
    if count == 1:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="navigator"):
        st.button("◀", key="input_before", on_click=state.look_at, args=(state.index - 1,), disabled=state.index == 0)
        st.session_state["input_chosen"] = state.index
        st.selectbox(
            f"Input {state.index + 1} of {count}",
            range(count),
            format_func=lambda place: f"{place + 1}. {exhibit.runs[place].name}",
            key="input_chosen",
            on_change=lambda: state.look_at(int(st.session_state["input_chosen"])),
            width=340,
        )
        st.button(
            "▶", key="input_after", on_click=state.look_at, args=(state.index + 1,), disabled=state.index == count - 1
        )
        st.session_state["pooled"] = state.options.pooled
        st.toggle(
            f"Statistics over all {count} inputs",
            key="pooled",
            on_change=lambda: _pool(state),
            help=(
                "On: atlas, loads, drops by position, flow and numbers count all inputs together, each with its own"
                " capacity. Off: they are of the input that is shown. The map, strips and output are always of one"
                " input."
            ),
        )


def _pool(state: PageState) -> None:
    state.options = dataclasses.replace(state.options, pooled=bool(st.session_state["pooled"]))
