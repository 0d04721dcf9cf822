"""Everything that is known about one unit: what it is, what the model said, and its route through every site."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.columns import reason_column, site_columns, text_column
from analysis.confidence import ONE_EXPERT, entropy_and_margin, missing_logits
from analysis.counts import Counts, site_bounds
from analysis.loss import loss_of_unit
from analysis.tables import STATUS_NAMES, units_table
from uoe_model.errors import InputError
from uoe_model.trace import FILLER, RoutingTrace

UNROUTED: Final = "unrouted"
NO_EXPERT: Final = -1
NOT_ROUTED: Final = "no expert was asked for this unit, and none picked it"
NOT_PREDICTED: Final = "nothing predicted this unit, or the trace holds no loss"
NO_OUTPUT: Final = "the trace holds no output of this unit"


def unit_card(trace: RoutingTrace, unit_id: int) -> pd.DataFrame:
    """List the experts that one unit asked for, and those that took it unasked, at every site.

    Args:
        trace: any valid trace. unit_id: in 0..num_units - 1.

    Returns:
        One row per (site, requested expert), sorted by site and rank, or one with rank and expert_id -1 at a site where
        the unit is unrouted; after them one per expert that took it as filler:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - rank (int8): -1 where unrouted or filler; expert_id (int16): -1 where unrouted
        - score (float64): the router's probability; NaN where unrouted
        - gate (float64): weight applied, 0 where dropped; NaN where unrouted
        - status (str): kept, dropped, filler, unrouted
        - inherited (bool): decided by the first unit of its patch
        - margin, entropy (float64): of the site's router about this unit, see `router_entropy`
        - reason (str): why values are NaN; "" if none is

    Raises:
        InputError: the trace has no such unit.
    """
    _check_unit(trace, unit_id)
    rows, bounds = trace.assignments, site_bounds(trace)
    entropy_S, margin_S = np.full(trace.num_sites, np.nan), np.full(trace.num_sites, np.nan)
    for site, logits_NE in trace.router_logits.items():
        entropy, margin = entropy_and_margin(logits_NE[unit_id : unit_id + 1])
        entropy_S[site], margin_S[site] = entropy[0], margin[0]
    found: list[Counts] = []
    sites: list[int] = []
    for site in range(trace.num_sites):
        low, high = np.searchsorted(rows.unit_id[bounds[site] : bounds[site + 1]], [unit_id, unit_id + 1])
        own = bounds[site] + np.arange(low, high)
        is_filler = rows.status[own] == FILLER
        asked = own[~is_filler] if not is_filler.all() else np.array([-1])
        found.append(np.concatenate([asked, own[is_filler]]))
        sites += [site] * len(found[-1])
    row = np.concatenate([np.zeros(0, dtype=np.int64), *found]).astype(np.int64)
    site_row = np.array(sites, dtype=np.int64)
    is_routed = row >= 0
    status = np.full(len(row), len(STATUS_NAMES), dtype=np.int64)
    status[is_routed] = rows.status[row[is_routed]]
    has_logits = np.isin(site_row, list(trace.router_logits))
    columns = site_columns(trace, site_row)
    columns |= {
        "rank": _taken(rows.rank, row, NO_EXPERT, np.int8),
        "expert_id": _taken(rows.expert_id, row, NO_EXPERT, np.int16),
        "score": _taken(rows.score, row, np.nan, np.float64),
        "gate": _taken(rows.gate, row, np.nan, np.float64),
        "status": text_column([*STATUS_NAMES, UNROUTED], status),
        "inherited": _taken(rows.inherited, row, False, np.bool_),
        "margin": margin_S[site_row],
        "entropy": entropy_S[site_row],
        "reason": reason_column(
            len(row),
            [
                (~is_routed, NOT_ROUTED),
                (~has_logits, missing_logits(trace)),
                (has_logits & (trace.sites.num_experts[site_row] == 1), ONE_EXPERT),
            ],
        ),
    }
    return pd.DataFrame(columns)


def unit_facts(trace: RoutingTrace, unit_id: int) -> pd.DataFrame:
    """Say what one unit is, and what the model answered there.

    Returns:
        One row:

        - unit_id, example_id, patch_id, position (int32), modality, text (str), token_id (int32; -1 none)
        - grid_row, grid_col (int16; -1 none), phase (str), is_special (bool), label (str)
        - loss (float64): of the unit itself, nats; output_token_id (int32), output_text (str): what the model would
          have written next; output_probability (float64): its probability
        - reason (str): why values are NaN; "" if none is

    Raises:
        InputError: the trace has no such unit.
    """
    _check_unit(trace, unit_id)
    units = units_table(trace)
    names = ["unit_id", "example_id", "patch_id", "position", "modality", "text", "token_id", "grid_row", "grid_col"]
    names += ["phase", "is_special", "label", "output_token_id", "output_text"]
    fact = units.loc[[unit_id], names].reset_index(drop=True)
    loss = loss_of_unit(units).to_numpy(np.float64)[[unit_id]]
    probability = trace.units.output_probability[[unit_id]].astype(np.float64)
    causes = [(np.isnan(loss), NOT_PREDICTED), (np.isnan(probability), NO_OUTPUT)]
    fact.insert(len(names) - 2, "loss", loss)
    return fact.assign(output_probability=probability, reason=reason_column(1, causes))


def _check_unit(trace: RoutingTrace, unit_id: int) -> None:
    if not 0 <= unit_id < trace.num_units:
        raise InputError(f"unit_id={unit_id} must lie in 0..{trace.num_units - 1}: choose a unit of this trace")


def _taken(column: npt.NDArray[Any], row: Counts, missing: float, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """column[row], and `missing` where row is -1."""
    taken = np.full(len(row), missing, dtype=dtype)
    taken[row >= 0] = column[row[row >= 0]]
    return taken
