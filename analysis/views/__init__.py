"""Every view by name: its table, its figure and its caption, the same for the page and for files."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from analysis.exhibit import Exhibit
from analysis.views.answers import ANSWER_VIEWS
from analysis.views.changes import CHANGE_VIEWS
from analysis.views.load import LOAD_VIEWS
from analysis.views.routes import ROUTE_VIEWS
from analysis.views.view import MAP, View, site_name, unit_name

__all__ = ["MAP", "VIEWS", "View", "missing", "site_name", "unit_name"]

_ORDER: Final = (
    *(MAP, "atlas", "load", "drop-strip", "entropy-strip", "loss-strip", "flow", "unit", "output"),
    *("atlas-difference", "route-changes", "routing-value"),
)
_FOUND: Final = dict(ROUTE_VIEWS) | dict(LOAD_VIEWS) | dict(ANSWER_VIEWS) | dict(CHANGE_VIEWS)

VIEWS: Final[Mapping[str, View]] = MappingProxyType({name: _FOUND[name] for name in _ORDER})
"""In the order in which they are offered."""


def missing(exhibit: Exhibit, name: str) -> str:
    """Why a view has nothing to show; "" if it has."""
    if exhibit.trace.num_units == 0 or exhibit.trace.num_sites == 0:
        return "The trace has no units or no sites, so there is nothing to draw."
    return VIEWS[name].missing(exhibit)
