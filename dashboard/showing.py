"""What can be on show: bundled examples, live runs and files; the server keeps the last ones, for links."""

import dataclasses
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import pandas as pd

from analysis.exhibit import ViewOptions
from analysis.exports.bundle import is_bundle, load_bundle
from analysis.pool import pool_traces
from analysis.recorded_run import RecordedRun, TraceTables
from analysis.selection import Selection
from dashboard.settings import MAX_KEPT_RUNS, MAX_KEPT_UNITS, MAX_TRACE_BYTES
from uoe_model.trace_io import load_trace

if TYPE_CHECKING:
    from dashboard.worker import RunRequest

Origin = Literal["example", "run", "file"]

EXAMPLES: Final[dict[str, Path]] = {
    kind: Path(__file__).parent / "examples" / f"{kind}.zip" for kind in ("text", "picture")
}
"""Recorded runs that come with the page, by the name that links use."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One of several inputs that could not be run, and why."""

    name: str
    sentence: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Showing:
    """One or several runs that are shown together.

    Attributes:
        key: names it in links; cannot be guessed, unless it is an example.
        runs: one per input, at least one.
        pool: tables of all of them together; None if there is only one.
        request: what was asked for; None for files, which cannot be measured further.
        pinned, selection, options, routing_value: as they were when a bundle was saved.
    """

    key: str
    origin: Origin
    runs: tuple[RecordedRun, ...]
    pool: TraceTables | None
    failures: tuple[Failure, ...] = ()
    request: "RunRequest | None" = None
    index: int = 0
    pinned: RecordedRun | None = None
    selection: Selection = dataclasses.field(default_factory=Selection)
    options: ViewOptions = dataclasses.field(default_factory=ViewOptions)
    routing_value: pd.DataFrame | None = None

    @property
    def num_units(self) -> int:
        """Units of all runs: what it costs to keep."""
        return sum(run.trace.num_units for run in self.runs)


def new_showing(origin: Origin, runs: Sequence[RecordedRun], *, key: str | None = None, **recorded: Any) -> Showing:
    """Put runs together under a new key."""
    pool = TraceTables(pool_traces([run.trace for run in runs])) if len(runs) > 1 else None
    return Showing(key=key or secrets.token_hex(8), origin=origin, runs=tuple(runs), pool=pool, **recorded)


def open_file(file: BinaryIO, name: str) -> Showing:
    """Open a saved trace or a run bundle.

    Raises:
        TraceError: it is neither, is damaged, too large, or contradicts itself.
    """
    if is_bundle(file):
        return _open_bundle(file, "file", None)
    trace = load_trace(file, max_bytes=MAX_TRACE_BYTES)
    return new_showing("file", [RecordedRun(name=name, trace=trace)])


def open_example(kind: str) -> Showing:
    """Open a bundled run."""
    with EXAMPLES[kind].open("rb") as file:
        return _open_bundle(file, "example", kind)


def _open_bundle(file: BinaryIO, origin: Origin, key: str | None) -> Showing:
    exhibit = load_bundle(file)
    return Showing(
        key=key or secrets.token_hex(8),
        origin=origin,
        runs=exhibit.runs,
        pool=exhibit.pool,
        index=exhibit.index,
        pinned=exhibit.pinned,
        selection=exhibit.selection,
        options=exhibit.options,
        routing_value=exhibit.routing_value,
    )


class ShowingStore:
    """The last runs of all visitors, found by key; the oldest are forgotten when there are too many."""

    def __init__(self, max_runs: int = MAX_KEPT_RUNS, max_units: int = MAX_KEPT_UNITS) -> None:
        self._max_runs, self._max_units = max_runs, max_units
        self._kept: OrderedDict[str, Showing] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, showing: Showing) -> None:
        """Keep it."""
        with self._lock:
            self._kept[showing.key] = showing
            while len(self._kept) > 1 and (
                len(self._kept) > self._max_runs or sum(one.num_units for one in self._kept.values()) > self._max_units
            ):
                self._kept.popitem(last=False)

    def get(self, key: str) -> Showing | None:
        """The runs with this key; None if they are forgotten or never were."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)
