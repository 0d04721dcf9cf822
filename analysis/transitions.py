"""Where units go from one router to the next: from the kept expert they preferred most here to the one there."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.columns import BoolArray, Column, reason_column, share, text_column
from analysis.counts import Counts, site_bounds
from uoe_model.errors import ConfigError
from uoe_model.trace import DROPPED, KEPT, RoutingTrace

DROPPED_NODE: Final = -1
"""Node of the units that asked for an expert and were kept by none."""

UNROUTED_NODE: Final = -2
"""Node of the units that asked for none and that none picked."""

NO_UNITS_HERE: Final = "no unit was at this node"


def transitions(
    trace: RoutingTrace, site_ids: Sequence[int] | None = None, *, lit: BoolArray | None = None
) -> pd.DataFrame:
    """Count the units that go from every node of a site to every node of the next.

    A unit stands at the kept expert it preferred most (rank 0 if that one kept it). Units are counted, not patches:
    every unit has an output of its own, so the units of one patch, or of an example that chose once, all count.

    Args:
        trace: any valid trace.
        site_ids: a chain of at least two sites, each pair of neighbours is counted; None for all sites in the order of
            the trace.
        lit: bool (num_units,), units to count apart; None for all of them.

    Returns:
        One row per (pair of sites, from node, to node), sorted by these, zero flows included; nodes are the experts of
        the site by id, then dropped (-1), then unrouted (-2). No rows if the trace has no units:

        - from_site_id, from_layer (int16), from_block (str), from_expert_id (int16)
        - to_site_id, to_layer (int16), to_block (str), to_expert_id (int16)
        - units (int64): units that go this way
        - from_units, to_units (int64): all units at either node
        - transition_share (float64): units / from_units, 0 to 1; NaN if nobody was there
        - lit_units (int64): lit units that go this way
        - reason (str): why the share is NaN; "" if it is not

    Raises:
        ConfigError: a site that the trace does not have, or fewer than two sites.
    """
    chain = list(range(trace.num_sites)) if site_ids is None else [int(site) for site in site_ids]
    strays = sorted(set(chain) - set(range(trace.num_sites)))
    if strays:
        raise ConfigError(f"site_ids={strays} must lie in 0..{trace.num_sites - 1}: choose sites of this trace")
    if site_ids is not None and len(chain) < 2:
        raise ConfigError(f"site_ids={chain} must name at least two sites: a transition leads from one to another")
    experts = trace.sites.num_experts.astype(np.int64)
    node_of = {site: _node_rows(first_experts(trace, site), int(experts[site])) for site in set(chain)}
    pairs = list(pairwise(chain)) if trace.num_units else []
    units, lit_units = [np.zeros((0, 0), dtype=np.int64)], [np.zeros((0, 0), dtype=np.int64)]
    for one, other in pairs:
        shape = (int(experts[one]) + 2, int(experts[other]) + 2)
        cell = node_of[one] * shape[1] + node_of[other]
        units.append(np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape))
        lit_cell = cell if lit is None else cell[lit]
        lit_units.append(np.bincount(lit_cell, minlength=shape[0] * shape[1]).reshape(shape))
    flat = np.concatenate([count.ravel() for count in units])
    from_units = np.concatenate([np.repeat(count.sum(axis=1), count.shape[1]) for count in units])
    columns: dict[str, Column] = {}
    for side, place in (("from", 0), ("to", 1)):
        site_row = np.repeat(np.array([pair[place] for pair in pairs], dtype=np.int64), [u.size for u in units[1:]])
        parts = [np.zeros(0, dtype=np.int16)]
        for pair, count in zip(pairs, units[1:], strict=True):
            ids = np.append(np.arange(experts[pair[place]]), [DROPPED_NODE, UNROUTED_NODE]).astype(np.int16)
            parts.append(np.repeat(ids, count.shape[1]) if place == 0 else np.tile(ids, count.shape[0]))
        columns |= {
            f"{side}_site_id": trace.sites.site_id[site_row],
            f"{side}_layer": trace.sites.layer[site_row],
            f"{side}_block": text_column([str(block) for block in trace.sites.block], site_row),
            f"{side}_expert_id": np.concatenate(parts),
        }
    columns |= {
        "units": flat,
        "from_units": from_units,
        "to_units": np.concatenate([np.tile(count.sum(axis=0), count.shape[0]) for count in units]),
        "transition_share": share(flat, from_units),
        "lit_units": np.concatenate([count.ravel() for count in lit_units]),
        "reason": reason_column(len(flat), [(from_units == 0, NO_UNITS_HERE)]),
    }
    return pd.DataFrame(columns)


def flow_sites(trace: RoutingTrace, site_id: int) -> tuple[int, ...]:
    """Up to three sites of one block around a site: the one before, itself, the one after.

    At the first or last layer the two next ones are taken, so that there are three wherever the model has them.
    """
    block = trace.sites.block[site_id]
    chain = [site for site in range(trace.num_sites) if trace.sites.block[site] == block]
    start = min(max(chain.index(site_id) - 1, 0), max(len(chain) - 3, 0))
    return tuple(chain[start : start + 3])


def first_experts(trace: RoutingTrace, site: int) -> npt.NDArray[np.int16]:
    """The node of every unit at a site: the kept expert it preferred most, DROPPED_NODE or UNROUTED_NODE."""
    bounds, rows = site_bounds(trace), trace.assignments
    part = slice(bounds[site], bounds[site + 1])
    unit_id, status = rows.unit_id[part], rows.status[part]
    node = np.full(trace.num_units, UNROUTED_NODE, dtype=np.int16)
    node[unit_id[status == DROPPED]] = DROPPED_NODE
    kept = np.flatnonzero(status == KEPT)[::-1]
    node[unit_id[kept]] = rows.expert_id[part][kept]  # rows are sorted by rank, so the preferred one is written last
    return node


def _node_rows(node: npt.NDArray[np.int16], num_experts: int) -> Counts:
    """Experts keep their id, dropped comes after them, then unrouted."""
    return np.where(node >= 0, node, num_experts - 1 - node).astype(np.int64)
