"""Every invariant of a trace has a test that breaks it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.traces import make_reference, make_trace, random_trace
from uoe_model.errors import TraceError
from uoe_model.trace import DROPPED, FILLER, KEPT, AssignmentTable, CapacityTable, RoutingTrace, text_column

NAN = math.nan


def two_sites(**options: Any) -> RoutingTrace:
    """Five units in two examples, two sites, one drop."""
    text = "L0.attention: 0>E0,E1 1>E1,E2 2>E0,E2 3>E2,E1 4>E0,E1!\nL0.mlp: 0>E1 1>E0 2>E1 3>E0 4>E1"
    return make_trace(text, num_experts=3, example_lengths=(3, 2), capacity=2, **options)


def change(trace: RoutingTrace, table: str, **cells: Any) -> RoutingTrace:
    """Replace whole columns, or single cells given as {row: value}, of one table."""
    columns = {}
    for name, cell in cells.items():
        column = getattr(getattr(trace, table), name).copy()
        if isinstance(cell, dict):
            for row, value in cell.items():
                column[row] = value
        else:
            column = np.array(cell, dtype=column.dtype)
        columns[name] = column
    return dataclasses.replace(trace, **{table: dataclasses.replace(getattr(trace, table), **columns)})


BROKEN_SITES = [
    ({"site_id": {1: 5}}, "site_id must equal the row number"),
    ({"layer": {0: -1}}, "layer must not be negative"),
    ({"num_experts": {1: 0}}, "num_experts must be at least 1"),
    ({"top_k": {0: 0}}, "top_k must lie in 1..num_experts"),
    ({"top_k": {0: 4}}, "top_k must lie in 1..num_experts"),
    ({"capacity_factor": {0: 0.0}}, "capacity_factor must be positive"),
    ({"capacity_factor": {0: math.inf}}, "capacity_factor must be positive"),
    ({"capacity_factor": {0: 1.0}, "selection": {0: "expert"}}, "capacity_factor must be NaN where an example chooses"),
    ({"patch_len": [0, 0]}, "patch_len must be at least 1"),
    ({"patch_len": {0: 2}}, "patch_len must be the same at every site"),
    ({"num_shared_experts": {0: -1}}, "num_shared_experts must not be negative"),
    ({"block": {0: "moe"}}, "block='moe' must be one of attention, mlp"),
    ({"selection": {0: "token"}}, "selection='token' must be one of data, expert_choice, expert"),
    ({"admission": {0: "luck"}}, "admission='luck' must be one of score, position"),
    ({"gate": {0: "two"}}, "gate='two' must be one of mean_one, probability, one"),
    ({"score_function": {0: "tanh"}}, "score_function='tanh' must be one of softmax"),
    ({"layer": {0: 1}}, "site order"),
    ({"block": {0: "mlp"}}, "site order"),
    ({"block": ["mlp", "attention"]}, "site order"),
    ({"name": {0: "L0.mlp"}}, "name must be unique"),
    ({"name": {0: ""}}, "name must be unique and not empty"),
]


@pytest.mark.parametrize(("cells", "message"), BROKEN_SITES)
def test_a_broken_site_is_refused(cells: dict[str, Any], message: str):
    with pytest.raises(TraceError, match=message):
        change(two_sites(), "sites", **cells)


BROKEN_UNITS = [
    ({"unit_id": {2: 3}}, "unit_id must equal the row number"),
    ({"example_id": [0, 0, 0, 2, 2]}, "example_id must be 0, 1, ... ascending without gaps"),
    ({"example_id": [0, 0, 1, 0, 0]}, "example_id must be 0, 1, ... ascending without gaps"),
    ({"example_id": [1, 1, 1, 2, 2]}, "example_id must start at 0"),
    ({"patch_id": [0, 1, 2, 4, 5]}, "patch_id must be 0, 1, ... ascending without gaps"),
    ({"patch_id": [0, 1, 0, 1, 2]}, "patch_id must be 0, 1, ... ascending without gaps"),
    ({"patch_id": [-1, 0, 1, 2, 3]}, "patch_id must be 0, 1, ... ascending without gaps"),
    ({"patch_id": [1, 2, 3, 4, 5]}, "patch_id must be 0, 1, ... ascending without gaps"),
    ({"patch_id": [0, 1, 2, 2, 3]}, "a patch must not span examples"),
    ({"patch_id": [0, 1, 1, 2, 3]}, "a patch has at most patch_len=1 units, not 2"),
    ({"position": {0: -1}}, "position must not be negative"),
    ({"position": {2: 1}}, "position must ascend within its example"),
    ({"token_id": {0: -2}}, "token_id must be at least -1"),
    ({"output_token_id": {0: -2}}, "output_token_id must be at least -1"),
    ({"char_start": {0: -2}}, "char_start, char_end"),
    ({"char_start": {0: 90}}, "char_start, char_end"),
    ({"char_start": {0: -1}}, "char_start and char_end must be missing together"),
    ({"grid_row": {0: -2}, "grid_col": {0: 0}}, "grid_row, grid_col must be at least -1"),
    ({"grid_col": {0: -2}, "grid_row": {0: 0}}, "grid_row, grid_col must be at least -1"),
    ({"grid_row": {0: 0}}, "grid_row and grid_col must be missing together"),
    ({"output_probability": {0: 1.5}}, "output_probability must lie in 0..1"),
    ({"output_probability": {0: -0.5}}, "output_probability must lie in 0..1"),
    ({"loss": {0: -1.0}}, "loss must be finite and not negative"),
    ({"loss": {0: math.inf}}, "loss must be finite and not negative"),
    ({"modality": {0: ""}}, "modality must not be empty"),
    ({"phase": {0: "train"}}, "phase='train' must be one of prefill, decode"),
    ({"box_x0": {0: math.inf}}, "box must be finite"),
    ({"box_y1": {0: 1.0}}, "four edges of a box must be missing together"),
    ({"box_x0": {0: 2}, "box_x1": {0: 1}, "box_y0": {0: 0}, "box_y1": {0: 1}}, "box must have x0 <= x1"),
    ({"box_x0": {0: 0}, "box_x1": {0: 1}, "box_y0": {0: 2}, "box_y1": {0: 1}}, "box must have x0 <= x1 and y0 <= y1"),
]


@pytest.mark.parametrize(("cells", "message"), BROKEN_UNITS)
def test_a_broken_unit_is_refused(cells: dict[str, Any], message: str):
    with pytest.raises(TraceError, match=message):
        change(two_sites(), "units", **cells)


BROKEN_CAPACITIES = [
    ({"site_id": [0, 1, 0, 1]}, "site_id must be sorted"),
    ({"example_id": [1, 0, 0, 1]}, "example_id must be 0, 1, ... at every site"),
    ({"capacity": {0: -2}}, "capacity must be at least -1"),
    ({"capacity": {0: -1}}, "capacity must not be -1 where capacity_factor is a number"),
    ({"capacity": {3: 2}}, "capacity must be -1 where capacity_factor is NaN"),
]


@pytest.mark.parametrize(("cells", "message"), BROKEN_CAPACITIES)
def test_a_broken_capacity_is_refused(cells: dict[str, Any], message: str):
    with pytest.raises(TraceError, match=message):
        change(two_sites(), "capacities", **cells)


def test_a_missing_capacity_is_refused():
    trace = two_sites()
    short = CapacityTable(**{name: column[:-1] for name, column in trace.capacities.columns().items()})
    with pytest.raises(TraceError, match="capacities: 3 rows, must be 2 sites x 2 examples = 4"):
        dataclasses.replace(trace, capacities=short)


BROKEN_ASSIGNMENTS = [
    ({"site_id": {14: 2}}, "site_id must lie in 0..1"),
    ({"site_id": {0: -1}}, "site_id must lie in 0..1"),
    ({"unit_id": {14: 5}}, "unit_id must lie in 0..4"),
    ({"unit_id": {0: -1}}, "unit_id must lie in 0..4"),
    ({"expert_id": {0: 3}}, "expert_id must lie in 0..num_experts-1"),
    ({"expert_id": {0: -1}}, "expert_id must lie in 0..num_experts-1"),
    ({"status": {0: 3}}, "status must be 0"),
    ({"gate": {0: NAN}}, "gate must be finite"),
    ({"gate": {0: math.inf}}, "gate must be finite"),
    ({"score": {0: NAN}}, "score must be a probability"),
    ({"score": {0: -0.1}}, "score must be a probability"),
    ({"score": {0: 1.1}}, "score must be a probability"),
    ({"gate": {9: 0.5}}, "gate must be 0 where dropped"),
    ({"gate": {0: 0.0}}, "gate must not be 0 where kept"),
    ({"rank": {0: -1}}, "only a filler has rank -1"),
    ({"status": {0: FILLER}}, "only a filler has rank -1"),
    ({"rank": {1: 2}}, r"rank must be below top_k \(below num_experts for expert_choice\)"),
    ({"rank": {0: 1, 1: 0}}, "must be sorted by site_id, unit_id, rank"),
    ({"rank": {0: 1}}, "ranks of a unit must be 0, 1, ... without gaps"),
    ({"rank": {1: 0}}, "ranks of a unit must be 0, 1, ... without gaps"),
    ({"rank": {2: 1, 3: 1}}, "ranks of a unit must be 0, 1, ... without gaps"),
    ({"unit_id": {0: 1, 1: 1, 2: 0, 3: 0}}, "must be sorted by site_id, unit_id, rank"),
    ({"site_id": {9: 1, 10: 0}}, "must be sorted by site_id, unit_id, rank"),
    ({"expert_id": {1: 0}}, "a unit must not request an expert twice"),
    ({"expert_id": {5: 1}}, "expert 1 at site 0 keeps 3 patches of example 0, must be at most its capacity 2"),
    ({"inherited": {0: True}}, "inherited must be False on the first unit of a patch"),
    ({"status": {14: DROPPED}, "gate": {14: 0.0}}, "nothing can be dropped where capacity is -1"),
]


@pytest.mark.parametrize(("cells", "message"), BROKEN_ASSIGNMENTS)
def test_a_broken_assignment_is_refused(cells: dict[str, Any], message: str):
    with pytest.raises(TraceError, match=message):
        change(two_sites(), "assignments", **cells)


def test_the_unbroken_trace_is_valid():
    trace = two_sites()
    assert (trace.num_sites, trace.num_units, trace.num_examples, len(trace.assignments)) == (2, 5, 2, 15)


def test_an_expert_requested_twice_is_found_at_any_distance():
    with pytest.raises(TraceError, match=r"must not request an expert twice \(row 2, expert 0\)"):
        make_trace("L0.mlp: 0>E0,E1,E0", num_experts=4)


def test_a_rank_outside_a_single_row_is_found():
    with pytest.raises(TraceError, match="ranks of a unit"):
        change(make_trace("L0.mlp: 0>E0", num_experts=2, top_k=2), "assignments", rank={0: 1})


def test_selection_score_may_be_missing_in_rows_but_not_infinite():
    trace = random_trace(np.random.default_rng(1), num_units=5, with_selection_score=True)
    assert change(trace, "assignments", selection_score={1: NAN}).assignments.selection_score is not None
    with pytest.raises(TraceError, match="selection_score must be finite, or NaN"):
        change(trace, "assignments", selection_score={1: math.inf})


def test_values_at_the_edge_of_their_range_are_valid():
    assert change(two_sites(), "assignments", score={0: 1.000001, 1: 0.0}).num_units == 5  # rounding may exceed 1
    units = change(two_sites(), "units", output_probability={0: 0.0, 1: 1.0}, loss={0: 0.0}, position={3: 7, 4: 9})
    assert change(units, "units", box_x0={0: 1}, box_x1={0: 1}, box_y0={0: 2}, box_y1={0: 2}).num_units == 5


def test_the_first_wrong_row_and_their_number_are_told():
    with pytest.raises(TraceError, match=r"gate must be finite \(row 3, 2 of 15 rows\)"):
        change(two_sites(), "assignments", gate={3: NAN, 9: NAN})
    with pytest.raises(TraceError, match=r"must be sorted by site_id, unit_id, rank \(row 2, 1 of 15 rows\)"):
        change(two_sites(), "assignments", unit_id={0: 1, 1: 1, 2: 0, 3: 0}, rank={1: 1})


@pytest.mark.parametrize("selection", ["expert", "expert_choice"])
def test_only_data_selection_can_drop(selection: str):
    trace = make_trace("L0.mlp: 0>E1 1>E1", num_experts=3, selection=selection)
    with pytest.raises(TraceError, match="only sites with selection data can drop"):
        change(trace, "assignments", status={1: DROPPED}, gate={1: 0.0})


def test_expert_choice_may_pick_a_unit_for_more_experts_than_top_k_or_for_none():
    trace = make_trace("L0.mlp: 0>E1,E0,E2 1 2>E0", num_experts=3, selection="expert_choice", top_k=1)
    assert np.bincount(trace.assignments.unit_id, minlength=3).tolist() == [3, 0, 1]


def test_units_without_rows_are_allowed():
    assert make_trace("L0.mlp: 0 1>E1 2", num_experts=3).assignments.unit_id.tolist() == [1]


def test_a_filler_is_no_request():
    trace = make_trace("L0.mlp: 0>E1~,E2,E1 1>E1~", num_experts=3, top_k=2)
    assert trace.assignments.rank.tolist() == [-1, 0, 1, -1]
    assert trace.assignments.status.tolist() == [FILLER, KEPT, KEPT, FILLER]
    assert trace.counted.tolist() == [False, True, True, False]
    assert change(trace, "assignments", gate={0: 0.5}).num_units == 2  # a model may apply weight to a filler


def test_a_filler_takes_no_slot():
    trace = make_trace("L0.mlp: 0>E1 1>E1~", num_experts=3, capacity=1, capacity_factor=1.0)
    assert trace.capacities.capacity.tolist() == [1]


BROKEN_PATCHES = [
    ({"expert_id": {2: 2}}, "must repeat its rows"),
    ({"status": {3: DROPPED}, "gate": {3: 0.0}}, "must repeat its rows"),
    ({"gate": {2: 0.5}}, "must repeat its rows"),
    ({"score": {2: 0.75}}, "must repeat its rows"),
    ({"inherited": {4: True}}, "inherited must be False on the first unit"),
]


@pytest.mark.parametrize(("cells", "message"), BROKEN_PATCHES)
def test_units_of_a_patch_repeat_the_rows_of_the_first(cells: dict[str, Any], message: str):
    trace = make_trace("L0.mlp: 0>E0,E1 2>E1,E2", num_experts=3, patch_len=2, capacity_factor=2.0, capacity=4)
    assert trace.assignments.unit_id.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert change(trace, "assignments", inherited={2: True, 3: True}).num_units == 4
    with pytest.raises(TraceError, match=message):
        change(trace, "assignments", **cells)


@pytest.mark.parametrize("lost", [[0], [1], [2], [1, 2], [0, 3], [4, 5], [6, 7], [0, 1, 2, 3, 6, 7]])
def test_units_of_a_patch_have_equally_many_rows(lost: list[int]):
    trace = make_trace("L0.mlp: 0>E0~,E1~ 2>E1~,E2~", num_experts=3, patch_len=2)
    columns = {name: np.delete(column, lost) for name, column in trace.assignments.columns().items()}
    with pytest.raises(TraceError, match=r"(equally many|repeat its) rows"):
        dataclasses.replace(trace, assignments=AssignmentTable(**columns | {"selection_score": None}))


def test_a_patch_may_have_no_rows_at_all():
    trace = make_trace("L0.mlp: 0>E0 2", num_experts=3, patch_len=2)
    assert trace.assignments.unit_id.tolist() == [0, 1]


def test_an_example_that_chooses_once_has_the_same_experts_at_every_unit():
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E1", num_experts=2, selection="expert", example_lengths=(2, 1))
    assert trace.num_examples == 2
    with pytest.raises(TraceError, match="of an example that chose once, must repeat its rows"):
        change(trace, "assignments", expert_id={1: 1})
    with pytest.raises(TraceError, match="unit 0 at site 0 and the others of its patch or example"):
        make_trace("L0.mlp: 0>E0 1", num_experts=2, selection="expert")


def test_capacity_is_counted_in_patches():
    trace = make_trace("L0.mlp: 0>E0 3>E0", num_experts=2, patch_len=3, capacity=2, capacity_factor=1.0)
    assert trace.num_units == 6
    with pytest.raises(TraceError, match="expert 0 at site 0 keeps 2 patches of example 0"):
        change(trace, "capacities", capacity={0: 1})


def test_a_filler_or_dropped_row_is_outside_capacity():
    trace = make_trace("L0.mlp: 0>E0 1>E0! 2>E0~", num_experts=2)
    assert trace.capacities.capacity.tolist() == [1]


def test_occupancy_is_found_when_ids_are_sparse():
    """Far more pairs of example and expert than rows: counted without a table of all pairs."""
    options = {"num_experts": 30_000, "example_lengths": [1] * 40, "capacity_factor": 1.0}
    text = "L0.mlp: " + " ".join(f"{unit}>E{29_000 + unit}" for unit in range(40))
    trace = make_trace(text, capacity=1, **options)
    with pytest.raises(
        TraceError, match="expert 29007 at site 0 keeps 1 patches of example 7, must be at most its capac"
    ):
        change(trace, "capacities", capacity={7: 0})


LOGITS: list[tuple[Callable[[], Any], str]] = [
    (lambda: [np.zeros((5, 3), np.float32)], "router_logits is a list"),
    (lambda: {2: np.zeros((5, 3), np.float32)}, r"router_logits\[2\]: the key must be an int, a site_id in 0..1"),
    (lambda: {np.int16(0): np.zeros((5, 3), np.float32)}, "the key must be an int"),
    (lambda: {0: np.zeros((5, 3))}, r"router_logits\[0\] is float64, must be a NumPy array of float32"),
    (lambda: {0: [[0.0] * 3] * 5}, r"router_logits\[0\] is list"),
    (lambda: {1: np.zeros((5, 2), np.float32)}, r"has shape \(5, 2\), must be \(num_units, num_experts\) = \(5, 3\)"),
    (lambda: {1: np.zeros((4, 3), np.float32)}, r"has shape \(4, 3\)"),
    (lambda: {1: np.full((5, 3), -np.inf, np.float32)}, r"router_logits\[1\] must be finite"),
]


@pytest.mark.parametrize(("logits", "message"), LOGITS)
def test_broken_logits_are_refused(logits: Callable[[], Any], message: str):
    with pytest.raises(TraceError, match=message):
        two_sites(logits=logits())


def test_logits_are_kept_by_site_in_order_and_read_only():
    first, second = np.ones((5, 3), np.float32), np.zeros((5, 3), np.float32)
    trace = two_sites(logits={1: second, 0: first})
    assert list(trace.router_logits) == [0, 1]
    assert not trace.router_logits[0].flags.writeable
    with pytest.raises(TypeError):
        trace.router_logits[0] = second  # type: ignore[index]


REFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"dataset": ""}, "dataset='' must be the name of a data set"),
    ({"dataset": None}, "dataset=None must be the name of a data set"),
    ({"site_id": [0, 0, 0, 1, 1, 2]}, "site_id must lie in 0..1"),
    ({"site_id": [-1, 0, 0, 1, 1, 1]}, "site_id must lie in 0..1"),
    ({"site_id": [1, 1, 1, 0, 0, 0]}, "one row per expert of each of its sites, sorted"),
    ({"site_id": [0, 0, 0, 0, 1, 1]}, "one row per expert of each of its sites, sorted"),
    ({"expert_id": [0, 1, 2, 0, 2, 1]}, "one row per expert of each of its sites, sorted"),
    ({"expert_id": [0, 1, 1, 0, 1, 2]}, "one row per expert of each of its sites, sorted"),
    ({"kept": [-1, 2, 3, 4, 5, 6]}, "kept must lie in 0..requested"),
    ({"kept": [2, 2, 3, 4, 5, 6]}, "kept must lie in 0..requested"),
    ({"patches": [3, 3, 3, 2, 2, 2]}, "requested must not exceed patches"),
    ({"patches": [9, 9, 8, 9, 9, 9]}, "patches must be the same for all experts of a site"),
]


@pytest.mark.parametrize(("columns", "message"), REFERENCES)
def test_a_broken_reference_is_refused(columns: dict[str, Any], message: str):
    good = make_reference({0: [1, 2, 3], 1: [4, 5, 6]}, patches=9)
    assert two_sites(reference=good).reference is good
    columns = {name: np.array(v, getattr(good, name).dtype) if name != "dataset" else v for name, v in columns.items()}
    with pytest.raises(TraceError, match=message):
        two_sites(reference=dataclasses.replace(good, **columns))


def test_a_reference_may_know_some_of_the_sites_but_not_none():
    assert two_sites(reference=make_reference({1: [4, 5, 6]}, patches=9)).reference is not None
    with pytest.raises(TraceError, match="must have one row per expert"):
        two_sites(reference=make_reference({1: [4, 5]}, patches=9))
    with pytest.raises(TraceError, match="has no rows, must be None"):
        two_sites(reference=make_reference({}, patches=9))


def test_tables_of_the_wrong_kind_are_refused():
    trace = two_sites()
    with pytest.raises(TraceError, match="units is a SiteTable, must be a UnitTable; reference is a UnitTable"):
        dataclasses.replace(trace, units=trace.sites, reference=trace.units)
    with pytest.raises(TraceError, match="run is a dict, must be a RunRecord"):
        dataclasses.replace(trace, run={})


def test_all_problems_are_reported_together():
    trace = two_sites()
    with pytest.raises(TraceError) as caught:
        dataclasses.replace(
            trace,
            run=None,
            sites=dataclasses.replace(trace.sites, layer=np.array([-1, 0], np.int16)),
            units=dataclasses.replace(trace.units, token_id=np.full(5, -7, np.int32), phase=text_column("abcde")),
        )
    message = str(caught.value)
    for part in (
        "layer must not be negative (row 0, 1 of 2 rows)",
        "token_id",
        "(row 0, 5 of 5 rows)",
        "phase='a'",
        "run",
    ):
        assert part in message


def test_counted_marks_requests_of_first_units_only():
    trace = make_trace("L0.mlp: 0>E0,E1! 2>E1~", num_experts=3, patch_len=2)
    assert trace.counted.tolist() == [True, True, False, False, False, False]
    assert not trace.counted.flags.writeable


def test_a_trace_may_be_empty():
    trace = make_trace("L0.attention:; L0.mlp:", num_experts=2)
    assert (trace.num_sites, trace.num_units, trace.num_examples, trace.counted.tolist()) == (2, 0, 0, [])
    assert make_trace("", num_experts=2).num_sites == 0
