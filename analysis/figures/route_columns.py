"""The routes of all units at all sites as columns, so that a map in the browser can change site by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from analysis.confidence import router_entropy
from analysis.counts import count_by_unit, site_bounds
from analysis.figures.labels import site_label
from analysis.figures.packed_columns import Shares, as_bits, as_shares, narrow
from analysis.figures.theme import FocusPalette
from analysis.routes import NOBODY
from uoe_model.trace import DROPPED, FILLER, KEPT, RoutingTrace

ROW_DROPPED: Final = 1
ROW_INHERITED: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RouteColumns:
    """S sites, N units, R requested rows in the order site, unit, rank, and F rows of filler in the order site, unit.

    Attributes:
        sites: per site what the map writes about it.
        num_units: N.
        row_start: (S * N + 1,) uint32, first row of every unit at every site.
        expert: (R,) uint16 requested expert.
        gate: (R,) float32 weight applied, 0 when dropped.
        score: (R,) float32 router probability.
        flags: (R,) uint8, ROW_DROPPED and ROW_INHERITED added up.
        status: (S * N,) uint8, place in `analysis.routes.ROUTE_STATUSES`.
        first_expert: (S * N,) int16, the kept expert the unit preferred most, -1 if none kept it.
        fillers: (S * N,) uint16, experts that took the unit unasked, as filler. filler_expert: (F,) uint16, which.
        margin: (S * N,) float32, largest minus second largest router probability; NaN unknown, `sites` says why.
    """

    sites: tuple[Mapping[str, Any], ...]
    num_units: int
    row_start: NDArray[np.uint32]
    expert: NDArray[np.uint16]
    gate: NDArray[np.float32]
    score: NDArray[np.float32]
    flags: NDArray[np.uint8]
    status: NDArray[np.uint8]
    first_expert: NDArray[np.int16]
    fillers: NDArray[np.uint16]
    filler_expert: NDArray[np.uint16]
    margin: NDArray[np.float32]

    def header(self) -> dict[str, Any]:
        """What the browser needs besides the columns."""
        return {"sites": [dict(site) for site in self.sites], "units": self.num_units}

    def packed(self) -> dict[str, NDArray[Any] | Shares]:
        """The columns as the browser gets them; it works out status and first expert by itself.

        Gates and probabilities are rounded to 16 bits: probabilities by less than 0.00001, gates by as little of
        the largest gate.
        """
        ends = self.row_start.astype(np.int64)
        return {
            "requested": narrow(ends[1:] - ends[:-1]),
            "expert": narrow(self.expert),
            "gate": as_shares(self.gate),
            "score": as_shares(self.score),
            "dropped": as_bits((self.flags & ROW_DROPPED) != 0),
            "inherited": as_bits((self.flags & ROW_INHERITED) != 0),
            **(
                {"fillers": narrow(self.fillers), "filler_expert": narrow(self.filler_expert)}
                if self.fillers.any()
                else {}
            ),
            **({"margin": as_shares(self.margin)} if np.isfinite(self.margin).any() else {}),
        }


def build_route_columns(trace: RoutingTrace) -> RouteColumns:
    """Pack the routes of a trace."""
    rows, bounds, units = trace.assignments, site_bounds(trace), trace.num_units
    requested_SN = np.zeros((trace.num_sites, units), dtype=np.int64)
    status_SN = np.zeros((trace.num_sites, units), dtype=np.uint8)
    first_SN = np.full((trace.num_sites, units), NOBODY, dtype=np.int16)
    filler_SN = np.zeros((trace.num_sites, units), dtype=np.uint16)
    for site in range(trace.num_sites):
        part = slice(bounds[site], bounds[site + 1])
        counts = count_by_unit(trace, part)
        requested_SN[site] = counts.requested
        status_SN[site] = np.select(
            [counts.is_unrouted, counts.is_dropped, counts.kept < counts.requested], [3, 2, 1], default=0
        )
        filler_SN[site] = np.bincount(rows.unit_id[part][rows.status[part] == FILLER], minlength=units)
        is_kept = rows.status[part] == KEPT
        unit_id, place = np.unique(rows.unit_id[part][is_kept], return_index=True)  # rows are sorted by rank
        first_SN[site, unit_id] = rows.expert_id[part][is_kept][place]
    is_requested = rows.status != FILLER
    flags = (rows.status == DROPPED) * ROW_DROPPED + rows.inherited * ROW_INHERITED
    certainty = router_entropy(trace)
    reasons = certainty["reason"].to_numpy().reshape(trace.num_sites, units)
    return RouteColumns(
        sites=tuple(
            _site(trace, site) | {"margin_unknown": str(reasons[site, 0]) if units else ""}
            for site in range(trace.num_sites)
        ),
        num_units=units,
        row_start=np.concatenate([[0], np.cumsum(requested_SN.ravel())]).astype(np.uint32),
        expert=rows.expert_id[is_requested].astype(np.uint16),
        gate=rows.gate[is_requested],
        score=rows.score[is_requested],
        flags=flags[is_requested].astype(np.uint8),
        status=status_SN.ravel(),
        first_expert=first_SN.ravel(),
        fillers=filler_SN.ravel(),
        filler_expert=rows.expert_id[~is_requested].astype(np.uint16),
        margin=certainty["margin"].to_numpy(dtype=np.float32),
    )


def palette_payload(palettes: Mapping[int, FocusPalette]) -> dict[str, dict[str, str]]:
    """Colours of a map: per site (its id as text) the experts that have a colour of their own."""
    return {
        str(site_id): {str(expert): palette.colour(expert, "light") for expert in palette.in_focus()}
        for site_id, palette in palettes.items()
    }


def _site(trace: RoutingTrace, site: int) -> dict[str, Any]:
    sites = trace.sites
    return {
        "site_id": int(sites.site_id[site]),
        "layer": int(sites.layer[site]),
        "block": str(sites.block[site]),
        "name": str(sites.name[site]),
        "label": site_label(int(sites.layer[site]), str(sites.block[site])),
        "num_experts": int(sites.num_experts[site]),
        "selection": str(sites.selection[site]),
    }
