"""Views: a figure shows what its rows say, a caption names what is filtered, and a missing view says why."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.exhibit import Exhibit, ViewOptions
from analysis.pool import pool_traces
from analysis.recorded_run import RecordedRun, TraceTables
from analysis.routing_value import input_routing_value_table
from analysis.selection import Selection
from analysis.views import VIEWS, missing, site_name, unit_name
from tests.oracles import selection as oracle
from tests.traces import make_trace
from uoe_model.result import Candidate, ClassPrediction, TextPrediction
from uoe_model.trace import KEPT

ROUTES = """
L0.attention: 0>E0,E1! 1>E1,E0 2>E0!,E1! 3>E2,E0 4 5>E1,E2
L0.mlp: 0>E1 1>E1! 2>E2 3>E0 4>E0 5>E2
L1.mlp: 0>E0 1>E1 2>E2 3>E2 4>E1 5>E0
"""
OTHER = ROUTES.replace("L0.mlp: 0>E1 1>E1! 2>E2", "L0.mlp: 0>E2 1>E1 2>E2")
PIECES = ("The", " cat", " sat", "<b>", "\n", " on")
LOSSES = (float("nan"), 2.0, 0.5, 1.25, 3.0, 0.125)
WORDS = TextPrediction(
    next_candidates=tuple(
        Candidate(token_id=number, text=f" w{number}", probability=0.5**number) for number in range(1, 9)
    ),
    continuation=" the mat",
    mean_loss=1.5,
    bits_per_byte=2.5,
)
CLASSES = ClassPrediction(labels=("cat", "ship", "tree"), probabilities=np.array([0.25, 0.7, 0.05]))
VALUE = {"model": "m", "capacity": "none", "low": 0.05, "high": 0.2, "draws": 5, "reason": ""}


@functools.cache
def run(routes: str = ROUTES, name: str = "a text", changes: str = "") -> RecordedRun:
    logits = {site: np.random.default_rng(site).normal(size=(6, 3)).astype(np.float32) for site in range(3)}
    trace = make_trace(
        routes, num_experts=3, pieces=PIECES, losses=LOSSES, capacity_factor=1.0, capacity=3, logits=logits
    )
    return RecordedRun(name=name, trace=trace, prediction=WORDS, changes=changes)


def exhibit(**changes: Any) -> Exhibit:
    values = [
        VALUE | {"replacement": "permuted", "block": block, "loss_change": change}
        for block, change in (("attention", 0.1), ("mlp", 0.15))
    ]
    one = Exhibit(
        runs=(run(),),
        selection=Selection(site_id=1, units=(3,)),
        pinned=run(OTHER, "another text", "gate one"),
        routing_value=input_routing_value_table(values),
    )
    return dataclasses.replace(one, **changes)


def several() -> Exhibit:
    runs = (run(), run(OTHER, "second"))
    return exhibit(runs=runs, pool=TraceTables(pool_traces([one.trace for one in runs])))


def values_of(figure: Any, axis: str) -> list[float]:
    """All finite numbers that the traces of a figure draw along an axis."""
    found: list[float] = []
    for trace in figure.data:
        values = getattr(trace, axis, None)
        if values is not None:
            column = pd.to_numeric(pd.Series(list(values), dtype="object"), errors="coerce")
            found += column[np.isfinite(column)].tolist()
    return found


def test_every_view_of_a_full_exhibit_has_rows_a_figure_and_a_caption():
    for name, view in VIEWS.items():
        one = exhibit()
        assert missing(one, name) == "", name
        assert len(view.rows(one)) > 0, name
        assert view.caption(one).strip(), name
        assert view.title, name
        if view.figure is not None:
            assert view.figure(one, "light").data, name


@pytest.mark.parametrize("name", [name for name, view in VIEWS.items() if view.figure is not None])
def test_a_figure_depends_on_the_theme_in_colour_only(name: str):
    light, dark = (VIEWS[name].figure(exhibit(), theme) for theme in ("light", "dark"))  # type: ignore[misc]
    assert light != dark
    for axis in ("x", "y"):
        assert values_of(light, axis) == values_of(dark, axis)


def test_the_map_has_one_row_per_unit_and_says_which_are_lit():
    selection = Selection(site_id=0, experts=(0,))
    rows = VIEWS["map"].rows(exhibit(selection=selection))
    assert rows["unit_id"].tolist() == list(range(6))
    assert set(rows["site_id"]) == {0}
    assert rows["is_lit"].tolist() == oracle.lit_units(run().trace, selection)
    assert VIEWS["map"].rows(exhibit())["is_lit"].all()


@pytest.mark.parametrize(
    ("experts", "status"), [((0,), None), ((1, 2), None), ((), "dropped"), ((), "unrouted"), ((1,), "partly dropped")]
)
def test_strips_light_what_the_selection_lights(experts: tuple[int, ...], status: Any):
    selection = Selection(site_id=0, experts=experts, status=status)
    one = exhibit(selection=selection)
    expected = oracle.lit_units(run().trace, selection)
    for name in ("map", "entropy-strip", "loss-strip"):
        assert VIEWS[name].rows(one)["is_lit"].tolist() == expected, name


def test_the_loss_strip_draws_the_loss_of_its_rows():
    figure = VIEWS["loss-strip"].figure(exhibit(), "light")  # type: ignore[misc]
    losses = VIEWS["loss-strip"].rows(exhibit())["loss"].tolist()
    drawn = dict(zip(figure.data[0].x.tolist(), figure.data[0].y.tolist(), strict=True))
    assert drawn == {unit: loss for unit, loss in enumerate(losses) if not np.isnan(loss)}
    assert drawn[2] == LOSSES[1]  # what predicted unit 2 was unit 1


def test_the_load_draws_what_experts_of_the_selected_site_kept():
    rows = VIEWS["load"].rows(exhibit())
    assert set(rows["site_id"]) == {1}
    trace = run().trace.assignments
    kept = [
        int(np.sum((trace.site_id == 1) & (trace.expert_id == expert) & (trace.status == KEPT))) for expert in range(3)
    ]
    assert rows["load"].tolist() == kept
    figure = VIEWS["load"].figure(exhibit(), "light")  # type: ignore[misc]
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["kept (load)"] == kept
    assert drawn["dropped"] == rows["dropped"].tolist() == [0, 1, 0]


def test_the_atlas_shows_the_value_that_was_chosen():
    plain = VIEWS["atlas"].rows(exhibit())
    drops = VIEWS["atlas"].rows(exhibit(options=ViewOptions(atlas="drop_share")))
    assert "relative_load" in plain.columns
    assert "drop_share" in drops.columns
    assert len(plain) == len(drops) == 9
    captions = {value: VIEWS["atlas"].caption(exhibit(options=ViewOptions(atlas=value))) for value in ATLAS}
    assert len(set(captions.values())) == len(ATLAS)
    for value, caption in captions.items():
        assert ATLAS[value] in caption.lower()


ATLAS: Any = {"relative_load": "relative load", "utilisation": "utilisation", "drop_share": "dropped share"}


def test_the_drop_strip_is_of_all_sites_of_one_or_of_selected_experts():
    every = VIEWS["drop-strip"].rows(exhibit(options=ViewOptions(strip_sites="all")))
    here = VIEWS["drop-strip"].rows(exhibit())
    assert set(every["site_id"]) == {0, 1, 2}
    assert set(here["site_id"]) == {1}
    one = exhibit(selection=Selection(site_id=0, experts=(1,)), options=ViewOptions(strip_sites="all"))
    of_expert = VIEWS["drop-strip"].rows(one)
    assert set(of_expert["site_id"]) == {0}
    assert of_expert["dropped"].sum() == 2  # requests of units 0 and 2
    assert VIEWS["drop-strip"].caption(one).startswith("Share of requests of E1 that was dropped")
    assert "to E1" in VIEWS["drop-strip"].figure(one, "light").layout.title.text  # type: ignore[misc]
    assert "at all sites" in VIEWS["drop-strip"].caption(exhibit(options=ViewOptions(strip_sites="all")))


def test_the_flow_counts_the_lit_units_only():
    rows = VIEWS["flow"].rows(exhibit())
    assert rows["units"].sum() == 6  # one step, from the MLP of layer 0 to that of layer 1
    selection = Selection(site_id=1, experts=(0,))
    lit = VIEWS["flow"].rows(exhibit(selection=selection))
    assert lit["units"].sum() == 6
    assert lit["lit_units"].sum() == sum(oracle.lit_units(run().trace, selection)) == 2


def test_the_output_is_of_the_run_and_most_probable_first():
    words = VIEWS["output"].rows(exhibit())
    assert words["probability"].tolist() == sorted(words["probability"], reverse=True)
    assert len(words) == 8
    classes = exhibit(runs=(dataclasses.replace(run(), prediction=CLASSES),))
    rows = VIEWS["output"].rows(classes)
    assert dict(zip(rows["label"], rows["probability"], strict=True)) == {"cat": 0.25, "ship": 0.7, "tree": 0.05}
    assert "classes" in VIEWS["output"].caption(classes)
    assert "next tokens" in VIEWS["output"].caption(exhibit())


def test_the_comparison_is_b_minus_a_and_marks_changed_routes():
    same = exhibit(pinned=run())
    assert set(VIEWS["atlas-difference"].rows(same)["difference"].dropna()) == {0.0}
    rows = VIEWS["route-changes"].rows(exhibit())
    assert set(rows["site_id"]) == {1}
    assert rows["unit_id"][rows["first_changed"]].tolist() == [0, 1]
    caption = VIEWS["route-changes"].caption(exhibit())
    assert "A: another text, gate one; B: a text" in caption


def test_the_unit_is_the_one_looked_at_last():
    rows = VIEWS["unit"].rows(exhibit(selection=Selection(site_id=1, units=(0, 2))))
    assert set(rows["site_id"]) == {0, 1, 2}
    assert "“·sat” at 2" in VIEWS["unit"].caption(exhibit(selection=Selection(site_id=1, units=(0, 2))))
    assert unit_name(run().trace, 3).startswith("“<b>” at 3")


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("unit", {"selection": Selection(site_id=1)}, "No unit is selected"),
        ("output", {"runs": (RecordedRun(name="t", trace=run().trace),)}, "holds no answer"),
        ("atlas-difference", {"pinned": None}, "No run is pinned as A"),
        ("route-changes", {"pinned": None}, "No run is pinned as A"),
        ("routing-value", {"routing_value": None}, "not measured"),
        ("flow", {"runs": (RecordedRun(name="t", trace=make_trace("L0.mlp: 0>E0", num_experts=1)),)}, "only site of"),
        ("map", {"runs": (RecordedRun(name="t", trace=make_trace("", num_experts=1)),)}, "nothing to draw"),
    ],
)
def test_a_view_without_anything_to_show_says_why(name: str, changes: dict[str, Any], reason: str):
    one = exhibit(**changes)
    one = dataclasses.replace(one, selection=one.selection.fitted(one.trace))
    assert reason in missing(one, name)
    assert missing(one, name).endswith(".")


def test_runs_of_other_routers_cannot_be_compared():
    other = RecordedRun(name="o", trace=make_trace("L0.mlp: 0>E0 1>E1", num_experts=2))
    assert missing(exhibit(pinned=other), "route-changes")


@pytest.mark.parametrize("name", ["map", "entropy-strip", "loss-strip"])
def test_captions_name_what_is_filtered(name: str):
    filtered = exhibit(selection=Selection(site_id=1, experts=(0, 2), status="dropped"))
    assert "Only units kept by E0, E2 and dropped units are lit." in VIEWS[name].caption(filtered)
    assert "Only" not in VIEWS[name].caption(exhibit())


def test_captions_name_the_site_the_input_and_changed_routing():
    one = exhibit(runs=(run(ROUTES, "my text", "capacity factor 0.5"),))
    assert site_name(one) == "L0 MLP"
    for name in ("map", "load", "entropy-strip"):
        caption = VIEWS[name].caption(one)
        assert "L0 MLP" in caption
        assert "my text, routing changed: capacity factor 0.5" in caption


@pytest.mark.parametrize("name", ["atlas", "load", "drop-strip", "flow"])
def test_pooled_statistics_count_all_inputs(name: str):
    alone, pooled = several(), dataclasses.replace(several(), options=ViewOptions(pooled=True))
    assert not alone.is_pooled
    assert pooled.is_pooled
    column = {"atlas": "load", "load": "load", "drop-strip": "requested", "flow": "units"}[name]
    of_one, of_all = VIEWS[name].rows(alone), VIEWS[name].rows(pooled)
    second = VIEWS[name].rows(dataclasses.replace(alone, index=1))
    assert of_all[column].sum() == of_one[column].sum() + second[column].sum()
    if name != "flow":
        assert "2 inputs pooled" in VIEWS[name].caption(pooled)


@pytest.mark.parametrize("name", ["map", "entropy-strip", "loss-strip", "output", "unit"])
def test_what_is_of_one_input_stays_so_when_statistics_are_pooled(name: str):
    pooled = dataclasses.replace(several(), options=ViewOptions(pooled=True))
    pd.testing.assert_frame_equal(VIEWS[name].rows(pooled), VIEWS[name].rows(several()))


def test_pooling_one_input_is_that_input():
    assert not exhibit(options=ViewOptions(pooled=True)).is_pooled
