"""The self-check answers from the tables: every check fails when its own question is answered no."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from tests.traces import make_trace, random_trace
from uoe_model.self_check import build_self_check
from uoe_model.trace import DROPPED, KEPT, AssignmentTable, CapacityTable, Check, RoutingTrace, SiteTable

NAMES = [
    "sites",
    "rows",
    "capacities",
    "kept within capacity",
    "dropped only where full",
    "gates zero exactly where not kept",
]


def checks(trace: RoutingTrace, expected_sites: list[str] | None = None, **tables: Any) -> dict[str, Check]:
    """The self-check of a trace, some of whose tables are replaced by broken ones."""
    parts = {name: getattr(trace, name) for name in ("sites", "units", "capacities", "assignments")} | tables
    expected = trace.sites.name.tolist() if expected_sites is None else expected_sites
    return {check.name: check for check in build_self_check(**parts, expected_sites=expected)}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if not check.passed]


def crowded(admission: str = "score") -> RoutingTrace:
    """Six units for one expert of two; capacity is ceil(1 * 1 * 6 / 2) = 3 by score, 4 by position."""
    kept = 4 if admission == "position" else 3
    text = "L0.mlp: " + " ".join(f"{unit}>E0{'' if unit < kept else '!'}" for unit in range(6))
    return make_trace(text, num_experts=2, admission=admission, capacity=kept, capacity_factor=1.0)


def cells(table: Any, **changes: dict[int, Any]) -> Any:
    columns = {}
    for name, values in changes.items():
        columns[name] = getattr(table, name).copy()
        for row, value in values.items():
            columns[name][row] = value
    return dataclasses.replace(table, **columns)


@pytest.mark.parametrize("seed", range(60))
def test_what_a_router_of_slow_loops_decides_passes(seed: int):
    found = checks(random_trace(np.random.default_rng(seed)))
    assert list(found) == NAMES
    assert failed(found) == []


@pytest.mark.parametrize("admission", ["score", "position"])
def test_a_crowded_expert_passes_and_the_counts_are_told(admission: str):
    found = checks(crowded(admission))
    assert failed(found) == []
    kept = 4 if admission == "position" else 3
    assert found["sites"].detail == "1 of 1 sites"
    assert found["rows"].detail == "1 of 1 sites have the rows they should; 6 of 6 rows found"
    assert found["capacities"].detail == "1 of 1 pairs of site and example have the capacity"
    assert found["kept within capacity"].detail == f"{kept} of {kept} kept assignments fit"
    assert found["dropped only where full"].detail == f"{6 - kept} of {6 - kept} dropped assignments met a full expert"
    assert found["gates zero exactly where not kept"].detail == "6 of 6 gates agree"


@pytest.mark.parametrize(
    ("expected", "detail"),
    [
        (["L0.mlp", "L1.mlp"], "1 of 2 sites"),
        (["L0.attention"], "0 of 1 sites"),
        ([], "0 of 1 sites"),
    ],
)
def test_missing_or_unexpected_sites_fail(expected: list[str], detail: str):
    found = checks(crowded(), expected)
    assert failed(found) == ["sites"]
    assert found["sites"].detail == detail


def test_sites_in_another_order_fail():
    trace = make_trace("L0.mlp: 0>E0; L1.mlp: 0>E0", num_experts=2)
    assert failed(checks(trace, ["L1.mlp", "L0.mlp"])) == ["sites"]


def test_a_unit_without_its_requests_fails():
    assert failed(checks(make_trace("L0.mlp: 0>E0,E1 1>E0", num_experts=2))) == ["rows"]
    found = checks(make_trace("L0.mlp: 0>E0 1>E0; L1.mlp: 0>E0", num_experts=2))
    assert failed(found) == ["rows"]
    assert found["rows"].detail == "1 of 2 sites have the rows they should; 3 of 4 rows found"


def test_fillers_are_no_rows_no_gates_and_take_no_slots():
    trace = make_trace("L0.mlp: 0>E0,E1~ 1>E0,E1~ 2>E1~,E0!", num_experts=2, capacity=2, capacity_factor=4 / 3)
    assignments = cells(trace.assignments, gate={0: 0.5})
    assert failed(checks(trace, assignments=assignments)) == []


def test_an_expert_that_picks_too_few_fails():
    options = {"num_experts": 2, "selection": "expert_choice", "top_k": 1, "capacity": 2, "capacity_factor": 1.0}
    assert failed(checks(make_trace("L0.mlp: 0>E0 1>E0,E1 2>E1", **options))) == []
    found = checks(make_trace("L0.mlp: 0>E0 1>E0 2>E1", **options))
    assert failed(found) == ["rows"]
    assert found["rows"].detail == "0 of 1 sites have the rows they should; 3 of 4 rows found"


def test_picks_are_counted_in_patches_and_no_more_than_there_are():
    options = {"num_experts": 2, "selection": "expert_choice", "patch_len": 3, "capacity_factor": 4.0, "capacity": 4}
    assert failed(checks(make_trace("L0.mlp: 0>E0,E1 3>E0,E1", top_k=1, **options))) == []
    assert failed(checks(make_trace("L0.mlp: 0>E0,E1 3>E0", top_k=1, **options))) == ["rows"]


def test_an_unlimited_expert_picks_every_patch():
    options = {"num_experts": 2, "selection": "expert_choice", "top_k": 1}
    assert failed(checks(make_trace("L0.mlp: 0>E0,E1 1>E0,E1", **options))) == []
    assert failed(checks(make_trace("L0.mlp: 0>E0,E1 1>E0", **options))) == ["rows"]


@pytest.mark.parametrize("stated", [2, 4])
def test_a_capacity_that_does_not_follow_from_the_factor_fails(stated: int):
    trace = crowded()
    found = checks(trace, capacities=cells(trace.capacities, capacity={0: stated}))
    assert "capacities" in failed(found)
    assert found["capacities"].detail == "0 of 1 pairs of site and example have the capacity"


def test_a_capacity_under_admission_by_position_is_at_least_four():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2, admission="position", capacity=4, capacity_factor=1.0)
    assert failed(checks(trace)) == []
    assert failed(checks(trace, capacities=cells(trace.capacities, capacity={0: 1}))) == ["capacities"]


def test_no_capacity_where_a_factor_asks_for_one_fails():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2)
    sites = cells(trace.sites, capacity_factor={0: 1.0})
    assert failed(checks(trace, sites=sites)) == ["capacities"]
    assert failed(checks(trace, capacities=cells(trace.capacities, capacity={0: 5}))) == ["capacities"]


@pytest.mark.parametrize(
    ("factor", "num_units", "num_experts", "expected"),
    [(1.1, 80, 8, 33), (0.7, 10, 7, 3), (1.25, 7, 8, 4), (0.3, 10, 3, 3)],
)
def test_a_capacity_is_rounded_up_from_the_decimal_number(
    factor: float, num_units: int, num_experts: int, expected: int
):
    """ceil(f * k * patches / E) with k = 3, by hand; in float64 the first would be 34."""
    rows = [",".join(f"E{(unit + shift) % num_experts}" for shift in range(3)) for unit in range(num_units)]
    text = "L0.mlp: " + " ".join(f"{unit}>{row}" for unit, row in enumerate(rows))
    trace = make_trace(text, num_experts=num_experts, capacity=num_units, capacity_factor=factor)
    for stated in (expected - 1, expected, expected + 1):
        found = checks(trace, capacities=cells(trace.capacities, capacity={0: stated}))
        assert found["capacities"].passed == (stated == expected)


def test_an_expert_over_capacity_fails():
    trace = crowded()
    found = checks(trace, assignments=cells(trace.assignments, status={3: KEPT, 4: KEPT}, gate={3: 1.0, 4: 1.0}))
    assert failed(found) == ["kept within capacity"]
    assert found["kept within capacity"].detail == "3 of 5 kept assignments fit"


def test_capacity_is_per_expert_and_per_example():
    text = "L0.mlp: 0>E0 1>E1 2>E0 3>E1 4>E0 5>E1 6>E1"
    trace = make_trace(text, num_experts=2, example_lengths=(4, 3), capacity=2, capacity_factor=1.0)
    assert failed(checks(trace)) == []
    moved = cells(trace.assignments, expert_id={0: 1})
    assert failed(checks(trace, assignments=moved)) == ["kept within capacity"]


def test_capacity_is_counted_in_patches():
    options = {"num_experts": 2, "patch_len": 3, "capacity": 1, "capacity_factor": 1.0}
    assert failed(checks(make_trace("L0.mlp: 0>E0 3>E0!", **options))) == []


def by_position(marks: str, *, num_experts: int = 8, capacity_factor: float = 1.0) -> RoutingTrace:
    """One request per unit, all for expert 0; `!` marks the dropped ones. Capacity as stated by the factor."""
    text = "L0.mlp: " + " ".join(f"{unit}>E0{'!' if mark == '!' else ''}" for unit, mark in enumerate(marks))
    capacity = max(4, math.ceil(capacity_factor * len(marks) / num_experts))
    return make_trace(
        text, num_experts=num_experts, admission="position", capacity=capacity, capacity_factor=capacity_factor
    )


def test_by_position_the_running_capacity_counts():
    """With E = 2 and f = 1 an expert may have kept max(4, ceil((t + 1) / 2)) of the first t + 1 patches."""
    assert failed(checks(by_position("....!!!!.!.!", num_experts=2))) == []
    early = by_position("....!!!.!!.!", num_experts=2)
    assert failed(checks(early)) == ["kept within capacity"]
    late = by_position("....!!!!!!.!", num_experts=2)
    found = checks(late)
    assert failed(found) == ["dropped only where full"]
    assert found["dropped only where full"].detail == "4 of 7 dropped assignments met a full expert"


def test_by_position_every_example_starts_anew():
    text = "L0.mlp: " + " ".join(f"{unit}>E0{'!' if unit in (4, 5, 10) else ''}" for unit in range(11))
    options = {"num_experts": 2, "admission": "position", "capacity": 4, "capacity_factor": 1.0}
    assert failed(checks(make_trace(text, example_lengths=(6, 5), **options))) == []


def test_by_position_time_is_counted_in_patches():
    text = "L0.mlp: " + " ".join(f"{2 * patch}>E0{'!' if patch in (4, 5, 6, 7) else ''}" for patch in range(9))
    options = {"num_experts": 2, "admission": "position", "capacity": 5, "capacity_factor": 1.0, "patch_len": 2}
    assert failed(checks(make_trace(text, **options))) == []


@pytest.mark.parametrize("admission", ["score", "position"])
def test_a_drop_at_an_expert_with_room_fails(admission: str):
    trace = crowded(admission)
    found = checks(trace, assignments=cells(trace.assignments, status={0: DROPPED}, gate={0: 0.0}))
    assert failed(found) == ["dropped only where full"]
    details = {"score": "0 of 4 dropped assignments met a full expert", "position": "0 of 3 dropped assignments met"}
    assert found["dropped only where full"].detail.startswith(details[admission])


def test_a_drop_at_another_expert_fails():
    trace = crowded()
    assert failed(checks(trace, assignments=cells(trace.assignments, expert_id={5: 1}))) == ["dropped only where full"]


@pytest.mark.parametrize(("row", "gate"), [(0, 0.0), (5, 0.5)])
def test_a_gate_that_contradicts_its_status_fails(row: int, gate: float):
    trace = crowded()
    found = checks(trace, assignments=cells(trace.assignments, gate={row: gate}))
    assert failed(found) == ["gates zero exactly where not kept"]
    assert found["gates zero exactly where not kept"].detail == "5 of 6 gates agree"


def test_tables_that_do_not_fit_together_fail_without_a_traceback():
    trace = crowded()
    for column, bound in (("site_id", 1), ("unit_id", 6), ("expert_id", 2)):
        for stray in (-1, bound):
            found = checks(trace, assignments=cells(trace.assignments, **{column: {0: stray}}))
            assert failed(found) == ["rows"]
            assert "that are not there" in found["rows"].detail
    nothing = {name: column[:0] for name, column in trace.capacities.columns().items()}
    assert failed(checks(trace, capacities=CapacityTable(**nothing))) == ["rows"]


def test_nothing_at_all_passes():
    trace = make_trace("", num_experts=2)
    assert isinstance(trace.sites, SiteTable)
    assert isinstance(trace.assignments, AssignmentTable)
    assert failed(checks(trace)) == []
    assert failed(checks(make_trace("L0.mlp:", num_experts=2))) == []


def test_many_experts_and_examples_are_counted_alike():
    """More slots than fit into sixteen bits take the other way through the sort."""
    text = "L0.mlp: " + " ".join(f"{unit}>E{20_000 - unit}" for unit in range(8))
    trace = make_trace(text, num_experts=30_000, example_lengths=(4, 4), capacity=1, capacity_factor=1.0)
    assert failed(checks(trace)) == []
    crowd = cells(trace.assignments, expert_id={1: 20_000})
    assert failed(checks(trace, assignments=crowd)) == ["kept within capacity"]
