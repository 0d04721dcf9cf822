import numpy as np
import pytest

from analysis.loss import loss_of_unit
from analysis.tables import units_table
from analysis.unit_card import unit_card, unit_facts
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes, assert_missing_is_explained, assert_rows
from tests.oracles import unit_card as oracle
from tests.traces import make_trace
from uoe_model.errors import InputError


def test_cards_equal_the_oracle_on_random_traces():
    rng = np.random.default_rng(0)
    for trace, records in random_traces():
        for unit in rng.integers(0, trace.num_units, 2 if trace.num_units else 0).tolist():
            card = unit_card(trace, unit)
            assert_rows(card, oracle.unit_card(records, unit), skip=["reason"])
            assert_missing_is_explained(card)


def test_columns_and_dtypes_are_the_documented_ones():
    number = "float64"
    for trace, _ in random_traces()[:30]:
        if trace.num_units:
            values = {"rank": "int8", "expert_id": "int16", "score": number, "gate": number, "status": "str"}
            sure = {"inherited": "bool", "margin": number, "entropy": number, "reason": "str"}
            assert_dtypes(unit_card(trace, 0), **SITE, **values, **sure)
            ids = dict.fromkeys(("unit_id", "example_id", "patch_id", "position"), "int32")
            what = {"modality": "str", "text": "str", "token_id": "int32", "grid_row": "int16", "grid_col": "int16"}
            what |= {"phase": "str", "is_special": "bool", "label": "str", "loss": number}
            output = {"output_token_id": "int32", "output_text": "str", "output_probability": number, "reason": "str"}
            assert_dtypes(unit_facts(trace, 0), **ids, **what, **output)


def test_facts_are_those_of_the_unit_with_its_own_loss():
    rng = np.random.default_rng(0)
    for trace, _ in random_traces():
        if not trace.num_units:
            continue
        unit = int(rng.integers(trace.num_units))
        fact = unit_facts(trace, unit)
        assert_missing_is_explained(fact)
        row = units_table(trace).loc[unit]
        for name in ("unit_id", "example_id", "patch_id", "position", "text", "token_id", "output_text", "phase"):
            assert fact[name][0] == row[name]
        np.testing.assert_equal(fact["loss"][0], loss_of_unit(units_table(trace))[unit])
        np.testing.assert_equal(fact["output_probability"][0], float(trace.units.output_probability[unit]))


def test_a_card_by_hand():
    trace = make_trace(
        "L0.mlp: 0>E0 1>E2=0.5!,E0=0.25,E1~; L1.mlp: 0>E0 1", num_experts=3, losses=[2.5, 1.0], capacity=2
    )
    card = unit_card(trace, 1)
    assert card["site_name"].tolist() == ["L0.mlp", "L0.mlp", "L0.mlp", "L1.mlp"]
    assert card["expert_id"].tolist() == [2, 0, 1, -1]
    assert card["status"].tolist() == ["dropped", "kept", "filler", "unrouted"]
    assert card["score"].tolist()[:2] == [0.5, 0.25]
    assert card["gate"].tolist()[:2] == [0, 1]
    assert "none picked it" in card["reason"][3]
    assert unit_facts(trace, 1)["loss"].tolist() == [2.5]


@pytest.mark.parametrize("unit_id", [-1, 1])
def test_an_unknown_unit_is_refused(unit_id):
    trace = make_trace("L0.mlp: 0>E0", num_experts=1)
    for make in (unit_card, unit_facts):
        with pytest.raises(InputError, match=rf"unit_id={unit_id} must lie in 0..0"):
            make(trace, unit_id)
