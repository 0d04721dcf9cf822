"""The map of the run on show: tokens, or cells over their picture; it holds the site selector of the page."""

from typing import Final

import streamlit as st

from analysis.exhibit import Exhibit
from analysis.run_maps import NO_PICTURE, picture_map_of, route_changes_of, routes_of, token_map_of
from dashboard import cache
from dashboard.components.picture_map import PictureFiles, encode_pictures, picture_map
from dashboard.components.route_map import heard_selection, skip_choice
from dashboard.components.token_map import token_map
from dashboard.state import PageState
from uoe_model.result import ImageInput

TOKEN_MAP: Final = "token_map"
PICTURE_MAP: Final = "picture_map"
MAP_PX: Final = 300
BLANK: Final = "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
"""One white pixel, in the place of a picture that a trace does not hold."""


def hear_map(exhibit: Exhibit, state: PageState, *, version: str) -> bool:
    """Take over what the visitor chose on the map, before anything is drawn; say whether there was something."""
    key = PICTURE_MAP if exhibit.run.is_picture else TOKEN_MAP
    heard = heard_selection(key, routes_of(exhibit.run), state.selection, version=version)
    is_new = heard != state.selection
    state.selection = heard.fitted(exhibit.trace)
    return is_new


def skip_map() -> None:
    """Forget what was chosen on the maps: something else was selected after it."""
    for key in (TOKEN_MAP, PICTURE_MAP):
        skip_choice(key)


def render_map(exhibit: Exhibit, *, version: str) -> None:
    """Draw the map.

    Args:
        version: identity of the run.
    """
    changes = route_changes_of(exhibit)
    if not exhibit.run.is_picture:
        token_map(
            token_map_of(exhibit.run),
            exhibit.palettes,
            exhibit.selection,
            key=TOKEN_MAP,
            version=version,
            height_px=MAP_PX,
            changes=changes,
        )
        return
    picture = exhibit.run.input
    if isinstance(picture, ImageInput):
        files = cache.part(version, "pictures", lambda: encode_pictures(picture))
    else:
        files = PictureFiles(original=BLANK, model=BLANK)
        st.caption(NO_PICTURE)
    picture_map(
        picture_map_of(exhibit.run),
        files,
        exhibit.palettes,
        exhibit.selection,
        key=PICTURE_MAP,
        version=version,
        height_px=MAP_PX,
        changes=changes,
    )
