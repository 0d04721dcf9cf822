"""The invariants of a routing trace. Every function returns the problems it found, as sentences; none raises."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uoe_model.trace_tables import (
    ADMISSIONS,
    BLOCKS,
    DROPPED,
    FILLER,
    GATES,
    KEPT,
    PHASES,
    SCORE_FUNCTIONS,
    SELECTIONS,
    AssignmentTable,
    CapacityTable,
    ReferenceTable,
    SiteTable,
    UnitTable,
)

_SCORE_TOLERANCE = 1e-5


def trace_problems(
    sites: SiteTable,
    units: UnitTable,
    capacities: CapacityTable,
    assignments: AssignmentTable,
    router_logits: Mapping[int, NDArray[np.float32]],
    reference: ReferenceTable | None,
) -> list[str]:
    """List everything that is wrong with a trace: first each table alone, then, if all hold, the tables together."""
    expected = {"sites": (sites, SiteTable), "units": (units, UnitTable), "capacities": (capacities, CapacityTable)}
    expected["assignments"] = (assignments, AssignmentTable)
    if reference is not None:
        expected["reference"] = (reference, ReferenceTable)
    problems = [
        f"{name} is a {type(table).__name__}, must be a {kind.__name__}"
        for name, (table, kind) in expected.items()
        if type(table) is not kind
    ]
    if problems:
        return problems
    problems = [*site_problems(sites), *unit_problems(units)]
    if problems:
        return problems
    problems = [
        *capacity_problems(sites, units, capacities),
        *assignment_problems(sites, units, assignments),
        *logit_problems(sites, units, router_logits),
        *([] if reference is None else reference_problems(sites, reference)),
    ]
    if problems:
        return problems
    return [
        *repetition_problems(sites, units, assignments),
        *occupancy_problems(sites, units, capacities, assignments),
    ]


def site_problems(sites: SiteTable) -> list[str]:
    """Check the sites alone: ids, order, known words, ranges."""
    top_k, num_experts, factor = sites.top_k, sites.num_experts, sites.capacity_factor
    order = list(zip(sites.layer.tolist(), sites.block.tolist(), strict=True))
    problems = [
        *_rows("sites: site_id must equal the row number", sites.site_id != np.arange(len(sites))),
        *_rows("sites: layer must not be negative", sites.layer < 0),
        *_rows("sites: num_experts must be at least 1", num_experts < 1),
        *_rows("sites: top_k must lie in 1..num_experts", (top_k < 1) | (top_k > num_experts)),
        *_rows("sites: capacity_factor must be positive, or NaN for never full", (factor <= 0) | np.isinf(factor)),
        *_rows("sites: patch_len must be at least 1", sites.patch_len < 1),
        *_rows("sites: num_shared_experts must not be negative", sites.num_shared_experts < 0),
    ]
    problems += _rows(
        "sites: capacity_factor must be NaN where an example chooses its experts, because they take all of it",
        (sites.selection == "expert") & ~np.isnan(factor),
    )
    for name, allowed in (
        ("block", BLOCKS),
        ("selection", SELECTIONS),
        ("admission", ADMISSIONS),
        ("gate", GATES),
        ("score_function", SCORE_FUNCTIONS),
    ):
        problems += _words("sites", name, sites.columns()[name], allowed)
    if len(set(sites.patch_len.tolist())) > 1:
        found = sorted(set(sites.patch_len.tolist()))
        problems.append(
            f"sites: patch_len must be the same at every site, because units have one patch_id; not {found}"
        )
    if any(before >= after for before, after in pairwise(order)):
        problems.append("sites: must be in site order (layer, then attention before mlp), one row per router")
    names = sites.name.tolist()
    if "" in names or len(set(names)) < len(names):
        problems.append(f"sites: name must be unique and not empty, not {names}")
    return problems


def unit_problems(units: UnitTable) -> list[str]:
    """Check the units alone: ids, order, known words, ranges."""
    step = np.diff(units.example_id, prepend=units.example_id[:1])
    same_example = step == 0
    same_example[:1] = False
    patch_step = np.diff(units.patch_id, prepend=np.int32(-1))
    position_step = np.diff(units.position, prepend=np.int32(-1))
    start, end = units.char_start, units.char_end
    probability = units.output_probability
    problems = [
        *_rows("units: unit_id must equal the row number", units.unit_id != np.arange(len(units))),
        *_rows("units: example_id must be 0, 1, ... ascending without gaps", (step < 0) | (step > 1)),
        *_rows(
            "units: patch_id must be 0, 1, ... ascending without gaps",
            (patch_step < 0) | (patch_step > 1) | (units.patch_id < 0),
        ),
        *_rows("units: a patch must not span examples", (patch_step == 0) & ~same_example),
        *_rows("units: position must not be negative", units.position < 0),
        *_rows("units: position must ascend within its example", same_example & (position_step <= 0)),
        *_rows("units: token_id must be at least -1", units.token_id < -1),
        *_rows("units: output_token_id must be at least -1", units.output_token_id < -1),
        *_rows("units: char_start, char_end must be -1, -1 or 0 <= start <= end", (start < -1) | (end < start)),
        *_rows("units: char_start and char_end must be missing together", (start == -1) != (end == -1)),
        *_rows("units: grid_row, grid_col must be at least -1", (units.grid_row < -1) | (units.grid_col < -1)),
        *_rows(
            "units: grid_row and grid_col must be missing together", (units.grid_row == -1) != (units.grid_col == -1)
        ),
        *_rows("units: output_probability must lie in 0..1, or NaN", (probability < 0) | (probability > 1)),
        *_rows("units: loss must be finite and not negative, or NaN", (units.loss < 0) | np.isinf(units.loss)),
        *_rows("units: modality must not be empty", units.modality == ""),
        *_words("units", "phase", units.phase, PHASES),
    ]
    if len(units) and units.example_id[0] != 0:
        problems.append(f"units: example_id must start at 0, not {units.example_id[0]}")
    edges = (units.box_x0, units.box_y0, units.box_x1, units.box_y1)
    if any(np.isinf(edge).any() for edge in edges):
        problems.append("units: box must be finite, or NaN")
    else:
        missing = [np.isnan(edge) for edge in edges]
        partial = np.logical_or.reduce(missing) & ~np.logical_and.reduce(missing)
        upside_down = (units.box_x1 < units.box_x0) | (units.box_y1 < units.box_y0)
        problems += _rows("units: the four edges of a box must be missing together", partial)
        problems += _rows("units: box must have x0 <= x1 and y0 <= y1", upside_down)
    return problems


def capacity_problems(sites: SiteTable, units: UnitTable, capacities: CapacityTable) -> list[str]:
    """Check that every (site, example) has one capacity, and that it fits the capacity factor."""
    num_examples = int(units.example_id[-1]) + 1 if len(units) else 0
    if len(capacities) != len(sites) * num_examples:
        expected = f"{len(sites)} sites x {num_examples} examples = {len(sites) * num_examples}"
        return [f"capacities: {len(capacities)} rows, must be {expected}"]
    problems = [
        *_rows("capacities: site_id must be sorted", capacities.site_id != np.repeat(sites.site_id, num_examples)),
        *_rows(
            "capacities: example_id must be 0, 1, ... at every site",
            capacities.example_id != np.tile(np.arange(num_examples), len(sites)),
        ),
        *_rows("capacities: capacity must be at least -1", capacities.capacity < -1),
    ]
    if not problems:
        unlimited = capacities.capacity == -1
        never_full = np.isnan(sites.capacity_factor)[capacities.site_id]
        problems += _rows("capacities: capacity must be -1 where capacity_factor is NaN", never_full & ~unlimited)
        problems += _rows(
            "capacities: capacity must not be -1 where capacity_factor is a number", ~never_full & unlimited
        )
    return problems


def assignment_problems(sites: SiteTable, units: UnitTable, assignments: AssignmentTable) -> list[str]:
    """Check the assignments' ids, order, ranks, values, and statuses."""
    rows, where = assignments, "assignments:"
    problems = [
        *_rows(f"{where} site_id must lie in 0..{len(sites) - 1}", (rows.site_id < 0) | (rows.site_id >= len(sites))),
        *_rows(f"{where} unit_id must lie in 0..{len(units) - 1}", (rows.unit_id < 0) | (rows.unit_id >= len(units))),
        *_rows(f"{where} status must be 0 (kept), 1 (dropped) or 2 (filler)", rows.status > FILLER),
        *_rows(f"{where} gate must be finite", ~np.isfinite(rows.gate)),
        *_rows(
            f"{where} score must be a probability, 0..1",
            ~((rows.score >= 0) & (rows.score <= 1 + _SCORE_TOLERANCE)),
        ),
    ]
    if rows.selection_score is not None:
        problems += _rows(f"{where} selection_score must be finite, or NaN", np.isinf(rows.selection_score))
    if problems:
        return problems

    num_experts = sites.num_experts[rows.site_id]
    outside = (rows.expert_id < 0) | (rows.expert_id >= num_experts)
    kept, dropped, filler = rows.status == KEPT, rows.status == DROPPED, rows.status == FILLER
    never_drops = (sites.selection != "data").astype(np.bool_)[rows.site_id]
    most = np.where(sites.selection == "expert_choice", sites.num_experts, sites.top_k)[rows.site_id]
    problems += [
        *_rows(f"{where} expert_id must lie in 0..num_experts-1 of its site", outside),
        *_rows(f"{where} gate must be 0 where dropped", dropped & (rows.gate != 0)),
        *_rows(f"{where} gate must not be 0 where kept", kept & (rows.gate == 0)),
        *_rows(f"{where} only a filler has rank -1, and every filler has it", filler != (rows.rank == -1)),
        *_rows(f"{where} only sites with selection data can drop", dropped & never_drops),
        *_rows(f"{where} rank must be below top_k (below num_experts for expert_choice)", rows.rank >= most),
    ]
    if len(rows) < 2:
        return problems + _rows(f"{where} ranks of a unit must be 0, 1, ... without gaps", rows.rank > 0)

    site_step = np.diff(rows.site_id)
    unit_step = np.diff(rows.unit_id)
    same_unit = (site_step == 0) & (unit_step == 0)
    unsorted = (site_step < 0) | ((site_step == 0) & (unit_step < 0)) | (same_unit & (np.diff(rows.rank) < 0))
    before = np.empty(len(rows), dtype=np.int16)
    before[0] = -1
    before[1:] = np.where(same_unit, rows.rank[:-1], -1)
    if unsorted.any():
        return problems + _rows(f"{where} must be sorted by site_id, unit_id, rank", unsorted, offset=1)
    problems += _rows(f"{where} ranks of a unit must be 0, 1, ... without gaps", ~filler & (rows.rank != before + 1))
    return problems or _repeated_requests(rows)


def _repeated_requests(rows: AssignmentTable) -> list[str]:
    """Find units that request an expert twice, by comparing rows 1, 2, ... apart: ranks end before 128."""
    requested = np.flatnonzero(rows.status != FILLER)
    site_id, unit_id, expert_id = rows.site_id[requested], rows.unit_id[requested], rows.expert_id[requested]
    distance = 1
    while distance < len(requested):
        together = (unit_id[distance:] == unit_id[:-distance]) & (site_id[distance:] == site_id[:-distance])
        if not together.any():
            break
        again = np.flatnonzero(together & (expert_id[distance:] == expert_id[:-distance]))
        if again.size:
            row = requested[again[0] + distance]
            return [f"assignments: a unit must not request an expert twice (row {row}, expert {rows.expert_id[row]})"]
        distance += 1
    return []


def repetition_problems(sites: SiteTable, units: UnitTable, assignments: AssignmentTable) -> list[str]:
    """Check what must be repeated: a patch's rows on each of its units, an example's experts where it chose once."""
    num_units = len(units)
    if not len(sites) or not num_units:
        return []
    first = units.first_of_patch()
    problems = _rows(
        "assignments: inherited must be False on the first unit of a patch",
        assignments.inherited & first[assignments.unit_id],
    )
    patch_len, patch_size = int(sites.patch_len[0]), np.bincount(units.patch_id)
    if patch_size.max() > patch_len:
        problems.append(f"units: a patch has at most patch_len={patch_len} units, not {patch_size.max()}")
    per_example = sites.selection == "expert"
    if patch_len == 1 and not per_example.any():
        return problems
    patch_leader = np.flatnonzero(first)[units.patch_id]
    example_leader = np.searchsorted(units.example_id, units.example_id)
    # Cells are the pairs of site and unit that have rows; a table of all pairs could be far larger than the trace.
    cell_of_row = assignments.site_id.astype(np.int64) * num_units + assignments.unit_id
    start = np.flatnonzero(np.diff(cell_of_row, prepend=-1))
    num_rows = np.diff(start, append=len(cell_of_row))
    site, unit = assignments.site_id[start], assignments.unit_id[start]
    whole = per_example[site].astype(np.bool_)
    leader_unit = np.where(whole, example_leader[unit], patch_leader[unit])
    group_size = np.where(
        whole, np.bincount(units.example_id)[units.example_id[unit]], patch_size[units.patch_id[unit]]
    )
    cell = cell_of_row[start]
    leader = np.searchsorted(cell, cell - unit + leader_unit)  # never past the end: a leader comes first
    led = np.bincount(leader, minlength=len(cell))[leader]
    alone = (cell[leader] != cell - unit + leader_unit) | (num_rows[leader] != num_rows) | (led != group_size)
    if alone.any():
        where = f"unit {unit[alone.argmax()]} at site {site[alone.argmax()]}"
        return [*problems, f"assignments: {where} and the others of its patch or example must have equally many rows"]
    twin = np.repeat(start[leader] - start, num_rows) + np.arange(len(cell_of_row))
    repeated = (assignments.expert_id, assignments.status, assignments.score, assignments.gate)
    differs = np.logical_or.reduce([column != column[twin] for column in repeated])
    return problems + _rows(
        "assignments: units of one patch, or of an example that chose once, must repeat its rows", differs
    )


def occupancy_problems(
    sites: SiteTable, units: UnitTable, capacities: CapacityTable, assignments: AssignmentTable
) -> list[str]:
    """Check that no expert keeps more patches of an example than its capacity there."""
    num_examples = int(units.example_id[-1]) + 1 if len(units) else 0
    if not len(assignments):
        return []
    widest = int(sites.num_experts.max())
    cell = assignments.site_id.astype(np.int64) * num_examples + units.example_id[assignments.unit_id]
    endless = (assignments.status == DROPPED) & (capacities.capacity[cell] == -1)
    if endless.any():
        return _rows("assignments: nothing can be dropped where capacity is -1, unlimited", endless)
    counted = (assignments.status == KEPT) & units.first_of_patch()[assignments.unit_id]
    slot = cell[counted] * widest + assignments.expert_id[counted]
    if len(sites) * num_examples * widest <= 4 * len(slot) + 2**20:
        kept = np.bincount(slot)
        slots = np.flatnonzero(kept)
        kept = kept[slots]
    else:  # a table of everything would be far larger than the trace
        slots, kept = np.unique(slot, return_counts=True)
    capacity = capacities.capacity[slots // widest]
    over = np.flatnonzero((capacity >= 0) & (kept > capacity))
    if not over.size:
        return []
    worst = over[0]
    site, example = divmod(int(slots[worst]) // widest, num_examples)
    expert = int(slots[worst]) % widest
    found = f"expert {expert} at site {site} keeps {kept[worst]} patches of example {example}"
    allowed = f"must be at most its capacity {capacity[worst]}"
    return [f"assignments: {found}, {allowed} ({over.size} experts over capacity in all)"]


def logit_problems(sites: SiteTable, units: UnitTable, router_logits: Mapping[int, NDArray[np.float32]]) -> list[str]:
    """Check keys, dtypes, shapes, and finiteness of the router logits."""
    if not isinstance(router_logits, Mapping):
        return [f"router_logits is a {type(router_logits).__name__}, must map site_id to a matrix"]
    problems = []
    for site_id, logits in router_logits.items():
        name = f"router_logits[{site_id!r}]"
        if type(site_id) is not int or not 0 <= site_id < len(sites):
            problems.append(f"{name}: the key must be an int, a site_id in 0..{len(sites) - 1}")
            continue
        shape = (len(units), int(sites.num_experts[site_id]))
        if type(logits) is not np.ndarray or logits.dtype != np.float32:
            found = logits.dtype if isinstance(logits, np.ndarray) else type(logits).__name__
            problems.append(f"{name} is {found}, must be a NumPy array of float32")
        elif logits.shape != shape:
            problems.append(f"{name} has shape {logits.shape}, must be (num_units, num_experts) = {shape}")
        elif not np.isfinite(logits).all():
            problems.append(f"{name} must be finite")
    return problems


def reference_problems(sites: SiteTable, reference: ReferenceTable) -> list[str]:
    """Check that the reference names a data set and covers every expert of the sites it has."""
    if type(reference.dataset) is not str or not reference.dataset:
        return [f"reference: dataset={reference.dataset!r} must be the name of a data set"]
    site_id, expert_id = reference.site_id, reference.expert_id
    if not len(reference):
        return ["reference: has no rows, must be None when nothing is known"]
    if (site_id < 0).any() or (site_id >= len(sites)).any():
        return [f"reference: site_id must lie in 0..{len(sites) - 1}"]
    found = np.unique(site_id)
    experts = sites.num_experts[found].astype(np.int64)
    complete = len(reference) == experts.sum() and bool(
        (site_id == np.repeat(found, experts)).all()
        and (expert_id == np.concatenate([np.arange(count) for count in experts])).all()
    )
    if not complete:
        return ["reference: must have one row per expert of each of its sites, sorted by site_id, expert_id"]
    return [
        *_rows(
            "reference: kept must lie in 0..requested", (reference.kept < 0) | (reference.kept > reference.requested)
        ),
        *_rows("reference: requested must not exceed patches", reference.requested > reference.patches),
        *_rows(
            "reference: patches must be the same for all experts of a site",
            reference.patches != reference.patches[np.searchsorted(site_id, site_id)],
        ),
    ]


def _rows(problem: str, bad: NDArray[np.bool_], *, offset: int = 0) -> list[str]:
    """Say where a column is wrong: the first row and how many there are."""
    if not bad.any():
        return []
    return [f"{problem} (row {int(bad.argmax()) + offset}, {int(np.count_nonzero(bad))} of {len(bad) + offset} rows)"]


def _words(table: str, name: str, column: NDArray[Any], allowed: Sequence[str]) -> list[str]:
    strays = sorted(set(column.tolist()) - set(allowed))
    return [f"{table}: {name}={strays[0]!r} must be one of {', '.join(allowed)}"] if strays else []
