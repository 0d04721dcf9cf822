"""What the two maps share in Python: their skeleton, how they are told what is selected, and the check of choices."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import streamlit as st

from analysis.figures.route_changes import RouteChanges
from analysis.figures.route_columns import RouteColumns
from analysis.figures.theme import FocusPalette
from analysis.selection import MAX_IDS, UNIT_STATUSES, Selection
from dashboard.components.selection_signal import tell_changes, tell_selection

_FOLDER: Final = Path(__file__).parent
_SHARED_SCRIPTS: Final = (
    *("map_board.js", "text.js", "packed_data.js", "route_data.js", "map_state.js", "map_sites.js"),
    *("map_legend.js", "map_card.js", "map_input.js"),
)
_KEYS: Final = (
    ("← → ↑ ↓", "walk over the units"),
    ("Enter", "select a unit; with Ctrl several"),
    ("[ ] or Page Up, Page Down", "a layer up or down"),
    ("m", "the other block of the layer"),
    ("p", "on an expert of the legend: pin its colour"),
    ("Esc", "close the card"),
)


def read_script(*names: str) -> str:
    """JavaScript of a map: the shared parts and its own, one module."""
    return "\n".join(read_asset(name) for name in (*_SHARED_SCRIPTS, *names))


def read_style(name: str) -> str:
    """Style sheet of a map: the shared part and its own."""
    return "\n".join(read_asset(part) for part in ("route_map.css", f"{name}.css"))


def read_asset(name: str) -> str:
    """Text of a file beside this one."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def build_skeleton(*, options: str, body: str) -> str:
    """HTML of a map before it has data: constant, no text of the input ever enters here.

    Args:
        options: controls of this kind of map. body: the element with class `body` that holds the units.
    """
    keys = "".join(f"<dt>{key}</dt><dd>{meaning}</dd>" for key, meaning in _KEYS)
    return f"""
<div class="map">
  <div class="bar" role="group" aria-label="What the map shows">
    <div class="blocks" role="group" aria-label="Block"></div>
    <input class="scrub" type="range" min="0" step="1" value="0" aria-label="Layer">
    <select class="site" aria-label="Site"></select>
    {options}
    <span class="push"></span>
    <button type="button" class="help" aria-label="Keys of the map" aria-expanded="false"
            title="Keys of the map: arrows, Enter, [ and ], m, p, Esc">?</button>
  </div>
  <div class="legend" role="toolbar" aria-label="Legend: choose experts or a status to light their units"></div>
  {body}
  <div class="card" popover="manual" aria-hidden="true"></div>
  <dl class="keys" popover="auto">{keys}</dl>
</div>
"""


def draw_map(
    mount: Callable[..., Any],
    packed: bytes,
    routes: RouteColumns,
    palettes: Mapping[int, FocusPalette],
    selection: Selection,
    *,
    key: str,
    version: str,
    height_px: int,
    changes: RouteChanges | None,
) -> Selection:
    """Put a map on the page, and beside it what it is told; see `dashboard.components.token_map.token_map`.

    Args:
        mount: the registered component. packed: the columns of the map, made for channel `key` and this version.
    """
    with st.container(gap=None):
        mount(key=key, data=packed, default={"choice": None}, on_choice_change=lambda: None)
        selection = heard_selection(key, routes, selection, version=version)
        tell_selection(selection, palettes, channel=key, version=version, heard=_last_turn(key), height_px=height_px)
        tell_changes(changes, channel=key, version=version)
    return selection


def heard_selection(key: str, routes: RouteColumns, selection: Selection, *, version: str) -> Selection:
    """The selection after what the visitor chose on a map since it was asked last.

    Call it before anything is drawn, so that every view shows the choice; a choice counts once, so the page can
    select something else afterwards.

    Args:
        key: of the map. routes: what the map shows. selection: what the page knows.
        version: identity of the run; choices on another one count as none.
    """
    raw = _choice(key)
    if raw is None or raw == st.session_state.get(f"{key}_heard"):
        return selection
    st.session_state[f"{key}_heard"] = raw
    return read_selection(raw, routes, version=version) or selection


def skip_choice(key: str) -> None:
    """Count what was chosen on a map as heard: something else was selected after it."""
    st.session_state[f"{key}_heard"] = _choice(key)


def read_selection(raw: object, routes: RouteColumns, *, version: str) -> Selection | None:
    """Check what came back from the browser.

    Returns:
        None if it is no choice on this run: another version, or a site that the trace does not have. Experts, units
        and pins that it does not have are left out, and an unknown status counts as none.
    """
    experts_of = {int(site["site_id"]): int(site["num_experts"]) for site in routes.sites}
    if not isinstance(raw, Mapping) or raw.get("version") != version:
        return None
    site = raw.get("site")
    if not _is_id(site) or site not in experts_of:
        return None
    pairs = [tuple(pair) for pair in _list(raw.get("pinned")) if isinstance(pair, list) and len(pair) == 2]
    return Selection(
        site_id=site,
        experts=_ids(raw.get("experts"), experts_of[site]),
        units=_ids(raw.get("units"), routes.num_units),
        status=next((status for status in UNIT_STATUSES if status == raw.get("status")), None),
        pinned=tuple(
            dict.fromkeys(
                (one, expert)
                for one, expert in pairs
                if _is_id(one) and _is_id(expert) and expert < experts_of.get(one, 0)
            )
        )[:MAX_IDS],
    )


def _last_turn(key: str) -> int:
    """Number of the last choice that was heard; 0 before the first."""
    heard = st.session_state.get(f"{key}_heard")
    turn = heard.get("turn") if isinstance(heard, Mapping) else None
    return turn if isinstance(turn, int) else 0


def _choice(key: str) -> object:
    state: Any = st.session_state.get(key)
    return state.get("choice") if isinstance(state, Mapping) else None


def _ids(raw: object, count: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(one for one in _list(raw) if _is_id(one) and one < count))[:MAX_IDS]


def _list(raw: object) -> list[Any]:
    return raw[: 4 * MAX_IDS] if isinstance(raw, list) else []


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
