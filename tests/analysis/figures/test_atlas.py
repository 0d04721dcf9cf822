import plotly.graph_objects as go
import pytest

from analysis.drops import dropped_assignments
from analysis.figures.atlas import ATLAS_VALUES, build_atlas_figure
from analysis.figures.theme import magnitude_colour
from analysis.utilisation import expert_load
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace

TRACE = make_trace(
    """
    L0.attention: 0>E0 1>E0 2>E1
    L0.mlp:       0>E1 1>E1! 2>E1!
    L1.mlp:       0>E2 1>E2 2>E0
    """,
    num_experts=3,
)


def cells(figure: go.Figure) -> dict[tuple[int, int], dict[str, object]]:
    """What stands in the cell of every (site, expert), read back from the bars."""
    found = {}
    for bar in figure.data:
        if bar.meta == {"screen_only": True}:
            continue
        text, colours = bar.text, bar.marker.color
        for place, (site_id, expert_id, name, counts, value) in enumerate(bar.customdata):
            found[int(site_id), int(expert_id)] = {
                "x": bar.x[place],
                "layer": bar.base[place] + bar.y[place] / 2,
                "text": text[place],
                "colour": colours if isinstance(colours, str) else colours[place],
                "name": name,
                "counts": counts,
                "value": value,
                "lane": bar.xaxis,
            }
    return found


def test_place_label_colour_and_hover_of_a_cell_come_from_the_same_row():
    load = expert_load(TRACE)
    found = cells(build_atlas_figure(load))
    assert len(found) == len(load) == 9
    for row in load.itertuples():
        cell = found[row.site_id, row.expert_id]
        assert cell["x"] == row.expert_id
        assert cell["layer"] == pytest.approx(row.layer)
        assert cell["value"] == row.relative_load
        assert cell["colour"] == magnitude_colour(row.relative_load, 0, 2)
        assert cell["name"] == f"L{row.layer} {'MLP' if row.block == 'mlp' else 'attention'}"
        assert cell["counts"].startswith(f"requested by {row.requested} patches, {row.dropped} dropped")
        assert cell["lane"] == ("x" if row.block == "attention" else "x2")


def test_idle_experts_carry_a_cross_and_only_they():
    load = expert_load(TRACE)
    found = cells(build_atlas_figure(load))
    marked = {key for key, cell in found.items() if cell["text"] == "×"}
    assert marked == {(row.site_id, row.expert_id) for row in load.itertuples() if row.load == 0}


def test_the_fair_value_is_marked_on_the_colour_bar_and_the_range_is_fixed():
    for trace in (TRACE, make_trace("L0.mlp: 0>E0", num_experts=2)):
        axis = build_atlas_figure(expert_load(trace)).layout.coloraxis
        labels = dict(zip(axis.colorbar.tickvals, axis.colorbar.ticktext, strict=True))
        assert (axis.cmin, axis.cmax) == (0, 2)
        assert labels[1.0] == "1 fair"
        assert axis.colorbar.title.text


def test_no_cell_leaves_its_colour_to_the_page_and_one_empty_trace_carries_the_colour_bar():
    figure = build_atlas_figure(expert_load(TRACE))
    (carrier,) = [trace for trace in figure.data if trace.marker.coloraxis]
    assert carrier.meta == {"screen_only": True}
    assert list(carrier.x) == list(carrier.y) == [None]
    assert all(str(cell["colour"]).startswith(("rgb", "#")) for cell in cells(figure).values())


def test_a_share_of_nothing_is_an_empty_cell_with_a_dash():
    table = dropped_assignments(TRACE)
    found = cells(build_atlas_figure(table, value="drop_share"))
    assert found[1, 1]["value"] == pytest.approx(2 / 3)
    assert found[1, 0]["text"] == "–"
    assert len(found) == len(table)


def test_experts_that_are_never_full_have_no_utilisation():
    found = cells(build_atlas_figure(expert_load(TRACE), value="utilisation"))
    assert {cell["text"] for key, cell in found.items() if key[0] == 0} == {"–", "×"}
    assert found[1, 1]["value"] == 1.0


def test_the_chosen_cell_is_outlined_in_its_lane():
    figure = build_atlas_figure(expert_load(TRACE), selected=(2, 1))
    (outline,) = figure.layout.shapes
    assert (outline.x0, outline.x1, outline.y0, outline.y1) == (0.5, 1.5, 0.5, 1.5)
    assert outline.xref == "x2"


@pytest.mark.parametrize("value", ATLAS_VALUES)
def test_every_trace_can_be_drawn_as_vectors_and_twice_alike(value):
    for trace, _ in random_traces()[:5]:
        table = dropped_assignments(trace) if value == "drop_share" else expert_load(trace)
        figure = build_atlas_figure(table, value=value, theme="dark")
        assert {trace.type for trace in figure.data if trace.meta != {"screen_only": True}} <= {"bar"}
        assert figure.to_json() == build_atlas_figure(table, value=value, theme="dark").to_json()
        if trace.num_units:
            assert len(cells(figure)) == len(table)


def test_layer_0_is_on_top_and_many_experts_keep_readable_ticks():
    trace = make_trace("L0.mlp: 0>E0; L3.mlp: 0>E0", num_experts=64)
    figure = build_atlas_figure(expert_load(trace))
    assert list(figure.layout.yaxis.range) == [3.5, -0.5]
    assert len(figure.layout.xaxis.tickvals) <= 10
    assert figure.layout.xaxis.ticktext[:2] == ("E0", "E8")


def test_an_empty_table_says_so():
    figure = build_atlas_figure(expert_load(make_trace("L0.mlp:", num_experts=2)))
    assert not figure.data
    assert "no units" in figure.layout.annotations[0].text
