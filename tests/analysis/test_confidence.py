import math

import numpy as np
import pytest

from analysis.confidence import ONE_EXPERT, router_entropy
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import confidence as oracle
from tests.traces import make_trace


def trace_of(*logits):
    matrix = np.array(logits, dtype=np.float32)
    units = " ".join(f"{unit}>E0" for unit in range(len(matrix)))
    return make_trace(f"L0.mlp: {units}", num_experts=matrix.shape[1], logits={0: matrix})


def test_entropy_equals_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(router_entropy(trace), oracle.router_entropy(records), skip=["reason"])


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    numbers = dict.fromkeys(("entropy", "entropy_share", "effective_experts", "margin"), "float64")
    for trace, _ in random_traces()[:20]:
        assert_dtypes(router_entropy(trace), site_id="int16", unit_id="int32", **numbers, reason="str")


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(router_entropy(trace))


def test_an_even_router_is_completely_undecided():
    row = router_entropy(trace_of([1.5] * 4)).iloc[0]
    assert row["entropy"] == pytest.approx(math.log(4))
    assert row["entropy_share"] == pytest.approx(1)
    assert row["effective_experts"] == pytest.approx(4)
    assert row["margin"] == pytest.approx(0)


def test_probabilities_by_hand():
    row = router_entropy(trace_of([math.log(3), 0.0])).iloc[0]  # 3/4, 1/4
    assert row["entropy"] == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4), rel=1e-6)
    assert row["margin"] == pytest.approx(0.5, rel=1e-6)


def test_logits_far_apart_neither_overflow_nor_become_nan():
    table = router_entropy(trace_of([3e38, 0.0], [-3e38, -3e38]))
    assert table["entropy"].tolist() == pytest.approx([0, math.log(2)])
    assert table["margin"].tolist() == pytest.approx([1, 0])


def test_without_logits_everything_is_unknown_in_the_words_of_the_trace():
    table = router_entropy(make_trace("L0.mlp: 0>E0", num_experts=2))
    assert table[["entropy", "entropy_share", "effective_experts", "margin"]].isna().all(axis=None)
    assert table["reason"].tolist() == ["a hand-made trace has none"]


def test_one_expert_has_no_margin():
    row = router_entropy(trace_of([2.0])).iloc[0]
    assert (row["entropy"], row["effective_experts"], row["reason"]) == (0, 1, ONE_EXPERT)
    assert math.isnan(row["entropy_share"])
    assert math.isnan(row["margin"])


def test_some_sites_only():
    for trace, _ in random_traces():
        table = router_entropy(trace)
        for site in range(trace.num_sites):
            expected = table[table["site_id"] == site].reset_index(drop=True)
            assert router_entropy(trace, [site]).equals(expected)
