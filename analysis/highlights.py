"""What is worth showing first in a run: the expert that turned away most, the unit that lost most, the other block."""

import dataclasses

import numpy as np

from analysis.counts import count_by_unit, site_bounds
from analysis.drops import dropped_assignments
from analysis.figures.labels import expert_label, site_label
from analysis.unit_drops import drops_by_unit
from uoe_model.trace import RoutingTrace


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Highlights:
    """None where a run has nothing of the kind.

    Attributes:
        fullest: site_id, expert_id, name and dropped requests (in patches) of the expert that dropped most.
        most_dropped: unit_id and text of the unit that lost the largest share of its requests, the first site where
            it lost some, and that share.
        other_block: site_id and name of the first attention site.
    """

    fullest: tuple[int, int, str, int] | None
    most_dropped: tuple[int, str, int, float] | None
    other_block: tuple[int, str] | None


def find_highlights(trace: RoutingTrace) -> Highlights:
    """Find them; lower ids first among equals."""
    drops = dropped_assignments(trace)
    fullest = None
    if len(drops) and drops["dropped"].max() > 0:
        row = drops.iloc[int(drops["dropped"].to_numpy().argmax())]
        name = f"{site_label(int(row['layer']), str(row['block']))} {expert_label(int(row['expert_id']))}"
        fullest = (int(row["site_id"]), int(row["expert_id"]), name, int(row["dropped"]))
    units = drops_by_unit(trace)
    most_dropped = None
    if len(units) and units["dropped"].iloc[0] > 0:
        unit = int(units["unit_id"].iloc[0])
        site = _first_drop(trace, unit)
        most_dropped = (unit, str(units["text"].iloc[0]), site, float(units["drop_share"].iloc[0]))
    attention = np.flatnonzero(trace.sites.block == "attention")
    other = None
    if len(attention):
        site = int(attention[0])
        other = (site, site_label(int(trace.sites.layer[site]), "attention"))
    return Highlights(fullest=fullest, most_dropped=most_dropped, other_block=other)


def _first_drop(trace: RoutingTrace, unit: int) -> int:
    bounds = site_bounds(trace)
    for site in range(trace.num_sites):
        counts = count_by_unit(trace, slice(bounds[site], bounds[site + 1]))
        if counts.kept[unit] < counts.requested[unit]:
            return site
    return 0
