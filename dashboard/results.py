"""What becomes of finished work: runs are put on show and kept for links, measurements stand beside their run."""

import dataclasses
from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.recorded_run import RecordedRun
from analysis.routing_value import input_routing_value_table
from dashboard import cache
from dashboard.model_tasks import DecomposeRequest, ReferenceRunRequest, ReleasedStudyRequest
from dashboard.showing import Failure, Showing, new_showing
from dashboard.state import Made, PageState
from dashboard.tasks import Finished, LossRequest, Outcome, RoutingValueRequest, RunRequest
from uoe_model.errors import Cancelled, InputError
from uoe_model.result import RunResult

if TYPE_CHECKING:
    from dashboard.worker import Job


def take_result(state: PageState) -> None:
    """Take what the visitor's job has made, which is done."""
    job, state.job = state.job, None
    if job is None or job.future.cancelled():
        return
    error = job.future.exception()
    if isinstance(error, Cancelled):
        return
    if error is not None:
        state.fail(error)
        return
    try:
        _take(state, job)
    except InputError as problem:
        state.fail(problem)


def ask_routing_value(state: PageState) -> None:
    """Measure what routing buys for the run that is looked at."""
    request, place = _request_of(state), state.index
    if request is not None:
        name, content = request.inputs[place]
        state.start(cache.device_worker(), RoutingValueRequest(model=request.model, name=name, content=content))
        state.measuring = _key(state)


def can_measure(state: PageState) -> bool:
    """Whether the run that is looked at can be measured further: its input and a model with a loss are at hand."""
    request = _request_of(state)
    return request is not None and request.model.has_loss


def _take(state: PageState, job: "Job[Any]") -> None:
    request, result = job.request, job.future.result()
    if isinstance(request, ReferenceRunRequest):
        showing = new_showing("run", [_of_reference(request, run) for run in result])
        cache.keep_showing(showing)
        state.show(showing)
        return
    if isinstance(request, ReleasedStudyRequest):
        state.study = result
        return
    if isinstance(request, DecomposeRequest):
        cache.forget_catalogue()
        label = request.target.name
        kind = next((model.kind for model in cache.catalogue().models if model.folder == request.target), "text")
        state.made = Made(label=label, kind=kind, record=result)
        st.session_state[f"wanted_{kind}"] = label
        return
    if isinstance(request, RunRequest):
        showing = show_finished(request, result)
        cache.keep_showing(showing)
        state.show(showing)
        changes = request.changes.single_changes()
        if changes and request.model.has_loss:
            name, content = request.inputs[0]
            work = LossRequest(model=request.model, name=name, content=content, changes=changes)
            state.start(cache.device_worker(), work)
            state.measuring = (showing.key, 0)
    elif state.measuring is not None and isinstance(request, LossRequest):
        changed = {knob: change.loss_change for knob, change in result.items()}
        state.measured[(*state.measuring, "loss changes")] = changed
    elif state.measuring is not None and isinstance(request, RoutingValueRequest):
        state.measured[(*state.measuring, "routing value")] = input_routing_value_table(result)


def _of_reference(request: ReferenceRunRequest, run: RunResult) -> RecordedRun:
    return RecordedRun(
        name=run.input.name,
        trace=run.trace,
        prediction=run.prediction,
        input=run.input,
        settings={"ids": request.text, "quirks_off": list(request.quirks.names_off()), "ties": request.ties},
        changes=request.changes(),
        notes=(run.trace.run.notes["padding"],) if run.trace.units.is_special.any() else (),
    )


def show_finished(request: RunRequest, finished: Finished) -> Showing:
    """Put the runs of a request together.

    Raises:
        InputError: none of several inputs could be run.
    """
    failures = tuple(
        Failure(name=outcome.name, sentence=outcome.problem) for outcome in finished.outcomes if outcome.result is None
    )
    if not _ran(finished):
        raise InputError(f"None of the {len(failures)} inputs could be run. {failures[0].name}: {failures[0].sentence}")
    pairs = zip(request.inputs, finished.outcomes, strict=True)
    kept = dataclasses.replace(request, inputs=tuple(one for one, outcome in pairs if outcome.result is not None))
    return new_showing(
        "run", [_recorded(request, outcome) for outcome in _ran(finished)], failures=failures, request=kept
    )


def _ran(finished: Finished) -> list[Outcome]:
    return [outcome for outcome in finished.outcomes if outcome.result is not None]


def _recorded(request: RunRequest, outcome: Outcome) -> RecordedRun:
    result = outcome.result
    if result is None:
        raise ValueError(f"{outcome.name} has no result")
    return RecordedRun(
        name=outcome.name,
        trace=result.trace,
        prediction=result.prediction,
        input=result.input,
        settings={
            "generation": dataclasses.asdict(request.generation),
            "changes": dataclasses.asdict(request.changes),
        },
        changes=request.changes.describe(),
        notes=outcome.notes,
    )


def _request_of(state: PageState) -> RunRequest | None:
    showing = state.showing
    return None if showing is None else showing.request


def _key(state: PageState) -> tuple[str, int] | None:
    return None if state.showing is None else (state.showing.key, state.index)
