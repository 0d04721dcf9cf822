"""The map of a run: tokens, or cells over their picture; it holds the site selector of the page."""

from typing import Final

import streamlit as st

from analysis.figures.picture_map import build_picture_map
from analysis.figures.theme import FocusPalette, site_palettes
from analysis.figures.token_map import build_token_map
from analysis.tables import units_table
from analysis.utilisation import expert_load
from dashboard import cache
from dashboard.components.picture_map import PictureFiles, encode_pictures, picture_map
from dashboard.components.token_map import token_map
from dashboard.state import PageState, ShownRun
from uoe_model.result import ImageInput, TextInput

MAP_KEYS: Final = ("token_map", "picture_map")
BLANK: Final = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
"""One white pixel, in the place of a picture that a trace does not hold."""


def tell_maps(state: PageState) -> None:
    """Make the selection of the page the choice of the maps, before they are drawn: theirs would be older."""
    for key in MAP_KEYS:
        if key in st.session_state:
            st.session_state[key] = {"choice": {"site": state.site_id, "unit": state.unit_id}}


def is_picture(run: ShownRun) -> bool:
    """Whether the units of a run are cells of a picture."""
    return run.trace.num_units > 0 and bool(run.trace.units.modality[0] == "image")


def render_map(run: ShownRun, state: PageState) -> None:
    """Draw the map and take over what the visitor chose on it."""
    palettes = cache.part(run, "palettes", lambda: site_palettes(cache.table(run, expert_load)))
    if is_picture(run):
        _render_picture_map(run, state, palettes)
    else:
        _render_token_map(run, state, palettes)


def _render_token_map(run: ShownRun, state: PageState, palettes: dict[int, FocusPalette]) -> None:
    source = run.input.text if isinstance(run.input, TextInput) else None
    tokens = cache.part(run, "token_map", lambda: build_token_map(run.trace, source_text=source))
    choice = token_map(
        tokens,
        palettes,
        key=MAP_KEYS[0],
        version=run.run_id,
        name="uoe-tokens",
        site_id=state.site_id,
        unit_id=state.unit_id,
        expert_id=state.expert_id,
    )
    if choice is not None:
        _follow(state, choice.site_id, choice.unit_id)


def _render_picture_map(run: ShownRun, state: PageState, palettes: dict[int, FocusPalette]) -> None:
    if isinstance(run.input, ImageInput):
        picture = run.input
        width, height = picture.original_width, picture.original_height
        files = cache.part(run, "pictures", lambda: encode_pictures(picture))
    else:
        corners = cache.table(run, units_table)[["box_x1", "box_y1"]].max()
        width, height = int(corners["box_x1"]), int(corners["box_y1"])
        files = PictureFiles(original=BLANK, model=BLANK)
        st.caption("A trace holds no picture: only the cells are drawn, where they lay in it.")
    cells = cache.part(run, "picture_map", lambda: build_picture_map(run.trace, width=width, height=height))
    choice = picture_map(
        cells,
        files,
        palettes,
        key=MAP_KEYS[1],
        version=run.run_id,
        name="uoe-picture",
        site_id=state.site_id,
        unit_id=state.unit_id,
        expert_id=state.expert_id,
    )
    if choice is not None:
        _follow(state, choice.site_id, choice.unit_id)


def _follow(state: PageState, site_id: int, unit_id: int | None) -> None:
    """Take over a choice; an expert stays selected only at its own site."""
    state.select(site_id=site_id, unit_id=unit_id, expert_id=state.expert_id if site_id == state.site_id else None)
