"""Small news for a map that is on the page already, so that a change in Python does not send the run again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st

from analysis.figures.route_changes import RouteChanges
from analysis.figures.route_columns import palette_payload
from analysis.figures.theme import NEUTRAL, FocusPalette
from analysis.selection import Selection

_FOLDER: Final = Path(__file__).parent
SIGNAL_SCRIPT: Final = "\n".join(
    (_FOLDER / part).read_text(encoding="utf-8") for part in ("map_board.js", "selection_signal.js")
)

_mount = st.components.v2.component("uoe_selection_signal", html="<i hidden></i>", js=SIGNAL_SCRIPT)


def tell_selection(
    selection: Selection,
    palettes: Mapping[int, FocusPalette],
    *,
    channel: str,
    version: str,
    heard: int,
    height_px: int,
) -> None:
    """Tell a map what is selected and who has a colour; it draws nothing before it knows.

    Args:
        channel: key of the map; it may be drawn before or after.
        version: identity of the run; a map that shows another one waits for its own.
        heard: number of the last choice of the visitor that went into `selection`. A map whose visitor has chosen
            again in the meantime keeps that until it is heard.
    """
    value = selection_payload(selection, palettes, version=version, heard=heard, height_px=height_px)
    post(channel, "selection", value, key=f"{channel}_selection")


def tell_changes(changes: RouteChanges | None, *, channel: str, version: str) -> None:
    """Tell a map which routes differ from the pinned run; None: no run is pinned."""
    value = {"version": version, "packed": changes.payload()["base64"] if changes is not None else None}
    post(channel, "changes", value, key=f"{channel}_changes")


def post(channel: str, topic: str, value: Mapping[str, Any], *, key: str | None = None) -> None:
    """Leave news for an element in the browser; it draws nothing itself. Without a key it can be called in a loop."""
    _mount(key=key, data={"channel": channel, "topic": topic, "value": dict(value)})


def selection_payload(
    selection: Selection, palettes: Mapping[int, FocusPalette], *, version: str, heard: int, height_px: int
) -> dict[str, Any]:
    """What `tell_selection` sends."""
    return {
        "version": version,
        "heard": heard,
        "site": selection.site_id,
        "experts": list(selection.experts),
        "units": list(selection.units),
        "status": selection.status,
        "pinned": [list(pair) for pair in selection.pinned],
        "palettes": palette_payload(palettes),
        "neutral": dict(NEUTRAL),
        "height": height_px,
    }
