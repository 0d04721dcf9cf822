"""The atlas of one unit shows its table: probabilities as colours, ranks as text, drops hatched."""

import numpy as np
import pytest

from analysis.exports.chart.draw import draw_chart
from analysis.figures.theme import magnitude_colour
from analysis.figures.unit_atlas import DOTS, build_unit_atlas_figure
from analysis.unit_experts import unit_experts
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace


def cells(figure):
    """Per (site, expert): colour, text, hatched, width of the border."""
    found = {}
    for bar in figure.data:
        if bar.type != "bar":
            continue
        for place, row in enumerate(bar.customdata):
            assert bar.x[place] == row[1]
            found[int(row[0]), int(row[1])] = (
                bar.marker.color[place],
                bar.text[place],
                bar.marker.pattern.shape is not None,
                bar.marker.line.width[place],
            )
    return found


def test_every_cell_shows_its_row():
    compared = 0
    for trace, _ in random_traces()[:40]:
        if not trace.num_units:
            continue
        table = unit_experts(trace, trace.num_units // 2)
        drawn = cells(build_unit_atlas_figure(table))
        assert len(drawn) == len(table)
        for row in table.itertuples():
            colour, text, is_hatched, border = drawn[int(row.site_id), int(row.expert_id)]
            if not np.isnan(row.probability):
                assert colour == magnitude_colour(row.probability, 0, 1)
            assert is_hatched == (row.outcome == "dropped")
            unasked = DOTS if row.outcome == "filler" else "–" if np.isnan(row.probability) else ""
            assert text.rstrip("×") == (str(row.rank) if row.rank >= 0 else unasked)
            assert text.endswith("×") == (row.outcome == "dropped")
            assert (border > 2) == (row.outcome == "kept")
            compared += 1
    assert compared > 200


def test_filler_is_named_in_the_title_where_there_is_some():
    trace = make_trace("L0.mlp: 0>E1,E0~ 1>E1", num_experts=3, capacity=2)
    drawn = build_unit_atlas_figure(unit_experts(trace, 0))
    assert {place: cell[1] for place, cell in cells(drawn).items()} == {(0, 0): DOTS, (0, 1): "0", (0, 2): "–"}
    assert drawn.layout.title.text.endswith(f"{DOTS} filler")
    assert "filler" not in build_unit_atlas_figure(unit_experts(trace, 1)).layout.title.text


@pytest.mark.parametrize("width", [234, 486])
def test_it_is_drawn_for_paper(width):
    table = unit_experts(make_trace("L0.attention: 0>E0!,E1; L1.mlp: 0>E3", num_experts=8, capacity=1), 0)
    drawing = draw_chart(build_unit_atlas_figure(table), width_pt=width, font_pt=8.0)
    assert drawing.width == width
    assert drawing.items
