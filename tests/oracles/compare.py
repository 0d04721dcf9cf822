"""Two runs beside each other: units are looked up one by one, and every comparison is spelled out."""

import math

from tests.oracles.load import expert_load
from tests.oracles.records import KEPT, Records, ratio
from tests.oracles.routes import unit_routes
from uoe_model.trace import RoutingTrace


def shared_units(a: RoutingTrace, b: RoutingTrace) -> list[tuple[int, int]]:
    """(unit of A, unit of B) of all units that are the same."""
    places_a = {place(a, unit): unit for unit in range(a.num_units)}
    pairs, broken = [], set()
    for unit_b in range(b.num_units):
        unit_a = places_a.get(place(b, unit_b))
        if unit_a is None:
            continue
        example = int(b.units.example_id[unit_b])
        generated = "decode" in (a.units.phase[unit_a], b.units.phase[unit_b])
        same = content(a, unit_a) == content(b, unit_b)
        if generated and (example in broken or not same):
            broken.add(example)
        elif same:
            pairs.append((unit_a, unit_b))
    return pairs


def place(trace: RoutingTrace, unit: int) -> tuple[int, int]:
    return int(trace.units.example_id[unit]), int(trace.units.position[unit])


def content(trace: RoutingTrace, unit: int) -> list[object]:
    units = trace.units
    return [column[unit] for column in (units.modality, units.token_id, units.text, units.grid_row, units.grid_col)]


def own_loss(trace: RoutingTrace, unit: int) -> float:
    """What the row before, of the same example, says about the next unit."""
    if unit == 0 or trace.units.example_id[unit - 1] != trace.units.example_id[unit]:
        return math.nan
    return float(trace.units.loss[unit - 1])


def load_difference(a: Records, b: Records, measure: str) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    for one, other in zip(expert_load(a), expert_load(b), strict=True):
        values = []
        for row in (one, other):
            requested, dropped = float(str(row["requested"])), float(str(row["dropped"]))
            values.append(ratio(dropped, requested) if measure == "drop_share" else float(str(row[measure])))
        names = ("site_id", "layer", "block", "site_name", "expert_id")
        result.append(
            {name: one[name] for name in names}
            | {"load_a": one["load"], "load_b": other["load"], "value_a": values[0], "value_b": values[1]}
            | {"difference": values[1] - values[0]}
        )
    return result


def route_changes(a: RoutingTrace, b: RoutingTrace, records_a: Records, records_b: Records) -> list[dict[str, object]]:
    routes_a = {(row["site_id"], row["unit_id"]): row for row in unit_routes(records_a)}
    routes_b = {(row["site_id"], row["unit_id"]): row for row in unit_routes(records_b)}
    result: list[dict[str, object]] = []
    for site in records_b.sites:
        for unit_a, unit_b in shared_units(a, b):
            one, other = routes_a[site.site_id, unit_a], routes_b[site.site_id, unit_b]
            kept = []
            for records, unit in ((records_a, unit_a), (records_b, unit_b)):
                rows = records.rows_of(site.site_id)
                kept.append({row.expert for row in rows if row.unit.unit_id == unit and row.status == KEPT})
            loss_a, loss_b = own_loss(a, unit_a), own_loss(b, unit_b)
            names = ("site_id", "layer", "block", "site_name", "unit_id", "example_id", "position", "text")
            result.append(
                {name: other[name] for name in names}
                | {
                    "unit_id_a": unit_a,
                    "status_a": one["status"],
                    "status_b": other["status"],
                    "first_expert_a": one["first_expert"],
                    "first_expert_b": other["first_expert"],
                    "experts_a": one["kept_experts"],
                    "experts_b": other["kept_experts"],
                    "first_changed": one["first_expert"] != other["first_expert"],
                    "kept_changed": kept[0] != kept[1],
                    "loss_a": loss_a,
                    "loss_b": loss_b,
                    "loss_change": loss_b - loss_a,
                }
            )
    return result
