"""RoutingTrace: everything the routers did to one input, as tables, with every invariant checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from uoe_model.trace_check import trace_problems
from uoe_model.trace_tables import (
    ADMISSIONS,
    BLOCKS,
    DROPPED,
    FILLER,
    GATES,
    KEPT,
    PHASES,
    SCORE_FUNCTIONS,
    SELECTIONS,
    AssignmentTable,
    CapacityTable,
    ReferenceTable,
    SiteTable,
    Table,
    UnitTable,
    column_types,
    is_text,
    raise_together,
    read_only,
    text_column,
)

__all__ = [
    "ADMISSIONS",
    "BLOCKS",
    "DROPPED",
    "FILLER",
    "GATES",
    "KEPT",
    "PHASES",
    "SCHEMA_VERSION",
    "SCORE_FUNCTIONS",
    "SELECTIONS",
    "AssignmentTable",
    "CapacityTable",
    "Check",
    "ReferenceTable",
    "RoutingTrace",
    "RunRecord",
    "SiteTable",
    "Table",
    "UnitTable",
    "column_types",
    "read_only",
    "text_column",
]

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question the capture asked about its own result."""

    name: str
    passed: bool
    detail: str  # the counts that were compared, as a sentence

    def __post_init__(self) -> None:
        if not (is_text(self.name) and type(self.passed) is bool and is_text(self.detail)):
            raise_together("Check", [f"name, passed, detail must be str, bool, str, not {self!r}"])


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """What ran, on what, with what result of the self-check."""

    schema_version: int
    source: str
    model: str
    revision: str
    weights_digest: str
    adapter: str
    dtype: str
    device: str
    backend: str
    seed: int | None
    library_versions: Mapping[str, str]
    input_digest: str
    timings_ms: Mapping[str, float]
    self_check: tuple[Check, ...]
    notes: Mapping[str, str]  # for example "training": "trained", "router_logits": why they are absent

    def __post_init__(self) -> None:
        problems = []
        for name in (item.name for item in fields(self) if item.type is str):
            value = getattr(self, name)
            if not is_text(value):
                problems.append(f"{name}={value!r} must be a str that UTF-8 can write")
        if type(self.schema_version) is not int or self.schema_version != SCHEMA_VERSION:
            problems.append(f"schema_version={self.schema_version!r} must be {SCHEMA_VERSION}")
        if self.seed is not None and (type(self.seed) is not int or not -(2**63) <= self.seed < 2**63):
            problems.append(f"seed={self.seed!r} must be None or an int of 64 bits")
        if type(self.self_check) is not tuple or any(type(check) is not Check for check in self.self_check):
            problems.append("self_check must be a tuple of Check")
        for name in ("library_versions", "timings_ms", "notes"):
            mapping, kind = getattr(self, name), "float" if name == "timings_ms" else "str"
            if not isinstance(mapping, Mapping):
                problems.append(f"{name} must be a mapping, not {type(mapping).__name__}")
            elif not all(
                is_text(key) and (type(value) is float if kind == "float" else is_text(value))
                for key, value in mapping.items()
            ):
                problems.append(f"{name} must map str to {kind}")
            else:
                object.__setattr__(self, name, MappingProxyType(dict(mapping)))
        if not problems and not all(isfinite(value) and value >= 0 for value in self.timings_ms.values()):
            problems.append(f"timings_ms={dict(self.timings_ms)} must be finite and not negative")
        raise_together("RunRecord", problems)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RoutingTrace:
    """The routers' decisions about one input, immutable and valid.

    Load, slots, requested and dropped are counted in patches: `counted` marks, per assignment row, the requested
    rows of the first unit of each patch.

    Raises:
        TraceError: a table contradicts itself or another one; the message lists all problems together.
    """

    run: RunRecord
    sites: SiteTable
    units: UnitTable
    capacities: CapacityTable
    assignments: AssignmentTable
    router_logits: Mapping[int, NDArray[np.float32]]  # site_id -> (num_units, num_experts); may be empty
    reference: ReferenceTable | None
    counted: NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = trace_problems(
            self.sites, self.units, self.capacities, self.assignments, self.router_logits, self.reference
        )
        if type(self.run) is not RunRecord:
            problems.append(f"run is a {type(self.run).__name__}, must be a RunRecord")
        raise_together("RoutingTrace", problems)
        logits = {site_id: read_only(self.router_logits[site_id]) for site_id in sorted(self.router_logits)}
        object.__setattr__(self, "router_logits", MappingProxyType(logits))
        counted = self.units.first_of_patch()[self.assignments.unit_id] & (self.assignments.status != FILLER)
        object.__setattr__(self, "counted", read_only(counted))

    @property
    def num_sites(self) -> int:
        """Number of routers."""
        return len(self.sites)

    @property
    def num_units(self) -> int:
        """Number of tokens or cells over all examples."""
        return len(self.units)

    @property
    def num_examples(self) -> int:
        """Number of examples; 0 in a trace without units."""
        return int(self.units.example_id[-1]) + 1 if len(self.units) else 0
