"""What the picture map draws: the cells of a picture, where they lie in it, and their route through every site."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.route_columns import RouteColumns, build_route_columns, pack
from uoe_model.trace import RoutingTrace


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PictureMap:
    """N cells of one picture in reading order, JSON-ready through `payload`.

    Attributes:
        box: (N, 4) float32, x0, y0, x1, y1 in pixels of the original; NaN for a unit that is no part of the picture.
        grid_row, grid_col: (N,) int16, -1 likewise.
        rows, cols: size of the grid.
        width, height: of the original picture, in pixels.
    """

    box: NDArray[np.float32]
    grid_row: NDArray[np.int16]
    grid_col: NDArray[np.int16]
    rows: int
    cols: int
    width: int
    height: int
    routes: RouteColumns

    def payload(self) -> dict[str, Any]:
        """The columns as JSON-ready values."""
        return {
            "box": pack(self.box.ravel()),
            "grid_row": pack(self.grid_row),
            "grid_col": pack(self.grid_col),
            "rows": self.rows,
            "cols": self.cols,
            "width": self.width,
            "height": self.height,
            "routes": self.routes.payload(),
        }


def build_picture_map(trace: RoutingTrace, *, width: int, height: int) -> PictureMap:
    """Collect what the picture map needs.

    Args:
        trace: a trace of one picture.
        width, height: of the upright original, in pixels.
    """
    units = trace.units
    return PictureMap(
        box=np.stack([units.box_x0, units.box_y0, units.box_x1, units.box_y1], axis=1),
        grid_row=units.grid_row,
        grid_col=units.grid_col,
        rows=int(units.grid_row.max(initial=-1)) + 1,
        cols=int(units.grid_col.max(initial=-1)) + 1,
        width=width,
        height=height,
        routes=build_route_columns(trace),
    )
