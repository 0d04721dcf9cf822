"""The token map on the page: tokens coloured by expert, drops hatched, the route of a token on hover."""

from collections.abc import Mapping
from typing import Final

import streamlit as st

from analysis.figures.theme import FocusPalette
from analysis.figures.token_map import TokenMap
from dashboard.components.route_map import (
    MapChoice,
    build_skeleton,
    hear_choice,
    read_script,
    read_style,
    shared_payload,
)

_OPTIONS: Final = '<label><input class="numbers" type="checkbox"> numbers</label>'
_BODY: Final = """
  <div class="body" role="listbox" aria-label="Tokens, coloured by expert" dir="auto"></div>
  <p class="nothing quiet" hidden>The trace has no tokens.</p>
  <div class="pager" hidden>
    <button type="button" class="before" aria-label="Earlier tokens">◀</button>
    <button type="button" class="after" aria-label="Later tokens">▶</button>
    <span class="pages quiet"></span>
  </div>
"""

_mount = st.components.v2.component(
    "uoe_token_map",
    html=build_skeleton(options=_OPTIONS, body=_BODY),
    css=read_style("token_map"),
    js=read_script("token_map"),
)


def token_map(
    tokens: TokenMap,
    palettes: Mapping[int, FocusPalette],
    *,
    key: str,
    version: str,
    name: str = "tokens",
    site_id: int | None = None,
    unit_id: int | None = None,
    expert_id: int | None = None,
) -> MapChoice | None:
    """Draw the token map and say what the visitor chose on it; changing site or highlight stays in the browser.

    Args:
        palettes: colours of every site.
        key: Streamlit's key of this element.
        version: identity of the run; the map is rebuilt only when it changes.
        name: beginning of the names of saved files.
        site_id, unit_id, expert_id: site to colour by, token to mark, expert to highlight. The map follows when these
            change, and else keeps what the visitor chose.

    Returns:
        None when the trace has no sites.
    """
    sent = shared_payload(
        palettes=palettes, version=version, name=name, site_id=site_id, unit_id=unit_id, expert_id=expert_id
    )
    result = _mount(key=key, data=tokens.payload() | sent, default={"choice": None}, on_choice_change=lambda: None)
    return hear_choice(result.choice, tokens.routes, key=key, version=version, site_id=site_id, unit_id=unit_id)
