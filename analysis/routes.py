"""The route of every unit through every site, as a table that a person can read."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.columns import Column, site_columns, text_column
from analysis.confidence import router_entropy
from analysis.counts import Counts, count_by_unit, site_bounds
from analysis.tables import chosen_sites
from uoe_model.trace import FILLER, KEPT, RoutingTrace

ROUTE_STATUSES = ("kept", "partly dropped", "dropped", "unrouted")

NOBODY = -1
"""first_expert of a unit that no expert kept."""


def unit_routes(trace: RoutingTrace, site_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Say for every unit which experts it asked for, which kept it, and how sure the router was.

    Args:
        trace: any valid trace.
        site_ids: sites to include, None for all; the order is always that of the trace.

    Returns:
        One row per (site, unit), sorted by both:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - unit_id, example_id, patch_id, position (int32), text (str)
        - status (str): kept (by all it asked for), partly dropped, dropped (asked, kept by none), unrouted (no request)
        - first_expert (int16): the kept expert it preferred most; -1 if none kept it
        - requested_experts, kept_experts (str): in order of preference, as "E3 E0"; with `expert_choice` the experts
          that picked it, by falling probability
        - gates (str): weights applied to the requested experts, in the same order, with three decimals; 0.000 where
          dropped
        - entropy (float64): nats; margin (float64): see `router_entropy`
        - inherited (bool): decided by the first unit of its patch
        - reason (str): why entropy or margin is NaN; "" if neither is
    """
    sites, units, rows = chosen_sites(trace, site_ids), trace.units, trace.assignments
    bounds = site_bounds(trace)
    shape = (len(sites), trace.num_units)
    status_SN = np.zeros(shape, dtype=np.int64)
    first_SN = np.full(shape, NOBODY, dtype=np.int16)
    inherited_SN = np.zeros(shape, dtype=np.bool_)
    texts: dict[str, list[pa.Array]] = {"requested_experts": [], "kept_experts": [], "gates": []}
    for row, site in enumerate(sites):
        part = slice(bounds[site], bounds[site + 1])
        unit_id, status = rows.unit_id[part], rows.status[part]
        counts = count_by_unit(trace, part)
        status_SN[row] = np.select(
            [counts.is_unrouted, counts.is_dropped, counts.kept < counts.requested], [3, 2, 1], default=0
        )
        is_kept, is_requested = status == KEPT, status != FILLER
        kept_by = rows.expert_id[part][is_kept]
        has_kept = counts.kept > 0
        first_SN[row, has_kept] = kept_by[(np.cumsum(counts.kept) - counts.kept)[has_kept]]
        inherited_SN[row, unit_id[rows.inherited[part]]] = True
        names = pa.array([f"E{expert}" for expert in range(int(trace.sites.num_experts[site]))], pa.string())
        asked = rows.expert_id[part][is_requested]
        texts["requested_experts"].append(_joined(names.take(pa.array(asked)), counts.requested))
        texts["kept_experts"].append(_joined(names.take(pa.array(kept_by)), counts.kept))
        texts["gates"].append(_joined(_three_decimals(rows.gate[part][is_requested]), counts.requested))
    site_row = np.repeat(np.array(sites, dtype=np.int64), trace.num_units)
    unit_row = np.tile(units.unit_id, len(sites))
    confidence = router_entropy(trace, site_ids)
    columns = site_columns(trace, site_row)
    columns |= {
        "unit_id": unit_row,
        "example_id": units.example_id[unit_row],
        "patch_id": units.patch_id[unit_row],
        "position": units.position[unit_row],
        "text": text_column(units.text.tolist(), unit_row),
        "status": text_column(ROUTE_STATUSES, status_SN.ravel()),
        "first_expert": first_SN.ravel(),
        **{name: _text(parts) for name, parts in texts.items()},
        "entropy": confidence["entropy"].to_numpy(),
        "margin": confidence["margin"].to_numpy(),
        "inherited": inherited_SN.ravel(),
        "reason": confidence["reason"].array,
    }
    return pd.DataFrame(columns)


def _joined(words: pa.Array, words_per_unit: Counts) -> pa.Array:
    """One string per unit: its words, separated by spaces; "" for a unit without any."""
    offsets = np.append(0, np.cumsum(words_per_unit)).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), words), " ")


def _three_decimals(values: npt.NDArray[np.float32]) -> pa.Array:
    """Numbers as text with three decimals; every different text is made once."""
    thousandths, code = np.unique(np.rint(values.astype(np.float64) * 1000).astype(np.int64), return_inverse=True)
    return pa.array([f"{value / 1000:.3f}" for value in thousandths.tolist()], pa.string()).take(pa.array(code))


def _text(parts: list[pa.Array]) -> Column:
    words: npt.NDArray[np.object_] = pa.chunked_array(parts, pa.string()).to_numpy(zero_copy_only=False)
    return pd.array(words, dtype="str")
