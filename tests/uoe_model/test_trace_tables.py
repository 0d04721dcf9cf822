"""Columns are exact, read-only and never coerced; a run record holds what it says."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from tests.traces import make_run, make_trace
from uoe_model.errors import TraceError
from uoe_model.trace import CapacityTable, Check, RoutingTrace, text_column


def two_sites() -> RoutingTrace:
    return make_trace("L0.attention: 0>E0 1>E1 2>E0; L0.mlp: 3>E0 4>E1", num_experts=2, example_lengths=(3, 2))


def test_columns_are_never_coerced():
    with pytest.raises(TraceError) as caught:
        CapacityTable(site_id=np.zeros(1, np.int64), example_id=[0], capacity=np.zeros((1, 1), np.int32))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "CapacityTable: site_id has dtype int64, must be int16; example_id is a list, must be a NumPy array of int32; "
        "capacity has shape (1, 1), must have one dimension"
    )
    with pytest.raises(TraceError, match="site_id has dtype >i2, must be int16"):
        dataclasses.replace(two_sites().capacities, site_id=np.zeros(4, ">i2"))
    with pytest.raises(TraceError, match="site_id is a MaskedArray"):
        dataclasses.replace(two_sites().capacities, site_id=np.ma.zeros(4, np.int16))
    with pytest.raises(TraceError, match="capacity is a NoneType"):
        dataclasses.replace(two_sites().capacities, capacity=None)


def test_columns_have_equal_lengths():
    with pytest.raises(
        TraceError, match=r"columns have different lengths: .'site_id': 2, 'example_id': 4, 'capacity': 4"
    ):
        dataclasses.replace(two_sites().capacities, site_id=np.zeros(2, np.int16))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", None, 3, "b", "c"], "text holds NoneType, int, must hold only str"),
        (["a", np.str_("b"), "c", "d", "e"], "text holds str_, must hold only str"),
        (["a", "\ud800", "c", "d", "e"], "text holds a lone surrogate"),
    ],
)
def test_text_columns_hold_text(values: list[Any], message: str):
    with pytest.raises(TraceError, match=message):
        dataclasses.replace(two_sites().units, text=text_column(values))
    with pytest.raises(TraceError, match="text has dtype <U1, must be object"):
        dataclasses.replace(two_sites().units, text=np.array(list("abcde")))


def test_columns_are_read_only_and_taken_over_without_a_copy():
    mine = np.zeros(4, np.int32)
    table = dataclasses.replace(two_sites().capacities, capacity=mine)
    assert np.shares_memory(table.capacity, mine)
    with pytest.raises(ValueError, match="read-only"):
        table.capacity[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        mine[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.capacity = mine  # type: ignore[misc]


def test_a_view_of_memory_that_others_can_write_is_copied():
    mine = np.arange(8, dtype=np.int32)
    pretender = mine[:4]
    pretender.flags.writeable = False
    for view in (mine[:4], mine[::2], pretender):
        before = view.tolist()
        table = dataclasses.replace(two_sites().capacities, capacity=view)
        assert not np.shares_memory(table.capacity, mine)
        assert table.capacity.flags.c_contiguous
        assert not table.capacity.flags.writeable
        assert table.capacity.tolist() == before
    constant = np.frombuffer(bytes(16), dtype=np.int32)
    assert np.shares_memory(dataclasses.replace(two_sites().capacities, capacity=constant).capacity, constant)


def test_tables_know_their_columns_and_length():
    trace = two_sites()
    assert list(trace.capacities.columns()) == ["site_id", "example_id", "capacity"]
    assert "selection_score" not in trace.assignments.columns()
    assert (len(trace.capacities), len(trace.units)) == (4, 5)


RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"schema_version": 2}, "schema_version=2 must be 1"),
    ({"schema_version": True}, "schema_version=True must be 1"),
    ({"model": None}, "model=None must be a str"),
    ({"notes": {"a": "\ud800"}}, "notes must map str to str"),
    ({"device": "\ud800"}, "device=.* must be a str"),
    ({"seed": 1.0}, "seed=1.0 must be None or an int of 64 bits"),
    ({"seed": True}, "seed=True must be None"),
    ({"seed": 2**63}, "seed=9223372036854775808 must be None"),
    ({"self_check": []}, "self_check must be a tuple of Check"),
    ({"self_check": ("fine",)}, "self_check must be a tuple of Check"),
    ({"library_versions": [("a", "b")]}, "library_versions must be a mapping, not list"),
    ({"library_versions": {"torch": 2}}, "library_versions must map str to str"),
    ({"notes": {1: "a"}}, "notes must map str to str"),
    ({"timings_ms": {"forward": 1}}, "timings_ms must map str to float"),
    ({"timings_ms": {"forward": math.nan}}, "timings_ms=.* must be finite and not negative"),
    ({"timings_ms": {"forward": -1.0}}, "timings_ms=.* must be finite and not negative"),
]


@pytest.mark.parametrize(("changes", "message"), RECORDS)
def test_a_broken_run_record_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(TraceError, match=message):
        make_run(**changes)


def test_a_run_record_reports_all_problems_and_keeps_its_own_copy():
    with pytest.raises(TraceError, match="model=1 must be a str that UTF-8 can write; seed='x'"):
        make_run(model=1, seed="x")
    notes = {"training": "trained"}
    run = make_run(notes=notes, seed=None)
    notes["training"] = "untrained"
    assert run.notes["training"] == "trained"
    assert run.seed is None
    with pytest.raises(TypeError):
        run.notes["training"] = "untrained"  # type: ignore[index]


@pytest.mark.parametrize("changes", [{"name": 1}, {"passed": 1}, {"passed": np.True_}, {"detail": None}])
def test_a_broken_check_is_refused(changes: dict[str, Any]):
    with pytest.raises(TraceError, match="name, passed, detail must be str, bool, str"):
        Check(**({"name": "sites", "passed": True, "detail": ""} | changes))
