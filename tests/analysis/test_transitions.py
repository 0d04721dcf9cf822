import numpy as np
import pytest

from analysis.transitions import DROPPED_NODE, UNROUTED_NODE, first_experts, flow_sites, transitions
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import transitions as oracle
from tests.traces import make_trace
from uoe_model.errors import ConfigError


def flows(table):
    """Only the ways that somebody goes."""
    rows = table[table["units"] > 0]
    return {(row.from_expert_id, row.to_expert_id): row.units for row in rows.itertuples()}


def test_transitions_equal_the_oracle_on_random_traces():
    for trace, records in random_traces()[::2]:
        sites = list(range(trace.num_sites))
        assert_rows(transitions(trace), oracle.transitions(records, sites), skip=["reason"])
        chain = [sites[-1], *sites[:2]]
        assert_rows(transitions(trace, chain), oracle.transitions(records, chain), skip=["reason"])


def test_lit_units_are_counted_apart():
    rng = np.random.default_rng(0)
    for trace, records in random_traces()[1::7]:
        lit = rng.random(trace.num_units) < 0.5
        sites = [0, trace.num_sites - 1]
        assert_rows(
            transitions(trace, sites, lit=lit), oracle.transitions(records, sites, lit.tolist()), skip=["reason"]
        )


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    for trace, _ in random_traces()[:20]:
        side = {"site_id": "int16", "layer": "int16", "block": "str", "expert_id": "int16"}
        ends = {f"{end}_{name}": dtype for end in ("from", "to") for name, dtype in side.items()}
        counts = {"units": "int64", "from_units": "int64", "to_units": "int64"}
        assert_dtypes(transitions(trace), **ends, **counts, transition_share="float64", lit_units="int64", reason="str")


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(transitions(trace))


def test_a_unit_stands_at_the_kept_expert_it_preferred_most():
    trace = make_trace(
        """
        L0.mlp: 0>E2,E0 1>E2!,E0 2>E2!,E1! 3
        L1.mlp: 0>E1    1>E1     2>E0      3>E0~
        """,
        num_experts=3,
        capacity=2,
    )
    assert first_experts(trace, 0).tolist() == [2, 0, DROPPED_NODE, UNROUTED_NODE]
    assert flows(transitions(trace)) == {(2, 1): 1, (0, 1): 1, (-1, 0): 1, (-2, -2): 1}


def test_nodes_come_as_experts_then_dropped_then_unrouted_and_nobody_is_lost():
    for trace, _ in random_traces():
        table = transitions(trace)
        for (one, other), rows in table.groupby(["from_site_id", "to_site_id"]):
            here, there = (int(trace.sites.num_experts[site]) for site in (one, other))
            assert rows["from_expert_id"].drop_duplicates().tolist() == [*range(here), -1, -2]
            assert rows["to_expert_id"].tolist()[: there + 2] == [*range(there), -1, -2]
            assert rows["units"].sum() == rows["lit_units"].sum() == trace.num_units


def test_every_unit_of_a_patch_counts():
    trace = make_trace("L0.mlp: 0>E0; L1.mlp: 0>E1", num_experts=2, patch_len=3)
    assert flows(transitions(trace)) == {(0, 1): 3}


def test_a_single_site_has_no_transitions_and_a_chain_needs_two():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2)
    assert transitions(trace).empty
    with pytest.raises(ConfigError, match="at least two sites"):
        transitions(trace, [0])


def test_an_unknown_site_is_named():
    with pytest.raises(ConfigError, match=r"site_ids=\[7\] must lie in 0..0"):
        transitions(make_trace("L0.mlp: 0>E0", num_experts=2), [0, 7])


def test_the_chain_around_a_site_stays_in_its_block():
    text = ";".join(f"L{layer}.{block}: 0>E0" for layer in range(4) for block in ("attention", "mlp"))
    trace = make_trace(text, num_experts=1)
    assert [flow_sites(trace, site) for site in (0, 2, 4, 6)] == [(0, 2, 4), (0, 2, 4), (2, 4, 6), (2, 4, 6)]
    assert flow_sites(trace, 5) == (3, 5, 7)
    assert flow_sites(make_trace("L0.attention: 0>E0; L0.mlp: 0>E0", num_experts=1), 1) == (1,)
