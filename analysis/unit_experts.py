"""All experts of all sites as one unit met them: how probable each was, which it asked for, and what came of it."""

from typing import Final

import numpy as np
import pandas as pd

from analysis.columns import reason_column, site_columns, text_column
from analysis.confidence import missing_logits, router_probabilities
from analysis.counts import site_bounds
from uoe_model.errors import InputError
from uoe_model.trace import DROPPED, FILLER, RoutingTrace

OUTCOMES: Final = ("kept", "dropped", "not requested", "filler")
NOT_REQUESTED: Final = -1


def unit_experts(trace: RoutingTrace, unit_id: int) -> pd.DataFrame:
    """Say what every expert was to one unit.

    Args:
        trace: any valid trace. unit_id: in 0..num_units - 1.

    Returns:
        One row per (site, expert), sorted by both:

        - site_id (int16), layer (int16), block (str), site_name (str), expert_id (int16)
        - probability (float64): softmax of the router logits over the site's experts, 0 to 1; without logits the
          score of requested experts and of filler, NaN for the others
        - rank (int8): order of preference among the requested experts, -1 if it was not requested
        - outcome (str): kept, dropped (requested, but full), not requested, filler (not requested, but put into a free
          slot of the expert)
        - reason (str): why probability is NaN; "" if it is not

    Raises:
        InputError: the trace has no such unit.
    """
    if not 0 <= unit_id < trace.num_units:
        raise InputError(f"unit_id={unit_id} must lie in 0..{trace.num_units - 1}: choose a unit of this trace")
    num_experts = trace.sites.num_experts.astype(np.int64)
    first = np.cumsum(num_experts) - num_experts
    site_R = np.repeat(np.arange(trace.num_sites), num_experts)
    probability_R = np.full(len(site_R), np.nan)
    rank_R = np.full(len(site_R), NOT_REQUESTED, dtype=np.int8)
    outcome_R = np.full(len(site_R), OUTCOMES.index("not requested"))
    rows, bounds = trace.assignments, site_bounds(trace)
    for site in range(trace.num_sites):
        part = slice(first[site], first[site] + num_experts[site])
        low, high = bounds[site] + np.searchsorted(
            rows.unit_id[bounds[site] : bounds[site + 1]], [unit_id, unit_id + 1]
        )
        asked = np.arange(low, high)[rows.status[low:high] != FILLER]
        filled = np.arange(low, high)[rows.status[low:high] == FILLER]
        unasked = first[site] + rows.expert_id[filled].astype(np.int64)
        probability_R[unasked] = rows.score[filled]
        outcome_R[unasked] = OUTCOMES.index("filler")
        place = first[site] + rows.expert_id[asked].astype(np.int64)
        probability_R[place] = rows.score[asked]
        rank_R[place] = rows.rank[asked]
        outcome_R[place] = np.where(rows.status[asked] == DROPPED, 1, 0)
        if site in trace.router_logits:
            probability_R[part] = router_probabilities(trace.router_logits[site][unit_id : unit_id + 1])[0]
    columns = site_columns(trace, site_R)
    columns |= {
        "expert_id": (np.arange(len(site_R)) - first[site_R]).astype(np.int16),
        "probability": probability_R,
        "rank": rank_R,
        "outcome": text_column(OUTCOMES, outcome_R),
        "reason": reason_column(len(site_R), [(np.isnan(probability_R), missing_logits(trace))]),
    }
    return pd.DataFrame(columns)
