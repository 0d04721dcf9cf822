import dataclasses

import numpy as np
import pytest

from analysis.alignment import align_units
from analysis.compare import DIFFERENCE_MEASURES, changed_units, compare_runs, load_difference, route_changes
from analysis.glossary import TERMS
from tests.analysis.run_pairs import run_pairs
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import compare as oracle
from tests.traces import make_trace
from uoe_model.errors import MismatchError
from uoe_model.trace import text_column

NAN = float("nan")


def decoded(trace, start):
    """The same trace whose units count as generated from `start` on."""
    phase = text_column(["prefill"] * start + ["decode"] * (trace.num_units - start))
    return dataclasses.replace(trace, units=dataclasses.replace(trace.units, phase=phase))


@pytest.mark.parametrize("measure", DIFFERENCE_MEASURES)
def test_differences_of_load_equal_the_oracle(measure):
    for a, b, records_a, records_b in run_pairs():
        table = load_difference(a, b, measure=measure)
        assert_rows(table, oracle.load_difference(records_a, records_b, measure), skip=["reason"])
        assert_missing_is_explained(table)


def test_route_changes_equal_the_oracle():
    for a, b, records_a, records_b in run_pairs():
        table = route_changes(a, b)
        assert_rows(table, oracle.route_changes(a, b, records_a, records_b), skip=["reason"])
        assert_missing_is_explained(table)


def test_the_pairs_hold_what_comparisons_go_wrong_on():
    tables = [route_changes(a, b) for a, b, *_ in run_pairs()]
    alignments = [align_units(a, b) for a, b, *_ in run_pairs()]
    assert sum(table["first_changed"].any() for table in tables) > 10
    assert any((table["kept_changed"] & ~table["first_changed"]).any() for table in tables)
    assert any((table["first_changed"] & ~table["kept_changed"]).any() for table in tables)
    assert sum(one.left_out_b > 0 for one in alignments) > 5
    assert any(table["loss_change"].notna().any() for table in tables)


def test_changed_units_are_those_of_the_table_and_never_ones_that_a_lacks():
    for a, b, *_ in run_pairs():
        table = route_changes(a, b)
        for site in range(b.num_sites):
            rows = table[(table["site_id"] == site) & (table["first_changed"] | table["kept_changed"])]
            assert np.flatnonzero(changed_units(a, b, site)).tolist() == rows["unit_id"].tolist()


def test_a_run_beside_itself_has_not_changed():
    for a, *_ in run_pairs():
        table = route_changes(a, a)
        assert not table["first_changed"].any()
        assert not table["kept_changed"].any()
        assert (load_difference(a, a)["difference"].dropna() == 0).all()


def test_columns_and_dtypes_are_the_documented_ones_also_without_units():
    number = "float64"
    for a, b, *_ in run_pairs():
        load = {"load_a": "int64", "load_b": "int64", "value_a": number, "value_b": number, "difference": number}
        assert_dtypes(load_difference(a, b), **SITE, expert_id="int16", **load, reason="str")
        ids = dict.fromkeys(("unit_id", "unit_id_a", "example_id", "position"), "int32")
        words = {"text": "str", "status_a": "str", "status_b": "str"}
        experts = {"first_expert_a": "int16", "first_expert_b": "int16", "experts_a": "str", "experts_b": "str"}
        losses = {"loss_a": number, "loss_b": number, "loss_change": number, "reason": "str"}
        flags = {"first_changed": "bool", "kept_changed": "bool"}
        assert_dtypes(route_changes(a, b), **SITE, **ids, **words, **experts, **flags, **losses)
        numbers = dict.fromkeys(("a", "b", "change"), number)
        assert_dtypes(compare_runs(a, b), term="str", block="str", **numbers, note="str")


def test_load_moves_by_hand():
    a = make_trace("L0.mlp: 0>E0 1>E0 2>E1 3>E1", num_experts=2)
    b = make_trace("L0.mlp: 0>E0 1>E0 2>E0 3>E1", num_experts=2)
    table = load_difference(a, b)
    assert table["value_a"].tolist() == [1, 1]
    assert table["value_b"].tolist() == [1.5, 0.5]
    assert table["difference"].tolist() == [0.5, -0.5]
    assert load_difference(a, b, measure="load_share")["difference"].tolist() == [0.25, -0.25]


def test_what_changed_by_hand():
    a = make_trace("L0.mlp: 0>E0,E1 1>E0,E1 2>E0,E1  3>E0 4", num_experts=3, losses=[1, 2, 3, 4, NAN], capacity=9)
    b = make_trace("L0.mlp: 0>E0,E1 1>E1,E0 2>E0,E1! 3>E2 4", num_experts=3, losses=[1, 2, 5, 3, NAN], capacity=9)
    table = route_changes(a, b)
    assert table["first_changed"].tolist() == [False, True, False, True, False]
    assert table["kept_changed"].tolist() == [False, False, True, True, False]
    assert table["experts_b"].tolist() == ["E0 E1", "E1 E0", "E0", "E2", ""]
    assert table["status_b"].tolist() == ["kept", "kept", "partly dropped", "kept", "unrouted"]
    np.testing.assert_equal(table["loss_change"].tolist(), [NAN, 0, 0, 2, -1])
    assert changed_units(a, b, 0).tolist() == [False, True, True, True, False]


def test_a_generated_tail_counts_up_to_the_first_token_that_differs():
    text = "L0.mlp: 0>E0 1>E0 2>E0 3>E0 4>E0"
    a = decoded(make_trace(text, num_experts=1, pieces=["a", "b", "c", "d", "e"]), 2)
    b = decoded(make_trace(text + " 5>E0", num_experts=1, pieces=["a", "b", "c", "X", "e", "f"]), 2)
    found = align_units(a, b)
    assert found.unit_b.tolist() == [0, 1, 2]
    assert (found.left_out_a, found.left_out_b) == (2, 3)
    assert "2 of run A and 3 of run B are not" in compare_runs(a, b)["note"][0]


def test_an_input_with_another_word_is_compared_behind_it_as_well():
    text = "L0.mlp: 0>E0 1>E0 2>E0"
    a = make_trace(text, num_experts=1, pieces=["a", "cat", "sat"])
    b = make_trace(text, num_experts=1, pieces=["a", "dog", "sat"])
    assert align_units(a, b).unit_b.tolist() == [0, 2]


def test_runs_without_a_common_unit_are_refused():
    a = make_trace("L0.mlp: 0>E0", num_experts=1, pieces=["a"])
    b = make_trace("L0.mlp: 0>E0", num_experts=1, pieces=["b"])
    for compare in (route_changes, compare_runs, lambda a, b: changed_units(a, b, 0)):
        with pytest.raises(MismatchError, match="share no unit"):
            compare(a, b)
    assert len(load_difference(a, b)) == 1


@pytest.mark.parametrize(
    ("text", "experts", "message"),
    [
        ("L0.mlp: 0>E0; L1.mlp: 0>E0", 2, "run A has 1 routers and run B 2"),
        ("L1.mlp: 0>E0", 2, "site 0: its name is 'L0.mlp' in run A and 'L1.mlp' in run B"),
        ("L0.mlp: 0>E0", 3, "site 0: its number of experts is 2 in run A and 3 in run B"),
    ],
)
def test_runs_of_other_routers_are_refused_with_what_differs(text, experts, message):
    a, b = make_trace("L0.mlp: 0>E0", num_experts=2), make_trace(text, num_experts=experts)
    for compare in (load_difference, route_changes, compare_runs):
        with pytest.raises(MismatchError, match=message):
            compare(a, b)


def test_the_summary_by_hand():
    a = make_trace(
        "L0.attention: 0>E0 1>E0 2>E0; L0.mlp: 0>E0 1>E0! 2>E1", num_experts=2, losses=[1.0, 2.0, NAN], capacity=2
    )
    b = make_trace(
        "L0.attention: 0>E0 1>E1 2>E0; L0.mlp: 0>E0! 1>E0! 2>E1", num_experts=2, losses=[1.5, 2.5, NAN], capacity=2
    )
    rows = {(row.term, row.block): row for row in compare_runs(a, b).itertuples()}
    assert (rows["loss", ""].a, rows["loss", ""].b, rows["loss", ""].change) == (1.5, 2.0, 0.5)
    assert rows["drop_share", "mlp"].change == pytest.approx(1 / 3)
    assert rows["drop_share", "attention"].change == 0
    assert rows["drop_share", ""].b == pytest.approx(2 / 6)
    assert rows["changed_first", "attention"].change == pytest.approx(1 / 3)
    assert rows["changed_first", "mlp"].change == pytest.approx(1 / 3)
    assert rows["changed_first", ""].change == pytest.approx(1 / 3)
    assert set(compare_runs(a, b)["term"]) <= set(TERMS)


def test_the_share_of_changed_first_choices_is_that_of_the_table():
    for a, b, *_ in run_pairs():
        table, summary = route_changes(a, b), compare_runs(a, b)
        for row in summary[summary["term"] == "changed_first"].itertuples():
            rows = table if not row.block else table[table["block"] == row.block]
            assert row.change == pytest.approx(rows["first_changed"].mean())
