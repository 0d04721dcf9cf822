"""Where units go from router to router: nodes as bars, ways as bands between them, all of it vector and clickable."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.flow_layout import Link, Node, place_links, place_nodes
from analysis.figures.frame import build_frame, nothing_to_draw
from analysis.figures.labels import expert_label, site_label
from analysis.figures.theme import (
    DROPPED_BAR,
    INK,
    NEUTRAL,
    PAGE,
    QUIET_INK,
    STATUS_HATCH,
    FocusPalette,
    ThemeName,
    focus_palette,
    text_on,
)
from analysis.selection import Selection
from analysis.transitions import DROPPED_NODE, UNROUTED_NODE

TITLE: Final = "Units on their way from site to site"
MAX_SITES: Final = 4
MIN_SHARE: Final = 0.01  # of all units; fainter ways are drawn as stubs
NODE_WIDTH: Final = 0.1  # of the distance between two sites, for two sites
MARKS: Final = (0.18, 0.34, 0.5, 0.66, 0.82)  # of the way: where a band can be pointed at
MARK_PX: Final = 13
STUB: Final = 0.12


@dataclass(frozen=True, kw_only=True, slots=True)
class _Style:
    theme: ThemeName
    palettes: Mapping[int, FocusPalette]
    half_node: float
    has_lit: bool

    def colour(self, site_id: int, expert_id: int) -> str:
        """Of a node and of the bands that leave it."""
        if expert_id == DROPPED_NODE:
            return DROPPED_BAR
        if expert_id == UNROUTED_NODE:
            return PAGE[self.theme]
        return self.palettes[site_id].colour(expert_id, self.theme)

    def band(self, link: Link) -> str:
        """Unrouted nodes are hollow; their bands are grey."""
        is_hollow = link.from_expert == UNROUTED_NODE
        return NEUTRAL[self.theme] if is_hollow else self.colour(link.from_site, link.from_expert)


def build_flow_figure(
    table: pd.DataFrame,
    *,
    palettes: Mapping[int, FocusPalette] | None = None,
    theme: ThemeName = "light",
    selection: Selection | None = None,
    min_share: float = MIN_SHARE,
) -> go.Figure:
    """Draw a chain of 2 to 4 sites side by side, with the units that go from each expert to each expert of the next.

    Heights are units, the same scale at every site; a node is at least as high as its label. Dropped units (hatched)
    and unrouted units (dashed) have nodes of their own. Ways of fewer than `min_share` of all units, but for the
    strongest ones, are not drawn through: they start and end as grey stubs, and the figure says how many units they
    are. If the table counts lit
    units apart, their part of each band is stronger.

    A click on a node gives `customdata` site_id, expert_id (-1 dropped, -2 unrouted), on a band from site, from expert,
    to site, to expert, units, share of the from node.

    Args:
        table: `transitions` of a chain of sites.
        palettes: colours of the experts by site; None: by the units that each expert kept first.
        selection: its experts are outlined at its site.
    """
    if table.empty:
        return nothing_to_draw(TITLE, "The trace has no units, or fewer than two sites.", theme=theme)
    chain = _chain(table)
    if len(chain) > MAX_SITES:
        sentence = f"{len(chain)} sites do not fit side by side: choose at most {MAX_SITES}."
        return nothing_to_draw(TITLE, sentence, theme=theme)
    nodes = place_nodes(table, chain)
    links, faint = place_links(table, chain, nodes, min_share=min_share)
    has_lit = bool((table["lit_units"] < table["units"]).any())
    style = _Style(
        theme=theme,
        palettes=palettes or _palettes(nodes, selection),
        half_node=NODE_WIDTH * max(len(chain) - 1, 1) ** 0.5 / 2,
        has_lit=has_lit,
    )
    depth = max(node.slot_end for node in nodes)
    headings = _headings(table, chain, nodes)
    above, below = 64 if any("<br>" in heading for heading in headings) else 48, 28
    figure = build_frame(TITLE, theme=theme, height=round(depth) + 4 + above + below)  # a pixel down is one on screen
    for place, site_id in enumerate(chain):
        _add_nodes(figure, [node for node in nodes if node.place == place], style, site_id=site_id)
    _add_marks(figure, links, style)
    figure.update_xaxes(
        tickvals=list(range(len(chain))),
        ticktext=headings,
        side="top",
        ticks="",
        range=[-style.half_node - 0.04, len(chain) - 1 + style.half_node + 0.04],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    closest = min(range(len(chain)), key=lambda place: _pitch(nodes, place))
    middles = [(node.start + node.end) / 2 for node in nodes if node.place == closest]
    figure.update_yaxes(  # blank labels where nodes are closest: a file is made high enough for the labels of an axis
        tickvals=middles,
        ticktext=[" "] * len(middles),
        ticks="",
        range=[depth + 2, -2],
        showgrid=False,
        zeroline=False,
        fixedrange=True,
    )
    # Set at once: plotly takes quadratic time to add many shapes or annotations one by one.
    figure.update_layout(
        shapes=[
            *([_stubs(faint, style)] if faint else []),
            *(band for link in sorted(links, key=lambda link: -link.units) for band in _bands(link, style)),
            *_outlines(nodes, style, selection),
        ],
        annotations=[*(_label(node, style) for node in nodes), _note(nodes, faint, style, min_share=min_share)],
        barmode="overlay",
        showlegend=False,
        margin_t=above,
        margin_b=below,
        title_font_size=13,
    )
    return figure


def _chain(table: pd.DataFrame) -> list[int]:
    pairs = table[["from_site_id", "to_site_id"]].drop_duplicates()
    return [int(pairs["from_site_id"].iloc[0]), *(int(site) for site in pairs["to_site_id"])]


def _palettes(nodes: list[Node], selection: Selection | None) -> dict[int, FocusPalette]:
    pinned = {} if selection is None else selection.pinned_by_site()
    palettes = {}
    for site in {node.site_id for node in nodes}:
        units = {node.expert_id: float(node.units) for node in nodes if node.site_id == site}
        num_experts = 1 + max(0, *units)
        load = [units.get(expert, 0.0) for expert in range(num_experts)]
        palettes[site] = focus_palette(num_experts, load=load, pinned=pinned.get(site, ()))
    return palettes


def _headings(table: pd.DataFrame, chain: list[int], nodes: list[Node]) -> list[str]:
    """Name of every site, and how many of its experts have no node because no unit is there."""
    headings = []
    for place, site_id in enumerate(chain):
        side = "from" if place < len(chain) - 1 else "to"
        rows = table[table[f"{side}_site_id"] == site_id]
        idle = len(set(rows.loc[rows[f"{side}_expert_id"] >= 0, f"{side}_expert_id"])) - sum(
            node.place == place and node.expert_id >= 0 for node in nodes
        )
        name = site_label(int(rows[f"{side}_layer"].iloc[0]), str(rows[f"{side}_block"].iloc[0]))
        headings.append(f"<b>{name}</b>" + (f"<br>{idle} experts nobody's first" if idle else ""))
    return headings


def _pitch(nodes: list[Node], place: int) -> float:
    """Least distance of the middles of two neighbouring nodes of a site."""
    middles = [(node.start + node.end) / 2 for node in nodes if node.place == place]
    return min((below - above for above, below in pairwise(middles)), default=float("inf"))


def node_name(expert_id: int) -> str:
    """`E3`, `dropped` or `unrouted`."""
    return {DROPPED_NODE: "dropped", UNROUTED_NODE: "unrouted"}.get(expert_id) or expert_label(expert_id)


def _add_nodes(figure: go.Figure, nodes: list[Node], style: _Style, *, site_id: int) -> None:
    is_dropped = [node.expert_id == DROPPED_NODE for node in nodes]
    figure.add_bar(
        x=[node.place for node in nodes],
        base=[node.start for node in nodes],
        y=[node.end - node.start for node in nodes],
        width=2 * style.half_node,
        marker={
            "color": [style.colour(site_id, node.expert_id) for node in nodes],
            "line": {"width": 0},
            "pattern": {
                "shape": [STATUS_HATCH if dropped else "" for dropped in is_dropped],
                "fillmode": "overlay",
                "fgcolor": PAGE[style.theme],
                "size": 6,
                "solidity": 0.2,
            },
        },
        customdata=[(n.site_id, n.expert_id, node_name(n.expert_id), n.units, n.share) for n in nodes],
        hovertemplate="<b>%{customdata[2]}</b><br>%{customdata[3]} units (%{customdata[4]:.1%})<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _label(node: Node, style: _Style) -> dict[str, Any]:
    """The name of a node; a bar's own text would be left out where it does not fit."""
    fill = style.colour(node.site_id, node.expert_id)
    is_status = node.expert_id in (DROPPED_NODE, UNROUTED_NODE)  # their names are longer than the node is wide
    return {
        "text": node_name(node.expert_id),
        "x": node.place,
        "y": (node.start + node.end) / 2,
        "showarrow": False,
        "borderpad": 0,
        "bgcolor": PAGE[style.theme] if is_status else "rgba(0,0,0,0)",
        "font": {"size": 11, "color": INK[style.theme] if is_status else text_on(fill)},
    }


def _outlines(nodes: list[Node], style: _Style, selection: Selection | None) -> list[dict[str, Any]]:
    """Dashed around unrouted nodes, strong around selected experts."""
    outlines = []
    for node in nodes:
        is_hollow = node.expert_id == UNROUTED_NODE
        is_chosen = selection is not None and node.site_id == selection.site_id and node.expert_id in selection.experts
        if is_hollow or is_chosen:
            line = {"color": INK[style.theme], "width": 2.5}
            if is_hollow:
                line = {"color": QUIET_INK[style.theme], "width": 1, "dash": "dash"}
            corners = {"x0": node.place - style.half_node, "x1": node.place + style.half_node}
            corners |= {"y0": node.start, "y1": node.end}
            outlines.append({"type": "rect", "line": line, **corners})
    return outlines


def _bands(link: Link, style: _Style) -> list[dict[str, Any]]:
    """A band between the nodes, and the part of it that is lit."""
    bands = [_band(link, link.thickness, style, opacity=0.22 if style.has_lit else 0.42)]
    if style.has_lit and link.lit_units:
        bands.append(_band(link, link.thickness * link.lit_units / link.units, style, opacity=0.75))
    return bands


def _band(link: Link, thickness: float, style: _Style, *, opacity: float) -> dict[str, Any]:
    """From the right edge of one node to the left edge of another; both its edges are cubic curves."""
    x0, x1 = link.place + style.half_node, link.place + 1 - style.half_node
    middle = (x0 + x1) / 2
    top0, top1 = link.from_top, link.to_top
    low0, low1 = top0 + thickness, top1 + thickness
    path = (
        f"M {x0:.4f},{top0:.2f} C {middle:.4f},{top0:.2f} {middle:.4f},{top1:.2f} {x1:.4f},{top1:.2f} "
        f"L {x1:.4f},{low1:.2f} C {middle:.4f},{low1:.2f} {middle:.4f},{low0:.2f} {x0:.4f},{low0:.2f} Z"
    )
    return _area(path, style.band(link), opacity)


def _stubs(links: list[Link], style: _Style) -> dict[str, Any]:
    """The beginnings and ends of all ways that too few units go, as one shape."""
    parts = []
    for link in links:
        for edge, top, way in (
            (link.place + style.half_node, link.from_top, STUB),
            (link.place + 1 - style.half_node, link.to_top, -STUB),
        ):
            low = top + link.thickness
            parts.append(f"M {edge:.4f},{top:.2f} L {edge + way:.4f},{(top + low) / 2:.2f} L {edge:.4f},{low:.2f} Z")
    return _area(" ".join(parts), NEUTRAL[style.theme], 0.8)


def _area(path: str, colour: str, opacity: float) -> dict[str, Any]:
    line = {"width": 0}
    return {"type": "path", "path": path, "fillcolor": colour, "opacity": opacity, "layer": "below", "line": line}


def _add_marks(figure: go.Figure, links: list[Link], style: _Style) -> None:
    """Invisible squares along every band: the only part of it that a browser can point at or click."""
    x: list[float] = []
    y: list[float] = []
    customdata: list[tuple[Any, ...]] = []
    for link in links:
        x0, x1 = link.place + style.half_node, link.place + 1 - style.half_node
        words = f"{node_name(link.from_expert)} → {node_name(link.to_expert)}"
        lit = f"<br>{link.lit_units} of them lit" if style.has_lit else ""
        for t in MARKS:
            # Of a cubic curve whose inner points lie in the middle: along 3/2 t(1-t) + t^3, across 3t^2 - 2t^3.
            along = 1.5 * t * (1 - t) + t**3
            x.append(x0 + (x1 - x0) * along)
            across = 3 * t**2 - 2 * t**3
            y.append(link.from_top + (link.to_top - link.from_top) * across + link.thickness / 2)
            ids = (link.from_site, link.from_expert, link.to_site, link.to_expert)
            customdata.append((*ids, link.units, link.share, words, lit))
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"symbol": "square", "size": MARK_PX, "color": "rgba(0,0,0,0)", "line": {"width": 0}},
        customdata=customdata,
        hovertemplate="<b>%{customdata[6]}</b><br>%{customdata[4]} units, %{customdata[5]:.1%} of the first"
        "%{customdata[7]}<extra></extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        meta={"screen_only": True},
    )


def _note(nodes: list[Node], faint: list[Link], style: _Style, *, min_share: float) -> dict[str, Any]:
    """What the figure leaves out and what its strong colour means."""
    words = [f"{sum(node.units for node in nodes if node.place == 0)} units at every site"]
    if faint:
        units = sum(link.units for link in faint)
        words.append(f"grey stubs: {len(faint)} ways of less than {min_share:.0%} of them, {units} units together")
    if style.has_lit:
        words.append("strong colour: lit units")
    return {
        "text": "; ".join(words),
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 0,
        "yref": "paper",
        "yanchor": "top",
        "yshift": -6,
        "showarrow": False,
        "font": {"size": 11, "color": QUIET_INK[style.theme]},
    }
