"""Where models run: one thread per device, so that visitors wait for each other instead of sharing its memory."""

import dataclasses
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final, Generic, Literal, TypeVar

from dashboard.tasks import (
    Finished,
    LossRequest,
    Outcome,
    Request,
    RoutingChanges,
    RoutingValueRequest,
    RunRequest,
    memory_errors,
)
from uoe_model.errors import DeviceError, UoEError
from uoe_model.watch import Stage, check_cancelled

__all__ = [
    "DeviceWorker",
    "Finished",
    "Job",
    "LossRequest",
    "Outcome",
    "Progress",
    "RoutingChanges",
    "RoutingValueRequest",
    "RunRequest",
    "WrittenToken",
]

MAX_WAITING: Final = 16

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WrittenToken:
    """A token that was just generated: its text, and its first kept expert at every site (-1: none)."""

    text: str
    experts: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a job was at one moment.

    Attributes:
        stage: `waiting` in the queue, `loading` the model, then what the run reports.
        done, total: windows, tokens or measurements of this stage; total is 0 where nothing can be counted.
        started_at: seconds since 1970; None while it waits.
        input_name, input_number, num_inputs: the input it is at, 0-based.
        tokens: those generated for this input so far.
    """

    stage: Stage | Literal["waiting", "loading"] = "waiting"
    done: int = 0
    total: int = 0
    started_at: float | None = None
    input_name: str = ""
    input_number: int = 0
    num_inputs: int = 1
    tokens: tuple[WrittenToken, ...] = ()


class Job(Generic[T]):
    """Work that waits or is under way; any thread may look at it or cancel it.

    Attributes:
        request: what was asked for. future: its result or its error.
    """

    def __init__(self, request: Request[T], queue: "Callable[[Job[T]], Future[T]]") -> None:
        self.request = request
        self._cancelled = threading.Event()
        self._progress = Progress(input_name=request.name)  # replaced whole, by the worker's thread only
        self.future = queue(self)

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        return self._progress

    def is_done(self, timeout_s: float = 0) -> bool:
        """Wait at most so long, then say whether it has finished, failed or been cancelled."""
        if not self.future.done():  # `wait` does not count what was cancelled while it was waiting
            wait([self.future], timeout=timeout_s)
        return self.future.done()

    def cancel(self) -> None:
        """Take it out of the queue; if it runs already, it ends with `Cancelled` at its next check."""
        self._cancelled.set()
        self.future.cancel()

    def is_cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self._cancelled.is_set()

    def begin(self) -> None:
        """It leaves the queue."""
        self._change(stage="loading", started_at=time.time())

    def begin_input(self, number: int, total: int, name: str) -> None:
        """It comes to another input."""
        self._change(
            stage="reading", done=0, total=0, input_name=name, input_number=number, num_inputs=total, tokens=()
        )

    def report(self, stage: Stage, done: int, total: int) -> None:
        """It has come this far."""
        self._change(stage=stage, done=done, total=total)

    def token(self, text: str, experts: tuple[int, ...]) -> None:
        """It has written one more token."""
        self._change(tokens=(*self._progress.tokens, WrittenToken(text=text, experts=experts)))

    def _change(self, **changes: Any) -> None:
        self._progress = dataclasses.replace(self._progress, **changes)


class DeviceWorker:
    """Does what is asked for one after the other, in the order it came; `prepare` runs first, in its thread."""

    def __init__(self, load: Callable[[Any], Any], prepare: Callable[[], None] | None = None) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device", initializer=prepare)
        self._lock = threading.Lock()
        self._jobs: list[Job[Any]] = []

    def submit(self, request: Request[T]) -> Job[T]:
        """Put a request at the end of the queue.

        Raises:
            DeviceError: too many are waiting.
        """
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.future.done()]
            if len(self._jobs) > MAX_WAITING:
                raise DeviceError(f"{len(self._jobs)} runs are waiting for this machine: try again in a minute.")
            job = Job(request, lambda job: self._pool.submit(self._run, job))
            self._jobs.append(job)
            return job

    def ahead(self, job: Job[Any]) -> int:
        """How many others must finish before this one starts; 0 as soon as it runs."""
        with self._lock:
            waiting = [other for other in self._jobs if not other.future.done()]
        return waiting.index(job) if job in waiting else 0

    def _run(self, job: Job[T]) -> T:
        job.begin()
        try:
            check_cancelled(job)
            with memory_errors(job.request.name, job.request.model):
                loaded = None if job.request.model is None else self._load(job.request.model)
            return job.request.work(loaded, job)
        except UoEError as error:
            # The page keeps the error; its traceback would keep the tensors of the run that failed.
            error.__context__ = None
            raise error.with_traceback(None) from None
