"""How full every expert was: its load, its share of the load, and the slots it had, against the model's own load."""

from typing import Literal, get_args

import numpy as np
import pandas as pd

from analysis.columns import reason_column, share, site_columns
from analysis.counts import count_by_expert
from analysis.reference import FILLS_SLOTS, NEVER_FULL, is_expert_choice, load_band, reference_rates
from uoe_model.trace import RoutingTrace

NOTHING_KEPT = "no patch was kept at this site"

LoadMeasure = Literal["load", "load_share", "relative_load", "utilisation"]
LOAD_MEASURES: tuple[LoadMeasure, ...] = get_args(LoadMeasure)


def expert_load(trace: RoutingTrace, *, by_example: bool = False) -> pd.DataFrame:
    """Count what every expert was asked for and took, in patches.

    Selections: with `data` a patch asks for its top-k experts. With `expert_choice` the picks are both the requests
    and the load, nothing is ever dropped, and an expert is as full as the input allows by construction. With `expert`
    the chosen experts take every patch of an example and are never full. Filler is counted apart and is no load.

    Args:
        trace: any valid trace.
        by_example: count every example apart, with its own slots and chance band.

    Returns:
        One row per (site, expert), or per (site, example, expert), sorted by these; idle experts included, no rows
        if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - example_id (int32): only with `by_example`
        - expert_id (int16)
        - requested (int64): patches that asked for the expert
        - load (int64): patches it kept
        - dropped (int64): requested - load
        - filler (int64): patches that sat in its free slots without having asked
        - load_share (float64): load / load of the site, 0 to 1; NaN if nothing was kept
        - relative_load (float64): load_share * num_experts; 1 is a fair share
        - slots (float64): patches it could take, summed over examples; with admission by position C at the last
          patch; NaN if never full
        - utilisation (float64): load / slots, 0 to 1; NaN without slots
        - is_idle (bool): load is 0
        - reference_share (float64): load_share on the model's test set
        - reference_load (float64): load expected of an input of this size
        - reference_low, reference_high (float64): 95% chance band of load, both ends included; NaN for
          `expert_choice`, where the load is fixed by the slots
        - reason (str): why values are NaN; "" if none is
    """
    counts = count_by_expert(trace, by_example=by_example)
    rates = reference_rates(trace, counts)
    low, high = load_band(trace, counts, rates)
    total = counts.total(counts.kept)
    load_share = share(counts.kept, total)
    columns = site_columns(trace, counts.site_row)
    if by_example:
        columns["example_id"] = counts.example_id.astype(np.int32)
    fills_slots = is_expert_choice(trace)[counts.site_row]
    columns |= {
        "expert_id": counts.expert_id.astype(np.int16),
        "requested": counts.requested,
        "load": counts.kept,
        "dropped": counts.dropped,
        "filler": counts.filler,
        "load_share": load_share,
        "relative_load": load_share * trace.sites.num_experts[counts.site_row],
        "slots": counts.slots,
        "utilisation": share(counts.kept, counts.slots),
        "is_idle": counts.kept == 0,
        "reference_share": rates.share,
        "reference_load": rates.load * counts.patches,
        "reference_low": low,
        "reference_high": high,
        "reason": reason_column(
            len(counts.kept),
            [(total == 0, NOTHING_KEPT), (counts.is_unlimited, NEVER_FULL), *rates.causes, (fills_slots, FILLS_SLOTS)],
        ),
    }
    return pd.DataFrame(columns)


def expert_load_against_reference(trace: RoutingTrace, measure: LoadMeasure = "load") -> pd.DataFrame:
    """One way of saying how full every expert was, with reference and chance band in the same unit.

    The band of a share is the band of the load over the load that the reference expects of the whole site.

    Args:
        trace: any valid trace.
        measure: load, load_share, relative_load or utilisation.

    Returns:
        One row per (site, expert), sorted by both:

        - site_id (int16), layer (int16), block (str), site_name (str), expert_id (int16)
        - value (float64): the measure; reference (float64): the same on the test set, for an input of this size
        - reference_low, reference_high (float64): 95% chance band, both ends included
        - is_idle (bool), reason (str): as in `expert_load`
    """
    table = expert_load(trace)
    expected_total = table.groupby("site_id")["reference_load"].transform("sum", min_count=1)
    num_experts = table.groupby("site_id")["expert_id"].transform("size")
    per_load: pd.Series[float] = {
        "load": pd.Series(1.0, index=table.index),
        "load_share": 1.0 / expected_total.where(expected_total > 0),
        "relative_load": num_experts / expected_total.where(expected_total > 0),
        "utilisation": 1.0 / table["slots"].where(table["slots"] > 0),
    }[measure]
    reference = table["reference_load"] * per_load
    return table[["site_id", "layer", "block", "site_name", "expert_id"]].assign(
        value=table[measure].astype(np.float64),
        reference=reference,
        reference_low=table["reference_low"] * per_load,
        reference_high=table["reference_high"] * per_load,
        is_idle=table["is_idle"],
        reason=table["reason"],
    )
