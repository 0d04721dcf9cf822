"""A trace as plain Python records, for the slow loops beside this file; nothing here knows the package `analysis`."""

import dataclasses
import math

from uoe_model.trace import RoutingTrace

KEPT, DROPPED, FILLER = 0, 1, 2


@dataclasses.dataclass
class Site:
    site_id: int
    layer: int
    block: str
    name: str
    selection: str
    num_experts: int
    top_k: int
    capacity_factor: float


@dataclasses.dataclass
class Unit:
    unit_id: int
    example_id: int
    patch_id: int
    position: int
    text: str
    loss: float
    leads_patch: bool
    leads_example: bool


@dataclasses.dataclass
class Row:
    site: int
    unit: Unit
    rank: int
    expert: int
    score: float
    gate: float
    status: int
    inherited: bool

    @property
    def is_request(self) -> bool:
        return self.status != FILLER


@dataclasses.dataclass
class Records:
    sites: list[Site]
    units: list[Unit]
    rows: list[Row]
    capacity: dict[tuple[int, int], int]
    logits: dict[int, list[list[float]]]
    test_set: dict[tuple[int, int], tuple[int, int, int]] | None
    """(site, expert) -> requested, kept, patches of the reference load."""
    noted_factors: list[float] | None
    """Capacity factors of the reference load where the run changed them."""

    @property
    def examples(self) -> list[int]:
        return sorted({unit.example_id for unit in self.units})

    def rows_of(self, site: int) -> list[Row]:
        return [row for row in self.rows if row.site == site]

    def patches_of(self, example: int | None) -> int:
        return len({unit.patch_id for unit in self.units if example is None or unit.example_id == example})


def read(trace: RoutingTrace) -> Records:
    s, u, a, c, r = trace.sites, trace.units, trace.assignments, trace.capacities, trace.reference
    about_sites = (s.site_id, s.layer, s.block, s.name, s.selection, s.num_experts, s.top_k, s.capacity_factor)
    sites = [Site(*values) for values in zip(*(column.tolist() for column in about_sites), strict=True)]
    units: list[Unit] = []
    seen_patches: set[int] = set()
    seen_examples: set[int] = set()
    for unit_id, example_id, patch_id, position, text, loss in zip(
        *(column.tolist() for column in (u.unit_id, u.example_id, u.patch_id, u.position, u.text, u.loss)), strict=True
    ):
        leads = (patch_id not in seen_patches, example_id not in seen_examples)
        seen_patches.add(patch_id)
        seen_examples.add(example_id)
        units.append(Unit(unit_id, example_id, patch_id, position, text, loss, *leads))
    columns = (a.site_id, a.unit_id, a.rank, a.expert_id, a.score, a.gate, a.status, a.inherited)
    rows = [
        Row(site, units[unit], *rest)
        for site, unit, *rest in zip(*(column.tolist() for column in columns), strict=True)
    ]
    test_set = None
    if r is not None:
        test_set = {
            (site, expert): (requested, kept, patches)
            for site, expert, requested, kept, patches in zip(
                *(column.tolist() for column in (r.site_id, r.expert_id, r.requested, r.kept, r.patches)), strict=True
            )
        }
    capacity = {
        (site, example): slots
        for site, example, slots in zip(c.site_id.tolist(), c.example_id.tolist(), c.capacity.tolist(), strict=True)
    }
    logits = {site: matrix.tolist() for site, matrix in trace.router_logits.items()}
    noted = trace.run.notes.get("reference_capacity_factor")
    factors = None if noted is None else [float(word) for word in noted.split()]
    return Records(sites, units, rows, capacity, logits, test_set, factors)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def name_columns(site: Site) -> dict[str, object]:
    return {"site_id": site.site_id, "layer": site.layer, "block": site.block, "site_name": site.name}
