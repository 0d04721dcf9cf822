"""What the device's worker can be asked for: runs, losses under changed routing, and what routing buys."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from dashboard.models import Loadable, ModelEntry
from uoe_model.errors import Cancelled, DeviceError, UoEError, is_out_of_memory
from uoe_model.generation import GenerationSettings
from uoe_model.processors.image_input import read_image
from uoe_model.result import RunResult
from uoe_model.watch import Watch

if TYPE_CHECKING:
    from PIL import Image

    from uoe_model.bundle import Bundle
    from uoe_model.config import Block, Gate
    from uoe_model.probes import LossChange
    from uoe_model.router import RoutingOverrides

Content = str | bytes
"""Text as a string, or a picture as the content of its file."""

T_co = TypeVar("T_co", covariant=True)

TINY_SIDE: Final = 16  # pixels; pictures with a shorter side get a note


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

    def single_changes(self) -> "dict[str, RoutingChanges]":
        """Each changed value alone, at the same sites, by the name of its field."""
        trained = {"capacity_factor": "trained", "num_experts_per_tok": None, "gate": None}
        values: dict[str, Any] = {name: getattr(self, name) for name in trained}
        return {
            name: RoutingChanges(**{name: value}, block=self.block)
            for name, value in values.items()
            if value != trained[name]
        }

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


class JobWatch(Watch, Protocol):
    """A watch that also follows several inputs."""

    def begin_input(self, number: int, total: int, name: str) -> None:
        """Input `number` of `total` is next, 0-based; tokens that are told from now on belong to it."""


class Request(Protocol[T_co]):
    """Something that the worker does with one model."""

    @property
    def model(self) -> Loadable:
        """The checkpoint it is done with."""

    @property
    def name(self) -> str:
        """What is being worked on, in words."""

    def work(self, loaded: Any, watch: JobWatch) -> T_co:
        """Do it with the loaded checkpoint, in the worker's thread."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """What became of one input: a run and what a visitor should know about it, or why there is none.

    Attributes:
        problem: "" if it ran; else a sentence, and `result` is None.
    """

    name: str
    result: RunResult | None
    notes: tuple[str, ...]
    problem: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Finished:
    """The outcomes of all inputs of a request, in their order."""

    outcomes: tuple[Outcome, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunRequest:
    """Inputs (name, content) for one model, all run with the same settings."""

    model: ModelEntry
    inputs: tuple[tuple[str, Content], ...]
    generation: GenerationSettings
    changes: RoutingChanges

    @property
    def name(self) -> str:
        """The input's name, or how many there are."""
        return self.inputs[0][0] if len(self.inputs) == 1 else f"{len(self.inputs)} inputs"

    def work(self, bundle: "Bundle", watch: JobWatch) -> Finished:
        """Run all inputs; with several, one that cannot be used does not lose the others.

        Raises:
            UoEError: the only input cannot be used. Cancelled: by the watch.
        """
        outcomes = []
        for number, (name, content) in enumerate(self.inputs):
            watch.begin_input(number, len(self.inputs), name)
            try:
                with memory_errors(name, self.model):
                    outcomes.append(self._run(bundle, name, content, watch))
            except Cancelled:
                raise
            except UoEError as error:
                if len(self.inputs) == 1:
                    raise
                outcomes.append(Outcome(name=name, result=None, notes=(), problem=str(error)))
        return Finished(outcomes=tuple(outcomes))

    def _run(self, bundle: "Bundle", name: str, content: Content, watch: JobWatch) -> Outcome:
        from uoe_model.run import run_image_on, run_text_on

        overrides = self.changes.overrides(self.model.num_layers)
        if isinstance(content, str):
            result = run_text_on(
                bundle, content, name=name, overrides=overrides, generation=self.generation, watch=watch
            )
            return Outcome(name=name, result=result, notes=(), problem="")
        image, notes = open_picture(content, name)
        result = run_image_on(bundle, image, name=name, overrides=overrides, watch=watch)
        return Outcome(name=name, result=result, notes=notes, problem="")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LossRequest:
    """The loss of one input under each of several changes, beside that of the unchanged model."""

    model: ModelEntry
    name: str
    content: Content
    changes: Mapping[str, RoutingChanges]

    def work(self, bundle: "Bundle", watch: JobWatch) -> "dict[str, LossChange]":
        """Measure; changes that change nothing are measured too, and change the loss by 0."""
        from uoe_model.probes import loss_changes
        from uoe_model.router import RoutingOverrides

        overrides = {
            name: changes.overrides(self.model.num_layers) or RoutingOverrides()
            for name, changes in self.changes.items()
        }
        with memory_errors(self.name, self.model):
            return loss_changes(bundle, _readable(self.content, self.name), overrides, watch=watch)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoutingValueRequest:
    """How much the loss of one input depends on the learned routes; see `input_routing_value`."""

    model: ModelEntry
    name: str
    content: Content
    draws: int = 5
    seed: int = 0

    def work(self, bundle: "Bundle", watch: JobWatch) -> list[dict[str, Any]]:
        """Measure; the records of the table."""
        from uoe_model.probes import input_routing_value

        content = _readable(self.content, self.name)
        with memory_errors(self.name, self.model):
            return input_routing_value(bundle, content, draws=self.draws, seed=self.seed, watch=watch)


@contextlib.contextmanager
def memory_errors(name: str, model: Loadable) -> Iterator[None]:
    """Say it in one sentence when there is not enough memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"There is not enough memory to run {name}{'' if model is None else f' with {model.label}'}: shorten the "
            "input, or wait until other runs are finished and try again."
        ) from error


def open_picture(content: bytes, name: str) -> "tuple[Image.Image, tuple[str, ...]]":
    """The picture, and what a visitor should know about it."""
    opened = read_image(content, name=name)
    width, height = opened.image.size
    if min(width, height) >= TINY_SIDE:
        return opened.image, opened.notes
    tiny = f"{name} is only {width} x {height} pixels: the model sees it enlarged, with little in it."
    return opened.image, (*opened.notes, tiny)


def _readable(content: Content, name: str) -> "str | Image.Image":
    return content if isinstance(content, str) else open_picture(content, name)[0]
