"""The curve of a decomposed model: read from its record, drawn as it is, exported."""

import math

import pytest

from analysis.decomposition import decomposition_curve
from analysis.exports.chart.draw import draw_chart
from analysis.figures.decomposition import build_decomposition_figure
from tests.analysis.tables_equal import assert_dtypes
from uoe_model.errors import TraceError


def record_of(*rows):
    names = ("scope", "attention_top_k", "mlp_top_k", "routes", "hidden_error", "cosine", "loss", "agreement")
    return {"curve": [dict(zip(names, row, strict=True)) for row in rows]}


RECORD = record_of(
    ("mlp", 2, 1, "calibrated", 0.4, 0.9, 3.0, None),
    ("both", 2, 2, "calibrated", 0.0, 1.0, 2.0, None),
    ("both", 1, 1, "random", 0.9, 0.2, 5.0, None),
    ("both", 1, 1, "calibrated", 0.5, 0.6, 4.0, None),
)


def test_rows_are_sorted_and_what_is_not_measured_is_missing():
    curve = decomposition_curve(RECORD)
    assert list(zip(curve["scope"], curve["attention_top_k"], curve["routes"], strict=True)) == [
        ("both", 1, "calibrated"),
        ("both", 1, "random"),
        ("both", 2, "calibrated"),
        ("mlp", 2, "calibrated"),
    ]
    assert curve["hidden_error"].tolist() == [0.5, 0.9, 0.0, 0.4]
    assert all(math.isnan(value) for value in curve["agreement"])


@pytest.mark.parametrize("record", [record_of(), RECORD])
def test_columns_are_the_documented_ones(record):
    number = "float64"
    assert_dtypes(
        decomposition_curve(record),
        scope="str",
        attention_top_k="int64",
        mlp_top_k="int64",
        routes="str",
        **dict.fromkeys(("hidden_error", "cosine", "loss", "agreement"), number),
    )


@pytest.mark.parametrize(
    "record", [{}, {"curve": 5}, {"curve": [{"scope": "both"}]}, record_of(("all", 1, 1, "random", 1, 1, 1, 1))]
)
def test_another_record_is_one_sentence(record):
    with pytest.raises(TraceError, match="this record of a decomposition"):
        decomposition_curve(record)


def test_every_measurement_is_a_point_and_all_ways_meet_where_all_experts_are_chosen():
    figure = build_decomposition_figure(decomposition_curve(RECORD))
    calibrated, random = figure.data
    assert (list(calibrated.x), list(calibrated.y)) == ([0, 1], [0.5, 0.0])
    assert (list(random.x), list(random.y)) == ([0, 1], [0.9, 0.0])
    assert list(figure.layout.xaxis.ticktext) == ["1 · 1", "2 · 2"]
    [mlp] = build_decomposition_figure(decomposition_curve(RECORD), scope="mlp").data
    assert list(mlp.y) == [0.4]
    assert not build_decomposition_figure(decomposition_curve(record_of())).data


def test_the_exporter_draws_it():
    figure = build_decomposition_figure(decomposition_curve(RECORD))
    drawing = draw_chart(figure, width_pt=234.0, font_pt=8.0)
    assert drawing.items
