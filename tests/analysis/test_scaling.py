"""How cost grows: read from a record, drawn as it is, exported."""

import math

import pytest

from analysis.exports.chart.draw import draw_chart
from analysis.figures.scaling import build_scaling_figure
from analysis.scaling import cost_growth
from uoe_model.errors import TraceError


def row_of(variant, length, ms, kept, bench="growth"):
    return {"bench": bench, "variant": variant, "S": length, "median_ms": ms, "saved_bytes": kept, "noisy": False}


RECORD = {
    "device": "cpu",
    "cpu": "a processor",
    "rows": [
        row_of("union", 128, 2.0, 3_000_000),
        row_of("dense", 128, 4.0, 6_000_000),
        row_of("dense", 64, 1.0, 2_000_000),
        row_of("dense", 64, 9.0, None, bench="model"),
    ],
}


def test_only_growth_is_read_and_sorted():
    growth = cost_growth(RECORD)
    assert list(zip(growth["variant"], growth["length"], growth["milliseconds"], growth["megabytes"], strict=True)) == [
        ("dense", 64, 1.0, 2.0),
        ("dense", 128, 4.0, 6.0),
        ("union", 128, 2.0, 3.0),
    ]
    assert set(growth["device"]) == {"a processor"}
    assert len(cost_growth({"device": "cpu", "cpu": "", "rows": []})) == 0


@pytest.mark.parametrize("record", [{}, {"rows": [{"bench": "growth"}]}, RECORD | {"rows": [row_of("x", 1, 1, 1)]}])
def test_another_record_is_one_sentence(record):
    with pytest.raises(TraceError, match="no record of bench_model"):
        cost_growth(record)


@pytest.mark.parametrize("value", ["milliseconds", "megabytes"])
def test_points_are_the_logarithms_of_the_table_and_ticks_say_the_numbers(value):
    growth = cost_growth(RECORD)
    dense, union = build_scaling_figure(growth, value=value).data
    assert list(dense.x) == [6, 7]
    assert list(dense.y) == [math.log10(cost) for cost in growth[value][:2]]
    assert list(union.x) == [7]
    figure = build_scaling_figure(growth, value=value)
    assert list(figure.layout.xaxis.ticktext) == ["64", "128"]
    assert next(iter(figure.layout.yaxis.ticktext)) == "1"
    assert draw_chart(figure, width_pt=234.0, font_pt=8.0).items


def test_without_measurements_it_says_so():
    assert not build_scaling_figure(cost_growth({"device": "cpu", "cpu": "", "rows": []})).data
