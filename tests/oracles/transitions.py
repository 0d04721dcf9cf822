"""Where units go between two routers, one unit at a time."""

import itertools

from tests.oracles.records import KEPT, Records, ratio

DROPPED_NODE, UNROUTED_NODE = -1, -2


def node_of(records: Records, site: int, unit_id: int) -> int:
    """The kept expert with the smallest rank; -1 if the unit only found full experts, -2 if it asked for none."""
    requests = [row for row in records.rows_of(site) if row.unit.unit_id == unit_id and row.is_request]
    kept = [row for row in requests if row.status == KEPT]
    if kept:
        return min(kept, key=lambda row: row.rank).expert
    return DROPPED_NODE if requests else UNROUTED_NODE


def transitions(records: Records, site_ids: list[int], lit: list[bool] | None = None) -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    if not records.units:
        return result
    for one, other in itertools.pairwise(site_ids):
        here, there = records.sites[one], records.sites[other]
        ways = [(node_of(records, one, unit.unit_id), node_of(records, other, unit.unit_id)) for unit in records.units]
        for start in [*range(here.num_experts), DROPPED_NODE, UNROUTED_NODE]:
            for end in [*range(there.num_experts), DROPPED_NODE, UNROUTED_NODE]:
                from_units = sum(way[0] == start for way in ways)
                result.append(
                    {
                        "from_site_id": one,
                        "from_layer": here.layer,
                        "from_block": here.block,
                        "from_expert_id": start,
                        "to_site_id": other,
                        "to_layer": there.layer,
                        "to_block": there.block,
                        "to_expert_id": end,
                        "units": ways.count((start, end)),
                        "from_units": from_units,
                        "to_units": sum(way[1] == end for way in ways),
                        "transition_share": ratio(ways.count((start, end)), from_units),
                        "lit_units": sum(
                            way == (start, end) and (lit is None or lit[unit]) for unit, way in enumerate(ways)
                        ),
                    }
                )
    return result
