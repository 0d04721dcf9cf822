"""What one visitor's page remembers between reruns: the run on screen, the one under way, and what is selected."""

import dataclasses
import uuid
from typing import Final, Literal

import streamlit as st

from dashboard.notices import Notice, notice_of
from dashboard.worker import DeviceWorker, Finished, Job, RunRequest
from uoe_model.errors import UoEError
from uoe_model.result import ClassPrediction, ImageInput, TextInput, TextPrediction
from uoe_model.trace import RoutingTrace

KEY: Final = "page"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShownRun:
    """What the page shows: a live run, or a trace from a file, which has neither prediction nor input.

    Attributes:
        run_id: different for every run; caches and maps know it by this.
        changes: what the visitor changed about the routing, in words; "" if nothing or unknown.
    """

    run_id: str
    name: str
    origin: Literal["run", "file"]
    trace: RoutingTrace
    prediction: ClassPrediction | TextPrediction | None
    input: TextInput | ImageInput | None
    notes: tuple[str, ...]
    changes: str


@dataclasses.dataclass(kw_only=True, slots=True)
class PageState:
    """One visitor's page. A run that fails leaves `run` as it was."""

    run: ShownRun | None = None
    job: Job | None = None
    problem: Notice | None = None
    site_id: int | None = None
    unit_id: int | None = None
    expert_id: int | None = None
    wants_run: bool = False

    def start(self, worker: DeviceWorker, request: RunRequest) -> None:
        """Queue a run in place of one that is still under way."""
        self.cancel()
        self.problem = None
        try:
            self.job = worker.submit(request)
        except UoEError as error:
            self.fail(error)

    def finish(self) -> None:
        """Take the result of the job, which is done."""
        job, self.job = self.job, None
        if job is None or job.future.cancelled():
            return
        error = job.future.exception()
        if error is not None:
            self.fail(error)
        else:
            self._show(_live_run(job.request, job.future.result()))

    def cancel(self) -> None:
        """Forget the job; one that has already started ends by itself and is not shown."""
        if self.job is not None:
            self.job.future.cancel()
            self.job = None

    def open_trace(self, trace: RoutingTrace, name: str) -> None:
        """Show a trace from a file in place of a run."""
        self.problem = None
        self._show(
            ShownRun(
                run_id=uuid.uuid4().hex,
                name=name,
                origin="file",
                trace=trace,
                prediction=None,
                input=None,
                notes=(),
                changes="",
            )
        )

    def fail(self, error: BaseException) -> None:
        """Remember an error for the box; the run on screen stays."""
        self.problem = notice_of(error)

    def select(self, *, site_id: int, unit_id: int | None, expert_id: int | None) -> None:
        """Select a site, and in it perhaps a unit and an expert."""
        self.site_id, self.unit_id, self.expert_id = site_id, unit_id, expert_id

    def _show(self, run: ShownRun) -> None:
        """Show a run, at the same site as before if it has that."""
        self.run, self.unit_id, self.expert_id = run, None, None
        known = run.trace.sites.site_id.tolist()
        if self.site_id not in known:
            self.site_id = known[0] if known else None


def page_state() -> PageState:
    """The state of the visitor who is looking."""
    if KEY not in st.session_state:
        st.session_state[KEY] = PageState()
    state: PageState = st.session_state[KEY]
    return state


def _live_run(request: RunRequest, finished: Finished) -> ShownRun:
    result = finished.result
    return ShownRun(
        run_id=uuid.uuid4().hex,
        name=request.name,
        origin="run",
        trace=result.trace,
        prediction=result.prediction,
        input=result.input,
        notes=finished.notes,
        changes=request.changes.describe(),
    )
