"""Colour, fonts and sizes of every figure: who gets which colour, how magnitudes are coloured, both page themes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale, unlabel_rgb

ThemeName = Literal["light", "dark"]

IDENTITIES: Final = (
    "#E69F00",  # Okabe-Ito without black, which is the colour of text
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
    "#ADEBAD",  # found by search: farthest from all others, from the neutrals and from both pages
    "#7A7AFF",
    "#8F523D",
    "#331499",
    "#5C2900",
)
MAX_IDENTITIES: Final = len(IDENTITIES)
EASY_IDENTITIES: Final = 8  # the first ones: light enough for both pages

# The page's own colours in Streamlit 1.67, so that a figure does not stand in a box.
PAGE: Final[Mapping[str, str]] = {"light": "#FFFFFF", "dark": "#171614"}
INK: Final[Mapping[str, str]] = {"light": "#2F2D2B", "dark": "#EEEBE8"}
QUIET_INK: Final[Mapping[str, str]] = {"light": "#65625E", "dark": "#A9A6A1"}
GRID: Final[Mapping[str, str]] = {"light": "#E6E5E2", "dark": "#33312E"}
NEUTRAL: Final[Mapping[str, str]] = {"light": "#C9CDD3", "dark": "#5B626C"}  # experts without a colour of their own

KEPT_BAR: Final = "#0072B2"
DROPPED_BAR: Final = "#D55E00"
STATUS_HATCH: Final = "/"  # dropped is never said by colour alone

MAGNITUDE: Final = "Cividis"
MAGNITUDE_STEPS: Final = 256
DIFFERENCE: Final = ((0.0, "#0072B2"), (0.5, "#C9CDD3"), (1.0, "#D55E00"))

FONT: Final = "'Source Sans', 'Source Sans Pro', Arial, sans-serif"
FONT_PX: Final = 13
ROW_PX: Final = 26
STRIP_PX: Final = 220


@dataclass(frozen=True, kw_only=True, slots=True)
class FocusPalette:
    """Which experts of a site have a colour of their own; the others are neutral and carry their number."""

    num_experts: int
    slots: Mapping[int, int]  # expert_id -> place in IDENTITIES, each place at most once

    def __post_init__(self) -> None:
        problems = []
        if strays := sorted(expert for expert in self.slots if not 0 <= expert < self.num_experts):
            problems.append(f"experts {strays} must lie in 0..{self.num_experts - 1}")
        places = list(self.slots.values())
        if len(set(places)) < len(places) or any(not 0 <= place < MAX_IDENTITIES for place in places):
            problems.append(f"places {places} must be different and lie in 0..{MAX_IDENTITIES - 1}")
        if problems:
            raise ValueError("FocusPalette: " + "; ".join(problems))

    def colour(self, expert_id: int, theme: ThemeName) -> str:
        """Colour of an expert; the neutral one when it is not in focus."""
        return IDENTITIES[self.slots[expert_id]] if expert_id in self.slots else NEUTRAL[theme]

    def in_focus(self) -> tuple[int, ...]:
        """Experts with a colour of their own, ascending."""
        return tuple(sorted(self.slots))


def focus_palette(num_experts: int, *, load: Iterable[float] = (), pinned: Iterable[int] = ()) -> FocusPalette:
    """Give colours to the experts that matter most, as stable as possible.

    Pinned experts alone get colours when there are any; else all experts of a site with at most 12; else the 8 with
    the highest load, lower ids first among equals. An expert takes the place of its own number (modulo 8, or 12 when
    more than 8 are coloured) if that is free, else the next free one, so that it keeps its colour from run to run.

    Args:
        load: one value per expert, in order of id; missing values count as 0.
        pinned: experts in order of importance; beyond 12 they stay neutral.
    """
    chosen = list(dict.fromkeys(expert for expert in pinned if 0 <= expert < num_experts))[:MAX_IDENTITIES]
    if not chosen:
        weight = [0.0 if pd.isna(value) else float(value) for value in load][:num_experts]
        weight += [0.0] * (num_experts - len(weight))
        chosen = sorted(range(num_experts), key=lambda expert: (-weight[expert], expert))
        chosen = sorted(chosen[: MAX_IDENTITIES if num_experts <= MAX_IDENTITIES else EASY_IDENTITIES])
    places = EASY_IDENTITIES if len(chosen) <= EASY_IDENTITIES else MAX_IDENTITIES
    slots: dict[int, int] = {}
    late = []
    for expert in chosen:
        if expert % places in slots.values():
            late.append(expert)
        else:
            slots[expert] = expert % places
    free = [place for place in range(places) if place not in slots.values()]
    slots.update(zip(late, free, strict=False))
    return FocusPalette(num_experts=num_experts, slots=dict(sorted(slots.items())))


def site_palettes(load: pd.DataFrame, *, pinned: Mapping[int, Iterable[int]] | None = None) -> dict[int, FocusPalette]:
    """Palette of every site.

    Args:
        load: `analysis.utilisation.expert_load` (columns site_id, expert_id, load are used).
        pinned: site_id -> experts pinned there.
    """
    palettes = {}
    for site_id, rows in load.groupby("site_id", sort=True):
        site = int(str(site_id))
        ordered = rows.sort_values("expert_id")["load"]
        palettes[site] = focus_palette(len(ordered), load=ordered, pinned=(pinned or {}).get(site, ()))
    return palettes


def relative_luminance(colour: str) -> float:
    """Luminance of a `#rrggbb` or `rgb(r, g, b)` colour by WCAG 2, from 0 (black) to 1 (white)."""
    if colour.startswith("#"):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    else:
        parts = [part / 255 for part in unlabel_rgb(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast_ratio(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2, from 1 to 21."""
    low, high = sorted((relative_luminance(one), relative_luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_on(colour: str) -> str:
    """Black or white, whichever is easier to read on `colour`."""
    return "#000000" if contrast_ratio("#000000", colour) >= contrast_ratio("#FFFFFF", colour) else "#FFFFFF"


def magnitude_colour(value: float, low: float, high: float) -> str:
    """Colour of a magnitude on the scale low..high; values outside take the colour of the nearer end."""
    place = min(max((value - low) / (high - low), 0.0), 1.0)
    return _magnitude_steps()[round(place * (MAGNITUDE_STEPS - 1))]


@cache
def _magnitude_steps() -> tuple[str, ...]:
    return tuple(sample_colorscale(MAGNITUDE, MAGNITUDE_STEPS))


def difference_axis(title: str, limit: float) -> dict[str, Any]:
    """Colour axis for a signed difference, symmetric about a labelled zero.

    Args:
        limit: value at both ends; larger differences take the end's colour, and the tick says so.
    """
    ticks = [-limit, -limit / 2, 0.0, limit / 2, limit]
    words = [f"≤ {-limit:g}", f"{-limit / 2:g}", "0 same", f"+{limit / 2:g}", f"≥ +{limit:g}"]
    return {
        "colorscale": [list(stop) for stop in DIFFERENCE],
        "cmin": -limit,
        "cmid": 0.0,
        "cmax": limit,
        "colorbar": colour_bar(title, ticks, words),
    }


def colour_bar(title: str, ticks: list[float], words: list[str]) -> dict[str, Any]:
    """A colour bar with a title along its side and a word at every tick."""
    return {
        "title": {"text": title + "<br>&nbsp;", "side": "right", "font": {"size": FONT_PX}},
        "tickfont": {"size": 11},
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": words,
        "thickness": 12,
        "outlinewidth": 0,
        "ticks": "outside",
    }


def template(theme: ThemeName) -> go.layout.Template:
    """Template of one page theme; pass it explicitly, so that the file looks like the page."""
    axis = {
        "gridcolor": GRID[theme],
        "linecolor": QUIET_INK[theme],
        "zerolinecolor": GRID[theme],
        "tickcolor": QUIET_INK[theme],
        "ticks": "outside",
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": FONT_PX}},
    }
    return go.layout.Template(
        layout={
            "paper_bgcolor": PAGE[theme],
            "plot_bgcolor": PAGE[theme],
            "font": {"family": FONT, "size": FONT_PX, "color": INK[theme]},
            "title": {"x": 0, "xref": "paper", "xanchor": "left", "y": 0.98, "yanchor": "top", "font": {"size": 15}},
            "colorway": list(IDENTITIES),
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 8, "r": 8, "t": 44, "b": 8},
            "hoverlabel": {"align": "left", "font": {"family": FONT, "size": FONT_PX}},
            "hovermode": "closest",
            "legend": {"orientation": "h", "x": 0, "y": 1.0, "xanchor": "left", "yanchor": "bottom"},
            "bargap": 0.15,
            "dragmode": False,
        }
    )
