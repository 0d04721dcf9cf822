"""A run as analysis sees it: trace, prediction and input together, with its tables computed once."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import pandas as pd

from uoe_model.result import ClassPrediction, ImageInput, TextInput, TextPrediction
from uoe_model.trace import RoutingTrace

T = TypeVar("T")


class TraceTables:
    """Tables of one trace, each computed when it is first asked for; nobody changes them."""

    def __init__(self, trace: RoutingTrace) -> None:
        self.trace = trace
        self._made: dict[tuple[str, str], Any] = {}

    def table(self, statistic: Callable[..., pd.DataFrame], **options: Any) -> pd.DataFrame:
        """A statistic of the trace with these options."""
        key = (f"{statistic.__module__}.{statistic.__name__}", repr(sorted(options.items())))
        return self._once(key, lambda: statistic(self.trace, **options))

    def part(self, name: str, build: Callable[[], T]) -> T:
        """Something else that is made from the trace, such as what a map draws."""
        return self._once((name, ""), build)

    def _once(self, key: tuple[str, str], build: Callable[[], T]) -> T:
        if key not in self._made:  # two threads may both build it: the same thing, so it does no harm
            self._made[key] = build()
        made: T = self._made[key]
        return made


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedRun:
    """A finished run, or a trace from a file, which has neither prediction nor input.

    Attributes:
        name: of its input, on one line.
        settings: what was asked for besides the input (`generation`, `changes`), ready for JSON.
        changes: what was changed about the routing, in words; "" if nothing.
        notes: what a reader should know about the input, one sentence each.
        tables: of `trace`.
    """

    name: str
    trace: RoutingTrace
    prediction: ClassPrediction | TextPrediction | None = None
    input: TextInput | ImageInput | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    changes: str = ""
    notes: tuple[str, ...] = ()
    tables: TraceTables = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", TraceTables(self.trace))

    @property
    def is_picture(self) -> bool:
        """Whether the units are cells of a picture."""
        return self.trace.num_units > 0 and bool(self.trace.units.modality[0] == "image")

    @property
    def mean_loss(self) -> float:
        """Nats per token of the input; NaN where there is none, such as for pictures."""
        return self.prediction.mean_loss if isinstance(self.prediction, TextPrediction) else float("nan")
