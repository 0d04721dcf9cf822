import pytest

from analysis.comparison import comparison_dependence, comparison_differences, comparison_runs, comparison_table
from analysis.figures.comparison import COLOURS, VARIANT_NAMES, build_comparison_figure
from analysis.figures.theme import PAGE
from tests.analysis.comparisons import make_comparison
from tests.analysis.figures.colour_distance import closest


def figure_of(result, **options):
    return build_comparison_figure(
        comparison_runs(result),
        comparison_table(result),
        comparison_dependence(result),
        comparison_differences(result),
        kind=result["kind"],
        **options,
    )


def drawn(figure, axis):
    """(label of the row nearest to it, x) of every dot of a panel."""
    letter = "" if axis == 1 else str(axis)
    labels = figure.layout[f"yaxis{letter}"].ticktext
    dots = [trace for trace in figure.data if trace.mode == "markers" and (trace.xaxis or "x") == f"x{letter}"]
    return [(labels[round(-y)], x) for trace in dots for x, y in zip(trace.x, trace.y, strict=True)]


def test_every_run_and_every_mean_is_a_dot_in_the_line_of_its_variant():
    result = make_comparison()
    dots = drawn(figure_of(result), 1)
    names = VARIANT_NAMES | {"switch": "Switch MLP (1 seed)"}  # the others have three
    for run in result["runs"]:
        assert (names[run["variant"]], run["loss"]) in dots
    table = comparison_table(result)
    for row in table.itertuples():
        assert (names[row.variant], row.test_loss) in dots
    assert len(dots) == len(result["runs"]) + len(table)


def test_the_dense_mean_is_the_dotted_line():
    result = make_comparison()
    lines = [shape for shape in figure_of(result).layout.shapes if shape.line.dash == "dot"]
    assert [line.x0 for line in lines] == [comparison_table(result)["test_loss"][0]]


def test_sites_show_learned_routers_filled_and_frozen_ones_open():
    result = make_comparison()
    figure = figure_of(result)
    dots = drawn(figure, 2)
    table = comparison_dependence(result)
    shown = table[(table["replacement"] == "balanced_random") & table["variant"].isin(["data", "frozen"])]
    shown = shown[shown["target"].str.contains(".", regex=False)]
    assert len(dots) == len(shown) == 8
    for row in shown.itertuples():
        assert (row.target.replace(".", " ").replace("mlp", "MLP"), row.loss_change) in dots
    markers = {trace.name: trace.marker for trace in figure.data if (trace.xaxis or "x") == "x2" and trace.name}
    assert {name: marker.color for name, marker in markers.items() if "frozen" in name} == {
        "attention, frozen routers": PAGE["light"],
        "MLP, frozen routers": PAGE["light"],
    }
    assert len({marker.symbol for marker in markers.values()}) == 2


def test_learned_minus_frozen_has_a_row_per_seed_and_its_interval_inside_the_axis():
    result = make_comparison()
    figure = figure_of(result)
    assert [label for label, _ in drawn(figure, 3)] == ["seed 0", "seed 1", "seed 2"]
    low, high = figure.layout.xaxis3.range
    rows = [row for row in result["differences"] if row["baseline"] == "frozen"]
    assert sorted(x for _, x in drawn(figure, 3)) == sorted(row["difference"] for row in rows)
    assert low < min(0, *(row["low"] for row in rows))
    assert high > max(0, *(row["high"] for row in rows))


def test_what_was_not_run_says_why():
    texts = [annotation.text for annotation in figure_of(make_comparison("text")).layout.annotations]
    assert texts == ["not causal", "not causal"]


def test_without_twins_the_panel_says_so():
    texts = [note.text for note in figure_of(make_comparison() | {"differences": []}).layout.annotations]
    assert texts == ["no pair of twins was finished"]


def test_without_runs_there_is_a_sentence():
    result = make_comparison() | {"runs": [], "differences": []}
    assert figure_of(result).layout.annotations[0].text == "No run was finished."


@pytest.mark.parametrize("page", ["light", "dark"])
def test_colours_can_be_told_apart_under_every_vision(page):
    distance, pair = closest([*COLOURS.values(), PAGE[page]])
    assert distance >= 8, pair
