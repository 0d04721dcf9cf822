"""What every expert was to a unit, against the slow loop, and by hand."""

import numpy as np
import pytest

from analysis.unit_experts import unit_experts
from tests.analysis.random_traces import random_traces
from tests.oracles import unit_experts as oracle
from tests.traces import make_trace
from uoe_model.errors import InputError


def test_unit_experts_equal_the_slow_loop():
    rng = np.random.default_rng(0)
    compared = 0
    for trace, _ in random_traces():
        if not trace.num_units:
            continue
        unit = int(rng.integers(trace.num_units))
        table, expected = unit_experts(trace, unit), oracle.unit_experts(trace, unit)
        assert [tuple(row) for row in table[["site_id", "expert_id", "rank", "outcome"]].to_numpy().tolist()] == [
            (site, expert, rank, outcome) for site, expert, _, rank, outcome in expected
        ]
        np.testing.assert_allclose(table["probability"], [row[2] for row in expected], atol=1e-12)
        assert (table["probability"].isna() == (table["reason"] != "")).all()
        compared += 1
    assert compared > 50


def test_a_full_expert_is_a_dropped_request():
    table = unit_experts(make_trace("L0.mlp: 0>E1 1>E1!,E0", num_experts=3, capacity=1), 1)
    assert table["outcome"].tolist() == ["kept", "dropped", "not requested"]
    assert table["rank"].tolist() == [1, 0, -1]


def test_an_expert_that_took_the_unit_unasked_holds_it_as_filler():
    table = unit_experts(make_trace("L0.mlp: 0>E1 1>E1,E0~", num_experts=3, capacity=2), 1)
    assert table["outcome"].tolist() == ["filler", "kept", "not requested"]
    assert table["rank"].tolist() == [-1, 0, -1]


def test_an_unknown_unit_is_refused():
    with pytest.raises(InputError, match=r"unit_id=7 must lie in 0\.\.1"):
        unit_experts(make_trace("L0.mlp: 0>E1 1>E0", num_experts=2), 7)
