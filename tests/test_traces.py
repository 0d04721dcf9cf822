"""The builders of traces for tests build what they say."""

import numpy as np
import pytest

from tests.traces import assert_traces_equal, make_trace, random_trace
from uoe_model.trace import DROPPED, FILLER, KEPT


def test_random_traces_are_valid_and_hold_what_statistics_must_survive():
    seen = dict.fromkeys(
        ["drops", "filler", "unrouted", "one unit", "no units", "examples", "patches", "ties", "image"], 0
    )
    for seed in range(120):
        trace = random_trace(np.random.default_rng(seed))
        rows = trace.assignments
        seen["drops"] += bool((rows.status == DROPPED).any())
        seen["filler"] += bool((rows.status == FILLER).any())
        seen["unrouted"] += len(np.unique(rows.unit_id)) < trace.num_units
        seen["one unit"] += trace.num_units == 1
        seen["no units"] += trace.num_units == 0
        seen["examples"] += trace.num_examples > 1
        seen["patches"] += trace.num_units > 2 and trace.sites.patch_len[0] > 1
        seen["ties"] += bool((np.diff(rows.score) == 0).any())
        seen["image"] += "image" in trace.units.modality
    assert min(seen.values()) > 0, seen


def test_random_traces_are_reproducible():
    assert_traces_equal(random_trace(np.random.default_rng(3)), random_trace(np.random.default_rng(3)))


def test_a_trace_is_written_as_it_reads():
    trace = make_trace("L0.attention: 0>E0,E2=0.125 1>E2!,E0\nL1.mlp: 0>E1~,E0 1 2", num_experts=3)
    rows = trace.assignments
    assert trace.sites.name.tolist() == ["L0.attention", "L1.mlp"]
    assert trace.sites.top_k.tolist() == [2, 1]
    assert (trace.num_units, trace.num_examples) == (3, 1)
    found = list(
        zip(rows.site_id.tolist(), rows.unit_id.tolist(), rows.rank.tolist(), rows.expert_id.tolist(), strict=True)
    )
    assert found == [(0, 0, 0, 0), (0, 0, 1, 2), (0, 1, 0, 2), (0, 1, 1, 0), (1, 0, -1, 1), (1, 0, 0, 0)]
    assert rows.score.tolist() == [0.5, 0.125, 0.5, 0.25, 0.5, 0.5]
    assert rows.gate.tolist() == [1, 1, 0, 1, 0, 1]
    assert rows.status.tolist() == [KEPT, KEPT, DROPPED, KEPT, FILLER, KEPT]
    assert trace.capacities.capacity.tolist() == [2, -1]
    assert np.isnan(trace.sites.capacity_factor).tolist() == [False, True]
    assert trace.units.text.tolist() == ["t0 ", "t1 ", "t2 "]
    assert trace.units.loss.tolist()[:2] == [1, 1]
    assert np.isnan(trace.units.loss[2])


def test_options_of_sites_may_differ():
    trace = make_trace(
        "L0.attention: 0>E0; L0.mlp: 0>E3",
        num_experts={"L0.attention": 2, "L0.mlp": 4},
        selection={"L0.attention": "expert", "L0.mlp": "data"},
    )
    assert trace.sites.num_experts.tolist() == [2, 4]
    assert trace.sites.selection.tolist() == ["expert", "data"]


def test_patches_repeat_their_first_unit():
    trace = make_trace("L0.mlp: 0>E1 2>E0", num_experts=2, patch_len=2, admission="position")
    assert trace.units.patch_id.tolist() == [0, 0, 1, 1]
    assert trace.assignments.expert_id.tolist() == [1, 1, 0, 0]
    assert trace.assignments.inherited.tolist() == [False, True, False, True]


@pytest.mark.parametrize("text", ["L0.mlp: 0>1", "L0.mlp: 0>E1?", "mlp: 0>E1"])
def test_a_misspelt_trace_is_refused(text: str):
    with pytest.raises(ValueError, match=r"must be site names|is no request"):
        make_trace(text, num_experts=2)
