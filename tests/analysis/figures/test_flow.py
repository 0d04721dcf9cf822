import re
from itertools import pairwise

import numpy as np
import pytest

from analysis.figures.flow import MAX_SITES, build_flow_figure
from analysis.figures.theme import FocusPalette
from analysis.selection import Selection
from analysis.transitions import transitions
from tests.analysis.random_traces import random_traces
from tests.traces import make_trace

TRACE = make_trace(
    """
    L0.mlp: 0>E0 1>E0 2>E0 3>E1 4>E1! 5
    L1.mlp: 0>E1 1>E1 2>E0 3>E1 4>E0  5>E2
    L2.mlp: 0>E0 1>E0 2>E0 3>E0 4>E0  5>E0
    """,
    num_experts=3,
    capacity=6,
)


def nodes(figure):
    """Units and height of every (site, expert), read back from the bars."""
    found = {}
    for bar in figure.data:
        if bar.type == "bar":
            for place, (site_id, expert_id, name, units, _) in enumerate(bar.customdata):
                found[int(site_id), int(expert_id)] = {
                    "name": name,
                    "units": int(units),
                    "base": bar.base[place],
                    "height": bar.y[place],
                    "x": bar.x[place],
                    "hatch": bar.marker.pattern.shape[place],
                    "colour": bar.marker.color[place],
                }
    return found


def marks(figure):
    """What a click on a band says, once per band."""
    (trace,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert trace.meta == {"screen_only": True}
    return {tuple(row[:4]): (row[4], row[5]) for row in trace.customdata}


def bands(figure):
    return [shape for shape in figure.layout.shapes if shape.type == "path" and " C " in shape.path]


def test_nodes_and_bands_say_the_numbers_of_the_table():
    table = transitions(TRACE)
    figure = build_flow_figure(table)
    rows = table[table["units"] > 0]
    expected = {
        (row.from_site_id, row.from_expert_id, row.to_site_id, row.to_expert_id): (row.units, row.transition_share)
        for row in rows.itertuples()
    }
    assert marks(figure) == expected
    found = nodes(figure)
    assert {key: node["units"] for key, node in found.items()} == {
        **{(0, 0): 3, (0, 1): 1, (0, -1): 1, (0, -2): 1},
        **{(1, 0): 2, (1, 1): 3, (1, 2): 1, (2, 0): 6},
    }
    assert [found[key]["x"] for key in ((0, 0), (1, 0), (2, 0))] == [0, 1, 2]
    assert len(bands(figure)) == len(rows)


def test_every_node_has_its_name_and_lost_units_are_not_said_by_colour_alone():
    figure = build_flow_figure(transitions(TRACE))
    found = nodes(figure)
    texts = [note.text for note in figure.layout.annotations]
    assert texts[:-1] == [node["name"] for node in found.values()]
    assert (found[0, -1]["name"], found[0, -1]["hatch"]) == ("dropped", "/")
    assert (found[0, -2]["name"], found[0, -2]["hatch"]) == ("unrouted", "")
    (dashed,) = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert dashed.line.dash == "dash"
    assert (dashed.y0, dashed.y1) == (found[0, -2]["base"], found[0, -2]["base"] + found[0, -2]["height"])


def test_nodes_do_not_overlap_and_bands_end_at_their_nodes():
    for trace, _ in random_traces()[:30]:
        table = transitions(trace)
        if table.empty or trace.num_sites > MAX_SITES:
            continue
        figure = build_flow_figure(table, min_share=0.0)
        found = nodes(figure)
        for site in range(trace.num_sites):
            edges = [(node["base"], node["base"] + node["height"]) for key, node in found.items() if key[0] == site]
            assert all(above[1] < below[0] for above, below in pairwise(edges))
        spans = [(node["x"], node["base"], node["base"] + node["height"]) for node in found.values()]
        for band in bands(figure):
            points = [tuple(map(float, pair)) for pair in re.findall(r"(-?[\d.]+),(-?[\d.]+)", band.path)]
            for x, top, low in ((points[0][0], points[0][1], points[7][1]), (points[3][0], points[3][1], points[4][1])):
                site = round(x)
                assert any(place == site and start - 0.02 <= top <= low <= end + 0.02 for place, start, end in spans), (
                    band.path
                )


def test_faint_ways_are_pooled_and_the_figure_says_how_many():
    units = 300
    rng = np.random.default_rng(0)
    lines = [f"L{layer}.mlp: " + " ".join(f"{unit}>E{rng.integers(12)}" for unit in range(units)) for layer in range(2)]
    table = transitions(make_trace(";".join(lines), num_experts=12))
    figure = build_flow_figure(table, min_share=0.02)
    drawn = marks(figure)
    rest = table[(table["units"] > 0)]
    note = figure.layout.annotations[-1].text
    pooled = rest["units"].sum() - sum(count for count, _ in drawn.values())
    assert pooled > 0
    assert f"{units} units at every site" in note
    assert f"grey stubs: {len(rest) - len(drawn)} ways of less than 2% of them, {pooled} units together" in note
    assert len(drawn) >= 40
    weakest = min(count for count, _ in drawn.values())
    left_out = rest[
        [key not in drawn for key in zip(*(rest[c] for c in rest.columns if c.endswith("_id")), strict=True)]
    ]
    assert left_out["units"].max() <= weakest


def test_lit_units_are_the_strong_part_of_their_bands():
    lit = np.array([True, False, False, True, False, False])
    figure = build_flow_figure(transitions(TRACE, (0, 1), lit=lit))
    strong = [shape for shape in bands(figure) if shape.opacity > 0.5]
    assert len(strong) == 2
    assert "strong colour: lit units" in figure.layout.annotations[-1].text
    (trace,) = [trace for trace in figure.data if trace.type == "scatter"]
    assert {row[7] for row in trace.customdata if tuple(row[:4]) == (0, 0, 1, 1)} == {"<br>1 of them lit"}


def test_selected_experts_are_outlined_and_colours_are_those_of_the_palettes():
    palettes = {site: FocusPalette(num_experts=3, slots={1: 5}) for site in range(3)}
    selection = Selection(site_id=1, experts=(1,))
    figure = build_flow_figure(transitions(TRACE), palettes=palettes, selection=selection)
    found = nodes(figure)
    assert found[1, 1]["colour"] == palettes[1].colour(1, "light")
    outlines = [shape for shape in figure.layout.shapes if shape.type == "rect" and shape.line.dash is None]
    assert [(shape.x0 + shape.x1) / 2 for shape in outlines] == pytest.approx([1])


def test_experts_that_are_nobodys_first_are_counted_in_the_heading():
    figure = build_flow_figure(transitions(TRACE))
    assert figure.layout.xaxis.ticktext == (
        "<b>L0 MLP</b><br>1 experts nobody's first",
        "<b>L1 MLP</b>",
        "<b>L2 MLP</b><br>2 experts nobody's first",
    )


def test_too_many_sites_and_empty_tables_say_so():
    text = ";".join(f"L{layer}.mlp: 0>E0" for layer in range(MAX_SITES + 1))
    figure = build_flow_figure(transitions(make_trace(text, num_experts=1)))
    assert "at most 4" in figure.layout.annotations[0].text
    empty = build_flow_figure(transitions(make_trace("L0.mlp:", num_experts=1)))
    assert "no units" in empty.layout.annotations[0].text


def test_every_trace_can_be_drawn_twice_alike():
    for trace, _ in random_traces()[:12]:
        sites = tuple(range(min(trace.num_sites, MAX_SITES)))
        if len(sites) > 1:
            table = transitions(trace, sites)
            assert build_flow_figure(table, theme="dark").to_json() == build_flow_figure(table, theme="dark").to_json()


def test_many_experts_are_drawn_in_time():
    rng = np.random.default_rng(0)
    lines = [f"L{layer}.mlp: " + " ".join(f"{u}>E{rng.integers(64)}" for u in range(3000)) for layer in range(2)]
    figure = build_flow_figure(transitions(make_trace(";".join(lines), num_experts=64)))
    assert len(figure.layout.shapes) < 200
