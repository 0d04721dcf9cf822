"""Drops by unit against the slow loop, and by hand; what a run's highlights are."""

import numpy as np

from analysis.highlights import find_highlights
from analysis.unit_drops import drops_by_unit
from tests.analysis.random_traces import random_traces
from tests.oracles import unit_drops as oracle
from tests.traces import make_trace


def test_drops_by_unit_equal_the_slow_loop():
    for trace, _ in random_traces():
        table = drops_by_unit(trace)
        expected = np.array(oracle.drops_by_unit(trace), dtype=float).reshape(-1, 5)
        columns = ["unit_id", "requested", "dropped", "drop_share", "dropped_sites"]
        np.testing.assert_allclose(table[columns].to_numpy(float), expected)


def test_the_unit_that_lost_the_largest_share_comes_first():
    trace = make_trace("L0.mlp: 0>E0,E1 1>E0!,E1 2>E0!,E1!; L1.mlp: 0>E1 1>E1 2>E1!", num_experts=2, capacity=2)
    table = drops_by_unit(trace)
    assert table["unit_id"].tolist() == [2, 1, 0]
    assert table["dropped"].tolist() == [3, 1, 0]
    assert table["dropped_sites"].tolist() == [2, 0, 0]


def test_highlights_name_the_fullest_expert_and_the_most_dropped_unit():
    trace = make_trace("L0.attention: 0>E0 1>E1 2>E1; L0.mlp: 0>E0 1>E1 2>E1!,E0", num_experts=2, capacity=2)
    found = find_highlights(trace)
    assert found.fullest is not None
    assert found.fullest == (1, 1, "L0 MLP E1", 1)
    assert found.most_dropped is not None
    assert found.most_dropped[0] == 2
    assert found.most_dropped[2] == 1
    assert found.other_block == (0, "L0 attention")


def test_a_run_without_drops_has_no_fullest_expert():
    found = find_highlights(make_trace("L0.mlp: 0>E0 1>E1", num_experts=2, capacity=2))
    assert found.fullest is None
    assert found.most_dropped is None
    assert found.other_block is None
