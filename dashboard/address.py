"""The address of the page: what is shown and selected, so that a link brings somebody else to the same view."""

import re
import time
from collections.abc import Mapping
from typing import Final

import streamlit as st

from analysis.exhibit import OPTION_PARAMS, ViewOptions
from analysis.selection import PARAMS, selection_from_params
from dashboard import cache
from dashboard.notices import Notice
from dashboard.state import PageState

ECHO_S: Final = 1.5
"""For so long the browser may still report an address that the page has replaced meanwhile."""

OURS: Final = ("show", "input", "a", *PARAMS, *OPTION_PARAMS)
GONE: Final = Notice(
    title="This link shows a run that the server no longer holds",
    sentence=(
        "Runs are forgotten when newer ones need the room or the page is started anew. Ask for the run bundle (a "
        ".zip, under Export) and open it here, or run the input again."
    ),
)


def follow_address(state: PageState) -> None:
    """Show what the address names, when the visitor came with one or went back to an earlier one."""
    params = {name: value for name, value in st.query_params.to_dict().items() if name in OURS}
    is_echo = time.monotonic() - state.address_at < ECHO_S and params in state.addresses
    if params == state.address or is_echo:
        return
    state.address = params
    key = params.get("show")
    if key is not None and (state.showing is None or state.showing.key != key):
        showing = cache.find_showing(key)
        if showing is None:
            state.problem = GONE
        else:
            state.show(showing)
    if state.showing is None or key is None:
        return
    _adopt(state, params)


def write_address(state: PageState) -> None:
    """Make the address name what is shown."""
    params = _params(state)
    if params == state.address:
        return
    state.addresses = [*state.addresses[-7:], state.address, params]
    state.address, state.address_at = params, time.monotonic()
    others = {name: value for name, value in st.query_params.to_dict().items() if name not in OURS}
    st.query_params.from_dict({**others, **params})


def _params(state: PageState) -> dict[str, str]:
    showing = state.showing
    if showing is None:
        return {}
    pinned = {} if state.pinned_key is None else {"a": state.pinned_key}
    number = {} if state.index == 0 else {"input": str(state.index)}
    return {"show": showing.key, **number, **pinned, **state.selection.to_params(), **state.options.to_params()}


def _adopt(state: PageState, params: Mapping[str, str]) -> None:
    showing = state.showing
    if showing is None:
        return
    state.index = _place(params.get("input", "0"), len(showing.runs)) or 0
    if any(name in params for name in PARAMS):
        state.selection = selection_from_params(params).fitted(showing.runs[state.index].trace)
    if any(name in params for name in OPTION_PARAMS):
        state.options = ViewOptions.from_params(params)
    if "a" in params and params["a"] != state.pinned_key:
        key, _, number = params["a"].partition(".")
        other = cache.find_showing(key)
        place = None if other is None else _place(number, len(other.runs))
        if other is not None and place is not None:
            state.pin(other.runs[place], f"{key}.{place}")


def _place(number: str, count: int) -> int | None:
    """The number of one of so many runs; None if it is none."""
    return int(number) if re.fullmatch("[0-9]{1,4}", number) and int(number) < count else None
