import math

import pytest

from analysis.figures.utilisation import build_utilisation_figure
from analysis.utilisation import expert_load
from tests.analysis.random_traces import random_traces
from tests.traces import make_reference, make_trace


def traces_by_name(figure):
    return {trace.name: trace for trace in figure.data}


def test_load_drops_slots_and_reference_stand_at_their_experts():
    trace = make_trace(
        "L0.mlp: 0>E1 1>E1 2>E1! 3>E0",
        num_experts=3,
        reference=make_reference({0: [25, 50, 25]}, patches=100),
    )
    load = expert_load(trace)
    drawn = traces_by_name(build_utilisation_figure(load, site_id=0))
    assert list(drawn["kept (load)"].y) == [1, 2, 0]
    assert list(drawn["dropped"].y) == [0, 1, 0]
    assert list(drawn["dropped"].base) == [1, 2, 0]
    assert list(drawn["slots"].y) == [2, 2, 2]
    assert list(drawn["reference load"].y) == pytest.approx([1, 2, 1])
    assert list(drawn["95 % chance band"].base) == load["reference_low"].tolist()
    assert list(drawn["idle expert"].x) == [2]
    assert drawn["dropped"].marker.pattern.shape == "/"


def test_what_is_unknown_is_not_drawn():
    drawn = traces_by_name(build_utilisation_figure(expert_load(make_trace("L0.mlp: 0>E1", num_experts=2)), site_id=0))
    assert "slots" not in drawn
    assert "reference load" not in drawn
    assert "never full" in drawn["kept (load)"].customdata[0][3]


def test_the_axis_starts_at_0_and_holds_everything():
    for trace, _ in random_traces()[:6]:
        load = expert_load(trace)
        for site_id in load["site_id"].unique():
            figure = build_utilisation_figure(load, site_id=int(site_id), theme="dark")
            low, high = figure.layout.yaxis.range
            rows = load[load["site_id"] == site_id]
            tops = [rows[name].max() for name in ("requested", "slots", "reference_load", "reference_high")]
            assert low == 0
            assert all(top <= high for top in tops if not math.isnan(top))


def test_no_units_say_so():
    figure = build_utilisation_figure(expert_load(make_trace("L0.mlp:", num_experts=2)), site_id=0)
    assert "no units" in figure.layout.annotations[0].text


def test_selected_experts_are_outlined_and_a_click_says_which_one():
    load = expert_load(make_trace("L0.attention: 0>E0; L0.mlp: 0>E1", num_experts=3))
    figure = build_utilisation_figure(load, site_id=1, selected=[2, 7])
    (outline,) = figure.layout.shapes
    assert (outline.x0 + outline.x1) / 2 == 2
    assert [tuple(row[:2]) for row in traces_by_name(figure)["kept (load)"].customdata] == [(1, 0), (1, 1), (1, 2)]
