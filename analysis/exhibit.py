"""Everything that decides how a page or a file looks: the runs, which of them is shown, what is selected and chosen."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import pandas as pd

from analysis.columns import BoolArray
from analysis.figures.atlas import ATLAS_VALUES, AtlasValue
from analysis.figures.theme import FocusPalette, site_palettes
from analysis.recorded_run import RecordedRun, TraceTables
from analysis.selection import Selection, lit_units
from analysis.utilisation import expert_load
from uoe_model.trace import RoutingTrace

StripSites = Literal["all", "selected"]
STRIP_SITES: Final[tuple[StripSites, ...]] = get_args(StripSites)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ViewOptions:
    """What a reader chose about single views.

    Attributes:
        atlas: value that colours the atlas.
        strip_sites: lanes of the drop strip.
        pooled: statistics are over all inputs together, not over the one shown.
    """

    atlas: AtlasValue = "relative_load"
    strip_sites: StripSites = "selected"
    pooled: bool = False

    def to_params(self) -> dict[str, str]:
        """The options as parameters of an address; those at their default are left out."""
        changed = {
            "atlas": self.atlas,
            "strip": self.strip_sites,
            "pooled": "1" if self.pooled else "",
        }
        default = {"atlas": "relative_load", "strip": "selected", "pooled": ""}
        return {name: value for name, value in changed.items() if value != default[name]}

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self:
        """Read the options from an address; whatever is unknown takes its default."""
        return cls(
            atlas=next((value for value in ATLAS_VALUES if value == params.get("atlas")), "relative_load"),
            strip_sites=next((value for value in STRIP_SITES if value == params.get("strip")), "selected"),
            pooled=params.get("pooled") == "1",
        )


OPTION_PARAMS: Final = ("atlas", "strip", "pooled")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Exhibit:
    """What is on show.

    Attributes:
        runs: one per input. index: the one that maps, strips and outputs show.
        pool: tables of all inputs as one trace; None while there is one input only.
        pinned: run A, which the shown run (B) is compared with; None if nothing is pinned.
        routing_value: `input_routing_value_table` of the shown run; None if it was not measured.
    """

    runs: tuple[RecordedRun, ...]
    index: int = 0
    selection: Selection = dataclasses.field(default_factory=Selection)
    options: ViewOptions = dataclasses.field(default_factory=ViewOptions)
    pool: TraceTables | None = None
    pinned: RecordedRun | None = None
    routing_value: pd.DataFrame | None = None

    @property
    def run(self) -> RecordedRun:
        """The run that is shown."""
        return self.runs[self.index]

    @property
    def trace(self) -> RoutingTrace:
        """Its trace."""
        return self.run.trace

    @property
    def is_pooled(self) -> bool:
        """Whether statistics are over all inputs."""
        return self.options.pooled and self.pool is not None

    @property
    def statistics(self) -> TraceTables:
        """Tables that atlas, loads, drops by position and numbers are drawn from."""
        return self.pool if self.options.pooled and self.pool is not None else self.run.tables

    @property
    def site_id(self) -> int:
        """The selected site; the trace must have sites."""
        if self.selection.site_id is None:
            raise ValueError("the trace has no sites, so no site can be selected")
        return self.selection.site_id

    @property
    def lit(self) -> BoolArray | None:
        """bool (num_units,): units of the shown run that the selection lights; None when it filters nothing."""
        if not self.selection.is_filter:
            return None
        selection = dataclasses.replace(self.selection, units=(), pinned=())
        lit = self.run.tables.part(f"lit {selection}", lambda: lit_units(self.trace, selection))
        return np.asarray(lit, dtype=np.bool_)

    @property
    def palettes(self) -> dict[int, FocusPalette]:
        """Colours of the experts of every site: of this input, or as pinned."""
        pinned = self.selection.pinned_by_site()
        tables = self.run.tables
        return tables.part(f"palettes {pinned}", lambda: site_palettes(tables.table(expert_load), pinned=pinned))

    def describe_filter(self) -> str:
        """The selection in words, for captions; "" if it filters nothing."""
        parts = []
        if self.selection.experts:
            parts.append("units kept by " + ", ".join(f"E{expert}" for expert in self.selection.experts))
        if self.selection.status is not None:
            parts.append(f"{self.selection.status} units")
        return " and ".join(parts)

    def record(self) -> dict[str, Any]:
        """Selection and options as plain values, for the record of an export."""
        return {"selection": self.selection.to_params(), "options": self.options.to_params(), "input": self.index}
