"""The selection: what it lights, how it fits a trace, and its way through an address."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.selection import MAX_IDS, PARAMS, UNIT_STATUSES, Selection, lit_units, selection_from_params
from tests.analysis.random_traces import random_traces
from tests.oracles import selection as oracle
from tests.traces import make_trace

IDS = st.lists(st.integers(0, 999_999_999), max_size=8, unique=True).map(tuple)


def test_lit_units_equal_the_slow_loop():
    rng, compared = np.random.default_rng(0), 0
    for trace, _ in random_traces():
        for _ in range(10):
            site = int(rng.integers(trace.num_sites))
            count = int(trace.sites.num_experts[site])
            experts = tuple(rng.choice(count, size=int(rng.integers(0, min(3, count) + 1)), replace=False).tolist())
            status = [None, *UNIT_STATUSES][int(rng.integers(4))]
            selection = Selection(site_id=site, experts=experts, status=status)
            lit = lit_units(trace, selection)
            assert lit.tolist() == oracle.lit_units(trace, selection)
            compared += 0 < lit.sum() < len(lit)
    assert compared > 50


def test_nothing_selected_lights_everything():
    assert lit_units(make_trace("L0.mlp: 0>E0 1>E1", num_experts=2), Selection(site_id=0)).tolist() == [True, True]


@given(
    selection=st.builds(
        Selection,
        site_id=st.none() | st.integers(0, 999),
        experts=IDS,
        units=IDS,
        status=st.sampled_from([None, *UNIT_STATUSES]),
        pinned=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 999)), max_size=8).map(tuple),
    )
)
def test_an_address_brings_the_selection_back(selection: Selection):
    params = selection.to_params()
    assert set(params) <= set(PARAMS)
    assert selection_from_params(params) == selection


@given(params=st.dictionaries(st.sampled_from(PARAMS), st.text(max_size=60)))
def test_whatever_stands_in_an_address_is_a_selection(params: dict[str, str]):
    selection = selection_from_params(params)
    fitted = selection.fitted(make_trace("L0.mlp: 0>E0 1>E1", num_experts=2))
    assert fitted.site_id == 0
    assert set(fitted.experts) <= {0, 1}
    assert set(fitted.units) <= {0, 1}
    assert set(fitted.pinned) <= {(0, 0), (0, 1)}


@pytest.mark.parametrize(
    "text", ["-1", "1e3", "٣", "1,2", "99999999999", "nan", "0x1", " 1", "--", "<b>"], ids=lambda text: repr(text)
)
def test_what_is_no_number_is_not_selected(text: str):
    assert selection_from_params({"site": text}).site_id in (None, 1)
    assert all(0 <= unit < 10**9 for unit in selection_from_params({"units": text}).units)


def test_a_selection_fits_a_trace_without_sites_and_forgets_experts_of_other_sites():
    trace = make_trace("L0.attention: 0>E0; L0.mlp: 0>E3", num_experts=4)
    assert Selection(site_id=7, experts=(1,), units=(0, 5)).fitted(trace) == Selection(site_id=0, units=(0,))
    assert len(Selection(site_id=0, units=tuple(range(500))).fitted(trace).units) <= MAX_IDS
