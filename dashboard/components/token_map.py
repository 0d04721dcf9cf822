"""The token map on the page: tokens coloured by expert, drops hatched, the route of a token on hover."""

from collections.abc import Mapping
from typing import Final

import streamlit as st

from analysis.figures.route_changes import RouteChanges
from analysis.figures.theme import FocusPalette
from analysis.figures.token_map import TokenMap
from analysis.selection import Selection
from dashboard.components.route_map import build_skeleton, draw_map, read_script, read_style

TEXT_HEIGHT_PX: Final = 300

_OPTIONS: Final = """
    <label><input class="numbers" type="checkbox"> numbers</label>
    <label class="pads" hidden title="Units behind the end of the input; without them the legend counts the input.">
      <input class="pads-shown" type="checkbox" checked> padding</label>
"""
_BODY: Final = """
  <div class="body" role="listbox" aria-multiselectable="true" aria-label="Tokens, coloured by expert" dir="auto"></div>
  <p class="nothing quiet" hidden>The trace has no tokens.</p>
  <div class="steps" role="group" aria-label="Steps of the generation" hidden>
    <button type="button" class="step-back" aria-label="One step back">◀</button>
    <input class="step" type="range" min="0" step="1" value="0" aria-label="Step">
    <button type="button" class="step-on" aria-label="One step on">▶</button>
    <output class="step-badge"></output>
  </div>
  <div class="pager" role="group" aria-label="Pages" hidden>
    <button type="button" class="before" aria-label="Earlier tokens">◀</button>
    <button type="button" class="after" aria-label="Later tokens">▶</button>
    <span class="pages quiet"></span>
  </div>
"""

_mount = st.components.v2.component(
    "uoe_token_map",
    html=build_skeleton(options=_OPTIONS, body=_BODY),
    css=read_style("token_map"),
    js=read_script("token_steps.js", "token_map.js"),
)


def token_map(
    tokens: TokenMap,
    palettes: Mapping[int, FocusPalette],
    selection: Selection,
    *,
    key: str,
    version: str,
    height_px: int = TEXT_HEIGHT_PX,
    changes: RouteChanges | None = None,
) -> Selection:
    """Draw the token map; hovering, scrubbing and lighting up need no server.

    Args:
        palettes: colours of every site.
        selection: what the map shows. The map follows when it changes, and else keeps what the visitor chose.
        key: Streamlit's key of this element.
        version: identity of the run; only another one sends the run again.
        height_px: the text scrolls beyond this.
        changes: routes that differ from those of the pinned run.

    Returns:
        The selection with what the visitor chose, if `heard_selection` was not asked before.
    """
    packed = tokens.packed(channel=key, version=version)
    return draw_map(
        _mount,
        packed,
        tokens.routes,
        palettes,
        selection,
        key=key,
        version=version,
        height_px=height_px,
        changes=changes,
    )
