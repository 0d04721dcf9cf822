"""The top of a run: what is on show, where it comes from, and what can be done with it as a whole."""

from collections.abc import Callable
from typing import Final

import streamlit as st

from analysis.exhibit import Exhibit
from analysis.padding import padding_units
from dashboard import cache
from dashboard.showing import EXAMPLES, Showing
from dashboard.state import PageState
from dashboard.widgets.badge import render_badge
from dashboard.widgets.inputs import choose_input_of
from dashboard.widgets.words import plain_markdown

_ORIGINS: Final = {
    "example": ":blue-badge[example; live model ready]",
    "run": ":green-badge[live run]",
    "file": ":gray-badge[from a file]",
}
_EXAMPLE_NAMES: Final = {"text": "Text example", "picture": "Picture example"}


def render_title(exhibit: Exhibit, state: PageState, showing: Showing, *, export: Callable[[], None]) -> None:
    """Draw the line over a run.

    Args:
        export: called when the visitor wants files.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="title"):
        st.markdown(
            f"**{plain_markdown(exhibit.run.name)}** {_ORIGINS[showing.origin]} {_facts(exhibit)}", width="stretch"
        )
        render_badge(exhibit.run)
        if showing.origin == "example":
            other = next(kind for kind in EXAMPLES if kind != showing.key)
            if st.button(
                _EXAMPLE_NAMES[other],
                key="other_example",
                type="tertiary",
                on_click=_show_example,
                args=(state, other),
                help="The other bundled example.",
            ):
                st.rerun(scope="app")  # the input panel turns to it as well
        st.button(
            "Pin as A",
            key="pin",
            type="tertiary",
            icon=":material/push_pin:",
            on_click=state.pin_shown,
            disabled=state.pinned is exhibit.run,
            help="Keep this run for comparison: change anything, run again, and see B beside it.",
        )
        if st.button("Export", key="export", icon=":material/download:", type="primary"):
            export()
    for note in (
        *exhibit.run.notes,
        *([f"Routing was changed: {exhibit.run.changes}."] if exhibit.run.changes else []),
    ):
        st.caption(plain_markdown(note))


def _show_example(state: PageState, kind: str) -> None:
    state.show(cache.example(kind))
    choose_input_of(kind)


def _facts(exhibit: Exhibit) -> str:
    trace = exhibit.trace
    record, count = trace.run, trace.num_units
    padding = int(padding_units(trace).sum())
    units = ("cell" if exhibit.run.is_picture else "token") + ("" if count - padding == 1 else "s")
    routed = f" + {padding:,} of padding" if padding else ""
    examples = f" in {trace.num_examples} examples" if trace.num_examples > 1 else ""
    forward = f" · {record.timings_ms['forward']:,.0f} ms" if "forward" in record.timings_ms else ""
    where = f"{plain_markdown(record.model)} · {plain_markdown(record.device)}"
    return f":small[:gray[{where} · {count - padding:,} {units}{routed}{examples}{forward}]]"
