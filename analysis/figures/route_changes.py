"""Which routes of a run differ from those of a pinned run, for the marks on the maps."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.figures.packed_columns import as_bits, narrow, pack
from analysis.figures.route_columns import ROW_DROPPED, RouteColumns


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RouteChanges:
    """What became of S sites and N units of a run B in comparison with a run A.

    Attributes:
        is_changed: (S, N) bool, the unit went another way than in A (`analysis.compare.changed_units`).
        before: the routes of A at the same sites, where unit u is the same as in B; None: the map only marks.
    """

    is_changed: NDArray[np.bool_]
    before: RouteColumns | None

    def __post_init__(self) -> None:
        if self.before is not None and bool(self.is_changed[:, self.before.num_units :].any()):
            raise ValueError("RouteChanges: units that run A does not have cannot have changed")

    def payload(self) -> dict[str, Any]:
        """JSON-ready: the marks, and of A only the routes of units that changed."""
        columns: dict[str, NDArray[Any]] = {"changed": as_bits(self.is_changed)}
        before = self.before
        if before is not None:
            site, unit = np.nonzero(self.is_changed)
            place = site * before.num_units + unit
            first = before.row_start[place].astype(np.int64)
            counts = before.row_start[place + 1].astype(np.int64) - first
            starts = np.repeat(first - np.cumsum(counts) + counts, counts)
            rows = starts + np.arange(counts.sum())
            columns |= {
                "requested": narrow(counts),
                "expert": narrow(before.expert[rows]),
                "dropped": as_bits((before.flags[rows] & ROW_DROPPED) != 0),
            }
        return {"base64": base64.b64encode(pack({"has_before": before is not None}, columns)).decode("ascii")}
