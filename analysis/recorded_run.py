"""A run as analysis sees it: trace, prediction and input together, with its tables computed once."""

import dataclasses
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import pandas as pd

from uoe_model.result import ImageInput, Prediction, TextInput, TextPrediction
from uoe_model.trace import RoutingTrace

T = TypeVar("T")

MAX_PARTS: Final = 200

_SERIALS: Final = itertools.count()


class TraceTables:
    """Tables of one trace, each computed when it is first asked for; nobody changes them.

    The ones used last are kept: selections make new ones, and all visitors share the trace of an example.
    """

    def __init__(self, trace: RoutingTrace) -> None:
        self.trace = trace
        self._made: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._lock = threading.Lock()

    def table(self, statistic: Callable[..., pd.DataFrame], **options: Any) -> pd.DataFrame:
        """A statistic of the trace with these options."""
        key = (f"{statistic.__module__}.{statistic.__name__}", repr(sorted(options.items())))
        return self._once(key, lambda: statistic(self.trace, **options))

    def part(self, name: str, build: Callable[[], T]) -> T:
        """Something else that is made from the trace, such as what a map draws."""
        return self._once((name, ""), build)

    def _once(self, key: tuple[str, str], build: Callable[[], T]) -> T:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                known: T = self._made[key]
                return known
        made = build()  # two threads may both build it: the same thing, so it does no harm
        with self._lock:
            self._made[key] = made
            while len(self._made) > MAX_PARTS:
                self._made.popitem(last=False)
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
        serial: different for every run of this process, also after others are forgotten.
    """

    name: str
    trace: RoutingTrace
    prediction: Prediction | None = None
    input: TextInput | ImageInput | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    changes: str = ""
    notes: tuple[str, ...] = ()
    tables: TraceTables = dataclasses.field(init=False, repr=False)
    serial: int = dataclasses.field(init=False, repr=False, default_factory=lambda: next(_SERIALS))

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
