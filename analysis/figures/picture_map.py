"""What the picture map draws: the cells of a picture, where they lie in it, and their route through every site."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.figures.packed_columns import narrow, pack
from analysis.figures.route_columns import RouteColumns, build_route_columns
from uoe_model.trace import RoutingTrace


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PictureMap:
    """N cells of one picture in reading order.

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

    def packed(self, *, channel: str, version: str, original: str, model: str) -> bytes:
        """All columns for the browser.

        Args:
            channel: name of the map on the page. version: identity of the run.
            original, model: the picture and what the model saw, as data URLs.
        """
        files = {"channel": channel, "version": version, "picture": original, "model_picture": model}
        sizes = {"rows": self.rows, "cols": self.cols, "width": self.width, "height": self.height}
        cells = {"box": self.box.ravel(), "grid_row": narrow(self.grid_row), "grid_col": narrow(self.grid_col)}
        return pack({**files, **sizes, **self.routes.header()}, cells | self.routes.packed())


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
