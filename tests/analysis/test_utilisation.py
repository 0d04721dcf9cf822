import numpy as np
import pytest

from analysis.counts import effective_examples
from analysis.reference import FILLS_SLOTS, NEVER_FULL, NO_REFERENCE, OTHER_TOP_K
from analysis.utilisation import LOAD_MEASURES, NOTHING_KEPT, expert_load, expert_load_against_reference
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import load as oracle
from tests.oracles.records import read
from tests.traces import make_reference, make_trace

NUMBERS = {
    "expert_id": "int16",
    "requested": "int64",
    "load": "int64",
    "dropped": "int64",
    "filler": "int64",
    "load_share": "float64",
    "relative_load": "float64",
    "slots": "float64",
    "utilisation": "float64",
    "is_idle": "bool",
    "reference_share": "float64",
    "reference_load": "float64",
    "reference_low": "float64",
    "reference_high": "float64",
    "reason": "str",
}


@pytest.mark.parametrize("by_example", [False, True])
def test_load_equals_the_oracle_on_random_traces(by_example):
    for trace, records in random_traces():
        table = expert_load(trace, by_example=by_example)
        assert_rows(table, oracle.expert_load(records, by_example=by_example), skip=["reason"])


@pytest.mark.parametrize("measure", LOAD_MEASURES)
def test_every_measure_against_its_reference_equals_the_oracle(measure):
    for trace, records in random_traces():
        table = expert_load_against_reference(trace, measure)
        assert_rows(table, oracle.against_reference(records, measure), skip=["reason"])


@pytest.mark.parametrize("by_example", [False, True])
def test_columns_and_dtypes_are_the_documented_ones_also_without_units(by_example):
    example = {"example_id": "int32"} if by_example else {}
    for trace, _ in random_traces()[:20]:
        assert_dtypes(expert_load(trace, by_example=by_example), **SITE, **example, **NUMBERS)


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(expert_load(trace))
        assert_missing_is_explained(expert_load(trace, by_example=True))


def test_dropped_assignments_do_not_count_as_load():
    table = expert_load(make_trace("L0.mlp: 0>E1 1>E1 2>E1!", num_experts=3))
    assert table["load"].tolist() == [0, 2, 0]
    assert table["requested"].tolist() == [0, 3, 0]
    assert table["dropped"].tolist() == [0, 1, 0]


def test_idle_experts_have_rows_with_zeros():
    table = expert_load(make_trace("L0.mlp: 0>E1 1>E1", num_experts=3))
    assert table["expert_id"].tolist() == [0, 1, 2]
    assert table["load_share"].tolist() == [0, 1, 0]
    assert table["relative_load"].tolist() == [0, 3, 0]
    assert table["is_idle"].tolist() == [True, False, True]


def test_an_expert_that_dropped_whatever_it_was_asked_for_is_idle():
    table = expert_load(make_trace("L0.mlp: 0>E0!,E1", num_experts=2))
    assert table["is_idle"].tolist() == [True, False]


def test_filler_is_neither_requested_nor_load():
    table = expert_load(make_trace("L0.mlp: 0>E0,E1~ 1>E0", num_experts=2))
    assert table["requested"].tolist() == [2, 0]
    assert table["load"].tolist() == [2, 0]


def test_load_counts_patches_not_units():
    table = expert_load(make_trace("L0.mlp: 0>E0 4>E1!", num_experts=2, patch_len=4, capacity=1))
    assert table["requested"].tolist() == [1, 1]
    assert table["load"].tolist() == [1, 0]


def test_utilisation_is_load_over_the_slots_of_all_examples():
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0! 3>E1", num_experts=2, capacity=2, example_lengths=[3, 1])
    table = expert_load(trace)
    assert table["slots"].tolist() == [4, 4]
    assert table["utilisation"].tolist() == [0.5, 0.25]
    by_example = expert_load(trace, by_example=True)
    assert by_example["example_id"].tolist() == [0, 0, 1, 1]
    assert by_example["load"].tolist() == [2, 0, 0, 1]
    assert by_example["utilisation"].tolist() == [1.0, 0.0, 0.0, 0.5]


def test_utilisation_of_experts_that_are_never_full_is_unknown_not_zero():
    table = expert_load(make_trace("L0.mlp: 0>E0", num_experts=2))
    assert table["utilisation"].isna().all()
    assert table["slots"].isna().all()
    assert table["reason"].str.contains(NEVER_FULL).all()
    assert table["reason"].str.contains(NO_REFERENCE).all()


def test_shares_of_a_site_that_kept_nothing_are_unknown():
    table = expert_load(make_trace("L0.mlp: 0>E0!; L1.mlp: 0>E0", num_experts=2))
    assert table["load_share"].isna().tolist() == [True, True, False, False]
    assert table["reason"].str.contains(NOTHING_KEPT).tolist() == [True, True, False, False]


def test_reference_and_band_by_hand():
    reference = make_reference({0: [500, 500]}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0 3>E0 4>E0 5>E0 6>E0 7>E0", num_experts=2, reference=reference)
    table = expert_load(trace)
    # Binomial(8, 1/2): P(X <= 0) = 0.004, P(X <= 1) = 0.035; P(X <= 6) = 0.965, P(X <= 7) = 0.996.
    assert table["reference_low"].tolist() == [1, 1]
    assert table["reference_high"].tolist() == [7, 7]
    assert table["reference_load"].tolist() == [4, 4]
    assert table["reference_share"].tolist() == [0.5, 0.5]


def test_the_band_never_exceeds_the_slots():
    reference = make_reference({0: [500, 500]}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0 1>E0! 2>E0! 3>E1", num_experts=2, capacity=2, reference=reference)
    assert expert_load(trace)["reference_high"].tolist() == [2, 2]


def test_a_reference_of_another_k_is_refused_with_the_reason():
    reference = make_reference({0: [1000, 1000]}, patches=1000)
    table = expert_load(make_trace("L0.mlp: 0>E0 1>E1", num_experts=2, reference=reference))
    assert table[["reference_share", "reference_load", "reference_low", "reference_high"]].isna().all(axis=None)
    assert table["reason"].str.contains(OTHER_TOP_K).all()


def test_a_reference_without_the_site_or_without_patches_is_unknown():
    trace = make_trace("L0.mlp: 0>E0; L1.mlp: 0>E0", num_experts=2, reference=make_reference({1: [0, 0]}, patches=0))
    reasons = expert_load(trace)["reason"].tolist()
    assert "does not hold this site" in reasons[0]
    assert "saw no patches" in reasons[2]


def test_experts_that_pick_have_a_reference_share_but_no_band():
    reference = make_reference({0: [500, 500]}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0,E1 1", num_experts=2, selection="expert_choice", reference=reference)
    table = expert_load(trace)
    assert table["reference_share"].tolist() == [0.5, 0.5]
    assert table["reference_low"].isna().all()
    assert table["reason"].str.contains(FILLS_SLOTS).all()


def test_with_one_choice_per_example_the_band_counts_examples():
    reference = make_reference({0: [500, 500]}, patches=1000)
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0", num_experts=2, selection="expert", reference=reference)
    table = expert_load(trace)  # one fair coin: all three units or none
    assert table["reference_low"].tolist() == [0, 0]
    assert table["reference_high"].tolist() == [3, 3]
    assert table["reference_load"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize(("sizes", "expected"), [([5, 5, 5], 3), ([7], 1), ([9, 1], 1), ([3, 2, 1], 2), ([], 0)])
def test_effective_examples(sizes, expected):
    assert effective_examples(np.array(sizes, dtype=np.int64)) == expected


def test_a_permutation_of_ranks_changes_no_load():
    one = make_trace("L0.mlp: 0>E0,E1 1>E2,E1", num_experts=3)
    other = make_trace("L0.mlp: 0>E1,E0 1>E1,E2", num_experts=3)
    assert expert_load(one).equals(expert_load(other))


def test_examples_add_up_to_the_whole():
    for trace, _ in random_traces()[::3]:
        whole = expert_load(trace)
        parts = (
            expert_load(trace, by_example=True).groupby(["site_id", "expert_id"], as_index=False).sum(numeric_only=True)
        )
        for column in ("requested", "load", "dropped"):
            assert parts[column].tolist() == whole[column].tolist()


def test_a_trace_without_units_has_no_rows():
    assert len(expert_load(make_trace("L0.mlp:", num_experts=4))) == 0


def test_the_oracle_reads_what_was_written():
    records = read(make_trace("L0.mlp: 0>E1 1>E1!", num_experts=2, capacity=1))
    assert [(row.unit.unit_id, row.expert, row.status) for row in records.rows] == [(0, 1, 0), (1, 1, 1)]
