import numpy as np
import pytest

from analysis.drops import (
    NOBODY_ASKED,
    drop_events,
    dropped_assignments,
    dropped_units,
    drops_by_position,
)
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import drops as oracle
from tests.traces import make_trace
from uoe_model.errors import ConfigError
from uoe_model.trace import ReferenceTable


def test_dropped_assignments_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(dropped_assignments(trace), oracle.dropped_assignments(records), skip=["reason"])


def test_dropped_units_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(dropped_units(trace), oracle.dropped_units(records))


@pytest.mark.parametrize("max_bins", [1, 3, 7, 200])
def test_drops_by_position_equal_the_oracle_on_random_traces(max_bins):
    for trace, records in random_traces():
        table = drops_by_position(trace, max_bins=max_bins)
        assert_rows(table, oracle.drops_by_position(records, max_bins=max_bins), skip=["reason"])


def test_drops_of_some_experts_of_one_site_equal_the_oracle_on_random_traces():
    rng = np.random.default_rng(0)
    for trace, records in random_traces():
        site = int(rng.integers(trace.num_sites))
        experts = np.flatnonzero(rng.random(int(trace.sites.num_experts[site])) < 0.4).tolist()
        for expert_ids in (experts, None):
            table = drops_by_position(trace, max_bins=7, site_id=site, expert_ids=expert_ids)
            expected = oracle.drops_by_position(records, max_bins=7, site_id=site, expert_ids=expert_ids)
            assert_rows(table, expected, skip=["reason"])


def test_only_requests_to_the_chosen_experts_count():
    trace = make_trace("L0.mlp: 0>E0,E1 1>E0!,E1 2>E0!,E1! 3>E1!", num_experts=2, capacity=2)
    table = drops_by_position(trace, site_id=0, expert_ids=[0])
    assert table["requested"].tolist() == [1, 1, 1, 0]
    assert table["dropped"].tolist() == [0, 1, 1, 0]
    assert table["dropped_units"].tolist() == [0, 0, 1, 0]


def test_experts_without_their_site_and_unknown_sites_are_refused():
    trace = make_trace("L0.mlp: 0>E0", num_experts=2)
    with pytest.raises(ConfigError, match=r"expert_ids=\[1\] need a site_id"):
        drops_by_position(trace, expert_ids=[1])
    with pytest.raises(ConfigError, match=r"site_id=4 must lie in 0..0"):
        drops_by_position(trace, site_id=4)


def test_drop_events_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(drop_events(trace), oracle.drop_events(records))


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    count, number = "int64", "float64"
    unit = {"unit_id": "int32", "example_id": "int32", "patch_id": "int32", "position": "int32", "text": "str"}
    for trace, _ in random_traces()[:20]:
        bands = {"reference_drop_share": number, "reference_low": number, "reference_high": number, "reason": "str"}
        counted = {"requested": count, "dropped": count, "drop_share": number}
        assert_dtypes(dropped_assignments(trace), **SITE, expert_id="int16", **counted, **bands)
        lost = {"dropped_units": count, "unrouted_units": count}
        shares = {"dropped_unit_share": number, "unrouted_unit_share": number}
        assert_dtypes(dropped_units(trace), **SITE, units=count, **lost, **shares)
        place = {"bin": count, "position_start": count, "position_end": count}
        assert_dtypes(
            drops_by_position(trace), **SITE, **place, **counted, units=count, dropped_units=count, reason="str"
        )
        request = {"rank": "int8", "expert_id": "int16", "score": "float32", "other_kept": count}
        assert_dtypes(drop_events(trace), **SITE, **unit, **request)


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(dropped_assignments(trace))
        assert_missing_is_explained(drops_by_position(trace, max_bins=5))


def test_a_dropped_assignment_is_not_yet_a_dropped_unit():
    trace = make_trace("L0.mlp: 0>E0,E1 1>E0!,E1 2>E0!,E1!", num_experts=2, capacity=2)
    assert dropped_assignments(trace)["dropped"].tolist() == [2, 1]
    assert dropped_assignments(trace)["drop_share"].tolist() == [2 / 3, 1 / 3]
    assert dropped_units(trace)["dropped_units"].tolist() == [1]


def test_unrouted_is_not_dropped():
    trace = make_trace("L0.mlp: 0>E0 1 2>E0~", num_experts=1, selection="data")
    assert dropped_units(trace)["unrouted_units"].tolist() == [2]
    assert dropped_units(trace)["dropped_units"].tolist() == [0]
    picked = make_trace("L0.mlp: 0>E0 1 2", num_experts=2, selection="expert_choice")
    assert dropped_units(picked)["unrouted_units"].tolist() == [2]
    assert dropped_assignments(picked)["dropped"].tolist() == [0, 0]


def test_the_drop_share_of_an_expert_nobody_asked_for_is_unknown():
    table = dropped_assignments(make_trace("L0.mlp: 0>E1 1>E1!", num_experts=2))
    assert table["drop_share"].isna().tolist() == [True, False]
    assert NOBODY_ASKED in table["reason"][0]
    assert NOBODY_ASKED not in table["reason"][1]


def test_drop_band_by_hand():
    column = {"site_id": np.zeros(1, dtype=np.int16), "expert_id": np.zeros(1, dtype=np.int16)}
    counts = {"requested": np.array([1000]), "kept": np.array([500]), "patches": np.array([1000])}
    reference = ReferenceTable(dataset="by hand", **column, **counts)
    units = " ".join(f"{unit}>E0{'!' if unit > 4 else ''}" for unit in range(8))
    table = dropped_assignments(make_trace(f"L0.mlp: {units}", num_experts=1, reference=reference))
    assert table["dropped"].tolist() == [3]
    assert table["reference_drop_share"].tolist() == [0.5]
    assert (table["reference_low"].tolist(), table["reference_high"].tolist()) == ([1], [7])


def test_positions_of_several_examples_lie_over_each_other():
    trace = make_trace("L0.mlp: 0>E0 1>E0! 2>E0 3>E0!", num_experts=1, capacity=1, example_lengths=[2, 2])
    table = drops_by_position(trace)
    assert table["position_start"].tolist() == [0, 1]
    assert table["position_end"].tolist() == [1, 2]
    assert table["requested"].tolist() == [2, 2]
    assert table["dropped"].tolist() == [0, 2]
    assert table["dropped_units"].tolist() == [0, 2]


def test_long_inputs_are_binned_and_the_last_bin_may_be_short():
    trace = make_trace("L0.mlp: " + " ".join(f"{unit}>E0" for unit in range(7)), num_experts=1)
    table = drops_by_position(trace, max_bins=3)
    assert table["position_start"].tolist() == [0, 3, 6]
    assert table["position_end"].tolist() == [3, 6, 7]
    assert table["units"].tolist() == [3, 3, 1]


def test_a_drop_event_names_the_full_expert_and_the_text_of_the_patch():
    trace = make_trace(
        "L0.mlp: 0>E0,E1 2>E1,E0!", num_experts=2, capacity=2, patch_len=2, pieces=["The", " cat", " sat", " down"]
    )
    events = drop_events(trace)
    assert events["expert_id"].tolist() == [0]
    assert events["rank"].tolist() == [1]
    assert events["text"].tolist() == [" sat down"]
    assert events["other_kept"].tolist() == [1]


def test_events_positions_experts_and_sites_count_the_same_drops():
    for trace, _ in random_traces():
        by_expert = dropped_assignments(trace).groupby("site_id")["dropped"].sum()
        by_position = drops_by_position(trace, max_bins=4).groupby("site_id")["dropped"].sum()
        events = drop_events(trace)["site_id"].value_counts().reindex(by_expert.index, fill_value=0)
        assert by_expert.tolist() == by_position.tolist() == events.tolist()
