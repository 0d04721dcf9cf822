"""Load, shares, slots and utilisation of every expert, one assignment at a time."""

import math
from collections import Counter

from tests.oracles import chance
from tests.oracles.records import KEPT, Records, name_columns, ratio


def slots_of(records: Records, site: int, example: int | None) -> float:
    """Patches one expert can take; NaN if it is never full."""
    examples = records.examples if example is None else [example]
    found = [records.capacity[site, one] for one in examples]
    return math.nan if min(found) < 0 else float(sum(found))


def expert_load(records: Records, *, by_example: bool = False) -> list[dict[str, object]]:
    requested: Counter[tuple[int, int | None, int]] = Counter()
    load: Counter[tuple[int, int | None, int]] = Counter()
    filler: Counter[tuple[int, int | None, int]] = Counter()
    for row in records.rows:
        if not row.unit.leads_patch:
            continue
        key = (row.site, row.unit.example_id if by_example else None, row.expert)
        if not row.is_request:
            filler[key] += 1
            continue
        requested[key] += 1
        if row.status == KEPT:
            load[key] += 1
    result: list[dict[str, object]] = []
    if not records.units:
        return result
    for site in records.sites:
        rates = [chance.load_rate(records, site, expert) for expert in range(site.num_experts)]
        for example in records.examples if by_example else [None]:
            total = sum(load[site.site_id, example, expert] for expert in range(site.num_experts))
            slots = slots_of(records, site.site_id, example)
            for expert in range(site.num_experts):
                key = (site.site_id, example, expert)
                low, high = chance.load_band(records, site, expert, example, slots)
                row = name_columns(site) | ({"example_id": example} if by_example else {})
                row |= {
                    "expert_id": expert,
                    "requested": requested[key],
                    "load": load[key],
                    "dropped": requested[key] - load[key],
                    "filler": filler[key],
                    "load_share": ratio(load[key], total),
                    "relative_load": ratio(load[key] * site.num_experts, total),
                    "slots": slots,
                    "utilisation": load[key] / slots,
                    "is_idle": load[key] == 0,
                    "reference_share": ratio(rates[expert], sum(rates)),
                    "reference_load": rates[expert] * records.patches_of(example),
                    "reference_low": low,
                    "reference_high": high,
                }
                result.append(row)
    return result


def against_reference(records: Records, measure: str) -> list[dict[str, object]]:
    result = []
    for row in expert_load(records):
        site = records.sites[int(str(row["site_id"]))]
        rates = [chance.load_rate(records, site, expert) for expert in range(site.num_experts)]
        patches = records.patches_of(None)
        per_load = {
            "load": 1.0,
            "load_share": ratio(1.0, sum(rates) * patches),
            "relative_load": ratio(site.num_experts, sum(rates) * patches),
            "utilisation": 1.0 / slots_of(records, site.site_id, None),
        }[measure]
        names = ("site_id", "layer", "block", "site_name", "expert_id", "is_idle")
        scaled = {
            "value": float(str(row[measure])),
            "reference": float(str(row["reference_load"])) * per_load,
            "reference_low": float(str(row["reference_low"])) * per_load,
            "reference_high": float(str(row["reference_high"])) * per_load,
        }
        result.append({name: row[name] for name in names} | scaled)
    return result
