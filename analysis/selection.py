"""What a visitor has selected: shared by all views, kept in the address of the page and in every export."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final, Literal, get_args

import numpy as np

from analysis.columns import BoolArray
from analysis.counts import count_by_unit, site_bounds
from uoe_model.trace import FILLER, KEPT, RoutingTrace

UnitStatus = Literal["dropped", "partly dropped", "unrouted", "filler"]
UNIT_STATUSES: Final[tuple[UnitStatus, ...]] = get_args(UnitStatus)

MAX_IDS: Final = 64  # per list; an address must stay short


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Immutable; views make changed copies with `dataclasses.replace`.

    Attributes:
        site_id: the router that maps and strips show; None in a trace without sites.
        experts: experts of that site; units they kept are lit, all others dimmed.
        units: selected units, the one looked at last.
        status: only units with this status at the site are lit; `filler`: those that an expert took unasked.
        pinned: (site_id, expert_id) pairs that have a colour of their own, in order of importance; empty: by load.
    """

    site_id: int | None = None
    experts: tuple[int, ...] = ()
    units: tuple[int, ...] = ()
    status: UnitStatus | None = None
    pinned: tuple[tuple[int, int], ...] = ()

    @property
    def unit_id(self) -> int | None:
        """The unit looked at."""
        return self.units[-1] if self.units else None

    @property
    def is_filter(self) -> bool:
        """Whether some units are lit and others dimmed."""
        return bool(self.experts) or self.status is not None

    def pinned_by_site(self) -> dict[int, tuple[int, ...]]:
        """Pinned experts of every site that has any, in order of importance."""
        sites = dict.fromkeys(site for site, _ in self.pinned)
        return {site: tuple(expert for other, expert in self.pinned if other == site) for site in sites}

    def fitted(self, trace: RoutingTrace) -> "Selection":
        """The same selection with everything left out that this trace does not have; the first site if its own is."""
        sites = {
            int(site): int(count) for site, count in zip(trace.sites.site_id, trace.sites.num_experts, strict=True)
        }
        if not sites:
            return Selection()
        is_known = self.site_id in sites
        site_id = self.site_id if is_known and self.site_id is not None else next(iter(sites))
        return Selection(
            site_id=site_id,
            experts=_ids(self.experts, sites[site_id]) if is_known else (),
            units=_ids(self.units, trace.num_units),
            status=self.status,
            pinned=tuple(
                dict.fromkeys(pair for pair in self.pinned if pair[0] in sites and 0 <= pair[1] < sites[pair[0]])
            )[:MAX_IDS],
        )

    def to_params(self) -> dict[str, str]:
        """The selection as parameters of an address; what is not selected is left out."""
        params = {
            "site": "" if self.site_id is None else str(self.site_id),
            "experts": "-".join(map(str, self.experts)),
            "units": "-".join(map(str, self.units[-MAX_IDS:])),
            "status": (self.status or "").replace(" ", "-"),
            "pinned": "-".join(f"{site}.{expert}" for site, expert in self.pinned),
        }
        return {name: value for name, value in params.items() if value}


PARAMS: Final = ("site", "experts", "units", "status", "pinned")
"""Names of the parameters of an address that belong to a selection."""


def selection_from_params(params: Mapping[str, str]) -> Selection:
    """Read a selection from an address; whatever cannot be read counts as not selected."""
    site = _numbers(params.get("site", ""))
    status = params.get("status", "").replace("-", " ")
    pairs = re.findall(r"(?<![\d.])(\d{1,9})\.(\d{1,9})(?![\d.])", params.get("pinned", "")[:2000])
    return Selection(
        site_id=site[0] if len(site) == 1 else None,
        experts=_numbers(params.get("experts", "")),
        units=_numbers(params.get("units", "")),
        status=next((known for known in UNIT_STATUSES if known == status), None),
        pinned=tuple((int(one), int(other)) for one, other in pairs[:MAX_IDS]),
    )


def lit_units(trace: RoutingTrace, selection: Selection) -> BoolArray:
    """Which units the selection lights: all of them when it filters nothing.

    Returns:
        bool (num_units,): units that one of the selected experts kept at the selected site, and whose status there is
        the selected one.
    """
    lit = np.ones(trace.num_units, dtype=np.bool_)
    if selection.site_id is None or not selection.is_filter or not trace.num_units:
        return lit
    site = int(np.flatnonzero(trace.sites.site_id == selection.site_id)[0])
    part = slice(*site_bounds(trace)[site : site + 2])
    rows = trace.assignments
    if selection.experts:
        is_taken = (rows.status[part] == KEPT) & np.isin(rows.expert_id[part], selection.experts)
        lit = np.bincount(rows.unit_id[part][is_taken], minlength=trace.num_units) > 0
    if selection.status is not None:
        counts = count_by_unit(trace, part)
        is_partly = (counts.kept < counts.requested) & ~counts.is_dropped
        is_filler = np.bincount(rows.unit_id[part][rows.status[part] == FILLER], minlength=trace.num_units) > 0
        of_status = {
            "dropped": counts.is_dropped,
            "partly dropped": is_partly,
            "unrouted": counts.is_unrouted,
            "filler": is_filler,
        }
        lit = lit & of_status[selection.status]
    return lit


def _ids(ids: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(one for one in ids if 0 <= one < count))[:MAX_IDS]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split("-")[:MAX_IDS] if re.fullmatch(r"[0-9]{1,9}", word))
