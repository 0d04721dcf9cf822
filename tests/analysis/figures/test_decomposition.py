import pytest

from analysis.decomposition import decomposition_curve
from analysis.figures.decomposition import (
    CHOSEN_NAME,
    COLOURS,
    DASHES,
    ROUTE_NAMES,
    SYMBOLS,
    build_decomposition_figure,
)
from analysis.figures.theme import PAGE
from tests.analysis.curves import curve_record
from tests.analysis.figures.colour_distance import closest

AXES = {"x": "both", "x2": "attention", "x3": "mlp", "x4": "both", "x5": "attention", "x6": "mlp"}


def points(figure, names):
    return {
        (trace.xaxis, names[trace.name], x, y)
        for trace in figure.data
        if trace.name in names
        for x, y in zip(trace.x, trace.y, strict=True)
    }


@pytest.mark.parametrize("quality", ["loss", "agreement", "cosine"])
def test_every_row_is_a_point_and_all_ways_meet_at_the_dense_model(quality):
    table = decomposition_curve(curve_record(quality))
    expected = set()
    for axis, scope in AXES.items():
        value = "hidden_error" if axis in ("x", "x2", "x3") else quality
        for row in table[table["scope"] == scope].to_dict("records"):
            everything = (row["attention_top_k"], row["mlp_top_k"]) == (2, 4)
            for routes in ROUTE_NAMES if everything else [row["routes"]]:
                expected.add((axis, routes, row["expert_share"], row[value]))
    drawn = points(build_decomposition_figure(table), {name: routes for routes, name in ROUTE_NAMES.items()})
    assert drawn == expected


def test_lines_go_from_few_experts_to_all_and_leave_out_other_pairs():
    figure = build_decomposition_figure(decomposition_curve(curve_record()))
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert len(lines) == 18
    for line in lines:
        assert list(line.x) == sorted(line.x)
        assert line.x[-1] == 1
    apart = [trace for trace in figure.data if trace.mode == "markers" and trace.name != CHOSEN_NAME]
    assert [(trace.xaxis, list(trace.x)) for trace in apart] == [("x", [0.625])] * 3 + [("x4", [0.625])] * 3
    assert not any(trace.showlegend for trace in apart)


def test_a_ring_marks_what_the_model_runs_with():
    table = decomposition_curve(curve_record(chosen=(2, 3)))
    rings = [trace for trace in build_decomposition_figure(table).data if trace.name == CHOSEN_NAME]
    assert [(ring.xaxis, list(ring.x)) for ring in rings] == [
        ("x", [0.875]),
        ("x3", [0.75]),
        ("x4", [0.875]),
        ("x6", [0.75]),
    ]
    row = table[(table["scope"] == "mlp") & table["is_chosen"] & (table["routes"] == "calibrated")].iloc[0]
    assert [list(ring.y) for ring in rings][1::2] == [[row["hidden_error"]], [row["loss"]]]


def test_axes_count_experts_and_hold_every_point():
    figure = build_decomposition_figure(decomposition_curve(curve_record()))
    layout = figure.layout
    assert list(layout.xaxis5.ticktext) == ["1", "2"]
    assert list(layout.xaxis6.tickvals) == [0.25, 0.5, 0.75, 1]
    assert [layout[f"xaxis{n}"].title.text for n in (4, 5, 6)] == ["share chosen", "chosen of 2", "chosen of 4"]
    assert layout.yaxis4.title.text == "Loss (nats)"
    assert layout.yaxis.range[0] == 0
    for trace in figure.data:
        low, high = layout["yaxis" + trace.yaxis[1:]].range
        assert all(low <= y <= high for y in trace.y)


def test_many_experts_have_few_ticks_that_end_with_all():
    record = {"options": {"attention_experts": 2, "mlp_experts": 64}, "curve": []}
    row = {"scope": "mlp", "attention_top_k": 2, "mlp_top_k": 64, "routes": "calibrated"}
    record["curve"] = [row | {"hidden_error": 0.0, "cosine": 1.0}]
    assert list(build_decomposition_figure(decomposition_curve(record)).layout.xaxis2.ticktext) == [
        "16",
        "32",
        "48",
        "64",
    ]


@pytest.mark.parametrize("page", ["light", "dark"])
def test_ways_to_choose_differ_in_colour_shape_and_dash(page):
    distance, pair = closest([*COLOURS.values(), PAGE[page]])
    assert distance >= 8, pair
    assert len(set(SYMBOLS.values())) == len(set(DASHES.values())) == 3


def test_nothing_measured_says_so():
    figure = build_decomposition_figure(decomposition_curve(curve_record() | {"curve": []}), theme="dark")
    assert "not calibrated" in figure.layout.annotations[0].text
