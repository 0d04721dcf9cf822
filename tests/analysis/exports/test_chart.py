import json
import math
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.compare import load_difference, route_changes
from analysis.confidence import router_entropy
from analysis.decomposition import decomposition_curve
from analysis.drops import dropped_assignments, drops_by_position
from analysis.exports.chart.draw import draw_chart
from analysis.exports.drawing import Drawing, Group, Rect
from analysis.exports.typeface import text_width
from analysis.figures.atlas import ATLAS_VALUES, build_atlas_figure
from analysis.figures.change_strip import build_change_strip_figure
from analysis.figures.class_bars import bar_rows
from analysis.figures.decomposition import build_decomposition_figure
from analysis.figures.difference_atlas import build_difference_atlas_figure
from analysis.figures.drop_strip import build_drop_strip_figure
from analysis.figures.entropy_strip import build_entropy_strip_figure
from analysis.figures.flow import build_flow_figure
from analysis.figures.frame import nothing_to_draw
from analysis.figures.loss_strip import build_loss_strip_figure
from analysis.figures.routing_value import build_routing_value_figure
from analysis.figures.theme import STATUS_HATCH, difference_axis, magnitude_colour, template
from analysis.figures.utilisation import build_utilisation_figure
from analysis.routing_value import routing_value_table
from analysis.tables import sites_table, units_table
from analysis.transitions import transitions
from analysis.utilisation import expert_load
from tests.analysis.curves import curve_record
from tests.analysis.exports.drawn import Window, items, paths, points, rects, texts, windows, words
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace
from uoe_model.errors import ConfigError

COLUMN_PT, PAGE_PT = 234.0, 486.0


def empty_figure(**layout: object) -> go.Figure:
    return go.Figure(layout={"template": template("light"), "height": 300, **layout})


def drawn(figure: go.Figure, width_pt: float = COLUMN_PT, **size: float) -> Drawing:
    return draw_chart(figure, width_pt=width_pt, font_pt=7.5, **size)


def window(drawing: Drawing, x_range: tuple[float, float], y_range: tuple[float, float]) -> tuple[Group, Window]:
    (group,) = windows(drawing)
    assert group.clip is not None
    return group, Window(clip=group.clip, x_range=x_range, y_range=y_range)


PER_TRACE = (
    *(f"atlas {value}" for value in ATLAS_VALUES),
    "drops",
    "loss",
    "load",
    "entropy",
    "flow",
    "changes",
    "difference",
)
CURVES = ("curve loss", "curve agreement", "curve cosine")
FIGURES = (*(f"{name} {number}" for name in PER_TRACE for number in range(4)), "answer", "nothing", "value", *CURVES)


@cache
def figure_of(name: str) -> go.Figure:
    if name == "answer":
        return bar_rows("Answer", ["cat", "dog &amp; cat"], [0.9, 0.0004], ["", ""], theme="light")
    if name == "nothing":
        return nothing_to_draw("Title", "There is nothing at all to draw here. " * 4, theme="light")
    if name == "value":
        path = Path("uoe_model/pretrained/uoe-text/metrics.json")
        return build_routing_value_figure(routing_value_table(json.loads(path.read_text())["routing_value"]))
    if name in CURVES:
        return build_decomposition_figure(decomposition_curve(curve_record(name.split()[1])))
    kind, *value, number = name.split()
    trace, _ = random_traces()[int(number)]
    load, units = expert_load(trace), units_table(trace)
    match kind:
        case "atlas":
            rows = dropped_assignments(trace) if value == ["drop_share"] else load
            return build_atlas_figure(rows, value=value[0], selected=(0, 0))
        case "drops":
            return build_drop_strip_figure(drops_by_position(trace))
        case "loss":
            return build_loss_strip_figure(units)
        case "load":
            return build_utilisation_figure(load, site_id=0)
        case "flow":
            return build_flow_figure(transitions(trace, (0, 1) if trace.num_sites > 1 else None))
        case "changes":
            return build_change_strip_figure(route_changes(trace, trace), site_id=0)
        case "difference":
            return build_difference_atlas_figure(load_difference(trace, trace), selected=(0, 0))
    return build_entropy_strip_figure(router_entropy(trace), units, sites_table(trace), site_id=0)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("width_pt", [COLUMN_PT, PAGE_PT])
def test_every_builders_figure_fits_its_page_with_readable_type_and_lines(name, width_pt):
    drawing = drawn(figure_of(name), width_pt)
    assert drawing.width == width_pt
    for text in texts(drawing):
        assert text.size >= 7
        along = text_width(text.text, text.size, bold=text.bold)
        turn = math.radians(text.rotate)
        for x, y in ((text.x, text.y), (text.x + along * math.cos(turn), text.y - along * math.sin(turn))):
            assert -0.1 <= x <= drawing.width + 0.1
            assert -0.1 <= y <= drawing.height + 0.1
    for item in items(drawing):
        if isinstance(item, Rect) and not any(item in group.items for group in windows(drawing)):
            assert item.x >= 0
            assert item.y >= 0
            assert item.x + item.width <= drawing.width + 0.1
            assert item.y + item.height <= drawing.height + 0.1
    for path in paths(drawing):
        assert path.paint.stroke is None or path.paint.stroke_width >= 0.5


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_gives_the_same_drawing(name):
    assert drawn(figure_of(name)) == drawn(go.Figure(figure_of(name).to_dict()))


@pytest.mark.parametrize("name", [name for name in FIGURES if not name.startswith(("atlas", "difference", "nothing"))])
def test_words_of_a_figure_do_not_lie_on_each_other(name):
    for width_pt in (COLUMN_PT, PAGE_PT):
        level = [text for text in texts(drawn(figure_of(name), width_pt)) if not text.rotate]
        for one in level:
            for other in level:
                if one is other or abs(one.y - other.y) > 0.6 * one.size:
                    continue
                left, right = sorted((one, other), key=lambda text: text.x)
                assert left.x + text_width(left.text, left.size, bold=left.bold) <= right.x + 0.5


def test_bars_stand_where_their_data_are():
    load = expert_load(make_trace("L0.mlp: 0>E1 1>E1 2>E1! 3>E0", num_experts=3))
    figure = build_utilisation_figure(load, site_id=0)
    x_range, y_range = figure.layout.xaxis.range, figure.layout.yaxis.range
    group, place = window(drawn(figure), x_range, y_range)
    bars = [place.bar(rect) for rect in rects(group)]
    expected = []
    for trace in figure.data:
        if trace.type != "bar":
            continue
        bases = [0.0] * len(trace.x) if trace.base is None else list(trace.base)
        for x, y, base in zip(trace.x, trace.y, bases, strict=True):
            if y:
                expected.append((x - trace.width / 2, x + trace.width / 2, base, base + y))
    assert np.array(bars) == pytest.approx(np.array(expected), abs=1e-6)


def test_cells_of_the_atlas_have_the_place_and_colour_of_their_row():
    load = expert_load(make_trace("L0.mlp: 0>E1 1>E1 2>E1; L1.mlp: 0>E0 1>E1 2>E2", num_experts=4))
    group, place = window(drawn(build_atlas_figure(load)), (-0.5, 3.5), (1.5, -0.5))
    cells = {}
    for rect in rects(group):
        x0, x1, y0, y1 = place.bar(rect)
        assert (x1 - x0, y1 - y0) == pytest.approx((0.92, 0.92))
        cells[round((y0 + y1) / 2), round((x0 + x1) / 2)] = rect.paint.fill
    assert len(cells) == len(load) == 8
    for row in load.itertuples():
        red, green, blue = (int(cells[row.layer, row.expert_id][one : one + 2], 16) for one in (1, 3, 5))
        assert f"rgb({red}, {green}, {blue})" == magnitude_colour(row.relative_load, 0.0, 2.0)


def test_idle_cells_keep_their_cross_however_small():
    for experts in (4, 64):
        load = expert_load(make_trace("L0.mlp: 0>E0", num_experts=experts))
        (group,) = windows(drawn(build_atlas_figure(load)))
        as_words = sum(text.text == "×" for text in texts(Drawing(width=1, height=1, items=group.items)))
        as_lines = sum(path.paint.fill is None for path in paths(group))
        assert as_words + as_lines / 2 == experts - 1


def test_cells_of_a_grid_are_about_square():
    load = expert_load(make_trace("L0.mlp: 0>E0; L5.mlp: 0>E0", num_experts=16))
    (group,) = windows(drawn(build_atlas_figure(load), PAGE_PT))
    assert {round(rect.width / rect.height, 3) for rect in rects(group)} == {1.0}


def test_dropped_bars_keep_their_hatch_also_in_the_legend():
    load = expert_load(make_trace("L0.mlp: 0>E1 1>E1 2>E1! 3>E1!", num_experts=2))
    figure = build_utilisation_figure(load, site_id=0)
    assert {trace.name: trace for trace in figure.data}["dropped"].marker.pattern.shape == STATUS_HATCH
    drawing = drawn(figure)
    hatched = [rect for rect in rects(drawing) if rect.paint.hatch]
    inside = [rect for group in windows(drawing) for rect in rects(group) if rect.paint.hatch]
    assert len(inside) == 1
    assert len(hatched) == 2
    assert hatched[0].paint == hatched[1].paint


def test_the_legend_is_ordered_like_the_data():
    figure = empty_figure()
    for name in ("first", "second", "third"):
        figure.add_scatter(x=[1, 2], y=[1, 2], mode="lines", name=name)
    figure.add_scatter(x=[1, 2], y=[1, 2], mode="lines", name="hidden", showlegend=False)
    found = [word for word in words(drawn(figure)) if word in ("first", "second", "third", "hidden")]
    assert found == ["first", "second", "third"]


def test_touching_bars_are_one_outline_and_gaps_stay_open():
    figure = empty_figure(bargap=0)
    figure.add_bar(x=[0, 1, 2, 5], y=[1.0, 2.0, 3.0, 4.0], width=1)
    figure.update_xaxes(range=[-0.5, 6.5])
    figure.update_yaxes(range=[0, 5])
    group, place = window(drawn(figure), (-0.5, 6.5), (0, 5))
    (outline,) = paths(group)
    (alone,) = rects(group)
    found = [(place.x(x), place.y(y)) for x, y in points(outline)]
    steps = [(-0.5, 0), (-0.5, 1), (0.5, 1), (0.5, 2), (1.5, 2), (1.5, 3), (2.5, 3), (2.5, 0)]
    assert np.array(found) == pytest.approx(np.array(steps), abs=1e-6)
    assert place.bar(alone) == pytest.approx((4.5, 5.5, 0, 4))


def test_bars_without_a_value_are_not_drawn():
    figure = empty_figure()
    figure.add_bar(x=[0, 1, 2], y=[1.0, None, 3.0], width=0.5)
    (group,) = windows(drawn(figure))
    assert len(rects(group)) == 2


def test_horizontal_bars_grow_to_the_right_with_their_text_at_the_end():
    figure = bar_rows("", ["a", "b"], [0.75, 0.25], ["", ""], theme="light")
    drawing = drawn(figure)
    group, place = window(drawing, (0, 1.12), (1.5, -0.5))
    assert [place.bar(rect)[:2] for rect in rects(group)] == [pytest.approx((0, 0.75)), pytest.approx((0, 0.25))]
    ends = {rect.x + rect.width: text for rect in rects(group) for text in texts(drawing) if text.text[-1:] == "%"}
    assert len(ends) == 2
    assert [text.text for text in texts(drawing) if text.text.endswith("%")] == ["75.0 %", "25.0 %"]
    for rect, text in zip(rects(group), (t for t in texts(drawing) if t.text.endswith("%")), strict=True):
        assert 0 < text.x - (rect.x + rect.width) < 5


def test_stacked_bars_stand_on_each_other():
    figure = empty_figure(barmode="stack")
    for height in (1.0, 2.0):
        figure.add_bar(x=[0, 1], y=[height, height], width=0.5)
    figure.update_xaxes(range=[-1, 2])
    figure.update_yaxes(range=[0, 4])
    group, place = window(drawn(figure), (-1, 2), (0, 4))
    assert [place.bar(rect)[2:] for rect in rects(group)] == [
        pytest.approx(ends) for ends in [(0, 1)] * 2 + [(1, 3)] * 2
    ]


def test_lines_break_at_missing_values_and_logarithms_are_even():
    figure = empty_figure()
    figure.add_scatter(x=[1, 10, 100, 1000, 10000], y=[1, 10, None, 0.1, 1], mode="lines")
    figure.update_xaxes(type="log", range=[0, 4])
    figure.update_yaxes(type="log", range=[-1, 1])
    group, place = window(drawn(figure), (0, 4), (-1, 1))
    found = [[(place.x(x), place.y(y)) for x, y in points(path)] for path in paths(group)]
    assert len(found) == 2
    assert np.array(found[0]) == pytest.approx(np.array([(0, 0), (1, 1)]), abs=1e-6)
    assert np.array(found[1]) == pytest.approx(np.array([(3, -1), (4, 0)]), abs=1e-6)


def test_values_without_a_logarithm_interrupt_a_line():
    figure = empty_figure()
    figure.add_scatter(x=[1, 2, 3, 4, 5], y=[1, 1, 0, 1, 1], mode="lines")
    figure.update_yaxes(type="log", range=[-1, 1])
    (group,) = windows(drawn(figure))
    assert [len(points(path)) for path in paths(group)] == [2, 2]


def test_areas_reach_to_zero_and_steps_change_half_way():
    figure = empty_figure()
    figure.add_scatter(x=[0, 1], y=[1, 3], mode="lines", fill="tozeroy", line_shape="hvh")
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[-1, 4])
    group, place = window(drawn(figure), (0, 1), (-1, 4))
    area, line = paths(group)
    steps = [(0, 1), (0.5, 1), (0.5, 3), (1, 3)]
    assert np.array([(place.x(x), place.y(y)) for x, y in points(line)]) == pytest.approx(np.array(steps), abs=1e-6)
    ends = np.array([(0, 0), *steps, (1, 0)])
    assert np.array([(place.x(x), place.y(y)) for x, y in points(area)]) == pytest.approx(ends, abs=1e-6)
    assert area.paint.fill_opacity == 0.5


def test_error_bars_reach_as_far_as_they_say():
    figure = empty_figure()
    error = {"array": [2.0], "arrayminus": [1.0], "symmetric": False, "width": 0}
    figure.add_scatter(x=[5.0], y=[1.0], mode="markers", error_x=error)
    figure.update_xaxes(range=[0, 10])
    figure.update_yaxes(range=[0, 2])
    group, place = window(drawn(figure), (0, 10), (0, 2))
    bar, marker = paths(group)
    assert [place.x(x) for x, _ in points(bar)] == pytest.approx([4, 7])
    xs = [place.x(x) for x, _ in points(marker)]
    assert (min(xs) + max(xs)) / 2 == pytest.approx(5)


def test_what_is_only_for_the_screen_is_left_out():
    figure = empty_figure(title="A title")
    figure.add_bar(x=[0], y=[1], meta={"screen_only": True}, name="ghost")
    figure.add_bar(x=[0], y=[1], visible=False)
    drawing = drawn(figure)
    assert not windows(drawing)
    assert "A title" not in words(drawing)


def test_the_colour_bar_shows_its_words_beside_or_below_the_plot():
    figure = empty_figure(coloraxis=difference_axis("Difference", 0.5))
    figure.add_bar(x=[0, 1], y=[1, 1], marker={"color": [-0.5, 0.5], "coloraxis": "coloraxis"}, width=0.5)
    for width_pt in (COLUMN_PT, PAGE_PT):
        drawing = drawn(figure, width_pt)
        assert {"Difference", "0 same", "≥ +0.5"} <= set(words(drawing))
        (group,) = windows(drawing)
        assert [rect.paint.fill for rect in rects(group)] == ["#0072B2", "#D55E00"]
        bar = [rect for rect in rects(drawing) if rect not in rects(group)]
        assert len({rect.paint.fill for rect in bar}) > 30
        _, top, _, height = group.clip
        is_below = all(rect.y > top + height for rect in bar)
        assert is_below == (width_pt == COLUMN_PT)


def test_shapes_count_in_data_shares_and_the_page():
    figure = empty_figure()
    figure.update_xaxes(range=[0, 10])
    figure.update_yaxes(range=[10, 0])
    figure.add_shape(type="rect", x0=1, x1=3, y0=2, y1=4, line_width=0, fillcolor="#112233")
    figure.add_shape(type="path", path="M 0,0 C 1,1 2,2 5,5 Q 6,6 8,4 H 9 V 10 Z", fillcolor="#445566", line_width=0)
    figure.add_shape(type="line", x0=0, x1=1, xref="x domain", y0=5, y1=5, line_dash="dot")
    drawing = drawn(figure)
    clips = [group.clip for group in windows(drawing)]
    box = Window(clip=clips[0], x_range=(0, 10), y_range=(10, 0))
    (rect,) = [one for one in rects(drawing) if one.paint.fill == "#112233"]
    assert box.bar(rect) == pytest.approx((1, 3, 2, 4), abs=1e-6)
    (curve,) = [one for one in paths(drawing) if one.paint.fill == "#445566"]
    assert [command[0] for command in curve.commands] == ["M", "C", "C", "L", "L", "Z"]
    ends = [(box.x(x), box.y(y)) for x, y in points(curve)]
    assert np.array(ends) == pytest.approx(np.array([(0, 0), (5, 5), (8, 4), (9, 4), (9, 10)]), abs=1e-6)
    first_control = curve.commands[2][1:3]
    assert (box.x(first_control[0]), box.y(first_control[1])) == pytest.approx((5 + 2 / 3, 5 + 2 / 3))
    (line,) = [one for one in paths(drawing) if one.paint.dash]
    assert [(box.x(x), box.y(y)) for x, y in points(line)] == [pytest.approx((0, 5)), pytest.approx((10, 5))]


def test_annotations_on_logarithmic_axes_count_in_exponents_and_shapes_in_data():
    figure = empty_figure()
    figure.update_xaxes(type="log", range=[0, 4])
    figure.update_yaxes(range=[0, 1])
    figure.add_scatter(x=[1, 1e4], y=[0, 0], mode="lines")
    figure.add_vline(x=100)
    figure.add_annotation(x=2, y=0.5, text="here", showarrow=False)
    drawing = drawn(figure)
    place = Window(clip=windows(drawing)[0].clip, x_range=(0, 4), y_range=(0, 1))
    (here,) = [text for text in texts(drawing) if text.text == "here"]
    middle = here.x + text_width("here", here.size) / 2
    assert place.x(middle) == pytest.approx(2, abs=1e-3)
    line = next(path for path in reversed(paths(drawing)) if path.paint.stroke)
    assert [place.x(x) for x, _ in points(line)] == pytest.approx([2, 2])


def test_subplots_share_an_axis_and_stand_apart():
    load = expert_load(make_trace("L0.attention: 0>E0 1>E1; L0.mlp: 0>E1 1>E2", num_experts=4))
    one, other = (group.clip for group in windows(drawn(build_atlas_figure(load))))
    assert one[0] + one[2] < other[0]
    assert one[1::2] == other[1::2]


def test_tick_labels_that_would_overlap_are_thinned_evenly():
    figure = empty_figure()
    figure.update_xaxes(range=[-0.5, 63.5], tickvals=list(range(64)), ticktext=[f"E{one}" for one in range(64)])
    figure.add_bar(x=list(range(64)), y=[1.0] * 64, width=0.6)
    drawing = drawn(figure)
    labels = sorted((text for text in texts(drawing) if text.text.startswith("E")), key=lambda text: text.x)
    numbers = [int(label.text[1:]) for label in labels]
    assert len(numbers) >= 8
    assert len(set(np.diff(numbers))) == 1
    for one, other in pairwise(labels):
        assert one.x + text_width(one.text, one.size) < other.x
    place = Window(clip=windows(drawing)[0].clip, x_range=(-0.5, 63.5), y_range=(0, 1))
    middles = [place.x(label.x + text_width(label.text, label.size) / 2) for label in labels]
    assert middles == pytest.approx(numbers, abs=1e-6)


def test_a_given_height_is_kept():
    assert drawn(figure_of("load 0"), height_pt=200.0).height == 200.0


def test_a_page_without_room_is_refused():
    with pytest.raises(ConfigError, match="width_pt=30"):
        drawn(figure_of("answer"), 30.0)
    with pytest.raises(ConfigError, match="height_pt=20"):
        drawn(figure_of("answer"), height_pt=20.0)
    with pytest.raises(ConfigError, match="font_pt=6"):
        draw_chart(figure_of("answer"), width_pt=COLUMN_PT, font_pt=6.0)


def test_long_names_of_rows_are_broken_or_cut_with_a_note():
    short = drawn(bar_rows("", ["one name that is longer than a line"], [0.5], [""], theme="light"))
    assert not short.notes
    assert " ".join(words(short)[-10:]).count("longer") == 1
    long = drawn(bar_rows("", ["a name " * 40], [0.5], [""], theme="light"))
    assert any("cut" in note for note in long.notes)
    assert any(word.endswith("…") for word in words(long))


def test_names_of_axes_can_be_longer_on_paper():
    figure = empty_figure(meta={"paper_titles": {"y": "Loss (nats)"}})
    figure.update_yaxes(title="Nats")
    assert "Loss (nats)" in words(drawn(figure))
    assert "Nats" not in words(drawn(figure))
