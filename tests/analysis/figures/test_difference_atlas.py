import pytest

from analysis.compare import DIFFERENCE_MEASURES, load_difference
from analysis.figures.difference_atlas import LIMITS, build_difference_atlas_figure, difference_colour
from analysis.figures.theme import DIFFERENCE, PAGE
from tests.analysis.run_pairs import run_pairs
from tests.traces import make_trace

A = make_trace("L0.attention: 0>E0 1>E1 2>E0 3>E1; L0.mlp: 0>E0 1>E0 2>E1 3>E1", num_experts=2)
B = make_trace("L0.attention: 0>E0 1>E1 2>E0 3>E1; L0.mlp: 0>E0 1>E0 2>E0 3>E0", num_experts=2)


def cells(figure):
    found = {}
    for bar in figure.data:
        for place, row in enumerate(bar.customdata if bar.type == "bar" else ()):
            found[int(row[0]), int(row[1])] = (bar.marker.color[place], bar.text[place], row[3], bar.xaxis)
    return found


def test_colour_sign_and_hover_of_a_cell_come_from_the_same_row():
    found = cells(build_difference_atlas_figure(load_difference(A, B)))
    assert found[1, 0] == (difference_colour(1.0, 1.0), "+", "A 1.00, B 2.00<br>B minus A: +1.00", "x2")
    assert found[1, 1] == (difference_colour(-1.0, 1.0), "−", "A 1.00, B 0.00<br>B minus A: -1.00", "x2")
    assert found[0, 0] == (difference_colour(0.0, 1.0), "", "A 1.00, B 1.00<br>B minus A: +0.00", "x")


def test_colours_are_those_of_the_scale_and_end_with_it():
    less, same, more = (f"rgb({int(c[1:3], 16)}, {int(c[3:5], 16)}, {int(c[5:], 16)})" for _, c in DIFFERENCE)
    assert [difference_colour(value, 2.0) for value in (-9, -2, 0, 2, 9)] == [less, less, same, more, more]


def test_an_unknown_difference_is_an_empty_cell_with_a_dash_and_the_reason():
    table = load_difference(A, B, measure="utilisation")
    colour, text, reading, _ = cells(build_difference_atlas_figure(table, measure="utilisation"))[0, 0]
    assert (colour, text) == (PAGE["light"], "–")
    assert "never full in run A" in reading


@pytest.mark.parametrize("measure", DIFFERENCE_MEASURES)
def test_the_scale_is_the_same_for_every_pair_with_a_labelled_zero(measure):
    for a, b, *_ in run_pairs()[:6]:
        table = load_difference(a, b, measure=measure)
        figure = build_difference_atlas_figure(table, measure=measure, theme="dark")
        if len(table):
            axis = figure.layout.coloraxis
            assert (axis.cmin, axis.cmax) == (-LIMITS[measure], LIMITS[measure])
            assert "0 same" in axis.colorbar.ticktext
            assert len(cells(figure)) == len(table)


def test_the_chosen_cell_is_outlined_in_its_lane():
    (outline,) = build_difference_atlas_figure(load_difference(A, B), selected=(1, 1)).layout.shapes
    assert (outline.x0, outline.x1, outline.xref) == (0.5, 1.5, "x2")


def test_nothing_to_compare_says_so():
    empty = make_trace("L0.attention:; L0.mlp:", num_experts=2)
    assert "no units" in build_difference_atlas_figure(load_difference(A, empty)).layout.annotations[0].text
