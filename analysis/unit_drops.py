"""Which units lost most: how many of their requests were dropped over all sites, and where no expert kept them."""

import numpy as np
import pandas as pd

from analysis.columns import share, text_column
from analysis.counts import count_by_unit, site_bounds
from uoe_model.trace import RoutingTrace


def drops_by_unit(trace: RoutingTrace) -> pd.DataFrame:
    """Count what every unit asked for and what was dropped of it, over all sites.

    Units are counted one by one, also those of one patch, because each has its own output.

    Returns:
        One row per unit, sorted by drop_share (highest first), then dropped_sites (most first), then unit_id:

        - unit_id, example_id, position (int32), text (str)
        - requested, dropped (int64): requests over all sites, and those that found their expert full
        - drop_share (float64): dropped / requested, 0 to 1; NaN if it asked for nothing, such rows come last
        - dropped_sites (int64): sites where it asked and no expert kept it
    """
    units = trace.units
    requested, dropped, dropped_sites = (np.zeros(trace.num_units, dtype=np.int64) for _ in range(3))
    bounds = site_bounds(trace)
    for site in range(trace.num_sites):
        counts = count_by_unit(trace, slice(bounds[site], bounds[site + 1]))
        requested += counts.requested
        dropped += counts.requested - counts.kept
        dropped_sites += counts.is_dropped
    table = pd.DataFrame(
        {
            "unit_id": units.unit_id,
            "example_id": units.example_id,
            "position": units.position,
            "text": text_column(units.text.tolist(), np.arange(trace.num_units)),
            "requested": requested,
            "dropped": dropped,
            "drop_share": share(dropped, requested),
            "dropped_sites": dropped_sites,
        }
    )
    return table.sort_values(
        ["drop_share", "dropped_sites", "unit_id"],
        ascending=[False, False, True],
        na_position="last",
        ignore_index=True,
    )
