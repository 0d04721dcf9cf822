import math

import pytest

from analysis.routing_value import NOT_DRAWN, input_routing_value_table, routing_value_table
from tests.analysis.tables_equal import assert_dtypes, assert_missing_is_explained
from uoe_model.errors import CheckpointError, ConfigError


def record(**changes):
    fields = {"model": "uoe-text", "replacement": "permuted", "block": "mlp", "capacity": "none", "examples": 40}
    return fields | {"loss_change": 0.25, "low": 0.2, "high": 0.3} | changes


def test_rows_are_sorted_by_model_replacement_block_and_capacity():
    records = [
        record(model="uoe-text", replacement="lookup"),
        record(model="uoe-text", replacement="balanced_random", block="both"),
        record(model="uoe-text", replacement="balanced_random", block="attention"),
        record(model="uoe-text", replacement="balanced_random", block="attention", capacity="as trained"),
        record(model="uoe-image", replacement="untrained_router"),
    ]
    table = routing_value_table(records)
    assert table[["model", "replacement", "block", "capacity"]].values.tolist() == [
        ["uoe-image", "untrained_router", "mlp", "none"],
        ["uoe-text", "balanced_random", "attention", "as trained"],
        ["uoe-text", "balanced_random", "attention", "none"],
        ["uoe-text", "balanced_random", "both", "none"],
        ["uoe-text", "lookup", "mlp", "none"],
    ]


def test_numbers_stay_with_their_row():
    table = routing_value_table([record(replacement="lookup", loss_change=1, low=0.5, high=2), record(examples=7)])
    assert table["loss_change"].tolist() == [0.25, 1]
    assert table["low"].tolist() == [0.2, 0.5]
    assert table["high"].tolist() == [0.3, 2]
    assert table["examples"].tolist() == [7, 40]


def test_an_unknown_interval_is_missing_not_zero():
    table = routing_value_table([record(low=None, high=None)])
    assert math.isnan(table["low"][0])
    assert table["loss_change"].tolist() == [0.25]


@pytest.mark.parametrize("records", [[], [record()]])
def test_columns_and_dtypes(records):
    words = dict.fromkeys(("model", "replacement", "block", "capacity"), "str")
    numbers = dict.fromkeys(("loss_change", "low", "high"), "float64")
    assert_dtypes(routing_value_table(records), **words, **numbers, examples="int64")


def test_all_problems_are_reported_together():
    with pytest.raises(CheckpointError) as error:
        routing_value_table([record(block="head"), record(replacement=None, low="high", examples=1.5)])
    for part in ("record 0: block='head'", "record 1: replacement=None", "low='high'", "examples=1.5"):
        assert part in str(error.value)


def input_record(**changes):
    fields = {"replacement": "permuted", "block": "mlp", "capacity": "none", "draws": 5}
    return fields | {"loss_change": 0.25, "low": 0.2, "high": 0.3} | changes


def test_rows_of_one_input_are_sorted_and_numbers_stay_with_their_row():
    records = [
        input_record(
            replacement="lookup", loss_change=None, low=None, high=None, draws=0, reason="no table was learned"
        ),
        input_record(replacement="untrained_router", loss_change=1, low=None, high=None, draws=1),
        input_record(block="both"),
        input_record(block="attention", capacity="as trained", loss_change=0.5),
    ]
    table = input_routing_value_table(records)
    assert table["block"].tolist() == ["attention", "both", "mlp", "mlp"]
    assert table["loss_change"].tolist()[:3] == [0.5, 0.25, 1]
    assert table["draws"].tolist() == [5, 5, 1, 0]
    assert table["reason"].tolist() == ["", "", NOT_DRAWN, "no table was learned"]
    assert_missing_is_explained(table)


@pytest.mark.parametrize("records", [[], [input_record()]])
def test_columns_and_dtypes_of_one_input(records):
    words = dict.fromkeys(("replacement", "block", "capacity"), "str")
    numbers = dict.fromkeys(("loss_change", "low", "high"), "float64")
    assert_dtypes(input_routing_value_table(records), **words, **numbers, draws="int64", reason="str")


def test_all_problems_of_one_input_are_reported_together():
    with pytest.raises(ConfigError) as error:
        input_routing_value_table([input_record(block="head", draws=None), input_record(loss_change=None)])
    for part in ("record 0: block='head'", "draws=None", "record 1: reason must say why"):
        assert part in str(error.value)
