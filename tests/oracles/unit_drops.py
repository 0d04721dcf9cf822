"""Slow and obvious: what every unit asked for and lost, one assignment at a time."""

import math

from uoe_model.trace import DROPPED, FILLER, KEPT, RoutingTrace


def drops_by_unit(trace: RoutingTrace) -> list[tuple[int, int, int, float, int]]:
    """(unit, requested, dropped, drop_share, dropped_sites), worst first."""
    rows = trace.assignments
    found = []
    for unit in range(trace.num_units):
        requested = dropped = sites_lost = 0
        for site in range(trace.num_sites):
            asked = kept = 0
            for row in range(len(rows)):
                if rows.site_id[row] == site and rows.unit_id[row] == unit and rows.status[row] != FILLER:
                    asked += 1
                    kept += int(rows.status[row] == KEPT)
                    dropped += int(rows.status[row] == DROPPED)
            requested += asked
            sites_lost += int(asked > 0 and kept == 0)
        found.append((unit, requested, dropped, dropped / requested if requested else math.nan, sites_lost))
    return sorted(found, key=lambda one: (-math.inf if math.isnan(one[3]) else one[3], one[4], -one[0]), reverse=True)
