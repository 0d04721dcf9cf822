"""What the map of a run draws, on the page and on paper: tokens of a text or cells of a picture, and their changes."""

from typing import Final

import numpy as np

from analysis.alignment import align_units
from analysis.columns import BoolArray
from analysis.compare import changed_units
from analysis.exhibit import Exhibit
from analysis.figures.picture_map import PictureMap, build_picture_map
from analysis.figures.route_changes import RouteChanges
from analysis.figures.route_columns import RouteColumns
from analysis.figures.token_map import TokenMap, build_token_map
from analysis.recorded_run import RecordedRun
from analysis.tables import units_table
from uoe_model.errors import MismatchError
from uoe_model.result import ImageInput, TextInput

NO_PICTURE: Final = "A trace holds no picture: only the cells are drawn, where they lay in it."


def token_map_of(run: RecordedRun) -> TokenMap:
    """What the token map of a run draws."""
    source = run.input.text if isinstance(run.input, TextInput) else None
    return run.tables.part("token map", lambda: build_token_map(run.trace, source_text=source))


def picture_map_of(run: RecordedRun) -> PictureMap:
    """What the picture map of a run draws; without the picture, its size is that of its cells."""
    if isinstance(run.input, ImageInput):
        width, height = run.input.original_width, run.input.original_height
    else:
        corners = run.tables.table(units_table)[["box_x1", "box_y1"]].max()
        width, height = int(corners["box_x1"]), int(corners["box_y1"])
    return run.tables.part("picture map", lambda: build_picture_map(run.trace, width=width, height=height))


def changed_at_site(exhibit: Exhibit) -> BoolArray | None:
    """Units of the shown run that went another way than in the pinned one; None if nothing can be compared."""
    pinned = exhibit.pinned
    if pinned is None:
        return None
    try:
        return changed_units(pinned.trace, exhibit.trace, exhibit.site_id)
    except MismatchError:
        return None


def route_changes_of(exhibit: Exhibit) -> RouteChanges | None:
    """Which routes of the shown run differ from the pinned one, at all sites; None if nothing can be compared.

    What A did with a unit is known to the map only where units have the same ids in both runs.
    """
    pinned, run = exhibit.pinned, exhibit.run
    if pinned is None or pinned is run:
        return None
    return run.tables.part(f"changes of routes {pinned.serial}", lambda: _compared(pinned, run))


def _compared(pinned: RecordedRun, run: RecordedRun) -> RouteChanges | None:
    try:
        is_changed_SN = np.stack([changed_units(pinned.trace, run.trace, site) for site in range(run.trace.num_sites)])
    except MismatchError:
        return None
    shared = align_units(pinned.trace, run.trace)
    before = routes_of(pinned) if np.array_equal(shared.unit_a, shared.unit_b) else None
    return RouteChanges(is_changed=is_changed_SN, before=before)


def routes_of(run: RecordedRun) -> RouteColumns:
    """The routes that the map of a run draws."""
    return picture_map_of(run).routes if run.is_picture else token_map_of(run).routes
