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
from analysis.figures.route_changes import RouteChanges
from analysis.figures.theme import FocusPalette
from analysis.selection import Selection
from dashboard.components.route_map import build_skeleton, draw_map, read_script, read_style
from uoe_model.result import ImageInput

LOSSLESS_PIXELS: Final = 256 * 256  # larger pictures travel as JPEG
PICTURE_HEIGHT_PX: Final = 300

_OPTIONS: Final = """
    <label><input class="model" type="checkbox" checked> what the model saw</label>
    <label>tint <input class="tint-slider" type="range" min="0" max="100" value="45"></label>
"""
_BODY: Final = """
  <div class="frames">
    <div class="stage">
      <img class="picture" alt="The picture that was run">
      <svg class="overlay body" role="listbox" aria-multiselectable="true" preserveAspectRatio="xMinYMin meet"
           aria-label="Cells of the picture, coloured by expert"></svg>
    </div>
    <figure class="saw">
      <div class="pane">
        <img class="seen" alt="The picture as the model saw it">
        <svg class="twins" aria-hidden="true"></svg>
      </div>
      <figcaption class="quiet">what the model saw</figcaption>
    </figure>
  </div>
  <div class="film" role="toolbar" aria-label="Layers of this block"></div>
  <p class="hidden-cells quiet" hidden></p>
"""

_mount = st.components.v2.component(
    "uoe_picture_map",
    html=build_skeleton(options=_OPTIONS, body=_BODY),
    css=read_style("picture_map"),
    js=read_script("svg.js", "film_strip.js", "picture_map.js"),
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
    selection: Selection,
    *,
    key: str,
    version: str,
    height_px: int = PICTURE_HEIGHT_PX,
    changes: RouteChanges | None = None,
) -> Selection:
    """Draw the picture map, no higher than `height_px` with its film strip; see `token_map` for the arguments."""
    packed = cells.packed(channel=key, version=version, original=pictures.original, model=pictures.model)
    return draw_map(
        _mount,
        packed,
        cells.routes,
        palettes,
        selection,
        key=key,
        version=version,
        height_px=height_px,
        changes=changes,
    )


def _data_url(pixels: NDArray[np.uint8]) -> str:
    is_small = pixels.shape[0] * pixels.shape[1] <= LOSSLESS_PIXELS
    kind = "png" if is_small else "jpeg"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind.upper(), **({} if is_small else {"quality": 90}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
