import math

import numpy as np
import pytest

from analysis.confidence import router_entropy
from analysis.drops import drops_by_position
from analysis.figures.drop_strip import LANE, build_drop_strip_figure
from analysis.figures.entropy_strip import build_entropy_strip_figure
from analysis.figures.loss_strip import build_loss_strip_figure
from analysis.figures.strip import MAX_BARS, example_starts
from analysis.figures.theme import DROPPED_BAR, KEPT_BAR, NEUTRAL
from analysis.loss import loss_of_unit
from analysis.tables import sites_table, units_table
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace

NAN = math.nan


def test_the_loss_of_a_token_is_the_one_of_the_row_that_predicted_it():
    trace = make_trace("L0.mlp: 0>E0", num_experts=1, example_lengths=[3, 2], losses=[1.0, 2.0, NAN, 4.0, NAN])
    assert loss_of_unit(units_table(trace)).tolist() == pytest.approx([NAN, 1.0, 2.0, NAN, 4.0], nan_ok=True)


def test_the_first_token_of_every_example_is_blank_and_borders_are_drawn():
    trace = make_trace("L0.mlp: 0>E0", num_experts=1, example_lengths=[3, 2], losses=[1.0, 2.0, NAN, 4.0, NAN])
    units = units_table(trace)
    figure = build_loss_strip_figure(units)
    (bars,) = figure.data
    assert list(bars.x) == [1, 2, 4]
    assert list(bars.y) == [1.0, 2.0, 4.0]
    assert example_starts(units) == [3]
    assert [shape.x0 for shape in figure.layout.shapes] == [2.5]


def test_the_loss_axis_is_fixed_until_a_token_needs_more():
    def top(loss):
        trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, losses=[loss, NAN])
        return build_loss_strip_figure(units_table(trace)).layout.yaxis.range[1]

    assert [top(0.1), top(12.0), top(12.1), top(16.5)] == [12, 12, 16, 20]


def test_probabilities_stand_at_the_row_that_made_them_from_0_to_1():
    trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1)
    figure = build_loss_strip_figure(units_table(trace), value="output_probability")
    assert list(figure.data[0].y) == [0.25, 0.25]
    assert list(figure.layout.yaxis.range) == [0, 1]


def test_a_trace_without_losses_says_so():
    trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, losses=[NAN, NAN])
    assert "no loss" in build_loss_strip_figure(units_table(trace)).layout.annotations[0].text


def test_text_of_the_input_is_escaped_in_the_hover():
    trace = make_trace("L0.mlp: 0>E0 1>E0", num_experts=1, pieces=["x", "<b>"])
    assert build_loss_strip_figure(units_table(trace)).data[0].customdata[0][0] == "&lt;b&gt;"


@pytest.mark.parametrize("units", [MAX_BARS, MAX_BARS + 1])
def test_long_inputs_are_one_outline_with_the_same_values(units):
    trace = make_trace("L0.mlp:", num_experts=1, example_lengths=[units])
    (drawn,) = build_loss_strip_figure(units_table(trace)).data
    assert drawn.type == ("bar" if units <= MAX_BARS else "scatter")
    assert [value for value in drawn.y if not math.isnan(value)] == [1.0] * (units - 1)


def test_entropy_reaches_from_0_to_undecided():
    logits = {0: np.zeros((2, 4), dtype=np.float32)}
    trace = make_trace("L0.mlp: 0>E0 1>E1", num_experts=4, logits=logits)
    figure = build_entropy_strip_figure(router_entropy(trace), units_table(trace), sites_table(trace), site_id=0)
    assert list(figure.data[0].y) == pytest.approx([math.log(4)] * 2)
    assert figure.layout.yaxis.range[0] == 0
    assert figure.layout.yaxis.range[1] > math.log(4)
    assert "ln 4" in figure.layout.annotations[0].text


def test_entropy_without_logits_gives_the_reason():
    trace = make_trace("L0.mlp: 0>E0", num_experts=4)
    figure = build_entropy_strip_figure(router_entropy(trace), units_table(trace), sites_table(trace), site_id=0)
    assert "a hand-made trace has none" in figure.layout.annotations[0].text


def test_every_lane_of_the_drop_strip_shows_its_own_site():
    trace = make_trace("L0.attention: 0>E0 1>E0 2>E1; L0.mlp: 0>E0 1>E0! 2>E0!", num_experts=2)
    drops = drops_by_position(trace)
    figure = build_drop_strip_figure(drops)
    attention, mlp = figure.data
    assert list(attention.y) == [0, 0, 0]
    assert list(mlp.y) == pytest.approx([0, LANE, LANE])
    assert (attention.base, mlp.base) == (-1, -2)
    assert figure.layout.yaxis.ticktext == ("L0 attention", "L0 MLP")
    assert [tuple(row[:3]) for row in mlp.customdata] == [(1, 0, 1), (1, 1, 2), (1, 2, 3)]
    assert mlp.customdata[0][3] == "position 0"
    chosen = build_drop_strip_figure(drops, site_ids=[1])
    assert chosen.layout.yaxis.ticktext == ("L0 MLP",)


def test_units_that_are_not_lit_are_grey():
    trace = make_trace("L0.mlp: 0>E0 1>E0 2>E0!", num_experts=1, losses=[1.0, 2.0, NAN], capacity=2)
    lit = np.array([True, False, True])
    (bars,) = build_loss_strip_figure(units_table(trace), lit=lit).data
    assert list(bars.x) == [1, 2]
    assert list(bars.marker.color) == [NEUTRAL["light"], KEPT_BAR]
    (drops,) = build_drop_strip_figure(drops_by_position(trace), lit_positions=[2]).data
    assert list(drops.marker.color) == [NEUTRAL["light"], NEUTRAL["light"], DROPPED_BAR]
    wide = drops_by_position(trace, max_bins=2)
    assert list(build_drop_strip_figure(wide, lit_positions=[0]).data[0].marker.color) == [
        DROPPED_BAR,
        NEUTRAL["light"],
    ]


def test_lit_units_of_long_inputs_are_an_outline_of_their_own():
    trace = make_trace("L0.mlp:", num_experts=1, example_lengths=[MAX_BARS + 1])
    lit = np.arange(MAX_BARS + 1) == 7
    every, lit_only = build_loss_strip_figure(units_table(trace), lit=lit).data
    assert (every.line.color, lit_only.line.color) == (NEUTRAL["light"], KEPT_BAR)
    assert [place for place, value in enumerate(lit_only.y) if value] == [7]
    assert list(every.y)[1:] == [1.0] * MAX_BARS


def test_strips_are_low_enough_for_one_screen():
    one = make_trace("L0.mlp: 0>E0", num_experts=1)
    eight = make_trace(";".join(f"L{layer}.mlp: 0>E0" for layer in range(8)), num_experts=1)
    assert build_drop_strip_figure(drops_by_position(one)).layout.height == 120
    assert build_drop_strip_figure(drops_by_position(eight)).layout.height <= 205
    assert build_loss_strip_figure(units_table(one)).layout.height <= 130


def test_bars_of_wide_bins_cover_exactly_their_positions():
    trace = make_trace("L0.mlp:" + "".join(f" {unit}>E0!" for unit in range(7)), num_experts=1)
    (bars,) = build_drop_strip_figure(drops_by_position(trace, max_bins=3)).data
    edges = [(x - width / 2 + 0.5, x + width / 2 + 0.5) for x, width in zip(bars.x, bars.width, strict=True)]
    assert edges == [(0, 3), (3, 6), (6, 7)]
    assert bars.customdata[0][3] == "positions 0 to 2"


def test_no_site_chosen_says_so():
    drops = drops_by_position(make_trace("L0.mlp: 0>E0", num_experts=1))
    assert "No site" in build_drop_strip_figure(drops, site_ids=[]).layout.annotations[0].text


def test_every_trace_can_be_drawn():
    for trace, _ in random_traces()[:6]:
        units, sites, entropy = units_table(trace), sites_table(trace), router_entropy(trace)
        build_drop_strip_figure(drops_by_position(trace), theme="dark").to_json()
        build_loss_strip_figure(units, theme="dark").to_json()
        site_id = int(sites["site_id"].iloc[-1])
        build_entropy_strip_figure(entropy, units, sites, site_id=site_id, theme="dark").to_json()
