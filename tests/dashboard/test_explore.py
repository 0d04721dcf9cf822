"""Explore: what is on the page is what the run says, and every choice reaches all views."""

import dataclasses

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import uoe_model.run
from analysis.glossary import TERMS
from analysis.views import VIEWS
from dashboard import cache
from dashboard.samples import IMAGE_SAMPLES
from dashboard.views import explore
from dashboard.widgets import panels
from dashboard.widgets.chips import HINT
from dashboard.widgets.numbers import HEADLINES, SHORT
from tests.dashboard.broken_files import picture, png
from tests.dashboard.conftest import (
    IMAGE_MODEL,
    TEXT,
    TEXT_MODEL,
    boxes,
    charts,
    choose_source,
    maps,
    open_page,
    open_panel,
    plain,
    press,
    run_text_on_page,
    shown_key,
    state_of,
    upload,
    words_on,
)
from uoe_model.run import run_image, run_text

FIRST_CHARTS = {"atlas", "drop-strip", "output", "load"}


def buttons(page: AppTest) -> list[str]:
    return [button.key or "" for button in page.button]


def test_the_first_paint_is_the_recorded_text_with_everything_that_matters(page: AppTest) -> None:
    assert boxes(page) == []
    assert shown_key(page) == "text"
    assert maps(page) == ["token_map"]
    assert set(charts(page)) == FIRST_CHARTS
    words = words_on(page)
    assert "example; live model ready" in words
    for term in HEADLINES:
        assert SHORT.get(term, TERMS[term].name) in words
    assert words.count("test set ") >= 3
    assert HINT in words
    assert state_of(page).job is None


def test_the_picture_example_is_one_click_away(page: AppTest) -> None:
    page.button(key="other_example").click().run()
    assert boxes(page) == []
    assert shown_key(page) == "picture"
    assert maps(page) == ["picture_map"]
    drawn = charts(open_panel(page, "Loss and entropy"))
    assert "entropy-strip" in drawn
    assert "loss-strip" not in drawn
    page.button(key="other_example").click().run()
    assert shown_key(page) == "text"
    assert {"entropy-strip", "loss-strip"} <= set(charts(page))


def test_a_folder_that_is_no_checkpoint_is_named_in_one_sentence(page: AppTest) -> None:
    assert "holiday is no checkpoint: it has no config.json" in words_on(page)
    assert page.selectbox(key="model_text").options[-1] == TEXT_MODEL


def test_a_text_is_routed_as_run_text_routes_it(page_with_run: AppTest, models_dir) -> None:
    expected = run_text(models_dir / TEXT_MODEL, TEXT, max_new_tokens=3).trace
    run = state_of(page_with_run).run
    assert run is not None
    for name in ("site_id", "unit_id", "expert_id", "status"):
        assert np.array_equal(getattr(run.trace.assignments, name), getattr(expected.assignments, name)), name
    assert set(run.trace.units.phase.tolist()) == {"prefill", "decode"}
    assert "live run" in words_on(page_with_run)
    assert "untrained" in words_on(page_with_run)


@pytest.mark.parametrize("panel", panels.PANELS)
@pytest.mark.parametrize("example", ["text", "picture"])
def test_every_panel_of_both_examples_is_drawn(example: str, panel: str) -> None:
    page = open_panel(open_page(show=example), panel)
    assert boxes(page) == []
    assert maps(page) == [f"{'token' if example == 'text' else 'picture'}_map"]


def test_every_number_of_the_table_has_a_definition(page: AppTest) -> None:
    open_panel(page, panels.NUMBERS)
    numbers = next(frame.value for frame in page.dataframe if "Definition" in frame.value)
    assert (numbers["Definition"].str.len() > 10).all()
    assert {"dropped assignments", "router entropy", "load-balancing loss"} <= set(numbers["Number"])


def test_knobs_change_one_run_and_the_page_says_what_each_did_to_the_loss(page: AppTest) -> None:
    page.selectbox(key="knob_capacity_factor").set_value("never full")
    page.selectbox(key="knob_top_k").set_value("3")
    run_text_on_page(page, TEXT)
    assert boxes(page) == []
    run = state_of(page).run
    assert run is not None
    assert run.trace.sites.top_k.tolist() == [3] * 4
    assert np.isnan(run.trace.sites.capacity_factor).all()
    changed = state_of(page).measured[(shown_key(page), 0, "loss changes")]
    assert set(changed) == {"num_experts_per_tok", "capacity_factor"}
    page.run()
    words = words_on(page)
    assert "3 experts per unit, never full" in words
    for change in changed.values():
        assert f"{change:+.3f} nats" in words


def test_a_picture_is_routed_as_run_image_routes_it(page: AppTest, models_dir) -> None:
    sample = IMAGE_SAMPLES[0]
    choose_source(page, "Images")
    page.selectbox(key="model_image").set_value(IMAGE_MODEL)
    page.selectbox(key="picture_sample").set_value(sample.title)
    press(page, "run")
    assert boxes(page) == []
    run = state_of(page).run
    assert run is not None
    expected = run_image(models_dir / IMAGE_MODEL, sample.path).trace.assignments
    assert np.array_equal(run.trace.assignments.expert_id, expected.expert_id)
    assert maps(page) == ["picture_map"]


def test_a_long_text_runs_as_consecutive_examples(page: AppTest) -> None:
    run_text_on_page(page, TEXT * 6)
    run = state_of(page).run
    assert run is not None
    assert run.trace.num_examples > 1
    assert f"in {run.trace.num_examples} examples" in words_on(page)


def test_several_files_run_together_and_a_bad_one_is_left_out_by_name(page: AppTest) -> None:
    files = [("one.txt", b"one two"), ("t.jsonl", b'{"text": "good"}\n{"text": "too long ' + b"x" * 200_001 + b'"}')]
    upload(page, "Files", *files, ("three.txt", b"three"))
    assert boxes(page) == []
    state = state_of(page)
    assert state.showing is not None
    assert [run.name for run in state.showing.runs] == ["one.txt", "t.jsonl row 0", "three.txt"]
    [failure] = state.showing.failures
    assert failure.name == "t.jsonl row 1"
    assert "t.jsonl row 1 was left out" in words_on(page).replace("**", "")
    page.button(key="input_after").click().run()
    assert (state.index, page.query_params["input"]) == (1, "1")
    page.toggle(key="pooled").set_value(True).run()
    assert boxes(page) == []
    assert state.exhibit().is_pooled
    pooled = sum(run.trace.num_units for run in state.showing.runs)
    assert state.exhibit().statistics.trace.num_units == pooled
    assert page.button(key="input_after").click().run().selectbox(key="input_chosen").value == 2
    assert page.button(key="input_after").disabled


def test_all_inputs_that_cannot_be_run_are_one_sentence(page: AppTest) -> None:
    upload(page, "Images", ("a.png", b"no"), ("b.png", picture("PNG")[:50]))
    [box] = boxes(page)
    assert "None of the 2 inputs could be run" in box
    assert shown_key(page) == "text"


def test_the_rows_of_a_table_are_inputs_from_the_column_that_was_named(page: AppTest) -> None:
    choose_source(page, "Files")
    page.text_input(key="text_column").set_value("title")
    upload(page, "Files", ("t.csv", b"text,title\nlong one,short\n,empty\nlong,other\n"))
    assert boxes(page) == []
    state = state_of(page)
    assert state.showing is not None
    assert state.showing.request is not None
    assert state.showing.request.inputs == (
        ("t.csv row 0", "short"),
        ("t.csv row 1", "empty"),
        ("t.csv row 2", "other"),
    )


def test_pin_run_compare_and_unpin(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    page.button(key="pin").click().run()
    state = state_of(page)
    pinned, key = state.run, shown_key(page)
    assert pinned is not None
    assert state.pinned is pinned
    assert page.query_params["a"] == f"{key}.0"
    assert page.button(key="pin").disabled
    assert "A is the run on show" in words_on(open_panel(page, panels.COMPARE))
    page.selectbox(key="knob_capacity_factor").set_value("0.25")
    run_text_on_page(page, TEXT)
    assert shown_key(page) != key
    assert state_of(page).pinned is pinned
    assert {"atlas-difference", "route-changes"} <= set(charts(page))
    words, name = words_on(page), pinned.name
    assert f"**A: {name}** · routing as trained" in words
    assert f"**B: {name}** · capacity factor 0.25" in words
    page.button(key="chip_a").click().run()
    assert boxes(page) == []
    assert state_of(page).pinned is None
    assert "a" not in page.query_params
    assert "Press Pin as A above" in words_on(page).replace("**", "")


def test_another_text_is_compared_as_far_as_it_can_be(page_with_run: AppTest, page: AppTest) -> None:
    page.button(key="pin").click().run()
    run_text_on_page(page, "Nothing in common.")
    assert boxes(open_panel(page, panels.COMPARE)) == []


def test_chips_show_the_selection_and_take_it_away(page: AppTest) -> None:
    site = int(state_of(page).selection.site_id or 0)
    state_of(page).select(experts=(1, 2), units=(3,), status="dropped", pinned=((site, 1),))
    page.run()
    chips = [key for key in buttons(page) if key.startswith("chip_")]
    assert chips == ["chip_expert_1", "chip_expert_2", "chip_status", "chip_unit_3", "chip_pinned"]
    assert page.query_params["experts"] == "1-2"
    for key in chips:
        page.button(key=key).click().run()
        assert key not in buttons(page)
    assert boxes(page) == []
    assert not state_of(page).selection.is_filter
    assert HINT in words_on(page)
    assert set(page.query_params) == {"show", "site"}


def test_options_change_their_figure_and_the_address(page: AppTest) -> None:
    first = charts(page)
    page.segmented_control(key="atlas_value").set_value("Dropped share").run()
    page.segmented_control(key="strip_sites").set_value("all sites").run()
    assert boxes(page) == []
    then = charts(page)
    assert then["atlas"] != first["atlas"]
    assert then["drop-strip"] != first["drop-strip"]
    assert {name for name in FIRST_CHARTS if then[name] == first[name]} == FIRST_CHARTS - {"atlas", "drop-strip"}
    assert (page.query_params["atlas"], page.query_params["strip"]) == ("drop_share", "all")


def test_what_was_chosen_on_the_map_reaches_all_views(page: AppTest) -> None:
    before = charts(page)
    version = f"{shown_key(page)}.0"
    choice = {"version": version, "turn": 1, "site": 3, "experts": [0], "units": [2], "status": None, "pinned": []}
    page.session_state["token_map"] = {"choice": choice}
    page.run()
    selection = state_of(page).selection
    assert (selection.site_id, selection.experts, selection.units) == (3, (0,), (2,))
    assert {"chip_expert_0", "chip_unit_2"} <= set(buttons(page))
    after = charts(page)
    assert "unit" in after
    assert all(after[name] != before[name] for name in ("load", "drop-strip", "atlas"))


@pytest.mark.parametrize(
    ("points", "expected"),
    [([{"customdata": [3, 1, 0.5]}], (3, (1,))), ([], (2, ()))],
    ids=["a cell", "beside the cells"],
)
def test_a_click_on_the_atlas_selects_its_expert(
    monkeypatch: pytest.MonkeyPatch, points: list[object], expected: tuple[int, tuple[int, ...]]
) -> None:
    state = explore.PageState()
    state.show(cache.example("text"))
    state.select(site_id=2, experts=(4,), status="dropped")
    monkeypatch.setattr(explore.st, "session_state", {"chart_atlas": {"selection": {"points": points}}})
    explore._select_in_atlas(state)
    assert (state.selection.site_id, state.selection.experts) == expected


@pytest.mark.parametrize(
    ("customdata", "experts", "status"),
    [([1, 5], (5,), None), ([1, -1], (), "dropped"), ([1, -2], (), "unrouted")],
)
def test_a_click_on_the_flow_selects_an_expert_or_those_that_have_none(
    monkeypatch: pytest.MonkeyPatch, customdata: list[int], experts: tuple[int, ...], status: str | None
) -> None:
    state = explore.PageState()
    state.show(cache.example("text"))
    points = [{"customdata": customdata}]
    monkeypatch.setattr(panels.st, "session_state", {"chart_flow": {"selection": {"points": points}}})
    panels._select_in_flow(state)
    assert (state.selection.site_id, state.selection.experts, state.selection.status) == (1, experts, status)


def test_what_routing_buys_is_recorded_for_the_example_and_measured_for_a_run(page: AppTest) -> None:
    assert "routing-value" in charts(open_panel(page, panels.VALUE))
    run_text_on_page(page, TEXT)
    assert "routing-value" not in charts(page)
    press(page, "measure_value")
    assert boxes(page) == []
    value = state_of(page).routing_value()
    assert value is not None
    assert set(value["block"]) == {"attention", "mlp", "both"}
    assert "routing-value" in charts(page)


def test_a_file_cannot_be_measured_and_the_page_says_why(page: AppTest) -> None:
    page.button(key="other_example").click().run()
    state_of(page).showing = dataclasses.replace(state_of(page).showing, routing_value=None)
    open_panel(page, panels.VALUE)
    assert page.button(key="measure_value").disabled
    assert "Only a live run can be measured" in words_on(page)


@pytest.mark.parametrize("name", [name for name in VIEWS if VIEWS[name].figure is not None])
def test_a_view_that_fails_leaves_the_others(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    page.button(key="pin").click().run()
    state_of(page).pinned = dataclasses.replace(cache.example("text").runs[0])
    state_of(page).select(units=(5,))
    panel = next((key for key, names in IN_PANEL.items() if name in names), panels.SITE)
    drawn = set(charts(open_panel(page, panel)))
    assert name in drawn
    broken = {**VIEWS, name: dataclasses.replace(VIEWS[name], figure=fail)}
    monkeypatch.setattr("dashboard.widgets.charts.VIEWS", broken)
    cache._part.clear()
    page.run()
    [box] = boxes(page)
    assert "could not be drawn" in box
    assert "secret" not in box
    assert "secret detail" in caplog.text
    assert set(charts(page)) == drawn - {name}
    assert maps(page) == ["token_map"]


IN_PANEL = {
    panels.STRIPS: {"loss-strip", "entropy-strip"},
    panels.FLOW: {"flow"},
    panels.COMPARE: {"atlas-difference", "route-changes"},
    panels.VALUE: {"routing-value"},
}


def test_a_mistake_in_a_run_is_one_sentence_without_its_text(
    page_with_run: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("secret detail")

    before = shown_key(page_with_run)
    monkeypatch.setattr(uoe_model.run, "run_text_on", fail)
    run_text_on_page(page_with_run, "hello")
    [box] = boxes(page_with_run)
    assert "mistake in the program" in box
    assert "secret" not in box
    assert "secret detail" in caplog.text
    assert shown_key(page_with_run) == before


def test_running_out_of_memory_is_one_sentence(page_with_run: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    before = shown_key(page_with_run)
    monkeypatch.setattr(uoe_model.run, "run_text_on", fail)
    run_text_on_page(page_with_run, "too much")
    [box] = boxes(page_with_run)
    assert "not enough memory" in box
    assert shown_key(page_with_run) == before


@pytest.mark.parametrize(("source", "key"), [("Files", "run"), ("Images", "run"), ("Saved", "open_trace")])
def test_a_missing_file_is_one_sentence(page: AppTest, source: str, key: str) -> None:
    press(choose_source(page, source), key)
    [box] = boxes(page)
    assert "There is no" in box
    assert "choose" in box


def test_too_many_files_are_one_sentence(page: AppTest) -> None:
    upload(page, "Files", *((f"{number}.txt", b"a") for number in range(65)))
    [box] = boxes(page)
    assert "65 inputs were chosen: at most 64" in box


@pytest.mark.parametrize(("mode", "file_format"), [("CMYK", "JPEG"), ("I;16", "PNG"), ("1", "PNG"), ("RGBA", "WEBP")])
def test_unusual_pictures_are_run(page: AppTest, mode: str, file_format: str) -> None:
    upload(page, "Images", ("odd.bin", picture(file_format, mode)))
    assert boxes(page) == []
    assert maps(page) == ["picture_map"]


def test_a_picture_of_one_pixel_runs_and_the_page_says_what_that_means(page: AppTest) -> None:
    upload(page, "Images", ("dot.png", png(1, 1, b"\0\xff\0\0")))
    assert boxes(page) == []
    assert "only 1 x 1 pixels" in words_on(page)


def test_markup_in_a_file_name_stays_text(page: AppTest) -> None:
    upload(page, "Files", ("![x](http://elsewhere.example/a.png) :red[hi] $x$.txt", b""))
    [error] = page.error
    assert "![x](" not in error.value
    assert ":red[" not in error.value
    assert "![x](" in plain(error.value)
