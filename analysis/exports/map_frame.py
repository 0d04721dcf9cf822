"""What the exported maps share: the routes of the shown site, the legend above a map, sentences below it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.columns import BoolArray
from analysis.exports.drawing import Group, Item, Paint, Path, Rect, Text
from analysis.exports.typeface import MIN_TEXT_PT, text_width
from analysis.figures.labels import expert_label
from analysis.figures.route_columns import RouteColumns
from analysis.figures.theme import INK, NEUTRAL, QUIET_INK, FocusPalette, text_on
from analysis.routes import NOBODY, ROUTE_STATUSES
from analysis.selection import Selection
from uoe_model.errors import ConfigError

KEPT, PARTLY_DROPPED, DROPPED, UNROUTED = range(len(ROUTE_STATUSES))

TEXT_COLOUR: Final = INK["light"]
QUIET: Final = QUIET_INK["light"]
HATCH: Final = "#BDBBB8"
HATCH_BORDER: Final = "#8C8A86"
DIM: Final = 0.22
STRIPE_PT: Final = 1.6
CORNER_PT: Final = 2.8


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteRoutes:
    """The routes of N units at one site.

    Attributes:
        status: (N,) uint8, place in `analysis.routes.ROUTE_STATUSES`.
        first_expert: (N,) int16, the kept expert a unit preferred most, -1 if none kept it.
        is_filler: (N,) bool, whether an expert took the unit unasked.
    """

    label: str
    selection: str
    palette: FocusPalette
    status: NDArray[np.uint8]
    first_expert: NDArray[np.int16]
    is_filler: BoolArray

    def fill(self, unit: int) -> str | None:
        """Colour of a unit; None if no expert kept it."""
        expert = int(self.first_expert[unit])
        return None if expert == NOBODY else self.palette.colour(expert, "light")

    def number(self, unit: int, *, always: bool = False) -> str:
        """The number written on a unit: that of an expert without a colour of its own; `always`: of every expert."""
        expert = int(self.first_expert[unit])
        return "" if expert == NOBODY or (expert in self.palette.slots and not always) else str(expert)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Items that take a height, in points, from the top of the page or from where they were asked to begin."""

    items: tuple[Item, ...]
    height: float


def routes_at(routes: RouteColumns, palettes: Mapping[int, FocusPalette], site_id: int | None) -> SiteRoutes | None:
    """The routes of one site; None for a trace without sites.

    Raises:
        ConfigError: a site that the trace does not have.
    """
    ids = [int(site["site_id"]) for site in routes.sites]
    if not ids:
        return None
    if site_id not in ids:
        raise ConfigError(f"site_id={site_id} is no site of this trace: choose one of {ids}")
    place = ids.index(site_id)
    part = slice(place * routes.num_units, (place + 1) * routes.num_units)
    site = routes.sites[place]
    return SiteRoutes(
        label=str(site["label"]),
        selection=str(site["selection"]),
        palette=palettes.get(site_id) or FocusPalette(num_experts=int(site["num_experts"]), slots={}),
        status=routes.status[part],
        first_expert=routes.first_expert[part],
        is_filler=routes.fillers[part] > 0,
    )


def describe_filter(selection: Selection, units: str) -> str:
    """Which units are shown in full colour, as a sentence; "" if all are."""
    if not selection.is_filter:
        return ""
    said = []
    if selection.experts:
        said.append("kept by " + " or ".join(expert_label(expert) for expert in selection.experts))
    if selection.status is not None:
        said.append("taken as filler" if selection.status == "filler" else selection.status)
    return f"In full colour: {units} {' and '.join(said)}."


def draw_legend(
    routes: SiteRoutes, *, width: float, font_pt: float, sentence: str = "", changed: BoolArray | None = None
) -> Block:
    """The site, then a swatch, a name and a number of units for everything a map shows, wrapped at a width.

    Args:
        sentence: what else must be said above the map, such as the filter.
        changed: (N,) units whose route differs from that of the pinned run.
    """
    size = max(MIN_TEXT_PT, font_pt - 0.5)
    row = 1.5 * size
    items: list[Item] = []
    x, y = 0.0, 0.0
    for name, count, swatch in [(routes.label, None, None), *_entries(routes, changed)]:
        is_bold = count is None
        words = text_width(name, size, bold=is_bold)
        tally = "" if count is None else f"{count:,}"
        taken = (size + 2.5 if swatch else 0) + words + (2.5 + text_width(tally, size) if tally else 0)
        if x and x + taken > width:
            x, y = 0.0, y + row
        baseline = y + size
        if swatch is not None:
            items += _swatch(swatch, x, baseline - 0.86 * size, size)
            x += size + 2.5
        items.append(Text(x=x, y=baseline, text=name, size=size, colour=TEXT_COLOUR, bold=is_bold))
        if tally:
            items.append(Text(x=x + words + 2.5, y=baseline, text=tally, size=size, colour=QUIET))
            words += 2.5 + text_width(tally, size)
        x += words + 0.9 * size
    y += row
    if sentence:
        said = draw_sentences((sentence,), y=y, width=width)
        items += said.items
        y += said.height
    return Block(items=tuple(items), height=y + 3)


def draw_sentences(sentences: tuple[str, ...], *, y: float, width: float) -> Block:
    """Sentences in the smallest type, each beginning on a line of its own, wrapped at spaces."""
    size = MIN_TEXT_PT
    items: list[Item] = []
    top = y
    for sentence in sentences:
        line = ""
        for word in [*sentence.split(" "), ""]:
            longer = f"{line} {word}".strip()
            if word and (not line or text_width(longer, size) <= width):
                line = longer
                continue
            items.append(Text(x=0, y=top + size, text=line, size=size, colour=QUIET))
            top += 1.35 * size
            line = word
    return Block(items=tuple(items), height=top - y)


def blend(colour: str, share: float) -> str:
    """A colour laid over white paper at an opacity, as an opaque colour."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(255 + (part - 255) * share):02X}" for part in parts)


def dots(x: float, y: float, width: float, size: float) -> Path:
    """The dotted upper edge of a unit that an expert took unasked; `size`: of the type."""
    side = 0.12 * size
    count = max(2, round(width / (2 * side)))
    step = (width - side) / (count - 1)
    commands: list[tuple[str | float, ...]] = []
    for number in range(count):
        left = x + number * step
        commands += [("M", left, y), ("L", left + side, y), ("L", left + side, y + side), ("L", left, y + side), ("Z",)]
    return Path(commands=tuple(commands), paint=Paint(fill=TEXT_COLOUR))


def stripes(x: float, y: float, width: float, height: float, colour: str, *, stripe: float = STRIPE_PT) -> Path:
    """The hatched foot of a unit that some of its experts dropped: slanted stripes in the colour of one that kept it.

    At least one stripe; it reaches beyond `width` where that is less than `stripe` + `height`.
    """
    room = max(0.0, width - stripe - height)
    gaps = max(1, round(room / (1.7 * stripe)))
    commands: list[tuple[str | float, ...]] = []
    for number in range(gaps + 1 if room else 1):
        left = x + number * room / gaps
        commands += [("M", left, y + height), ("L", left + stripe, y + height)]
        commands += [("L", left + stripe + height, y), ("L", left + height, y), ("Z",)]
    return Path(commands=tuple(commands), paint=Paint(fill=colour))


def corner(right: float, top: float, size: float = CORNER_PT, *, border: str | None = None) -> Path:
    """The mark of a unit whose route differs from that of the pinned run: its upper right corner is black."""
    commands = (("M", right - size, top), ("L", right, top), ("L", right, top + size), ("Z",))
    return Path(commands=commands, paint=Paint(fill="#000000", stroke=border))


def chip(text: str, x: float, foot: float, *, size: float = MIN_TEXT_PT, colour: str = QUIET) -> tuple[Item, ...]:
    """The number of an expert on a plate of its own, so that nobody reads it as text of the input."""
    width = chip_width(text, size)
    ink = text_on(colour)
    return (
        Rect(x=x, y=foot - 0.98 * size, width=width, height=1.06 * size, paint=Paint(fill=colour), radius=1.2),
        Text(x=x + width / 2, y=foot - 0.16 * size, text=text, size=size, colour=ink, anchor="middle", bold=True),
    )


def chip_width(text: str, size: float = MIN_TEXT_PT) -> float:
    """Width of `chip` in points."""
    return text_width(text, size, bold=True) + 2.0


def faded(items: list[Item]) -> list[Item]:
    """Items that the selection does not light."""
    return [Group(items=tuple(items), opacity=DIM)] if items else []


def _entries(routes: SiteRoutes, changed: BoolArray | None) -> list[tuple[str, int, str]]:
    """Name, number of units and swatch of everything in the legend, in the order of the experts."""
    kept = routes.first_expert[routes.first_expert != NOBODY]
    count = np.bincount(kept, minlength=routes.palette.num_experts)
    shown = routes.palette.in_focus()
    entries = [(expert_label(expert), int(count[expert]), routes.palette.colour(expert, "light")) for expert in shown]
    others = routes.palette.num_experts - len(shown)
    if others:
        rest = int(count.sum() - count[list(shown)].sum())
        entries.append((f"{others} other experts" if others > 1 else "1 other expert", rest, "others"))
    of_status = np.bincount(routes.status, minlength=len(ROUTE_STATUSES))
    for status in (PARTLY_DROPPED, DROPPED, UNROUTED):
        is_possible = (status == UNROUTED) == (routes.selection == "expert_choice")
        if is_possible or of_status[status]:
            entries.append((ROUTE_STATUSES[status], int(of_status[status]), ROUTE_STATUSES[status]))
    if routes.is_filler.any():
        entries.append(("filler", int(routes.is_filler.sum()), "filler"))
    if changed is not None:
        entries.append(("route differs from A", int(changed.sum()), "changed"))
    return entries


def _swatch(kind: str, x: float, y: float, size: float) -> tuple[Item, ...]:
    def square(paint: Paint) -> Rect:
        inset = paint.stroke_width / 2 if paint.stroke else 0.0
        return Rect(x=x + inset, y=y + inset, width=size - 2 * inset, height=size - 2 * inset, paint=paint)

    match kind:
        case "others":
            area = square(Paint(fill=NEUTRAL["light"]))
            middle = Text(
                x=x + size / 2,
                y=y + 0.86 * size,
                text="n",
                size=MIN_TEXT_PT,
                colour=TEXT_COLOUR,
                anchor="middle",
                bold=True,
            )
            return (area, middle)
        case "partly dropped":
            foot = 0.36 * size
            area = Rect(x=x, y=y, width=size, height=size - foot, paint=Paint(fill="#E0DFDC"))
            return (area, stripes(x, y + size - foot, size, foot, QUIET, stripe=0.13 * size))
        case "dropped":
            return (square(Paint(hatch=HATCH_BORDER, hatch_gap=2.0, stroke=HATCH_BORDER)),)
        case "unrouted":
            return (square(Paint(stroke=QUIET, dash=(1.5, 1.0))),)
        case "filler":
            area = square(Paint(fill="#E0DFDC"))
            return (area, dots(x, y, size, size))
        case "changed":
            return (square(Paint(stroke=QUIET)), corner(x + size, y, 0.55 * size))
        case _:
            return (square(Paint(fill=kind)),)
