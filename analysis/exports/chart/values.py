"""Numbers, colours and dashes as plotly writes them, in the form a drawing needs."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from plotly.colors import get_colorscale, sample_colorscale

from uoe_model.errors import ConfigError

FloatArray = NDArray[np.float64]

_NAMED: Final = {"black": "#000000", "white": "#FFFFFF"}
_DASHES: Final[Mapping[str, tuple[float, ...]]] = {  # in line widths, as plotly has them
    "solid": (),
    "dot": (1, 1),
    "dash": (3, 3),
    "longdash": (5, 5),
    "dashdot": (3, 1, 1, 1),
    "longdashdot": (5, 1, 1, 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Colour:
    """A colour as `#RRGGBB` and its opacity from 0 to 1."""

    code: str
    alpha: float = 1.0


CLEAR: Final = Colour(code="#000000", alpha=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourScale:
    """Colours of numbers: `stops` from 0 to 1 lie between `low` and `high`; numbers beyond take the nearer end."""

    low: float
    high: float
    stops: tuple[tuple[float, str], ...]

    def at(self, value: float) -> Colour:
        """Colour of a number; NaN has none."""
        if math.isnan(value):
            return CLEAR
        place = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        (colour,) = sample_colorscale([list(stop) for stop in self.stops], [place])
        return read_colour(colour, "colour scale")


def read_scale(value: Any) -> tuple[tuple[float, str], ...]:
    """Stops of a colour scale, which plotly also knows by name."""
    stops = get_colorscale(value) if isinstance(value, str) else value
    return tuple((float(place), str(colour)) for place, colour in stops)


def read_colour(value: Any, where: str) -> Colour:
    """A colour from `#rgb`, `#rrggbb`, `rgb(r, g, b)` or `rgba(r, g, b, a)`.

    Raises:
        ConfigError: for anything else.
    """
    text = str(value).strip()
    text = _NAMED.get(text, text)
    if text == "transparent":
        return CLEAR
    if re.fullmatch(r"#[0-9a-fA-F]{3}", text):
        text = "#" + "".join(2 * letter for letter in text[1:])
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return Colour(code=text.upper())
    found = re.fullmatch(r"rgba?\(\s*([\d.]+)\s*,\s*([\d.]+)\s*,\s*([\d.]+)\s*(?:,\s*([\d.]+)\s*)?\)", text)
    parts = [float(part) for part in found.groups(default="1")] if found else []
    if not parts or max(parts[:3]) > 255 or parts[3] > 1:
        raise ConfigError(f"{where}: {value!r} is no colour; write '#RRGGBB', 'rgb(r, g, b)' or 'rgba(r, g, b, a)'.")
    red, green, blue = (round(part) for part in parts[:3])
    return Colour(code=f"#{red:02X}{green:02X}{blue:02X}", alpha=parts[3])


def read_colours(value: Any, count: int, where: str, scale: ColourScale | None = None) -> tuple[Colour, ...]:
    """One colour per mark from one for all or from a list; numbers take theirs from `scale`."""
    values = spread(value, count, where)
    known: dict[Any, Colour] = {}
    for one in values:
        if one in known:
            continue
        if isinstance(one, int | float | np.number):
            if scale is None:
                raise ConfigError(f"{where}: the colour {one!r} is a number; give the figure a layout.coloraxis.")
            known[one] = scale.at(float(one))
        else:
            known[one] = read_colour(one, where)
    return tuple(known[one] for one in values)


def spread(value: Any, count: int, where: str) -> list[Any]:
    """A list of `count` values from one value for all, or from that list itself."""
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return [value] * count
    if len(value) != count:
        raise ConfigError(f"{where}: {len(value)} values for {count} marks; give one for all, or one for each.")
    return list(value)


def read_numbers(value: Any, where: str) -> FloatArray:
    """Numbers of a list; None is NaN."""
    try:
        return np.array([np.nan if one is None else float(one) for one in (() if value is None else value)])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}; give numbers, and words for them as tickvals and ticktext.") from error


def read_dash(value: str, width: float, where: str) -> tuple[float, ...]:
    """Lengths of dashes and gaps in points, for a line of `width` points."""
    if value not in _DASHES:
        raise ConfigError(f"{where}: dash={value!r} cannot be drawn; it must be one of {', '.join(_DASHES)}.")
    return tuple(part * max(width, 0.75) for part in _DASHES[value])
