import dataclasses

import numpy as np
import pytest

from analysis.drops import dropped_assignments, dropped_units, drops_by_position
from analysis.full_experts import full_experts
from analysis.pool import pool_traces
from analysis.routes import unit_routes
from analysis.transitions import transitions
from analysis.utilisation import expert_load
from tests.analysis.random_traces import random_traces
from tests.traces import assert_traces_equal, make_reference, make_run, make_trace
from uoe_model.errors import MismatchError
from uoe_model.trace import Check, RoutingTrace, UnitTable, text_column


def split(trace: RoutingTrace) -> list[RoutingTrace]:
    """Every example as a trace of its own, cut out row by row."""
    parts = []
    for example in range(trace.num_examples):
        chosen = np.flatnonzero(trace.units.example_id == example)
        first_unit, first_patch = chosen[0], trace.units.patch_id[chosen[0]]
        units = {name: column[chosen] for name, column in trace.units.columns().items()}
        units["unit_id"] = units["unit_id"] - np.int32(first_unit)
        units["patch_id"] = units["patch_id"] - np.int32(first_patch)
        units["example_id"] = units["example_id"] - np.int32(example)
        rows = np.isin(trace.assignments.unit_id, chosen)
        assigned = {name: column[rows] for name, column in trace.assignments.columns().items()}
        assigned["unit_id"] = assigned["unit_id"] - np.int32(first_unit)
        slots = trace.capacities.example_id == example
        capacities = {name: column[slots] for name, column in trace.capacities.columns().items()}
        capacities["example_id"] = capacities["example_id"] - np.int32(example)
        parts.append(
            RoutingTrace(
                run=trace.run,
                sites=trace.sites,
                units=UnitTable(**units),
                capacities=type(trace.capacities)(**capacities),
                assignments=type(trace.assignments)(**({"selection_score": None} | assigned)),
                router_logits={site: matrix[chosen] for site, matrix in trace.router_logits.items()},
                reference=trace.reference,
            )
        )
    return parts


def test_examples_cut_apart_and_pooled_are_the_trace_again():
    pooled = 0
    for trace, _ in random_traces():
        parts = split(trace)
        if len(parts) > 1:
            together = pool_traces(parts)
            assert together.run.notes["inputs"] == str(len(parts))
            assert_traces_equal(dataclasses.replace(together, run=trace.run), trace)
            pooled += 1
    assert pooled > 20


def test_statistics_of_the_pool_are_sums_over_its_parts():
    for trace, _ in random_traces()[::3]:
        parts = split(trace)
        if len(parts) < 2:
            continue
        together = pool_traces(parts)
        for statistic, names in (
            (expert_load, ["requested", "load", "dropped", "slots"]),
            (dropped_assignments, ["requested", "dropped"]),
            (dropped_units, ["units", "dropped_units", "unrouted_units"]),
            (transitions, ["units", "from_units", "to_units"]),
        ):
            expected = sum(statistic(part)[names] for part in parts)
            np.testing.assert_allclose(statistic(together)[names], expected)
        assert len(full_experts(together)) == sum(len(full_experts(part)) for part in parts)
        routes = [unit_routes(part)["kept_experts"].to_numpy().reshape(trace.num_sites, -1) for part in parts]
        assert unit_routes(together)["kept_experts"].tolist() == np.concatenate(routes, axis=1).ravel().tolist()
        by_position = drops_by_position(together)[["requested", "dropped", "units"]].sum()
        assert (
            by_position == sum(drops_by_position(part)[["requested", "dropped", "units"]].sum() for part in parts)
        ).all()


def test_a_run_without_units_adds_nothing():
    empty = make_trace("L0.mlp:", num_experts=2)
    full = make_trace("L0.mlp: 0>E0 1>E1", num_experts=2, logits={0: np.zeros((2, 2), dtype=np.float32)})
    assert_traces_equal(dataclasses.replace(pool_traces([empty, full, empty]), run=full.run), full)
    assert pool_traces([empty, empty]).num_units == 0


def test_one_run_is_its_own_pool():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2)
    assert pool_traces([trace]) is trace


def test_logits_and_reference_are_kept_only_if_all_have_the_same():
    text = "L0.mlp: 0>E0 1>E1; L1.mlp: 0>E0 1>E1"
    logits = {site: np.zeros((2, 2), dtype=np.float32) for site in (0, 1)}
    reference = make_reference({0: [1, 1], 1: [1, 1]}, patches=1)
    one = make_trace(text, num_experts=2, logits=logits, reference=reference)
    other = make_trace(text, num_experts=2, logits={1: logits[1]}, reference=reference)
    pooled = pool_traces([one, other])
    assert list(pooled.router_logits) == [1]
    assert pooled.router_logits[1].shape == (4, 2)
    assert pooled.reference is one.reference
    bare = make_trace(text, num_experts=2)
    assert pool_traces([one, bare]).reference is None
    assert pool_traces([bare, one]).router_logits == {}


def test_a_score_that_only_some_inputs_have_is_unknown_for_the_others():
    one = make_trace("L0.mlp: 0>E0", num_experts=2)
    rows = dataclasses.replace(one.assignments, selection_score=np.array([0.5], dtype=np.float32))
    pooled = pool_traces([one, dataclasses.replace(one, assignments=rows)])
    np.testing.assert_equal(pooled.assignments.selection_score, np.array([np.nan, 0.5], dtype=np.float32))


def test_the_record_says_what_was_pooled():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2)
    failed = (Check(name="sites", passed=False, detail="one is missing"), Check(name="rows", passed=True, detail="1"))
    changes = {
        "device": "cuda",
        "seed": 8,
        "input_digest": "2" * 64,
        "self_check": failed,
        "timings_ms": {"forward": 2.0},
    }
    other = dataclasses.replace(trace, run=make_run(notes={"training": "trained"}, **changes))
    record = pool_traces([trace, other]).run
    assert (record.device, record.seed, record.dtype) == ("cpu / cuda", None, "float32")
    assert record.timings_ms == {"forward": 3.5}
    assert record.notes["training"] == "trained"
    assert record.notes["inputs"] == "2"
    assert record.input_digest not in (trace.run.input_digest, other.run.input_digest)
    sites, rows = record.self_check
    assert (sites.passed, sites.detail) == (False, "1 of 2 inputs passed; one is missing")
    assert rows.passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": 3}, "site 0: num_experts is 2 for input 1 and 3 for input 2"),
        ({"capacity_factor": 1.5}, "site 0: capacity_factor is nan for input 1 and 1.5 for input 2"),
        ({"gate": "mean_one"}, "site 0: gate is 'one' for input 1 and 'mean_one' for input 2"),
    ],
)
def test_other_routing_is_refused_with_what_differs(changes, message):
    one = make_trace("L0.mlp: 0>E0", num_experts=2)
    other = make_trace("L0.mlp: 0>E0", **({"num_experts": 2} | changes))
    with pytest.raises(MismatchError, match=message):
        pool_traces([one, other])


def test_other_models_and_no_runs_are_refused():
    one = make_trace("L0.mlp: 0>E0", num_experts=2)
    for changes, message in (
        ({"model": "other"}, "model='uoe-test', input 2 on 'other'"),
        ({"weights_digest": "3" * 64}, "weights_digest"),
    ):
        with pytest.raises(MismatchError, match=message):
            pool_traces([one, dataclasses.replace(one, run=make_run(**changes))])
    with pytest.raises(MismatchError, match="1 routers, input 2 has 2"):
        pool_traces([one, make_trace("L0.mlp: 0>E0; L1.mlp: 0>E0", num_experts=2)])
    with pytest.raises(MismatchError, match="no runs to pool"):
        pool_traces([])


def test_text_of_all_inputs_comes_in_order():
    one = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, pieces=["a", "b"])
    units = dataclasses.replace(one.units, text=text_column(["c", "d"]))
    assert pool_traces([one, dataclasses.replace(one, units=units)]).units.text.tolist() == ["a", "b", "c", "d"]
