"""Who was full, one request at a time in the order of the input."""

import math

from tests.oracles.records import DROPPED, KEPT, Records, name_columns


def full_experts(records: Records) -> list[dict[str, object]]:
    result = []
    for site in records.sites:
        for example in records.examples:
            slots = records.capacity[site.site_id, example]
            for expert in range(site.num_experts):
                kept, dropped, first_drop = 0, 0, math.nan
                for row in records.rows_of(site.site_id):
                    asks = row.is_request and row.unit.leads_patch and row.expert == expert
                    if not asks or row.unit.example_id != example:
                        continue
                    kept += row.status == KEPT
                    dropped += row.status == DROPPED
                    if row.status == DROPPED and math.isnan(first_drop):
                        first_drop = float(row.unit.position)
                result.append(
                    name_columns(site)
                    | {
                        "example_id": example,
                        "expert_id": expert,
                        "is_full": dropped > 0 or kept == slots,
                        "capacity": math.nan if slots < 0 else float(slots),
                        "requested": kept + dropped,
                        "kept": kept,
                        "dropped": dropped,
                        "first_drop_position": first_drop,
                    }
                )
    return result
