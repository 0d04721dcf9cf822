from analysis.full_experts import full_experts
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import full_experts as oracle
from tests.traces import make_trace


def test_full_experts_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        table = full_experts(trace)
        assert_rows(table, oracle.full_experts(records), skip=["reason"])
        assert_missing_is_explained(table)


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    for trace, _ in random_traces()[:20]:
        counts = {"requested": "int64", "kept": "int64", "dropped": "int64"}
        ids = {"example_id": "int32", "expert_id": "int16", "is_full": "bool", "capacity": "float64"}
        assert_dtypes(full_experts(trace), **SITE, **ids, **counts, first_drop_position="float64", reason="str")


def test_who_was_full_by_hand():
    trace = make_trace(
        "L0.mlp: 0>E0 1>E0! 2>E1 3>E0 4>E1 5>E0! 6>E0!", num_experts=3, capacity=1, example_lengths=[3, 4]
    )
    table = full_experts(trace)
    full = table[table["is_full"]]
    assert list(zip(full["example_id"], full["expert_id"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert full["first_drop_position"].tolist()[::2] == [1, 2]
    assert full["dropped"].tolist() == [1, 0, 2, 0]


def test_experts_without_a_capacity_are_never_full():
    table = full_experts(make_trace("L0.mlp: 0>E0 1>E0", num_experts=1))
    assert not table["is_full"].any()
    assert table["capacity"].isna().all()
