"""The picture map on the page: a picture whose cells are tinted by expert, drops hatched, routes on hover."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from analysis.figures.picture_map import PictureMap
from analysis.figures.theme import FocusPalette
from dashboard.components.route_map import (
    MapChoice,
    build_skeleton,
    hear_choice,
    read_script,
    read_style,
    shared_payload,
)
from uoe_model.result import ImageInput

LOSSLESS_PIXELS: Final = 256 * 256  # larger pictures travel as JPEG

_OPTIONS: Final = """
    <label><input class="model" type="checkbox"> what the model saw</label>
    <label>tint <input class="tint-slider" type="range" min="0" max="100" value="45"></label>
"""
_BODY: Final = """
  <div class="stage">
    <img class="picture" alt="The picture that was run">
    <svg class="overlay body" role="listbox" aria-label="Cells of the picture, coloured by expert"
         preserveAspectRatio="xMinYMin meet"></svg>
  </div>
  <p class="hidden-cells quiet"></p>
"""

_mount = st.components.v2.component(
    "uoe_picture_map",
    html=build_skeleton(options=_OPTIONS, body=_BODY),
    css=read_style("picture_map"),
    js=read_script("picture_map"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFiles:
    """The two pictures a map shows, as data URLs."""

    original: str
    model: str


def encode_pictures(image: ImageInput) -> PictureFiles:
    """Encode the picture and what the model saw for the browser; worth keeping for as long as the run."""
    return PictureFiles(original=_data_url(image.pixels), model=_data_url(image.model_pixels))


def picture_map(
    cells: PictureMap,
    pictures: PictureFiles,
    palettes: Mapping[int, FocusPalette],
    *,
    key: str,
    version: str,
    name: str = "picture",
    site_id: int | None = None,
    unit_id: int | None = None,
    expert_id: int | None = None,
) -> MapChoice | None:
    """Draw the picture map and say what the visitor chose on it; see `token_map` for the arguments.

    Returns:
        None when the trace has no sites.
    """
    sent = shared_payload(
        palettes=palettes, version=version, name=name, site_id=site_id, unit_id=unit_id, expert_id=expert_id
    )
    data = cells.payload() | sent | {"picture": pictures.original, "model_picture": pictures.model}
    result = _mount(key=key, data=data, default={"choice": None}, on_choice_change=lambda: None)
    return hear_choice(result.choice, cells.routes, key=key, version=version, site_id=site_id, unit_id=unit_id)


def _data_url(pixels: NDArray[np.uint8]) -> str:
    is_small = pixels.shape[0] * pixels.shape[1] <= LOSSLESS_PIXELS
    kind = "png" if is_small else "jpeg"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind.upper(), **({} if is_small else {"quality": 90}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
