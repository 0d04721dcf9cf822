"""Who was full: the experts that reached their capacity, in which example, and from where on."""

import numpy as np
import pandas as pd

from analysis.columns import reason_column, site_columns
from analysis.counts import count_by_expert
from analysis.reference import NEVER_FULL
from uoe_model.trace import DROPPED, RoutingTrace

NOTHING_DROPPED = "no request to this expert was dropped"


def full_experts(trace: RoutingTrace) -> pd.DataFrame:
    """Say of every expert in every example whether it reached its capacity, and what it turned away.

    An expert was full if it dropped a request, or kept as many patches as it has slots. With admission by position
    the slots grow along the example, so that it can drop early and end with room; `capacity` is then C at the last
    patch. With `expert_choice` an expert fills its slots by construction.

    Returns:
        One row per (site, example, expert), sorted by these; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str), example_id (int32), expert_id (int16)
        - is_full (bool)
        - capacity (float64): patches it takes of this example; NaN if never full
        - requested, kept, dropped (int64): patches
        - first_drop_position (float64): position of the first unit of the first patch, in the order of the example,
          whose request was dropped; NaN if none was
        - reason (str): why values are NaN; "" if none is
    """
    counts = count_by_expert(trace, by_example=True)
    first_drop = _first_drop_positions(trace)[counts.site_row, counts.example_id, counts.expert_id]
    columns = site_columns(trace, counts.site_row)
    columns |= {
        "example_id": counts.example_id.astype(np.int32),
        "expert_id": counts.expert_id.astype(np.int16),
        "is_full": (counts.dropped > 0) | (counts.kept >= counts.slots),
        "capacity": counts.slots,
        "requested": counts.requested,
        "kept": counts.kept,
        "dropped": counts.dropped,
        "first_drop_position": first_drop,
        "reason": reason_column(
            len(first_drop),
            [
                (counts.is_unlimited, NEVER_FULL),
                (np.isnan(first_drop) & ~counts.is_unlimited, NOTHING_DROPPED),
            ],
        ),
    }
    return pd.DataFrame(columns)


def _first_drop_positions(trace: RoutingTrace) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    """(sites, examples, most experts of a site); NaN where nothing was dropped."""
    rows, units = trace.assignments, trace.units
    first = np.full((trace.num_sites, trace.num_examples, int(trace.sites.num_experts.max(initial=0))), np.nan)
    drop = np.flatnonzero(trace.counted & (rows.status == DROPPED))[::-1]
    # Rows are in the order of units, so the earliest of an expert's drops is written last and stays.
    unit_id = rows.unit_id[drop]
    first[rows.site_id[drop], units.example_id[unit_id], rows.expert_id[drop]] = units.position[unit_id]
    return first
