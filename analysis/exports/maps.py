"""The map of an exhibit as a drawing: tokens of a text, or cells over their picture."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.exhibit import Exhibit
from analysis.exports.drawing import Drawing
from analysis.exports.picture_map import draw_picture_map
from analysis.exports.token_map import draw_token_map
from analysis.recorded_run import RecordedRun
from analysis.run_maps import NO_PICTURE, changed_at_site, picture_map_of, token_map_of
from uoe_model.result import ImageInput


def draw_map(exhibit: Exhibit, *, width_pt: float, font_pt: float) -> Drawing:
    """Draw the map of the shown run at the selected site."""
    run = exhibit.run
    shared: dict[str, Any] = {
        "lit": np.ones(exhibit.trace.num_units, dtype=np.bool_) if exhibit.lit is None else exhibit.lit,
        "changed": changed_at_site(exhibit),
    }
    if not run.is_picture:
        return draw_token_map(
            token_map_of(run), exhibit.palettes, exhibit.selection, width_pt=width_pt, font_pt=font_pt, **shared
        )
    drawing = draw_picture_map(
        picture_map_of(run),
        _pixels(run),
        exhibit.palettes,
        exhibit.selection,
        width_pt=width_pt,
        font_pt=font_pt,
        **shared,
    )
    if isinstance(run.input, ImageInput):
        return drawing
    return dataclasses.replace(drawing, notes=(*drawing.notes, NO_PICTURE))


def _pixels(run: RecordedRun) -> NDArray[np.uint8]:
    return run.input.pixels if isinstance(run.input, ImageInput) else np.full((1, 1, 3), 255, dtype=np.uint8)
