"""Explore, empty and full: what is on the page is what the run says."""

import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis.glossary import TERMS
from dashboard.samples import IMAGE_SAMPLES
from dashboard.widgets import results
from tests.dashboard.conftest import (
    IMAGE_MODEL,
    TEXT_MODEL,
    boxes,
    choose_source,
    run_text_on_page,
    state_of,
    upload,
)
from uoe_model.run import run_image, run_text
from uoe_model.trace_io import load_trace

TEXT = "Ten small experts sat on a wall, and ten more came by."


def figures(page: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in page.get("plotly_chart")]


def titles(page: AppTest) -> list[str]:
    return [figure["layout"]["title"]["text"] for figure in figures(page)]


def test_the_first_paint_says_what_to_do_and_computes_nothing(page: AppTest) -> None:
    assert boxes(page) == []
    assert any("Nothing has run yet" in text.value for text in page.markdown)
    assert not page.get("plotly_chart")
    state = state_of(page)
    assert (state.run, state.job, state.problem) == (None, None, None)


def test_the_header_names_every_deviation_with_its_defects(page: AppTest) -> None:
    table = page.table[0].value
    assert table["Decision"].str.startswith(tuple(f"{number}. " for number in range(1, 8))).all()
    assert {"L1", "L2", "L5", "L8", "M1", "M3"} <= set(" ".join(table["Repairs"]).replace(",", "").split())


def test_a_folder_that_is_no_checkpoint_is_named_in_one_sentence(page: AppTest) -> None:
    captions = [caption.value.replace("\\", "") for caption in page.caption]
    assert any("holiday is no checkpoint: it has no config.json" in caption for caption in captions)
    assert page.selectbox(key="model_text").options[-1] == TEXT_MODEL


def test_a_text_is_routed_as_run_text_routes_it(page_with_run: AppTest, models_dir: Any) -> None:
    expected = run_text(models_dir / TEXT_MODEL, TEXT, max_new_tokens=3).trace
    run = state_of(page_with_run).run
    assert run is not None
    for name in ("site_id", "unit_id", "expert_id", "status"):
        assert np.array_equal(getattr(run.trace.assignments, name), getattr(expected.assignments, name)), name
    assert set(run.trace.units.phase.tolist()) == {"prefill", "decode"}


def test_a_run_shows_every_panel(page_with_run: AppTest) -> None:
    assert boxes(page_with_run) == []
    assert len(page_with_run.get("bidi_component")) == 1
    expected = ("Next token", "Relative load", "Load of every expert", "Dropped", "Loss", "Router entropy")
    assert len(titles(page_with_run)) == len(expected)
    for title, start in zip(titles(page_with_run), expected, strict=True):
        assert title.startswith(start)
    for figure in figures(page_with_run)[1:]:
        assert figure["layout"]["xaxis"]["title"]["text"]
    assert [metric.label for metric in page_with_run.metric][:2] == ["dropped share", "dropped units"]
    assert any("self-checks passed" in expander.label for expander in page_with_run.expander)


def test_an_untrained_model_is_called_untrained(page_with_run: AppTest) -> None:
    assert any("**untrained**" in warning.value for warning in page_with_run.warning)


def test_every_number_has_a_definition(page_with_run: AppTest) -> None:
    tables = [frame.value for frame in page_with_run.dataframe]
    numbers = next(table for table in tables if "Definition" in table)
    assert (numbers["Definition"].str.len() > 10).all()
    assert {"dropped assignments", "router entropy", "load-balancing loss"} <= set(numbers["Number"])


def test_the_site_of_the_map_is_the_site_of_the_page(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    page.session_state["token_map"] = {"choice": {"site": 3, "unit": 2}}
    page.run()
    assert state_of(page).site_id == 3
    assert sum("L1 MLP" in title for title in titles(page)) == 2


def test_knobs_change_one_run_and_the_page_says_so(page: AppTest) -> None:
    page.selectbox(key="knob_capacity_factor").set_value("never full")
    page.selectbox(key="knob_top_k").set_value("3")
    run_text_on_page(page, TEXT)
    run = state_of(page).run
    assert run is not None
    assert run.trace.sites.top_k.tolist() == [3] * 4
    assert np.isnan(run.trace.sites.capacity_factor).all()
    assert any("3 experts per unit, never full" in caption.value.replace("\\", "") for caption in page.caption)


def test_a_picture_is_routed_as_run_image_routes_it(page: AppTest, models_dir: Any) -> None:
    sample = IMAGE_SAMPLES[0]
    choose_source(page, "Picture")
    page.selectbox(key="model_image").set_value(IMAGE_MODEL)
    page.selectbox(key="picture_sample").set_value(sample.title)
    page.button(key="run").click().run()
    assert boxes(page) == []
    run = state_of(page).run
    assert run is not None
    expected = run_image(models_dir / IMAGE_MODEL, sample.path).trace.assignments
    assert np.array_equal(run.trace.assignments.expert_id, expected.expert_id)
    assert "Class probabilities" in titles(page)
    assert "Loss of every token" not in titles(page)


def test_a_long_text_runs_as_consecutive_examples(page: AppTest) -> None:
    run_text_on_page(page, TEXT * 6)
    run = state_of(page).run
    assert run is not None
    assert run.trace.num_examples > 1
    assert any(f"in {run.trace.num_examples} examples" in text.value for text in page.markdown)


def test_a_saved_trace_opens_without_a_model_and_shows_the_same(page_with_run: AppTest, page: AppTest) -> None:
    run = state_of(page_with_run).run
    assert run is not None
    upload(page, "Trace", "wall.zip", results.trace_file(run))
    assert boxes(page) == []
    opened = state_of(page).run
    assert opened is not None
    assert opened.origin == "file"
    assert np.array_equal(opened.trace.assignments.expert_id, run.trace.assignments.expert_id)
    live = {figure["layout"]["title"]["text"]: figure for figure in figures(page_with_run)}
    for figure in figures(page):
        assert figure == live[figure["layout"]["title"]["text"]]
    assert any("live runs" in info.value for info in page.info)


def test_saving_is_loading_backwards(page_with_run: AppTest, tmp_path: Any) -> None:
    run = state_of(page_with_run).run
    assert run is not None
    path = tmp_path / "trace.zip"
    path.write_bytes(results.trace_file(run))
    assert load_trace(path).run == run.trace.run


def test_a_view_that_fails_leaves_the_others(
    page_with_run: AppTest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(results, "build_atlas_figure", fail)
    page_with_run.run()
    [box] = boxes(page_with_run)
    assert "The atlas could not be drawn" in box
    assert "secret" not in box
    assert "secret detail" in caplog.text
    assert any(title.startswith("Dropped") for title in titles(page_with_run))
    assert len(titles(page_with_run)) == 5
    monkeypatch.undo()
    assert boxes(page_with_run.run()) == []


def test_the_guide_defines_every_word() -> None:
    def draw() -> None:
        from dashboard.views import guide

        guide.render()

    app = AppTest.from_function(draw, default_timeout=60).run()
    words = next(frame.value for frame in app.dataframe if "Meaning" in frame.value)
    assert words["Word"].tolist() == [term.name for term in TERMS.values()]
