"""Two runs side by side: whose load moved, whose route changed, and what it did to the loss. Run A comes first."""

import dataclasses
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd

from analysis.alignment import Alignment, align_units
from analysis.columns import BoolArray, Column, FloatArray, reason_column, share, site_columns, text_column
from analysis.counts import Counts, site_bounds
from analysis.loss import loss_of_unit
from analysis.routes import unit_routes
from analysis.tables import chosen_sites, units_table
from analysis.transitions import first_experts
from analysis.utilisation import expert_load
from uoe_model.errors import MismatchError
from uoe_model.trace import KEPT, RoutingTrace

DifferenceMeasure = Literal["relative_load", "load_share", "utilisation", "drop_share"]
DIFFERENCE_MEASURES: Final[tuple[DifferenceMeasure, ...]] = get_args(DifferenceMeasure)

UNKNOWN_IN: Final = {
    "relative_load": "nothing was kept at this site",
    "load_share": "nothing was kept at this site",
    "utilisation": "experts are never full",
    "drop_share": "nobody asked for this expert",
}
NO_LOSS: Final = "nothing predicted this unit, or the trace holds no loss"


def load_difference(a: RoutingTrace, b: RoutingTrace, *, measure: DifferenceMeasure = "relative_load") -> pd.DataFrame:
    """Say how the load of every expert moved from run A to run B; the two may be of different inputs.

    Args:
        a, b: traces of the same routers (names and numbers of experts); k, capacity and gates may differ.
        measure: relative_load, load_share, utilisation (see `expert_load`) or drop_share (dropped / requested).

    Returns:
        One row per (site, expert), sorted by both; no rows if one of the traces has no units:

        - site_id (int16), layer (int16), block (str), site_name (str), expert_id (int16)
        - load_a, load_b (int64): patches kept
        - value_a, value_b (float64): the measure in either run
        - difference (float64): value_b - value_a; NaN where one of them is unknown
        - reason (str): why values are NaN; "" if none is

    Raises:
        MismatchError: the runs have different routers.
    """
    check_same_routers(a, b)
    load_a, load_b = expert_load(a), expert_load(b)
    if load_a.empty or load_b.empty:
        load_a, load_b = load_a.iloc[:0], load_b.iloc[:0]
    value_a, value_b = _measured(load_a, measure), _measured(load_b, measure)
    return load_a[["site_id", "layer", "block", "site_name", "expert_id"]].assign(
        load_a=load_a["load"],
        load_b=load_b["load"],
        value_a=value_a,
        value_b=value_b,
        difference=value_b - value_a,
        reason=reason_column(
            len(load_a),
            [
                (np.isnan(value_a), f"{UNKNOWN_IN[measure]} in run A"),
                (np.isnan(value_b), f"{UNKNOWN_IN[measure]} in run B"),
            ],
        ),
    )


def route_changes(a: RoutingTrace, b: RoutingTrace, *, site_ids: Sequence[int] | None = None) -> pd.DataFrame:
    """Lay the routes of all units that both runs share beside each other.

    Which units that are says `align_units`: same example, position and token (or cell), and within a generated tail
    only up to the first token that differs. A route changed if another expert is the preferred one of those that kept
    the unit, or if others keep it; a unit that none kept in both runs has not changed.

    Args:
        a, b: traces of the same routers. site_ids: sites to include, None for all.

    Returns:
        One row per (site, shared unit), sorted by both; no rows if one of the traces has no units:

        - site_id (int16), layer (int16), block (str), site_name (str)
        - unit_id (int32): in run B; unit_id_a (int32): in run A
        - example_id, position (int32), text (str)
        - status_a, status_b (str): kept, partly dropped, dropped, unrouted
        - first_expert_a, first_expert_b (int16): the kept expert it preferred most; -1 if none kept it
        - experts_a, experts_b (str): experts that kept it, in order of preference, as "E3 E0"
        - first_changed (bool): first_expert differs; kept_changed (bool): the set of experts that kept it differs
        - loss_a, loss_b (float64): loss of the unit itself, nats; loss_change (float64): loss_b - loss_a
        - reason (str): why a loss is NaN; "" if none is

    Raises:
        MismatchError: the runs have different routers, or share no unit although both have some.
    """
    shared = _shared_units(a, b)
    sites = chosen_sites(b, site_ids)
    routes_a, routes_b = (
        _rows_of_units(unit_routes(trace, sites), len(sites), trace.num_units, units)
        for trace, units in ((a, shared.unit_a), (b, shared.unit_b))
    )
    first_a, first_b = routes_a["first_expert"].to_numpy(), routes_b["first_expert"].to_numpy()
    loss_a, loss_b = _own_losses(a, b, shared)
    columns: dict[str, Column] = site_columns(b, np.repeat(np.array(sites, dtype=np.int64), len(shared.unit_a)))
    columns |= {
        "unit_id": routes_b["unit_id"].to_numpy(),
        "unit_id_a": routes_a["unit_id"].to_numpy(),
        **{name: routes_b[name].array for name in ("example_id", "position", "text")},
        "status_a": routes_a["status"].array,
        "status_b": routes_b["status"].array,
        "first_expert_a": first_a,
        "first_expert_b": first_b,
        "experts_a": routes_a["kept_experts"].array,
        "experts_b": routes_b["kept_experts"].array,
        "first_changed": first_a != first_b,
        "kept_changed": np.concatenate(
            [np.zeros(0, dtype=np.bool_), *(_kept_changed(a, b, shared, site) for site in sites)]
        ),
        "loss_a": np.tile(loss_a, len(sites)),
        "loss_b": np.tile(loss_b, len(sites)),
        "loss_change": np.tile(loss_b - loss_a, len(sites)),
        "reason": reason_column(len(sites) * len(loss_a), [(np.tile(np.isnan(loss_b - loss_a), len(sites)), NO_LOSS)]),
    }
    return pd.DataFrame(columns)


def changed_units(a: RoutingTrace, b: RoutingTrace, site_id: int) -> BoolArray:
    """Which units of run B go another way at a site than in run A.

    Returns:
        bool (num_units of B,): `first_changed` or `kept_changed` of `route_changes`; False for units that A lacks.

    Raises:
        MismatchError: as for `route_changes`.
    """
    shared = _shared_units(a, b)
    changed = np.zeros(b.num_units, dtype=np.bool_)
    changed[shared.unit_b] = _first_changed(a, b, shared, site_id) | _kept_changed(a, b, shared, site_id)
    return changed


def compare_runs(a: RoutingTrace, b: RoutingTrace) -> pd.DataFrame:
    """Sum the comparison up in a few numbers.

    Returns:
        One row per number, in reading order; no rows if one of the traces has no units:

        - term (str): its key in `analysis.glossary.TERMS`
        - block (str): attention, mlp, or "" for all sites together
        - a, b (float64): the number in either run; NaN where it is one of both together
        - change (float64): b - a; for `changed_first` the share of (site, unit) pairs that changed
        - note (str): what it is taken over, and why something is NaN

    Raises:
        MismatchError: as for `route_changes`.
    """
    shared = _shared_units(a, b)
    if not a.num_units or not b.num_units:
        return _summary_frame([])
    left_out = (
        f"{len(shared.unit_b)} units are in both runs and compared; {shared.left_out_a} of run A and "
        f"{shared.left_out_b} of run B are not"
    )
    rows = [_Comparison("units", "", float(a.num_units), float(b.num_units), left_out)]
    loss_a, loss_b = _own_losses(a, b, shared)
    known = ~np.isnan(loss_a) & ~np.isnan(loss_b)
    mean_a, mean_b = (float(loss[known].mean()) if known.any() else np.nan for loss in (loss_a, loss_b))
    note = f"mean over the {int(known.sum())} compared units whose loss is known in both" if known.any() else NO_LOSS
    rows.append(_Comparison("loss", "", mean_a, mean_b, note))
    load_a, load_b = expert_load(a), expert_load(b)
    for block in ("", *dict.fromkeys(b.sites.block.tolist())) if b.num_sites else ():
        sites = [site for site in range(b.num_sites) if block in ("", b.sites.block[site])]
        drops_a, drops_b = _drop_share(load_a, sites), _drop_share(load_b, sites)
        is_known = not np.isnan([drops_a, drops_b]).any()
        note = "over all units of either run" if is_known else "nothing was requested in one of the runs"
        rows.append(_Comparison("drop_share", block, drops_a, drops_b, note))
        changed = float(np.mean([_first_changed(a, b, shared, site).mean() for site in sites]))
        note = "share of the compared units, over sites; one number for both runs together"
        rows.append(_Comparison("changed_first", block, np.nan, np.nan, note, change=changed))
    return _summary_frame(rows)


def check_same_routers(a: RoutingTrace, b: RoutingTrace) -> None:
    """Raise MismatchError, naming what differs, unless both traces have the same sites with as many experts."""
    one, other = a.sites, b.sites
    if len(one) != len(other):
        raise MismatchError(f"run A has {len(one)} routers and run B {len(other)}: choose runs of the same model")
    for name, what in (("name", "name"), ("num_experts", "number of experts")):
        values_a, values_b = getattr(one, name).tolist(), getattr(other, name).tolist()
        for site, (value_a, value_b) in enumerate(zip(values_a, values_b, strict=True)):
            if value_a != value_b:
                raise MismatchError(
                    f"site {site}: its {what} is {value_a!r} in run A and {value_b!r} in run B: choose runs of the "
                    "same model"
                )


@dataclasses.dataclass(frozen=True, slots=True)
class _Comparison:
    term: str
    block: str
    a: float
    b: float
    note: str
    change: float | None = None  # b - a


def _summary_frame(rows: Sequence[_Comparison]) -> pd.DataFrame:
    each = np.arange(len(rows))
    change = [row.b - row.a if row.change is None else row.change for row in rows]
    return pd.DataFrame(
        {
            "term": text_column([row.term for row in rows], each),
            "block": text_column([row.block for row in rows], each),
            "a": np.array([row.a for row in rows], dtype=np.float64),
            "b": np.array([row.b for row in rows], dtype=np.float64),
            "change": np.array(change, dtype=np.float64),
            "note": text_column([row.note for row in rows], each),
        }
    )


def _shared_units(a: RoutingTrace, b: RoutingTrace) -> Alignment:
    check_same_routers(a, b)
    shared = align_units(a, b)
    if a.num_units and b.num_units and not len(shared.unit_a):
        raise MismatchError(
            "the runs share no unit: no example has the same token, or cell, at the same position in both. Compare "
            "runs of the same input, or only their load."
        )
    return shared


def _measured(load: pd.DataFrame, measure: DifferenceMeasure) -> FloatArray:
    if measure == "drop_share":
        return share(load["dropped"].to_numpy(), load["requested"].to_numpy())
    return load[measure].to_numpy(dtype=np.float64)


def _rows_of_units(routes: pd.DataFrame, num_sites: int, num_units: int, units: Counts) -> pd.DataFrame:
    """The rows of some units at every site, from a table of all units at every site."""
    rows = np.arange(num_sites, dtype=np.int64)[:, None] * num_units + units
    return routes.take(rows.ravel())


def _own_losses(a: RoutingTrace, b: RoutingTrace, shared: Alignment) -> tuple[FloatArray, FloatArray]:
    loss_a = loss_of_unit(units_table(a)).to_numpy(dtype=np.float64)
    loss_b = loss_of_unit(units_table(b)).to_numpy(dtype=np.float64)
    return loss_a[shared.unit_a], loss_b[shared.unit_b]


def _first_changed(a: RoutingTrace, b: RoutingTrace, shared: Alignment, site: int) -> BoolArray:
    """(shared units,) whether another expert is the first that kept the unit; none is none, asked or not."""
    first_a, first_b = first_experts(a, site)[shared.unit_a], first_experts(b, site)[shared.unit_b]
    return np.asarray(np.maximum(first_a, -1) != np.maximum(first_b, -1), dtype=np.bool_)


def _kept_changed(a: RoutingTrace, b: RoutingTrace, shared: Alignment, site: int) -> BoolArray:
    """(shared units,) whether the set of experts that kept the unit differs at a site."""
    num_experts = int(b.sites.num_experts[site])
    pairs: list[Counts] = []
    for trace, units in ((a, shared.unit_a), (b, shared.unit_b)):
        place = np.full(trace.num_units, -1, dtype=np.int64)
        place[units] = np.arange(len(units))
        bounds, rows = site_bounds(trace), trace.assignments
        part = slice(bounds[site], bounds[site + 1])
        shared_row = place[rows.unit_id[part]]
        is_kept = (rows.status[part] == KEPT) & (shared_row >= 0)
        pairs.append(shared_row[is_kept] * num_experts + rows.expert_id[part][is_kept])
    changed = np.zeros(len(shared.unit_a), dtype=np.bool_)
    changed[np.setxor1d(pairs[0], pairs[1], assume_unique=True) // num_experts] = True
    return changed


def _drop_share(load: pd.DataFrame, sites: Sequence[int]) -> float:
    chosen = load[load["site_id"].isin(sites)]
    return float(share(chosen["dropped"].sum(), chosen["requested"].sum()))
