"""What the two maps share in Python: their skeleton, what is sent with each, and the check of what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import streamlit as st

from analysis.figures.route_columns import RouteColumns, palette_payload
from analysis.figures.theme import NEUTRAL, FocusPalette

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class MapChoice:
    """What a visitor chose on a map: the site that colours it, and a unit (None: no unit)."""

    site_id: int
    unit_id: int | None


def read_script(name: str) -> str:
    """JavaScript of a map: the shared parts and its own, one module."""
    return "\n".join(read_asset(part) for part in ("route_data.js", "map_file.js", "route_map.js", f"{name}.js"))


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
    return f"""
<div class="map">
  <div class="bar">
    <div class="blocks" role="group" aria-label="Block"></div>
    <input class="scrub" type="range" min="0" step="1" value="0" aria-label="Layer">
    <select class="site" aria-label="Site"></select>
    {options}
    <span class="push"></span>
    <button type="button" class="svg" title="Save the map as vector graphics">SVG</button>
    <button type="button" class="png" title="Save the map as pixels">PNG</button>
  </div>
  <div class="legend" role="group" aria-label="Legend: click to show only one kind"></div>
  {body}
  <div class="card" popover="manual" aria-hidden="true"></div>
</div>
"""


def shared_payload(
    *,
    palettes: Mapping[int, FocusPalette],
    version: str,
    name: str,
    site_id: int | None,
    unit_id: int | None,
    expert_id: int | None,
) -> dict[str, Any]:
    """What every map is sent besides its columns; `wanted` is adopted by the map when it changes."""
    return {
        "palettes": palette_payload(palettes),
        "neutral": dict(NEUTRAL),
        "version": version,
        "name": name,
        "wanted": {"site": site_id, "unit": unit_id, "expert": expert_id},
    }


def hear_choice(
    raw: object, routes: RouteColumns, *, key: str, version: str, site_id: int | None, unit_id: int | None
) -> MapChoice | None:
    """What is chosen now: the visitor's choice when it is new, else what the page asked of the map.

    A choice counts once, in the run of the script that it caused; so the page can move the map elsewhere afterwards.

    Args:
        raw: value of the component's state. key: of the component.
        site_id, unit_id: what was asked of the map.

    Returns:
        None when the trace has no sites.
    """
    heard = f"{key}_heard"
    is_new = raw is not None and raw != st.session_state.get(heard)
    st.session_state[heard] = raw
    return read_choice(raw if is_new else None, routes, version=version, site_id=site_id, unit_id=unit_id)


def read_choice(
    raw: object, routes: RouteColumns, *, version: str, site_id: int | None, unit_id: int | None
) -> MapChoice | None:
    """Check what came back from the browser: ids that this trace has; anything else counts as no choice."""
    known = [int(site["site_id"]) for site in routes.sites]
    if not known:
        return None
    num_units = len(routes.status) // len(known)
    site: object = site_id
    unit: object = unit_id
    if isinstance(raw, Mapping) and raw.get("version", version) == version:
        site, unit = raw.get("site"), raw.get("unit")
    is_site = isinstance(site, int) and not isinstance(site, bool) and site in known
    is_unit = isinstance(unit, int) and not isinstance(unit, bool) and 0 <= unit < num_units
    return MapChoice(
        site_id=site if is_site and isinstance(site, int) else known[0],
        unit_id=unit if is_unit and isinstance(unit, int) else None,
    )
