"""What one visitor's page remembers between reruns: runs on show and under way, what is selected and pinned."""

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import streamlit as st

from analysis.exhibit import Exhibit, ViewOptions
from analysis.recorded_run import RecordedRun
from analysis.selection import Selection
from dashboard.notices import Notice, notice_of
from dashboard.showing import Showing
from uoe_model.errors import UoEError

if TYPE_CHECKING:
    from dashboard.model_tasks import ReleasedStudy
    from dashboard.worker import DeviceWorker, Job

KEY: Final = "page"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Made:
    """A checkpoint that the visitor had made.

    Attributes:
        label: as the picker lists it. record: content of its decomposition.json.
    """

    label: str
    kind: str
    record: dict[str, Any]


@dataclasses.dataclass(kw_only=True, slots=True)
class PageState:
    """One visitor's page. A run that fails or is cancelled leaves everything else as it was.

    Attributes:
        showing, index: the runs on show, and the one of them that is looked at.
        job: the work under way for this visitor; at most one.
        pinned, pinned_key: run A of the comparison, and how a link names it (None: a run of a file).
        made: the checkpoint that was made last, to be told and to be picked.
        study: what the released code was found to do, on the Guide.
        measuring: key and index of the run that the job measures.
        measured: what was measured on shown runs beyond the run itself, by (key, index) and kind.
        address, addresses, address_at: the address as the page last wrote or read it, those before, and when.
    """

    showing: Showing | None = None
    index: int = 0
    selection: Selection = dataclasses.field(default_factory=Selection)
    options: ViewOptions = dataclasses.field(default_factory=ViewOptions)
    pinned: RecordedRun | None = None
    pinned_key: str | None = None
    job: "Job[Any] | None" = None
    problem: Notice | None = None
    made: Made | None = None
    study: "ReleasedStudy | None" = None
    measuring: tuple[str, int] | None = None
    measured: dict[tuple[str, int, str], Any] = dataclasses.field(default_factory=dict)
    address: dict[str, str] = dataclasses.field(default_factory=dict)
    addresses: list[dict[str, str]] = dataclasses.field(default_factory=list)
    address_at: float = 0.0

    @property
    def run(self) -> RecordedRun | None:
        """The run that is looked at."""
        return None if self.showing is None else self.showing.runs[self.index]

    def exhibit(self) -> Exhibit:
        """Everything on show; there must be a run."""
        if self.showing is None:
            raise ValueError("nothing is on show")
        return Exhibit(
            runs=self.showing.runs,
            index=self.index,
            selection=self.selection,
            options=self.options,
            pool=self.showing.pool,
            pinned=self.pinned,
            routing_value=self.routing_value(),
        )

    def show(self, showing: Showing) -> None:
        """Put runs on show; what is selected stays as far as they have it."""
        is_recorded = showing.origin != "run"
        self.showing, self.index, self.problem = showing, showing.index, None
        wanted = showing.selection if is_recorded else dataclasses.replace(self.selection, units=())
        self.selection = wanted.fitted(showing.runs[self.index].trace)
        if is_recorded:
            self.options = showing.options
        if showing.pinned is not None:
            self.pin(showing.pinned, None)

    def look_at(self, index: int) -> None:
        """Look at another input of those on show."""
        if self.showing is not None and 0 <= index < len(self.showing.runs):
            self.index = index
            self.select(units=())

    def select(self, **changes: Any) -> None:
        """Change the selection; ids that the run does not have are left out."""
        if self.run is None:
            return
        if changes.get("site_id", self.selection.site_id) != self.selection.site_id:
            changes.setdefault("experts", ())
        self.selection = dataclasses.replace(self.selection, **changes).fitted(self.run.trace)

    def pin(self, run: RecordedRun | None, key: str | None) -> None:
        """Make a run A of the comparison; None ends the comparison."""
        self.pinned, self.pinned_key = run, key

    def pin_shown(self) -> None:
        """Make the run that is looked at A."""
        if self.showing is not None:
            self.pin(self.run, f"{self.showing.key}.{self.index}")

    def routing_value(self) -> pd.DataFrame | None:
        """What routing buys for the run looked at, if it was measured or recorded."""
        if self.showing is None:
            return None
        found = self.measured.get((self.showing.key, self.index, "routing value"))
        return self.showing.routing_value if found is None and self.index == self.showing.index else found

    def start(self, worker: "DeviceWorker", work: Any) -> None:
        """Queue work in place of what is still under way."""
        self.cancel()
        self.problem = None
        try:
            self.job = worker.submit(work)
        except UoEError as error:
            self.fail(error)

    def cancel(self) -> None:
        """Forget the job; one that has already started ends at its next step."""
        if self.job is not None:
            self.job.cancel()
            self.job = None

    def fail(self, error: BaseException) -> None:
        """Remember an error for the box; what is on show stays."""
        self.problem = notice_of(error)


def page_state() -> PageState:
    """The state of the visitor who is looking."""
    if KEY not in st.session_state:
        st.session_state[KEY] = PageState()
    state: PageState = st.session_state[KEY]
    return state
