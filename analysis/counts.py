"""Requested and kept patches per expert, and what became of every unit: the counts that all statistics share."""

import dataclasses

import numpy as np
import numpy.typing as npt

from analysis.columns import BoolArray, FloatArray
from uoe_model.trace import DROPPED, FILLER, KEPT, RoutingTrace

Counts = npt.NDArray[np.int64]

NOT_COUNTED = 2
"""Outcome of a row that is filler, or that repeats the decision of an earlier unit of its patch."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertCounts:
    """Counts of assignments in patches: R rows, one per (site[, example], expert), sorted by these.

    Attributes:
        site_row: (R,) row of the site table. example_id: (R,) example, -1 where examples are counted together.
        expert_id: (R,) every expert of the site, also those that nobody asked for.
        requested: (R,) patches that asked for the expert. kept: (R,) patches that got a slot.
        filler: (R,) patches that sit in a free slot unasked.
        patches: (R,) patches of the input (of the example).
        decisions: (R,) independent decisions behind the patches: the patches themselves, or for selection `expert`
            the examples (their effective number, see `effective_examples`).
        slots: (R,) patches the expert could take; NaN if it is never full.
        is_unlimited: (R,) whether the expert is never full.
    """

    site_row: Counts
    example_id: Counts
    expert_id: Counts
    requested: Counts
    kept: Counts
    filler: Counts
    patches: Counts
    decisions: Counts
    slots: FloatArray
    is_unlimited: BoolArray

    @property
    def dropped(self) -> Counts:
        """(R,) requested patches that found the expert full."""
        return self.requested - self.kept

    def total(self, column: npt.NDArray[np.int64] | FloatArray) -> npt.NDArray[np.float64]:
        """(R,) sum of a column over the experts of the same site (and example)."""
        starts = np.flatnonzero(self.expert_id == 0)
        sums = np.add.reduceat(column, starts) if len(starts) else column
        return np.repeat(sums, np.diff(np.append(starts, len(column)))).astype(np.float64)


def site_bounds(trace: RoutingTrace) -> Counts:
    """(sites + 1,) first assignment row of every site, and the number of rows."""
    rows = trace.assignments
    ids = np.arange(len(trace.sites.site_id), dtype=rows.site_id.dtype)
    return np.append(np.searchsorted(rows.site_id, ids), len(rows.site_id)).astype(np.int64)


def effective_examples(sizes: Counts) -> int:
    """Kish's effective number of examples, (sum of sizes)^2 / sum of squared sizes, rounded down.

    The number of equally long examples whose total would vary as much; exact when all are equally long.
    """
    squares = int((sizes * sizes).sum())
    return int(sizes.sum()) ** 2 // squares if squares else 0


def count_by_expert(trace: RoutingTrace, *, by_example: bool = False) -> ExpertCounts:
    """Count requested and kept patches of every expert; no rows if the trace has no units."""
    sites, units, rows = trace.sites, trace.units, trace.assignments
    patches_X = np.bincount(units.example_id[units.first_of_patch()], minlength=trace.num_examples).astype(np.int64)
    groups = trace.num_examples if by_example else min(trace.num_examples, 1)
    patches_G = patches_X if by_example else patches_X.sum(keepdims=True)[:groups]
    num_experts = sites.num_experts.astype(np.int64)
    bounds = site_bounds(trace)
    tables = [np.zeros((0, 3), dtype=np.int64)]
    for site, experts in enumerate(num_experts.tolist()):
        part = slice(bounds[site], bounds[site + 1])
        outcome = np.where(trace.counted[part], rows.status[part], np.uint8(NOT_COUNTED))
        key = rows.expert_id[part].astype(np.int32) * np.int32(3) + outcome
        if by_example:
            key = units.example_id[rows.unit_id[part]].astype(np.int64) * (3 * experts) + key
        cells = groups * experts
        tables.append(np.bincount(key, minlength=3 * cells)[: 3 * cells].reshape(cells, 3))
    outcomes_R3 = np.concatenate(tables)
    slots_SG, is_unlimited_SG = _slots(trace, by_example=by_example)
    whole_examples = 1 if by_example else effective_examples(patches_X)
    decisions_SG = np.where((sites.selection == "expert")[:, None], whole_examples, patches_G)
    site_R = np.repeat(np.arange(len(sites)), num_experts * groups)
    # Within a site the rows run through the groups, and within a group through the experts.
    first_R = np.repeat(np.cumsum(num_experts * groups) - num_experts * groups, num_experts * groups)
    group_R, expert_R = np.divmod(np.arange(len(site_R)) - first_R, num_experts[site_R])
    return ExpertCounts(
        site_row=site_R,
        example_id=group_R if by_example else np.full_like(group_R, -1),
        expert_id=expert_R,
        requested=outcomes_R3[:, KEPT] + outcomes_R3[:, DROPPED],
        kept=outcomes_R3[:, KEPT],
        filler=_count_filler(trace, bounds, by_example=by_example),
        patches=patches_G[group_R],
        decisions=decisions_SG[site_R, group_R],
        slots=slots_SG[site_R, group_R],
        is_unlimited=is_unlimited_SG[site_R, group_R],
    )


def _count_filler(trace: RoutingTrace, bounds: Counts, *, by_example: bool) -> Counts:
    """(R,) patches in free slots of every expert, in the order of `ExpertCounts`."""
    units, rows = trace.units, trace.assignments
    groups = trace.num_examples if by_example else min(trace.num_examples, 1)
    leads = units.first_of_patch()
    parts = [np.zeros(0, dtype=np.int64)]
    for site, experts in enumerate(trace.sites.num_experts.astype(np.int64).tolist()):
        part = slice(bounds[site], bounds[site + 1])
        filler = (rows.status[part] == FILLER) & leads[rows.unit_id[part]]
        key = rows.expert_id[part][filler].astype(np.int64)
        if by_example:
            key += units.example_id[rows.unit_id[part][filler]].astype(np.int64) * experts
        parts.append(np.bincount(key, minlength=groups * experts)[: groups * experts])
    return np.concatenate(parts)


def _slots(trace: RoutingTrace, *, by_example: bool) -> tuple[FloatArray, BoolArray]:
    """Slots of one expert (sites, groups), NaN if it is never full, and whether that is so.

    Under `position` admission the capacity table holds C at the last patch of each example.
    """
    slots_SX = trace.capacities.capacity.astype(np.float64).reshape(len(trace.sites), trace.num_examples)
    is_unlimited_SX: BoolArray = slots_SX < 0
    slots_SX[is_unlimited_SX] = np.nan
    if by_example or not trace.num_examples:
        return slots_SX, is_unlimited_SX
    return slots_SX.sum(axis=1, keepdims=True), np.asarray(is_unlimited_SX.any(axis=1, keepdims=True))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UnitCounts:
    """What became of every unit at one site, in unit order.

    Attributes:
        requested: (units,) experts the unit (or its patch) asked for; 0: unrouted, nobody was asked and nobody picked
            it (filler is no request). kept: (units,) experts that gave it a slot.
    """

    requested: Counts
    kept: Counts

    @property
    def is_dropped(self) -> BoolArray:
        """(units,) asked for at least one expert and was kept by none."""
        return np.asarray((self.requested > 0) & (self.kept == 0), dtype=np.bool_)

    @property
    def is_unrouted(self) -> BoolArray:
        """(units,) no request at all."""
        return np.asarray(self.requested == 0, dtype=np.bool_)


def count_by_unit(trace: RoutingTrace, rows_of_site: slice) -> UnitCounts:
    """Count the requested and kept experts of every unit in the assignment rows of one site.

    Here every unit of a patch has a row of its own, as its own output depends on it.
    """
    rows = trace.assignments
    status, unit_id = rows.status[rows_of_site], rows.unit_id[rows_of_site]
    units = len(trace.units.unit_id)
    return UnitCounts(
        requested=np.bincount(unit_id[status != FILLER], minlength=units).astype(np.int64),
        kept=np.bincount(unit_id[status == KEPT], minlength=units).astype(np.int64),
    )
