"""Filler: counted apart from load, marked on maps, and a filter of its own."""

import numpy as np

from analysis.exports.map_frame import routes_at
from analysis.figures.route_columns import build_route_columns
from analysis.figures.utilisation import build_utilisation_figure
from analysis.filler import NO_SLOT, filler_share
from analysis.selection import Selection, lit_units, selection_from_params
from analysis.utilisation import expert_load
from tests.analysis.random_traces import random_traces
from tests.analysis.tables_equal import assert_missing_is_explained, assert_rows
from tests.oracles import filler as oracle
from tests.traces import make_trace

TRACE = "L0.mlp: 0>E0 1>E2=0.5!,E0=0.25,E1~ 2>E1,E2~; L1.mlp: 0>E0 1 2"


def test_shares_equal_the_oracle_on_random_traces():
    for trace, records in random_traces():
        table = filler_share(trace)
        assert_rows(table, oracle.filler_share(records), skip={"reason"})
        assert_missing_is_explained(table)


def test_shares_by_hand():
    table = filler_share(make_trace(TRACE, num_experts=3, capacity=2))
    assert table["kept"].tolist() == [3, 1]
    assert table["filler"].tolist() == [2, 0]
    assert table["filler_share"].tolist() == [0.4, 0.0]


def test_a_site_without_slots_in_use_says_so():
    table = filler_share(make_trace("L0.mlp: 0>E0!", num_experts=2, capacity=0))
    assert np.isnan(table["filler_share"][0])
    assert table["reason"].tolist() == [NO_SLOT]


def test_load_and_filler_of_an_expert_are_different_numbers():
    load = expert_load(make_trace(TRACE, num_experts=3, capacity=2))
    assert load["load"].tolist()[:3] == [2, 1, 0]
    assert load["filler"].tolist()[:3] == [0, 1, 1]
    assert load["dropped"].tolist()[:3] == [0, 0, 1]


def test_filler_is_a_segment_of_its_own_and_only_where_there_is_some():
    load = expert_load(make_trace(TRACE, num_experts=3, capacity=2))
    bars = {bar.name: bar for bar in build_utilisation_figure(load, site_id=0).data}
    assert list(bars["filler"].y) == [0, 1, 1]
    assert list(bars["filler"].base) == [2, 1, 1]
    assert "1 slots hold filler" in bars["kept (load)"].customdata[1][3]
    assert "filler" not in {bar.name for bar in build_utilisation_figure(load, site_id=1).data}


def test_maps_know_who_took_a_unit_unasked():
    trace = make_trace(TRACE, num_experts=3, capacity=2)
    columns = build_route_columns(trace)
    assert columns.fillers.tolist() == [0, 1, 1, 0, 0, 0]
    assert columns.filler_expert.tolist() == [1, 2]
    assert routes_at(columns, {}, 0).is_filler.tolist() == [False, True, True]
    assert {"fillers", "filler_expert"} <= set(columns.packed())
    plain = build_route_columns(make_trace("L0.mlp: 0>E0 1>E1", num_experts=2))
    assert not {"fillers", "filler_expert"} & set(plain.packed())


def test_filler_is_a_filter_that_stands_in_the_address():
    trace = make_trace(TRACE, num_experts=3, capacity=2)
    selection = Selection(site_id=0, status="filler")
    assert lit_units(trace, selection).tolist() == [False, True, True]
    assert selection_from_params(selection.to_params()) == selection
