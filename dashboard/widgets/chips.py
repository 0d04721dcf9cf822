"""What is selected, as chips that are removed with a click."""

from collections.abc import Mapping
from typing import Any, Final

import streamlit as st

from analysis.exhibit import Exhibit
from analysis.figures.labels import expert_label, site_label
from analysis.tables import sites_table
from analysis.views import site_name, unit_name
from dashboard.state import PageState
from dashboard.widgets.words import plain_markdown

HINT: Final = "Nothing is filtered. Click a cell of the atlas, a legend entry, a bar or a token."


def render_chips(exhibit: Exhibit, state: PageState) -> None:
    """Draw one chip per selected thing; the row keeps its height when nothing is selected."""
    selection = exhibit.selection
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="chips"):
        for expert in selection.experts:
            rest = tuple(other for other in selection.experts if other != expert)
            _chip(state, f"{site_name(exhibit)} · {expert_label(expert)}", "expert", {"experts": rest}, expert)
        if selection.status is not None:
            _chip(state, f"{site_name(exhibit)} · {selection.status}", "status", {"status": None})
        for unit in selection.units:
            rest = tuple(other for other in selection.units if other != unit)
            _chip(state, unit_name(exhibit.trace, unit), "unit", {"units": rest}, unit)
        if selection.pinned:
            rows = exhibit.run.tables.table(sites_table)
            names = map(site_label, rows["layer"].astype("int"), rows["block"])
            sites = dict(zip(rows["site_id"], names, strict=True))
            pairs = ", ".join(f"{sites[site]} {expert_label(expert)}" for site, expert in selection.pinned[:4])
            more = f" and {len(selection.pinned) - 4} more" if len(selection.pinned) > 4 else ""
            _chip(state, f"colours pinned: {pairs}{more}", "pinned", {"pinned": ()})
        if exhibit.pinned is not None:
            st.button(
                f"A: {plain_markdown(_short(exhibit.pinned.name))}",
                key="chip_a",
                icon=":material/close:",
                on_click=state.pin,
                args=(None, None),
                help="The pinned run, which the run on show (B) is compared with. Click to end the comparison.",
            )
        if not (selection.is_filter or selection.units or selection.pinned or exhibit.pinned):
            st.caption(HINT)


def _chip(state: PageState, label: str, kind: str, changes: Mapping[str, Any], number: int | None = None) -> None:
    st.button(
        plain_markdown(label),
        key=f"chip_{kind}" if number is None else f"chip_{kind}_{number}",
        icon=":material/close:",
        on_click=state.select,
        kwargs=dict(changes),
        help="Selected. Click to remove.",
    )


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
