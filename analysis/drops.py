"""What was lost because an expert was full: requests that were dropped, units that no expert kept, and where.

A dropped assignment is a request that found its expert full; it is counted in patches, like load. A dropped unit asked
for at least one expert and was kept by none; units are counted in units, as each has its own output. A unit that
nobody asked for or picked is unrouted, which is no drop: it happens with `expert_choice` only, where in turn nothing is
ever dropped. With selection `expert` nothing is dropped either, because experts are never full.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.columns import reason_column, share, site_columns, text_column
from analysis.counts import count_by_expert, count_by_unit, site_bounds
from analysis.reference import NEVER_FULL, binomial_band, reference_rates
from analysis.tables import chosen_sites
from uoe_model.errors import ConfigError
from uoe_model.trace import DROPPED, FILLER, KEPT, RoutingTrace

NOBODY_ASKED = "nobody asked for this expert"
NOBODY_ASKED_HERE = "nothing was requested at these positions"


def dropped_assignments(trace: RoutingTrace) -> pd.DataFrame:
    """Count the requests that every expert could not take, in patches.

    Returns:
        One row per (site, expert), sorted by both; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str), expert_id (int16)
        - requested (int64): patches that asked for the expert
        - dropped (int64): of these, patches that found it full
        - drop_share (float64): dropped / requested, 0 to 1; NaN if nobody asked
        - reference_drop_share (float64): the same on the model's test set; NaN where this run never fills an expert
        - reference_low, reference_high (float64): 95% chance band of `dropped` for this many requests, both ends
          included. Drops come in runs, so real inputs leave this band often
        - reason (str): why values are NaN; "" if none is
    """
    counts = count_by_expert(trace)
    rates = reference_rates(trace, counts)
    low, high = binomial_band(counts.requested, rates.drop)
    columns = site_columns(trace, counts.site_row)
    columns |= {
        "expert_id": counts.expert_id.astype(np.int16),
        "requested": counts.requested,
        "dropped": counts.dropped,
        "drop_share": share(counts.dropped, counts.requested),
        "reference_drop_share": rates.drop,
        "reference_low": low,
        "reference_high": high,
        "reason": reason_column(
            len(counts.kept),
            [
                (counts.requested == 0, NOBODY_ASKED),
                *rates.causes,
                (counts.is_unlimited, NEVER_FULL),
                (rates.never_requested, "nobody asked for this expert on the test set"),
            ],
        ),
    }
    return pd.DataFrame(columns)


def dropped_units(trace: RoutingTrace) -> pd.DataFrame:
    """Count the units that no expert of a site kept, apart from those that were not routed at all.

    A reference load counts requests, not units, so neither number has a reference here.

    Returns:
        One row per site, sorted; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - units (int64): all units
        - dropped_units (int64): asked for an expert, kept by none
        - unrouted_units (int64): not asked for by any request or pick; filler is no request
        - dropped_unit_share, unrouted_unit_share (float64): of all units, 0 to 1
    """
    sites = np.arange(len(trace.sites) if trace.num_units else 0)
    bounds = site_bounds(trace)
    dropped, unrouted = np.zeros_like(sites), np.zeros_like(sites)
    for site in sites:
        counts = count_by_unit(trace, slice(bounds[site], bounds[site + 1]))
        dropped[site] = np.count_nonzero(counts.is_dropped)
        unrouted[site] = np.count_nonzero(counts.is_unrouted)
    columns = site_columns(trace, sites)
    columns |= {
        "units": np.full_like(sites, trace.num_units),
        "dropped_units": dropped,
        "unrouted_units": unrouted,
        "dropped_unit_share": share(dropped, trace.num_units),
        "unrouted_unit_share": share(unrouted, trace.num_units),
    }
    return pd.DataFrame(columns)


def drops_by_position(
    trace: RoutingTrace,
    *,
    max_bins: int = 200,
    site_id: int | None = None,
    expert_ids: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Count drops along the position in the example, all examples laid over each other.

    Args:
        trace: any valid trace.
        max_bins: positions are grouped into at most so many bins of equal width (the last may be cut short).
        site_id: the only site to include; None for all.
        expert_ids: experts of that site: only requests to them count, and of the dropped units those that asked one
            of them; None for all.

    Returns:
        One row per (site, bin), sorted by both, from position 0 to the last one; no rows if the trace has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - bin (int64)
        - position_start, position_end (int64): first position of the bin, and first one after it
        - requested, dropped (int64): assignments in patches, at the position of the patch's first unit
        - drop_share (float64): dropped / requested; NaN if nothing was requested there
        - units, dropped_units (int64): units at these positions, and those of them that no expert kept
        - reason (str): why drop_share is NaN; "" if it is not

    Raises:
        ConfigError: a site that the trace does not have, or experts without their site.
    """
    if site_id is None and expert_ids is not None:
        raise ConfigError(f"expert_ids={list(expert_ids)} need a site_id: an expert belongs to one site")
    if site_id is not None and not 0 <= site_id < trace.num_sites:
        raise ConfigError(f"site_id={site_id} must lie in 0..{trace.num_sites - 1}: choose a site of this trace")
    units, rows = trace.units, trace.assignments
    sites = np.array(chosen_sites(trace, None if site_id is None else [site_id]) if trace.num_units else [], np.int64)
    positions = int(units.position.max(initial=-1)) + 1
    width = max(-(-positions // max_bins), 1)
    bins = -(-positions // width)
    bin_of_unit = units.position.astype(np.int64) // width
    units_per_bin = np.bincount(bin_of_unit, minlength=bins)
    bounds = site_bounds(trace)
    outcomes = np.zeros((len(sites), bins, 2), dtype=np.int64)
    dropped = np.zeros((len(sites), bins), dtype=np.int64)
    for place, site in enumerate(sites):
        part = slice(bounds[site], bounds[site + 1])
        counted = trace.counted[part]
        is_dropped = count_by_unit(trace, part).is_dropped
        if expert_ids is not None:
            asks = np.isin(rows.expert_id[part], list(expert_ids)) & (rows.status[part] != FILLER)
            counted = counted & asks
            is_dropped[np.bincount(rows.unit_id[part][asks], minlength=trace.num_units) == 0] = False
        key = bin_of_unit[rows.unit_id[part][counted]] * 2 + rows.status[part][counted]
        outcomes[place] = np.bincount(key, minlength=2 * bins).reshape(bins, 2)
        dropped[place] = np.bincount(bin_of_unit[is_dropped], minlength=bins)
    requested = outcomes.sum(axis=2).ravel()
    bin_id = np.tile(np.arange(bins), len(sites))
    columns = site_columns(trace, np.repeat(sites, bins))
    columns |= {
        "bin": bin_id,
        "position_start": bin_id * width,
        "position_end": np.minimum((bin_id + 1) * width, positions),
        "requested": requested,
        "dropped": outcomes[..., DROPPED].ravel(),
        "drop_share": share(outcomes[..., DROPPED].ravel(), requested),
        "units": np.tile(units_per_bin, len(sites)),
        "dropped_units": dropped.ravel(),
        "reason": reason_column(len(requested), [(requested == 0, NOBODY_ASKED_HERE)]),
    }
    return pd.DataFrame(columns)


def drop_events(trace: RoutingTrace) -> pd.DataFrame:
    """List every dropped assignment: who asked, and the expert that was full.

    Returns:
        One row per dropped assignment, counted in patches, sorted by site, unit, rank:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - unit_id (int32), example_id (int32), patch_id (int32), position (int32): the first unit of the patch
        - text (str): the text of all units of the patch
        - rank (int8): 0 = the expert it preferred
        - expert_id (int16): the expert that was full
        - score (float32): the router's probability of that expert
        - other_kept (int64): experts that kept the patch nevertheless; 0: its units are dropped units
    """
    units, rows = trace.units, trace.assignments
    event = np.flatnonzero(trace.counted & (rows.status == DROPPED))
    site_id, unit_id = rows.site_id[event].astype(np.int64), rows.unit_id[event]
    kept = np.flatnonzero(trace.counted & (rows.status == KEPT))
    cell = rows.site_id[kept].astype(np.int64) * trace.num_units + rows.unit_id[kept]  # ascending, as rows are sorted
    wanted = site_id * trace.num_units + unit_id
    first = np.flatnonzero(units.first_of_patch())
    text = units.text.tolist()
    last = np.append(first[1:], trace.num_units)
    patches, text_code = np.unique(units.patch_id[unit_id], return_inverse=True)
    patch_text = ["".join(text[first[patch] : last[patch]]) for patch in patches]
    columns = site_columns(trace, site_id)
    columns |= {
        "unit_id": unit_id,
        "example_id": units.example_id[unit_id],
        "patch_id": units.patch_id[unit_id],
        "position": units.position[unit_id],
        "text": text_column(patch_text, text_code),
        "rank": rows.rank[event],
        "expert_id": rows.expert_id[event],
        "score": rows.score[event],
        "other_kept": np.searchsorted(cell, wanted, side="right") - np.searchsorted(cell, wanted, side="left"),
    }
    return pd.DataFrame(columns)
