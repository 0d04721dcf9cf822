import math

import pytest

from analysis.routing_value import routing_value_table
from tests.analysis.tables_equal import assert_dtypes
from uoe_model.errors import CheckpointError


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
