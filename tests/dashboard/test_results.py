"""What becomes of finished work: shown, kept, measured, failed, or forgotten because it was cancelled."""

import dataclasses
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import cache
from dashboard.models import ModelEntry, read_entry
from dashboard.results import ask_routing_value, can_measure, show_finished, take_result
from dashboard.state import PageState
from dashboard.tasks import Finished, LossRequest, Outcome, RoutingChanges, RunRequest
from dashboard.widgets.progress import _describe
from dashboard.worker import Progress
from tests.dashboard.conftest import TEXT, boxes, open_page, run_text_on_page, shown_key, state_of
from uoe_model.errors import Cancelled, InputError
from uoe_model.generation import GenerationSettings
from uoe_model.result import RunResult
from uoe_model.run import run_text


@pytest.fixture(scope="module")
def model(models_dir: Path) -> ModelEntry:
    return read_entry(models_dir / "tiny-text", "tiny-text")


@pytest.fixture(scope="module")
def result(models_dir: Path) -> RunResult:
    return run_text(models_dir / "tiny-text", TEXT, max_new_tokens=0)


def request_of(model: ModelEntry, *names: str, **changes: Any) -> RunRequest:
    return RunRequest(
        model=model,
        inputs=tuple((name, TEXT) for name in names),
        generation=GenerationSettings(max_new_tokens=0),
        changes=RoutingChanges(**changes),
    )


def ran(name: str, result: RunResult) -> Outcome:
    return Outcome(name=name, result=result, notes=(f"{name} is small.",), problem="")


def failed(name: str) -> Outcome:
    return Outcome(name=name, result=None, notes=(), problem=f"{name} is empty: give at least one character.")


class Job:
    """Work that is done."""

    def __init__(self, request: Any, result: Any = None, error: BaseException | None = None) -> None:
        self.request = request
        self.future: Future[Any] = Future()
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def taken(job: Any, state: PageState | None = None) -> PageState:
    state = PageState() if state is None else state
    state.job = job
    take_result(state)
    return state


def test_a_finished_run_is_shown_and_kept_for_links(model: ModelEntry, result: RunResult) -> None:
    request = request_of(model, "text", gate="one", block="mlp")
    showing = show_finished(request, Finished(outcomes=(ran("text", result),)))
    run = showing.runs[0]
    assert (showing.origin, run.name, run.notes) == ("run", "text", ("text is small.",))
    assert run.changes == "gate one (MLP only)"
    assert run.settings["changes"]["gate"] == "one"
    assert run.trace is result.trace
    state = taken(Job(request_of(model, "text"), Finished(outcomes=(ran("text", result),))))
    assert state.showing is not None
    assert cache.find_showing(state.showing.key) is state.showing
    assert state.job is None


def test_inputs_that_failed_stand_beside_those_that_ran(model: ModelEntry, result: RunResult) -> None:
    outcomes = (ran("a", result), failed("b"), ran("c", result))
    showing = show_finished(request_of(model, "a", "b", "c"), Finished(outcomes=outcomes))
    assert [run.name for run in showing.runs] == ["a", "c"]
    assert [failure.name for failure in showing.failures] == ["b"]
    assert showing.request is not None
    assert [name for name, _ in showing.request.inputs] == ["a", "c"]  # one for each run, in their order


def test_inputs_of_one_name_are_told_apart_by_their_place(model: ModelEntry, result: RunResult) -> None:
    request = dataclasses.replace(request_of(model, "x", "x"), inputs=(("x", ""), ("x", TEXT)))
    showing = show_finished(request, Finished(outcomes=(failed("x"), ran("x", result))))
    assert showing.request is not None
    assert showing.request.inputs == (("x", TEXT),)


def test_if_nothing_ran_the_first_reason_is_told_and_what_is_shown_stays(model: ModelEntry, result: RunResult) -> None:
    with pytest.raises(InputError, match=r"None of the 2 inputs could be run. a: a is empty"):
        show_finished(request_of(model, "a", "b"), Finished(outcomes=(failed("a"), failed("b"))))
    state = taken(Job(request_of(model, "text"), Finished(outcomes=(ran("text", result),))))
    shown = state.showing
    taken(Job(request_of(model, "a", "b"), Finished(outcomes=(failed("a"), failed("b")))), state)
    assert state.showing is shown
    assert state.problem is not None
    assert "None of the 2" in state.problem.sentence


def test_an_error_is_a_notice_and_a_cancelled_run_is_nothing(model: ModelEntry) -> None:
    state = taken(Job(request_of(model, "text"), error=InputError("The text is empty: give one.")))
    assert state.problem is not None
    assert state.problem.sentence == "The text is empty: give one."
    assert taken(Job(request_of(model, "text"), error=Cancelled("stopped"))) == PageState()
    job = Job(request_of(model, "text"), None)
    job.future = Future()
    job.future.cancel()
    assert taken(job) == PageState()


def test_changed_routing_is_measured_next_one_change_at_a_time(
    model: ModelEntry, result: RunResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Worker:
        def submit(self, work: Any) -> str:
            asked.append(work)
            return "job"

    monkeypatch.setattr(cache, "device_worker", Worker)
    request = request_of(model, "text", capacity_factor=0.5, gate="one")
    state = taken(Job(request, Finished(outcomes=(ran("text", result),))))
    [work] = asked
    assert isinstance(work, LossRequest)
    assert {name: change.describe() for name, change in work.changes.items()} == {
        "capacity_factor": "capacity factor 0.5",
        "gate": "gate one",
    }
    assert state.showing is not None
    assert state.measuring == (state.showing.key, 0)


def test_only_live_runs_can_be_measured() -> None:
    state = PageState()
    assert not can_measure(state)
    state.show(cache.example("text"))
    assert not can_measure(state)
    ask_routing_value(state)
    assert state.job is None


def test_cancel_keeps_what_is_shown(page: AppTest) -> None:
    run_text_on_page(page, TEXT)
    before = shown_key(page)

    class Endless:
        """Work that never ends by itself."""

        progress = Progress(stage="generating", done=3, total=9, input_name="text", started_at=0.0)
        cancelled = False

        def is_done(self, timeout_s: float = 0) -> bool:
            return False

        def cancel(self) -> None:
            self.cancelled = True

    job = Endless()
    state_of(page).job = job  # type: ignore[assignment]
    page.run()
    assert boxes(page) == []
    assert "cancel" in [button.key for button in page.button]
    page.button(key="cancel").click().run()
    assert job.cancelled
    assert state_of(page).job is None
    assert shown_key(page) == before
    assert boxes(page) == []
    assert "cancel" not in [button.key for button in page.button]


def test_progress_names_the_input_and_how_far_it_is() -> None:
    progress = Progress(stage="reading", done=2, total=5, input_name="*a*", input_number=1, num_inputs=3)
    assert _describe(progress) == r"\*a\* (2 of 3): reading 2 of 5 …"
    assert _describe(Progress(stage="loading", input_name="text")) == "text: loading …"


def test_a_new_run_takes_the_place_of_one_under_way() -> None:
    page = open_page()
    run_text_on_page(page, TEXT)
    first = shown_key(page)
    run_text_on_page(page, "Something else entirely.")
    assert shown_key(page) != first
    assert state_of(page).exhibit().run.input.text == "Something else entirely."  # type: ignore[union-attr]
