"""The card of one unit, picked together row by row."""

import math

from tests.oracles.confidence import router_entropy
from tests.oracles.records import DROPPED, Records, name_columns


def unit_card(records: Records, unit_id: int) -> list[dict[str, object]]:
    confidence = {row["site_id"]: row for row in router_entropy(records) if row["unit_id"] == unit_id}
    result = []
    for site in records.sites:
        sure = {name: confidence[site.site_id][name] for name in ("margin", "entropy")}
        own = [row for row in records.rows_of(site.site_id) if row.unit.unit_id == unit_id and row.is_request]
        for row in sorted(own, key=lambda row: row.rank):
            values: dict[str, object] = {"rank": row.rank, "expert_id": row.expert, "score": row.score}
            values |= {"gate": row.gate, "inherited": row.inherited}
            values["status"] = "dropped" if row.status == DROPPED else "kept"
            result.append(name_columns(site) | values | sure)
        if not own:
            nothing = {"rank": -1, "expert_id": -1, "score": math.nan, "gate": math.nan}
            result.append(name_columns(site) | nothing | {"status": "unrouted", "inherited": False} | sure)
        for row in records.rows_of(site.site_id):
            if row.unit.unit_id == unit_id and not row.is_request:
                taken = {"rank": -1, "expert_id": row.expert, "score": row.score, "gate": row.gate}
                result.append(name_columns(site) | taken | {"status": "filler", "inherited": row.inherited} | sure)
    return result
