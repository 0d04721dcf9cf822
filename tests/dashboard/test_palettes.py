"""Every set of colours that a figure really uses can be told apart, under every vision and on both pages."""

import dataclasses
import re
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.exhibit import Exhibit
from analysis.figures import theme
from analysis.selection import Selection
from analysis.views import VIEWS, missing
from dashboard.showing import EXAMPLES, open_example
from tests.analysis.figures.colour_distance import closest
from tests.analysis.run_pairs import routed_anew

TELLABLE = 8.0
SCALES_ONLY = {"atlas", "atlas-difference", "unit"}
"""Views whose cells are coloured by magnitude: ordered, and labelled by a colour bar; no identities."""


def exhibits() -> list[Exhibit]:
    found = []
    for kind in EXAMPLES:
        showing = open_example(kind)
        run = showing.runs[0]
        plain = Exhibit(runs=showing.runs, selection=showing.selection, routing_value=showing.routing_value)
        selection = Selection(site_id=1, experts=(2,), units=(5,))
        pinned = dataclasses.replace(run, trace=routed_anew(run.trace, np.random.default_rng(0)))
        found += [plain, dataclasses.replace(plain, selection=selection, pinned=pinned)]
    return found


def colours_of(figure: go.Figure) -> set[str]:
    """Opaque colours of marks, as #rrggbb."""
    found: set[str] = set()
    for trace in figure.data:
        if (trace.meta or {}).get("screen_only"):
            continue
        shape = trace.to_plotly_json()
        marker, line = shape.get("marker", {}), shape.get("line", {})
        for value in (marker.get("color"), line.get("color"), shape.get("fillcolor")):
            found |= set(_flat(value))
    return {_hex(one) for one in found} - {""}


def _flat(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) or value is None else value
    return [one for one in values if isinstance(one, str)]


def _hex(colour: str) -> str:
    if colour.startswith("#"):
        return colour.upper()
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)]
    return "" if len(parts) > 3 and parts[3] < 0.5 else "#" + "".join(f"{round(part):02X}" for part in parts[:3])


@pytest.mark.parametrize("page", ["light", "dark"])
def test_the_colours_of_every_view_can_be_told_apart(page):
    checked = {}
    for exhibit in exhibits():
        for name, view in VIEWS.items():
            if view.figure is None or name in SCALES_ONLY or missing(exhibit, name):
                continue
            colours = colours_of(view.figure(exhibit, page)) - {theme.GRID[page]}
            colours.discard(theme.PAGE[page])
            if not colours:
                continue
            distance, pair = closest([*sorted(colours), theme.PAGE[page]])
            assert distance >= TELLABLE, (name, pair)
            checked[name] = max(checked.get(name, 0), len(colours))
    assert set(checked) == set(VIEWS) - SCALES_ONLY - {"map"}
    assert checked["flow"] >= 5
    assert checked["routing-value"] >= 3
