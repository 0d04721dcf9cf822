import math

import pytest

from analysis.compare import route_changes
from analysis.figures.change_strip import build_change_strip_figure
from analysis.figures.theme import DROPPED_BAR, KEPT_BAR
from tests.analysis.run_pairs import run_pairs
from tests.traces import make_trace

NAN = math.nan
A = make_trace("L0.mlp: 0>E0,E1 1>E0,E1 2>E0,E1 3>E0,E1", num_experts=3, losses=[1, 2, 3, NAN], capacity=9)
B = make_trace("L0.mlp: 0>E0,E1 1>E1,E0 2>E0,E2 3>E0,E1", num_experts=3, losses=[2, 1, 3, NAN], capacity=9)


def test_bars_are_signed_losses_and_marks_are_changed_routes():
    bars, marks = build_change_strip_figure(route_changes(A, B)).data
    assert list(bars.x) == [1, 2, 3]
    assert list(bars.y) == [1, -1, 0]
    assert list(bars.marker.color)[:2] == [DROPPED_BAR, KEPT_BAR]
    assert list(marks.x) == [1, 2]
    assert list(marks.marker.symbol) == ["diamond", "diamond-open"]
    assert "kept by E0 E1 in A (kept), by E1 E0 in B (kept)" in marks.customdata[0][5]
    assert "A 1.000, B 2.000 nats: +1.000" in bars.customdata[0][4]


def test_the_axis_is_symmetric_and_fixed_until_a_token_needs_more():
    def ticks(loss):
        b = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, losses=[loss, NAN])
        a = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, losses=[0.0, NAN])
        return build_change_strip_figure(route_changes(a, b)).layout.yaxis.tickvals

    assert [ticks(loss)[-1] for loss in (0.1, 2.0, 2.1)] == [2, 2, 4]
    assert ticks(2.1)[0] == -4
    assert ticks(0.1)[2] == 0


def test_marks_are_those_of_the_chosen_site():
    text = "L0.mlp: 0>E0 1>E0; L1.mlp: 0>E0 1>E{}"
    a, b = (make_trace(text.format(expert), num_experts=2) for expert in (0, 1))
    changes = route_changes(a, b)
    assert list(build_change_strip_figure(changes).data[1].x) == []
    assert list(build_change_strip_figure(changes, site_id=1).data[1].x) == [1]
    assert "L1 MLP" in build_change_strip_figure(changes, site_id=1).layout.title.text


def test_text_of_the_input_is_escaped():
    a = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, pieces=["x", "<b>"])
    assert build_change_strip_figure(route_changes(a, a)).data[0].customdata[0][2] == "&lt;b&gt;"


def test_unknown_losses_and_missing_units_say_so():
    a = make_trace("L0.mlp: 0>E0", num_experts=1, losses=[NAN])
    figure = build_change_strip_figure(route_changes(a, a))
    assert "no loss is known" in " ".join(note.text for note in figure.layout.annotations)
    empty = make_trace("L0.mlp:", num_experts=1)
    assert "share no unit" in build_change_strip_figure(route_changes(empty, empty)).layout.annotations[0].text


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_pair_can_be_drawn_twice_alike(theme):
    for a, b, *_ in run_pairs()[:6]:
        changes = route_changes(a, b)
        one, other = (build_change_strip_figure(changes, theme=theme).to_json() for _ in range(2))
        assert one == other
