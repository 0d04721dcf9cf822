"""Places of the nodes and bands of a flow, in pixels down the page."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pandas as pd

from analysis.transitions import DROPPED_NODE, UNROUTED_NODE

LABEL_PX: Final = 20.0  # least height of a node: its label fits in, also in a column of a paper
DENSE_LABEL_PX: Final = 14.0  # where there are many, on the screen only
MANY_NODES: Final = 14
GAP_PX: Final = 4.0
ALWAYS_DRAWN: Final = 40  # strongest ways between two sites, however few units go them
UNITS_PX: Final = 190.0  # all units of a site, laid on top of each other


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A node with at least one unit.

    Attributes:
        place: of its site in the chain. share: of all units.
        start, end: its upper and lower edge; band_start: where its bands begin, which are lower than a node that is
            only as high as its label. slot_end: end of its site's last node.
    """

    place: int
    site_id: int
    expert_id: int
    units: int
    share: float
    start: float
    end: float
    band_start: float
    slot_end: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Units that go from a node to a node of the next site.

    Attributes:
        place: of the site they leave. share: of the units of the node they leave.
        from_top, to_top: upper edge of the band at either node; thickness: its height at both.
    """

    place: int
    from_site: int
    from_expert: int
    to_site: int
    to_expert: int
    units: int
    lit_units: int
    share: float
    from_top: float
    to_top: float
    thickness: float


def place_nodes(table: pd.DataFrame, chain: list[int]) -> list[Node]:
    """Lay the nodes of every site below one another: experts by id, then dropped, then unrouted.

    Args:
        table: `transitions` of the chain, not empty.
    """
    nodes = []
    first = table[_of_pair(table, chain[0], chain[1])]
    total = int(first["units"].sum())
    most = max(first["from_expert_id"].nunique(), table["to_expert_id"].nunique())
    least = LABEL_PX if most <= MANY_NODES else DENSE_LABEL_PX
    for place, site_id in enumerate(chain):
        is_last = place == len(chain) - 1
        side, other = ("to", chain[place - 1]) if is_last else ("from", chain[place + 1])
        rows = table[_of_pair(table, other, site_id) if is_last else _of_pair(table, site_id, other)]
        counts = rows.groupby(f"{side}_expert_id")["units"].sum()
        at = 0.0
        for expert_id in sorted((int(str(one)) for one in counts.index), key=_order):
            units = int(counts.loc[expert_id])
            if not units:
                continue
            thickness = units / total * UNITS_PX
            height = max(thickness, least)
            nodes.append(
                Node(
                    place=place,
                    site_id=site_id,
                    expert_id=expert_id,
                    units=units,
                    share=units / total,
                    start=at,
                    end=at + height,
                    band_start=at + (height - thickness) / 2,
                    slot_end=at + height,
                )
            )
            at += height + GAP_PX
    return nodes


def place_links(
    table: pd.DataFrame, chain: list[int], nodes: list[Node], *, min_share: float
) -> tuple[list[Link], list[Link]]:
    """Lay the bands along the edges of their nodes, in the order of the nodes at the other end.

    Returns:
        the ways that at least `min_share` of all units go or that are among the strongest between their sites, and
        the others.
    """
    by_key = {(node.place, node.expert_id): node for node in nodes}
    links: list[Link] = []
    faint: list[Link] = []
    total = sum(node.units for node in nodes if node.place == 0)
    for place, (one, other) in enumerate(pairwise(chain)):
        rows = table[_of_pair(table, one, other) & (table["units"] > 0)]
        leaves = {node.expert_id: node.band_start for node in nodes if node.place == place}
        arrives = {node.expert_id: node.band_start for node in nodes if node.place == place + 1}
        strongest = set(rows["units"].sort_values(ascending=False, kind="stable").index[:ALWAYS_DRAWN])
        names = ("from_expert_id", "to_expert_id", "units", "lit_units")
        ways = zip(*(rows[name] for name in names), rows.index, strict=True)
        for start, end, units, lit_units, row in sorted(ways, key=lambda way: (_order(way[0]), _order(way[1]))):
            thickness = units / total * UNITS_PX
            link = Link(
                place=place,
                from_site=one,
                from_expert=int(start),
                to_site=other,
                to_expert=int(end),
                units=int(units),
                lit_units=int(lit_units),
                share=int(units) / by_key[place, int(start)].units,
                from_top=leaves[start],
                to_top=arrives[end],
                thickness=thickness,
            )
            leaves[start] += thickness
            arrives[end] += thickness
            (links if units >= min_share * total or row in strongest else faint).append(link)
    return links, faint


def _of_pair(table: pd.DataFrame, one: int, other: int) -> "pd.Series[bool]":
    return (table["from_site_id"] == one) & (table["to_site_id"] == other)


def _order(expert_id: int) -> tuple[bool, bool, int]:
    return expert_id == UNROUTED_NODE, expert_id == DROPPED_NODE, expert_id
