import numpy as np
import pandas as pd

from analysis.tables import assignments_table, capacities_table, reference_table, sites_table, units_table
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import SITE, assert_dtypes
from tests.oracles.records import name_columns
from tests.traces import make_trace


def test_sites_and_units_are_the_columns_of_the_trace():
    for trace, _ in random_traces():
        for table, source in ((sites_table(trace), trace.sites), (units_table(trace), trace.units)):
            assert list(table.columns) == list(source.columns())
            for name, column in source.columns().items():
                assert str(table[name].dtype) == ("str" if column.dtype == object else str(column.dtype))
                if column.dtype == object:
                    assert table[name].tolist() == column.tolist()
                else:
                    np.testing.assert_array_equal(table[name].to_numpy(), column)


def test_assignments_carry_the_names_of_their_site_and_unit():
    for trace, records in random_traces():
        table = assignments_table(trace)
        assert len(table) == len(records.rows)
        for found, row in zip(table.to_dict("records"), records.rows, strict=True):
            expected = name_columns(records.sites[row.site]) | {
                "unit_id": row.unit.unit_id,
                "example_id": row.unit.example_id,
                "patch_id": row.unit.patch_id,
                "position": row.unit.position,
                "text": row.unit.text,
                "rank": row.rank,
                "expert_id": row.expert,
                "score": row.score,
                "gate": row.gate,
                "status": ("kept", "dropped", "filler")[row.status],
                "inherited": row.inherited,
                "is_counted": row.unit.leads_patch and row.is_request,
            }
            assert {name: found[name] for name in expected} == expected


def test_assignment_dtypes_are_the_documented_ones_also_without_rows():
    unit = {"unit_id": "int32", "example_id": "int32", "patch_id": "int32", "position": "int32", "text": "str"}
    scores = {"rank": "int8", "expert_id": "int16", "score": "float32", "selection_score": "float32", "gate": "float32"}
    for trace, _ in random_traces()[:20]:
        for site_ids in (None, [], [0]):
            table = assignments_table(trace, site_ids)
            assert_dtypes(table, **SITE, **unit, **scores, status="str", inherited="bool", is_counted="bool")


def test_selection_scores_are_passed_on_and_missing_where_the_trace_has_none():
    for trace, _ in random_traces():
        found = assignments_table(trace)["selection_score"].to_numpy()
        scores = trace.assignments.selection_score
        np.testing.assert_array_equal(found, np.full(len(found), np.nan) if scores is None else scores)


def test_some_sites_only_in_the_order_of_the_trace():
    for trace, _ in random_traces():
        whole = assignments_table(trace)
        chosen = list(range(trace.num_sites))[::-2]
        expected = whole[whole["site_id"].isin(chosen)].reset_index(drop=True)
        pd.testing.assert_frame_equal(assignments_table(trace, chosen), expected)


def test_capacities_and_reference():
    for trace, records in random_traces():
        capacities = capacities_table(trace)
        found = zip(capacities["site_id"], capacities["example_id"], capacities["capacity"], strict=True)
        assert {(site, example): capacity for site, example, capacity in found} == records.capacity
        reference = reference_table(trace)
        columns = (reference[name] for name in ("site_id", "expert_id", "requested", "kept", "patches"))
        found = {(site, expert): tuple(counts) for site, expert, *counts in zip(*columns, strict=True)}
        assert found == (records.test_set or {})
        assert_dtypes(capacities, **SITE, example_id="int32", capacity="int32")
        assert_dtypes(reference, **SITE, expert_id="int16", requested="int64", kept="int64", patches="int64")


def test_a_table_is_a_copy_that_may_be_changed():
    trace = make_trace("L0.mlp: 0>E1", num_experts=2)
    table = units_table(trace)
    table.loc[0, "position"] = 7
    assert trace.units.position.tolist() == [0]
