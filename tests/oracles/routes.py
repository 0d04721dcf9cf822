"""The route of every unit, spelled out one row of the trace at a time."""

from tests.oracles.confidence import router_entropy
from tests.oracles.drops import fate_of_units
from tests.oracles.records import KEPT, Records, name_columns


def unit_routes(records: Records) -> list[dict[str, object]]:
    confidence = {(row["site_id"], row["unit_id"]): row for row in router_entropy(records)}
    result = []
    for site in records.sites:
        fates = fate_of_units(records, site.site_id)
        rows = records.rows_of(site.site_id)
        for unit in records.units:
            own = sorted((row for row in rows if row.unit is unit and row.is_request), key=lambda row: row.rank)
            kept = [row for row in own if row.status == KEPT]
            result.append(
                name_columns(site)
                | {
                    "unit_id": unit.unit_id,
                    "example_id": unit.example_id,
                    "patch_id": unit.patch_id,
                    "position": unit.position,
                    "text": unit.text,
                    "status": fates[unit.unit_id],
                    "first_expert": kept[0].expert if kept else -1,
                    "requested_experts": " ".join(f"E{row.expert}" for row in own),
                    "kept_experts": " ".join(f"E{row.expert}" for row in kept),
                    "gates": " ".join(f"{row.gate:.3f}" for row in own),
                    "entropy": confidence[site.site_id, unit.unit_id]["entropy"],
                    "margin": confidence[site.site_id, unit.unit_id]["margin"],
                    "inherited": any(row.inherited for row in rows if row.unit is unit),
                }
            )
    return result
