"""Dropped assignments, dropped and unrouted units, drops by position: one row of the trace at a time."""

from tests.oracles import chance
from tests.oracles.load import expert_load
from tests.oracles.records import DROPPED, KEPT, Records, name_columns, ratio


def dropped_assignments(records: Records) -> list[dict[str, object]]:
    result = []
    for load in expert_load(records):
        site = records.sites[int(str(load["site_id"]))]
        requested, dropped = int(str(load["requested"])), int(str(load["dropped"]))
        rate = chance.drop_rate(records, site, int(str(load["expert_id"])))
        low, high = chance.binomial_band(requested, rate)
        result.append(
            name_columns(site)
            | {
                "expert_id": load["expert_id"],
                "requested": requested,
                "dropped": dropped,
                "drop_share": ratio(dropped, requested),
                "reference_drop_share": rate,
                "reference_low": low,
                "reference_high": high,
            }
        )
    return result


def fate_of_units(records: Records, site: int) -> list[str]:
    """What became of every unit at a site: kept, partly dropped, dropped, unrouted."""
    asked = [0] * len(records.units)
    kept = [0] * len(records.units)
    for row in records.rows_of(site):
        if row.is_request:
            asked[row.unit.unit_id] += 1
        if row.status == KEPT:
            kept[row.unit.unit_id] += 1
    fates = []
    for requests, slots in zip(asked, kept, strict=True):
        if requests == 0:
            fates.append("unrouted")
        elif slots == 0:
            fates.append("dropped")
        else:
            fates.append("kept" if slots == requests else "partly dropped")
    return fates


def dropped_units(records: Records) -> list[dict[str, object]]:
    result = []
    for site in records.sites if records.units else []:
        fates = fate_of_units(records, site.site_id)
        result.append(
            name_columns(site)
            | {
                "units": len(fates),
                "dropped_units": fates.count("dropped"),
                "unrouted_units": fates.count("unrouted"),
                "dropped_unit_share": fates.count("dropped") / len(fates),
                "unrouted_unit_share": fates.count("unrouted") / len(fates),
            }
        )
    return result


def drops_by_position(
    records: Records, *, max_bins: int, site_id: int | None = None, expert_ids: list[int] | None = None
) -> list[dict[str, object]]:
    if not records.units:
        return []
    positions = 1 + max(unit.position for unit in records.units)
    width = 1
    while width * max_bins < positions:
        width += 1
    result = []
    for site in records.sites if site_id is None else [records.sites[site_id]]:
        fates = fate_of_units(records, site.site_id)
        askers = {
            row.unit.unit_id
            for row in records.rows_of(site.site_id)
            if row.is_request and (expert_ids is None or row.expert in expert_ids)
        }
        start, number = 0, 0
        while start < positions:
            end = min(start + width, positions)
            requests = [
                row.status
                for row in records.rows_of(site.site_id)
                if row.is_request
                and row.unit.leads_patch
                and start <= row.unit.position < end
                and (expert_ids is None or row.expert in expert_ids)
            ]
            units_here = [unit.unit_id for unit in records.units if start <= unit.position < end]
            result.append(
                name_columns(site)
                | {
                    "bin": number,
                    "position_start": start,
                    "position_end": end,
                    "requested": len(requests),
                    "dropped": requests.count(DROPPED),
                    "drop_share": ratio(requests.count(DROPPED), len(requests)),
                    "units": len(units_here),
                    "dropped_units": sum(fates[unit] == "dropped" and unit in askers for unit in units_here),
                }
            )
            start, number = end, number + 1
    return result


def drop_events(records: Records) -> list[dict[str, object]]:
    result = []
    for row in records.rows:
        if row.status == DROPPED and row.unit.leads_patch:
            patch = [unit for unit in records.units if unit.patch_id == row.unit.patch_id]
            siblings = [other for other in records.rows_of(row.site) if other.unit is row.unit and other.status == KEPT]
            result.append(
                name_columns(records.sites[row.site])
                | {
                    "unit_id": row.unit.unit_id,
                    "example_id": row.unit.example_id,
                    "patch_id": row.unit.patch_id,
                    "position": row.unit.position,
                    "text": "".join(unit.text for unit in patch),
                    "rank": row.rank,
                    "expert_id": row.expert,
                    "score": row.score,
                    "other_kept": len(siblings),
                }
            )
    return result
