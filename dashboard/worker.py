"""Where models run: one thread per device, so that visitors wait for each other instead of sharing its memory."""

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Literal

from dashboard.models import ModelEntry
from uoe_model.errors import DeviceError
from uoe_model.processors.image_input import read_image
from uoe_model.result import RunResult

if TYPE_CHECKING:
    from uoe_model.bundle import Bundle
    from uoe_model.config import Block, Gate
    from uoe_model.router import RoutingOverrides

MAX_WAITING: Final = 16
TINY_SIDE: Final = 16  # pixels; pictures with a shorter side get a note
OUT_OF_MEMORY: Final = ("out of memory", "allocate memory", "not enough memory")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingChanges:
    """What a visitor changed for one run; None, or "trained", leaves the model's own value."""

    capacity_factor: float | Literal["trained"] | None = "trained"  # None: never full
    num_experts_per_tok: int | None = None
    gate: "Gate | None" = None
    block: "Block | None" = None  # the only kind of site that is changed; None: all

    def describe(self) -> str:
        """The changes in words; "" if there are none."""
        parts = []
        if self.num_experts_per_tok is not None:
            parts.append(f"{self.num_experts_per_tok} experts per unit")
        if self.capacity_factor != "trained":
            parts.append("never full" if self.capacity_factor is None else f"capacity factor {self.capacity_factor:g}")
        if self.gate is not None:
            parts.append(f"gate {self.gate}")
        where = {None: "", "attention": " (attention only)", "mlp": " (MLP only)"}[self.block]
        return ", ".join(parts) + where if parts else ""

    def overrides(self, num_layers: int) -> "RoutingOverrides | None":
        """The same for the model; None if nothing was changed."""
        from uoe_model.config import BLOCKS
        from uoe_model.router import UNSET, RoutingOverrides

        if not self.describe():
            return None
        blocks = BLOCKS * num_layers
        sites = None if self.block is None else frozenset(site for site, b in enumerate(blocks) if b == self.block)
        return RoutingOverrides(
            capacity_factor=UNSET if self.capacity_factor == "trained" else self.capacity_factor,
            num_experts_per_tok=self.num_experts_per_tok,
            gate=self.gate,
            sites=sites,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """One input for one model: text as a string, a picture as the content of its file."""

    model: ModelEntry
    content: str | bytes
    name: str
    max_new_tokens: int
    changes: RoutingChanges


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A run and what a visitor should know about its input."""

    result: RunResult
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """A run that waits or is under way."""

    request: RunRequest
    future: "Future[Finished]"

    def is_done(self, timeout_s: float) -> bool:
        """Wait at most so long, then say whether it has finished or failed."""
        return bool(wait([self.future], timeout=timeout_s).done)


class DeviceWorker:
    """Runs requests one after the other, in the order they came."""

    def __init__(self, load: Callable[[ModelEntry], "Bundle"]) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._lock = threading.Lock()
        self._jobs: list[Job] = []

    def submit(self, request: RunRequest) -> Job:
        """Put a request at the end of the queue.

        Raises:
            DeviceError: too many are waiting.
        """
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.future.done()]
            if len(self._jobs) > MAX_WAITING:
                raise DeviceError(f"{len(self._jobs)} runs are waiting for this machine: try again in a minute.")
            job = Job(request=request, future=self._pool.submit(self._run, request))
            self._jobs.append(job)
            return job

    def ahead(self, job: Job) -> int:
        """How many runs must finish before this one starts."""
        with self._lock:
            waiting = [other for other in self._jobs if not other.future.done()]
        return waiting.index(job) if job in waiting else 0

    def _run(self, request: RunRequest) -> Finished:
        try:
            return run_request(request, self._load(request.model))
        except MemoryError as error:
            raise _out_of_memory(request) from error
        except RuntimeError as error:
            if not any(words in str(error) for words in OUT_OF_MEMORY):
                raise
            raise _out_of_memory(request) from error


def run_request(request: RunRequest, bundle: "Bundle") -> Finished:
    """Run one request on a loaded model."""
    from uoe_model.run import run_image_on, run_text_on

    overrides = request.changes.overrides(request.model.num_layers)
    if isinstance(request.content, bytes):
        opened = read_image(request.content, name=request.name)
        result = run_image_on(bundle, opened.image, name=request.name, overrides=overrides)
        width, height = opened.image.size
        is_tiny = min(width, height) < TINY_SIDE
        tiny = f"{request.name} is only {width} x {height} pixels: the model sees it enlarged, with little in it."
        return Finished(result=result, notes=(*opened.notes, tiny) if is_tiny else opened.notes)
    result = run_text_on(
        bundle, request.content, name=request.name, overrides=overrides, max_new_tokens=request.max_new_tokens
    )
    return Finished(result=result, notes=())


def _out_of_memory(request: RunRequest) -> DeviceError:
    return DeviceError(
        f"There is not enough memory to run {request.name} with {request.model.label}: shorten the input, or wait "
        "until other runs are finished and try again."
    )
