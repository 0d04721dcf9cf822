"""The state of a visitor's page: what is shown, selected, pinned and under way, without a page."""

import dataclasses
from typing import Any

import pandas as pd
import pytest

from analysis.exhibit import ViewOptions
from analysis.recorded_run import RecordedRun
from analysis.selection import Selection
from dashboard.showing import Showing, new_showing
from dashboard.state import PageState
from tests.traces import make_trace
from uoe_model.errors import DeviceError

ROUTES = "L0.attention: 0>E0 1>E1; L0.mlp: 0>E1 1>E1"


def run(name: str = "a", routes: str = ROUTES) -> RecordedRun:
    return RecordedRun(name=name, trace=make_trace(routes, num_experts=2))


def state_with(**recorded: Any) -> PageState:
    state = PageState()
    state.show(new_showing("file", [run("a"), run("b")], **recorded))
    return state


class OneJob:
    """A worker that takes one thing and then no more."""

    def __init__(self) -> None:
        self.jobs: list[OneJob] = []
        self.cancelled = 0

    def submit(self, work: object) -> "OneJob":
        if self.jobs:
            raise DeviceError("Too many are waiting: try again.")
        self.jobs.append(self)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def test_nothing_is_on_show_at_first() -> None:
    state = PageState()
    assert state.run is None
    assert state.routing_value() is None
    state.select(experts=(1,))
    state.look_at(3)
    state.pin_shown()
    assert state == PageState()
    with pytest.raises(ValueError, match="nothing is on show"):
        state.exhibit()


def test_a_new_run_keeps_what_is_selected_but_no_units() -> None:
    state = state_with()
    state.select(site_id=1, experts=(1,), units=(0,))
    state.options = ViewOptions(atlas="utilisation")
    state.show(new_showing("run", [run()]))
    assert state.selection == Selection(site_id=1, experts=(1,))
    assert state.options.atlas == "utilisation"


def test_a_file_brings_its_own_selection_options_and_comparison() -> None:
    pinned, state = run("A"), PageState()
    state.select(site_id=0)
    state.show(
        new_showing(
            "file",
            [run("a"), run("b")],
            index=1,
            selection=Selection(site_id=1, units=(1,)),
            options=ViewOptions(pooled=True),
            pinned=pinned,
        )
    )
    assert (state.index, state.selection) == (1, Selection(site_id=1, units=(1,)))
    assert state.options.pooled
    assert (state.pinned, state.pinned_key) == (pinned, None)
    assert state.exhibit().is_pooled


def test_ids_that_a_run_does_not_have_are_never_selected() -> None:
    state = state_with()
    state.select(site_id=1, experts=(1, 7, -1), units=(0, 99))
    assert state.selection == Selection(site_id=1, experts=(1,), units=(0,))
    state.select(site_id=55)
    assert state.selection == Selection(site_id=0, units=(0,))


def test_another_site_has_other_experts() -> None:
    state = state_with()
    state.select(site_id=1, experts=(1,))
    state.select(site_id=0)
    assert state.selection.experts == ()
    state.select(site_id=1, experts=(0,))
    assert state.selection.experts == (0,)


def test_looking_at_another_input_forgets_the_units_only() -> None:
    state = state_with()
    state.select(site_id=1, experts=(1,), units=(0,))
    state.look_at(1)
    assert (state.index, state.selection) == (1, Selection(site_id=1, experts=(1,)))
    for wrong in (-1, 2):
        state.look_at(wrong)
        assert state.index == 1


def test_pinning_names_the_run_for_links() -> None:
    state = state_with(key="abc")
    state.look_at(1)
    state.pin_shown()
    assert (state.pinned, state.pinned_key) == (state.run, "abc.1")
    state.pin(None, None)
    assert state.exhibit().pinned is None


def test_a_measurement_belongs_to_the_input_it_was_made_of() -> None:
    recorded, measured = pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})
    state = state_with(key="abc", routing_value=recorded)
    assert state.routing_value() is recorded
    state.look_at(1)
    assert state.routing_value() is None
    state.measured["abc", 1, "routing value"] = measured
    assert state.routing_value() is measured
    state.show(dataclasses.replace(new_showing("run", [run()]), key="other"))
    assert state.routing_value() is None


def test_new_work_takes_the_place_of_the_old() -> None:
    state, first = state_with(), OneJob()
    state.start(first, "work")  # type: ignore[arg-type]
    assert state.job is first
    second = OneJob()
    state.start(second, "more")  # type: ignore[arg-type]
    assert (first.cancelled, state.job) == (1, second)
    state.cancel()
    state.cancel()
    assert (second.cancelled, state.job) == (1, None)


def test_a_full_queue_is_a_notice_and_what_is_shown_stays() -> None:
    state, worker = state_with(), OneJob()
    worker.submit("somebody else's")
    shown: Showing | None = state.showing
    state.start(worker, "work")  # type: ignore[arg-type]
    assert state.job is None
    assert state.problem is not None
    assert "Too many are waiting" in state.problem.sentence
    assert state.showing is shown
