import itertools

import pytest

from analysis.figures.routing_value import COLOURS, build_routing_value_figure
from analysis.figures.theme import PAGE
from analysis.routing_value import COLUMN_ORDER, input_routing_value_table, routing_value_table
from tests.analysis.figures.colour_distance import closest

BLOCKS = ("attention", "mlp", "both")


def record(**changes):
    fields = {"model": "uoe", "replacement": "permuted", "block": "mlp", "capacity": "none", "examples": 40}
    return fields | {"loss_change": 0.25, "low": 0.2, "high": 0.3, "draws": 5} | changes


def every():
    keys = itertools.product(*COLUMN_ORDER.values())
    return [
        record(replacement=replacement, block=block, capacity=capacity, loss_change=0.01 * number, low=None, high=None)
        for number, (replacement, block, capacity) in enumerate(keys)
    ]


def dots(figure):
    return {trace.name: trace for trace in figure.data if trace.mode == "markers"}


def test_every_row_is_a_dot_in_the_line_of_its_replacement():
    table = routing_value_table(every())
    figure = build_routing_value_figure(table)
    drawn = [
        (figure.layout.yaxis.ticktext[round(-y)], x)
        for trace in dots(figure).values()
        for x, y in zip(trace.x, trace.y, strict=True)
    ]
    assert len(drawn) == len(table) == 24
    names = {"permuted": "permuted over units", "balanced_random": "balanced random"}
    for row in table[table["replacement"].isin(list(names))].itertuples():
        assert (names[row.replacement], row.loss_change) in drawn
    assert len({y for trace in dots(figure).values() for y in trace.y}) == 24


def test_blocks_differ_in_colour_and_shape_and_capacity_in_filling():
    drawn = dots(build_routing_value_figure(routing_value_table(every())))
    assert len({trace.marker.symbol for trace in drawn.values()}) == 3
    filled = [trace for name, trace in drawn.items() if "as trained" in name]
    hollow = [trace for name, trace in drawn.items() if "no capacity" in name]
    assert [trace.marker.color for trace in filled] == [COLOURS[block] for block in BLOCKS]
    assert {trace.marker.color for trace in hollow} == {PAGE["light"]}


@pytest.mark.parametrize("page", ["light", "dark"])
def test_colours_can_be_told_apart_under_every_vision(page):
    distance, pair = closest([*COLOURS.values(), PAGE[page]])
    assert distance >= 8, pair


def test_zero_is_marked_and_inside_the_axis():
    for change in (-0.5, 0.5):
        low = build_routing_value_figure(routing_value_table([record(loss_change=change, low=change, high=change)]))
        left, right = low.layout.xaxis.range
        assert left < 0 < right
        assert (low.layout.shapes[0].x0, low.layout.shapes[0].x1) == (0, 0)


def test_lines_reach_from_low_to_high_and_the_axis_says_what_they_are():
    figure = build_routing_value_figure(routing_value_table([record()]))
    (line,) = [trace for trace in figure.data if trace.mode == "lines"]
    assert list(line.x)[:2] == [0.2, 0.3]
    assert "95 % interval over examples" in figure.layout.xaxis.title.text
    assert "95 % over 40 examples" in dots(figure)["MLP, no capacity (open)"].customdata[0][1]
    of_input = build_routing_value_figure(input_routing_value_table([record()]))
    assert "of the random draws" in of_input.layout.xaxis.title.text
    assert "5 draws" in dots(of_input)["MLP, no capacity (open)"].customdata[0][1]


def test_what_is_not_drawn_has_no_line_and_what_is_unknown_says_why():
    records = [
        record(replacement="untrained_router", low=None, high=None, draws=1),
        record(replacement="lookup", loss_change=None, low=None, high=None, draws=0, reason="no tables"),
    ]
    figure = build_routing_value_figure(input_routing_value_table(records))
    assert not [trace for trace in figure.data if trace.mode == "lines"]
    assert figure.layout.annotations[0].text == "unknown: no tables"
    assert figure.layout.annotations[0].y == -1


def test_nothing_measured_says_so():
    assert "Nothing" in build_routing_value_figure(routing_value_table([])).layout.annotations[0].text


def test_a_table_of_unknowns_can_be_drawn():
    unknown = record(loss_change=None, low=None, high=None, draws=0, reason="cancelled")
    build_routing_value_figure(input_routing_value_table([unknown]), theme="dark").to_json()
