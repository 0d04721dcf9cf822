"""Slots in use and those that hold filler, one assignment at a time."""

from tests.oracles.records import KEPT, Records, name_columns, ratio


def filler_share(records: Records) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    if not records.units:
        return result
    for site in records.sites:
        rows = [row for row in records.rows_of(site.site_id) if row.unit.leads_patch]
        kept = sum(row.status == KEPT for row in rows)
        filler = sum(not row.is_request for row in rows)
        counted = {"kept": kept, "filler": filler, "filler_share": ratio(filler, kept + filler)}
        result.append(name_columns(site) | counted)
    return result
