"""What can be on show: examples, files and runs, and how many of them the server remembers."""

import io

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis.exports.bundle import save_bundle
from analysis.recorded_run import RecordedRun
from dashboard.showing import EXAMPLES, ShowingStore, new_showing, open_example, open_file
from dashboard.widgets.export import bundle_file
from tests.dashboard.broken_files import bundle, trace
from tests.dashboard.conftest import boxes, charts, open_page, run_text_on_page, shown_key, state_of, upload, words_on
from tests.traces import assert_traces_equal, make_trace
from uoe_model.errors import TraceError
from uoe_model.trace_io import save_trace

TEXT = "A text that is saved and opened again, word for word."


def runs(count: int = 1, units: int = 3) -> list[RecordedRun]:
    routes = "L0.mlp: " + " ".join(f"{unit}>E0" for unit in range(units))
    return [RecordedRun(name=str(number), trace=make_trace(routes, num_experts=2)) for number in range(count)]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_opens_under_its_own_name(kind: str) -> None:
    showing = open_example(kind)
    assert (showing.key, showing.origin, showing.failures) == (kind, "example", ())
    assert showing.runs[0].is_picture == (kind == "picture")
    assert showing.routing_value is not None


def test_keys_of_runs_cannot_be_guessed() -> None:
    keys = {new_showing("run", runs()).key for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def test_several_runs_are_pooled_and_one_is_not() -> None:
    assert new_showing("run", runs(1)).pool is None
    several = new_showing("run", runs(3))
    assert several.pool is not None
    assert several.pool.trace.num_units == several.num_units == 9


def test_the_oldest_runs_are_forgotten_first_and_a_look_keeps_them() -> None:
    store = ShowingStore(max_runs=2)
    first, second, third = (new_showing("run", runs()) for _ in range(3))
    store.put(first)
    store.put(second)
    assert store.get(first.key) is first  # looked at, so the second is the oldest now
    store.put(third)
    assert store.get(second.key) is None
    assert store.get(first.key) is first
    assert store.get(third.key) is third
    assert store.get("never") is None


def test_the_store_holds_so_many_units_but_always_the_newest_run() -> None:
    store = ShowingStore(max_runs=9, max_units=10)
    small, large = new_showing("run", runs(units=4)), new_showing("run", runs(units=30))
    store.put(small)
    store.put(large)
    assert store.get(small.key) is None
    assert store.get(large.key) is large


def test_a_bundle_and_a_trace_are_told_apart() -> None:
    assert open_file(io.BytesIO(bundle()), "b.zip").runs[0].name == "a text"
    opened = open_file(io.BytesIO(trace()), "t.zip")
    assert (opened.runs[0].name, opened.runs[0].prediction, opened.origin) == ("t.zip", None, "file")
    with pytest.raises(TraceError):
        open_file(io.BytesIO(b"neither"), "n.zip")


def test_a_saved_bundle_opens_without_a_model_and_shows_the_same(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    page.button(key="pin").click().run()
    state = state_of(page)
    state.select(site_id=3, experts=(1,), units=(4,))
    page.segmented_control(key="atlas_value").set_value("Utilisation").run()
    drawn = charts(page)
    data = bundle_file(state.exhibit())
    other = upload(open_page(), "Saved", ("run.zip", data))
    assert boxes(other) == []
    opened = state_of(other)
    assert opened.showing is not None
    assert opened.showing.origin == "file"
    assert_traces_equal(opened.showing.runs[0].trace, state.exhibit().trace)
    assert (opened.selection, opened.options) == (state.selection, state.options)
    assert opened.pinned is not None
    assert charts(other) == drawn
    assert "from a file" in words_on(other)


def test_a_saved_trace_opens_and_says_what_it_lacks(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    run, drawn = state_of(page).exhibit().run, charts(page)
    stream = io.BytesIO()
    save_trace(run.trace, stream)
    upload(page, "Saved", ("wall.zip", stream.getvalue()))
    assert boxes(page) == []
    opened = state_of(page).exhibit().run
    assert (opened.name, opened.prediction) == ("wall.zip", None)
    assert np.array_equal(opened.trace.assignments.expert_id, run.trace.assignments.expert_id)
    assert "A trace holds the routes" in words_on(page)
    left = charts(page)
    assert set(drawn) - set(left) == {"output"}
    assert all(left[name] == drawn[name] for name in left)


def test_a_bundle_of_several_inputs_comes_back_with_all_of_them(page: AppTest) -> None:
    upload(page, "Files", ("one.txt", b"one two three"), ("two.txt", b"four five"))
    page.button(key="input_after").click().run()
    stream = io.BytesIO()
    save_bundle(state_of(page).exhibit(), stream)
    upload(page, "Saved", ("both.zip", stream.getvalue()))
    state = state_of(page)
    assert boxes(page) == []
    assert state.showing is not None
    assert [run.name for run in state.showing.runs] == ["one.txt", "two.txt"]
    assert (state.index, page.query_params["input"]) == (1, "1")
    assert shown_key(open_page(**{"show": shown_key(page)})) == shown_key(page)


@pytest.mark.parametrize("routes", ["", "L0.mlp:"])
def test_a_trace_of_nothing_is_said_to_be_empty(page: AppTest, routes: str) -> None:
    stream = io.BytesIO()
    save_trace(make_trace(routes, num_experts=1), stream)
    upload(page, "Saved", ("empty.zip", stream.getvalue()))
    assert boxes(page) == []
    assert "valid and empty" in words_on(page)
