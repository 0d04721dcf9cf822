import numpy as np
import pytest

from analysis.routes import unit_routes
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import routes as oracle
from tests.traces import make_trace


def test_routes_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        assert_rows(unit_routes(trace), oracle.unit_routes(records), skip=["reason"])


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    unit = {"unit_id": "int32", "example_id": "int32", "patch_id": "int32", "position": "int32", "text": "str"}
    words = {"requested_experts": "str", "kept_experts": "str", "gates": "str"}
    sure = {"entropy": "float64", "margin": "float64", "inherited": "bool", "reason": "str"}
    for trace, _ in random_traces()[:20]:
        for site_ids in (None, [0], []):
            table = unit_routes(trace, site_ids)
            assert_dtypes(table, **SITE, **unit, status="str", first_expert="int16", **words, **sure)


def test_whatever_is_missing_is_explained():
    for trace, _ in random_traces():
        assert_missing_is_explained(unit_routes(trace))


def test_the_four_fates_of_a_unit():
    trace = make_trace("L0.mlp: 0>E2,E0 1>E2!,E0 2>E2!,E1! 3", num_experts=3, capacity=2)
    table = unit_routes(trace)
    assert table["status"].tolist() == ["kept", "partly dropped", "dropped", "unrouted"]
    assert table["first_expert"].tolist() == [2, 0, -1, -1]
    assert table["requested_experts"].tolist() == ["E2 E0", "E2 E0", "E2 E1", ""]
    assert table["kept_experts"].tolist() == ["E2 E0", "E0", "", ""]
    assert table["gates"].tolist() == ["1.000 1.000", "0.000 1.000", "0.000 0.000", ""]


def test_filler_is_no_part_of_a_route():
    table = unit_routes(make_trace("L0.mlp: 0>E1,E0~ 1>E1~", num_experts=2))
    assert table["requested_experts"].tolist() == ["E1", ""]
    assert table["status"].tolist() == ["kept", "unrouted"]


def test_later_units_of_a_patch_are_inherited_in_a_causal_model():
    table = unit_routes(make_trace("L0.mlp: 0>E0", num_experts=2, patch_len=3, admission="position"))
    assert table["inherited"].tolist() == [False, True, True]
    assert table["first_expert"].tolist() == [0, 0, 0]


def test_some_sites_only_in_the_order_of_the_trace():
    for trace, _ in random_traces()[:40]:
        whole = unit_routes(trace)
        chosen = list(range(trace.num_sites))[::-2]
        expected = whole[whole["site_id"].isin(chosen)].reset_index(drop=True)
        assert unit_routes(trace, chosen).equals(expected)


@pytest.mark.parametrize("text", ["<script>", "\x00", "日本", "🙂", ""])
def test_text_arrives_unchanged(text):
    assert unit_routes(make_trace("L0.mlp: 0>E0", num_experts=1, pieces=[text]))["text"].tolist() == [text]


def test_entropy_and_margin_stand_beside_their_own_unit():
    logits = np.array([[0, 0], [9, 0], [0, 0]], dtype=np.float32)
    table = unit_routes(make_trace("L0.mlp: 0>E0 1>E0 2>E1", num_experts=2, logits={0: logits}))
    assert (table["margin"] > 0.9).tolist() == [False, True, False]
