"""What a capture asks about its own result. The answers are recomputed from the tables and stored in the trace."""

from collections.abc import Sequence
from fractions import Fraction
from math import isnan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uoe_model.trace import DROPPED, FILLER, KEPT, AssignmentTable, CapacityTable, Check, SiteTable, UnitTable

_LEAST_AT_POSITION: Final = 4  # patches an expert may keep under admission by position, however early


def build_self_check(
    sites: SiteTable,
    units: UnitTable,
    capacities: CapacityTable,
    assignments: AssignmentTable,
    *,
    expected_sites: Sequence[str],
) -> tuple[Check, ...]:
    """Compare what was captured with what the model's configuration promises; fillers are left out.

    The tables may still contradict each other: making the RoutingTrace says so, this only must not stumble.

    Args:
        expected_sites: names of the model's routers, in site order, from its configuration.

    Returns:
        The checks `sites`, `rows`, `capacities`, `kept within capacity`, `dropped only where full`, `gates zero exactly
        where not kept`. Under admission by position capacity is the running one: what an expert may have kept up to
        each patch.
    """
    expected = list(expected_sites)
    found = [name for name in sites.name.tolist() if name in expected]
    checks = [_check("sites", sites.name.tolist() == expected, len(found), max(len(expected), len(sites)), "sites")]
    num_examples = int(units.example_id[-1]) + 1 if len(units) else 0
    if (
        _has_stray(assignments.site_id, len(sites))
        or _has_stray(assignments.unit_id, len(units))
        or _has_stray(assignments.expert_id, int(sites.num_experts.max(initial=0)))
        or len(capacities) != len(sites) * num_examples
    ):
        detail = "assignments or capacities name sites, units, or experts that are not there"
        return (*checks, Check(name="rows", passed=False, detail=detail))
    patches_X = np.bincount(units.example_id[units.first_of_patch()], minlength=num_examples)
    capacity_SP = _capacity_by_patches(sites, int(patches_X.max(initial=0)))
    return (
        *checks,
        _check_rows(sites, units, capacities, assignments, patches_X),
        _check_capacities(capacities, capacity_SP[:, patches_X]),
        *_check_occupancy(sites, units, capacities, assignments, num_examples, capacity_SP),
        _check_gates(assignments),
    )


def _check_rows(
    sites: SiteTable,
    units: UnitTable,
    capacities: CapacityTable,
    assignments: AssignmentTable,
    patches_X: NDArray[np.int64],
) -> Check:
    """Every unit requests top_k experts; under expert choice every expert picks all the patches it may."""
    requested = assignments.status != FILLER
    found_S = np.bincount(assignments.site_id[requested], minlength=len(sites))
    counted = requested & units.first_of_patch()[assignments.unit_id]
    picked_S = np.bincount(assignments.site_id[counted], minlength=len(sites))
    capacity_SX = capacities.capacity.reshape(len(sites), len(patches_X))
    picks_SX = np.where(capacity_SX < 0, patches_X, np.minimum(capacity_SX, patches_X))
    choice_S = sites.selection == "expert_choice"
    found_S = np.where(choice_S, picked_S, found_S)
    expected_S = np.where(choice_S, picks_SX.sum(axis=1) * sites.num_experts, sites.top_k.astype(np.int64) * len(units))
    right = int((found_S == expected_S).sum())
    detail = (
        f"{right} of {len(sites)} sites have the rows they should; {found_S.sum()} of {expected_S.sum()} rows found"
    )
    return Check(name="rows", passed=right == len(sites), detail=detail)


def _check_capacities(capacities: CapacityTable, expected_SX: NDArray[np.float64]) -> Check:
    """Every stated capacity is ceil(f * k * patches / E), at least 4 under admission by position, -1 if never full."""
    stated_SX = capacities.capacity.reshape(expected_SX.shape)
    right = int((np.where(stated_SX < 0, np.inf, stated_SX) == expected_SX).sum())
    return _check(
        "capacities", right == expected_SX.size, right, expected_SX.size, "pairs of site and example have the capacity"
    )


def _check_occupancy(
    sites: SiteTable,
    units: UnitTable,
    capacities: CapacityTable,
    assignments: AssignmentTable,
    num_examples: int,
    capacity_SP: NDArray[np.float64],
) -> tuple[Check, Check]:
    """Follow every expert through each example, patch by patch: what it had kept before each request."""
    first = units.first_of_patch()
    rows = np.flatnonzero((assignments.status != FILLER) & first[assignments.unit_id])
    cell = assignments.site_id[rows].astype(np.int64) * num_examples + units.example_id[assignments.unit_id[rows]]
    widest = int(sites.num_experts.max(initial=1))
    slot = cell * widest + assignments.expert_id[rows]
    if len(sites) * num_examples * widest <= 2**16:
        slot = slot.astype(np.uint16)  # sorted by radix, ten times faster
    order = np.argsort(slot, kind="stable")  # within a slot rows stay in the order of patches
    slot, cell, rows = slot[order], cell[order], rows[order]
    status = assignments.status[rows]
    kept, dropped = status == KEPT, status == DROPPED
    start = np.flatnonzero(slot[1:] != slot[:-1]) + 1  # of every slot but the first
    length = np.diff(start, prepend=0, append=len(slot))
    kept_so_far = np.cumsum(kept)
    kept_in_slots = np.diff(kept_so_far[np.append(start, len(slot)) - 1], prepend=0) if len(slot) else length
    kept_before = kept_so_far - kept - np.repeat(np.cumsum(kept_in_slots) - kept_in_slots, length)

    limit = capacities.capacity[cell].astype(np.float64)
    limit[limit < 0] = np.inf
    in_time = ((sites.admission == "position") & (sites.selection == "data")).astype(np.bool_)
    seen = np.repeat(kept_in_slots, length)  # what the expert kept of the example, or had kept when it was asked
    if in_time.any():
        site, unit = assignments.site_id[rows], assignments.unit_id[rows]
        example_start = np.searchsorted(units.example_id, np.arange(num_examples))
        patch_of_example = units.patch_id - units.patch_id[example_start][units.example_id]
        so_far = np.clip(patch_of_example[unit] + 1, 0, capacity_SP.shape[1] - 1)  # clipped only if ids have gaps
        running = capacity_SP[site, so_far]
        limit = np.where(in_time[site], running, limit)
        seen = np.where(in_time[site], kept_before, seen)
    over, early = kept & (kept_before >= limit), dropped & (seen < limit)
    num_kept, num_dropped = int(kept.sum()), int(dropped.sum())
    return (
        _check("kept within capacity", not over.any(), num_kept - int(over.sum()), num_kept, "kept assignments fit"),
        _check(
            "dropped only where full",
            not early.any(),
            num_dropped - int(early.sum()),
            num_dropped,
            "dropped assignments met a full expert",
        ),
    )


def _check_gates(assignments: AssignmentTable) -> Check:
    requested = assignments.status != FILLER
    right = (assignments.gate == 0) == (assignments.status != KEPT)
    num_right, num_rows = int((right & requested).sum()), int(requested.sum())
    return _check("gates zero exactly where not kept", num_right == num_rows, num_right, num_rows, "gates agree")


def _capacity_by_patches(sites: SiteTable, most: int) -> NDArray[np.float64]:
    """Tabulate ceil(f * k * patches / E) for 0..most patches at every site, exactly; infinite where never full.

    f is the decimal number that was written, not its binary neighbour: 1.1 * 3 * 80 / 8 is 33, in float64 it is more.
    """
    rows: dict[tuple[float, int, int, str], NDArray[Any]] = {}
    table = np.full((len(sites), most + 1), np.inf)
    columns = (sites.capacity_factor, sites.top_k, sites.num_experts, sites.admission)
    for site, key in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        factor, top_k, num_experts, admission = key
        if isnan(factor):
            continue
        if key not in rows:
            share = Fraction(str(factor)) * top_k / num_experts
            up, down = share.numerator, share.denominator
            least = _LEAST_AT_POSITION if admission == "position" else 0
            # Python's integers where a factor of many digits would overflow 64 bits.
            kind = np.int64 if up * most < 2**63 else np.object_
            rows[key] = np.maximum(-(-np.arange(most + 1, dtype=kind) * up // down), least)
        table[site] = rows[key]
    return table


def _check(name: str, passed: bool, right: int, total: int, what: str) -> Check:
    return Check(name=name, passed=passed, detail=f"{right:,} of {total:,} {what}")


def _has_stray(ids: NDArray[Any], bound: int) -> bool:
    return bool(len(ids)) and (int(ids.min()) < 0 or int(ids.max()) >= bound)
