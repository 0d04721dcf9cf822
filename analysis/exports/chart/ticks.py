"""Ticks of axes: nice numbers where a figure names none, their labels, and which of them have room."""

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from uoe_model.errors import ConfigError

_THIN: Final = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 64)
_FORMAT: Final = re.compile(r"(?P<comma>,?)(?:\.(?P<digits>\d+))?(?P<kind>[fd%]?)")
_SUPERSCRIPT: Final = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def nice_step(span: float, most: int) -> float:
    """Smallest of 1, 2, 5 times a power of ten that cuts `span` into at most `most` parts."""
    least = span / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least))
    for factor in (1.0, 2.0, 5.0, 10.0):
        if factor * power >= least * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def linear_ticks(low: float, high: float, step: float, start: float = 0.0) -> list[float]:
    """Multiples of `step`, counted from `start`, in low..high."""
    low, high = min(low, high), max(low, high)
    slack = 1e-9 * (high - low)
    first, last = math.ceil((low - start - slack) / step), math.floor((high - start + slack) / step)
    return [start + place * step + 0.0 for place in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten in 10**low..10**high, every few of them if there are many; 1, 2, 5 of each if there are few."""
    low, high = min(low, high), max(low, high)
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if last - first >= 1:
        step = max(1, math.ceil((last - first) / max(most, 1)))
        return [10.0**power for power in range(first, last + 1) if power % step == 0]
    fine = [f * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for f in (1.0, 2.0, 5.0)]
    inside = [value for value in fine if low - 1e-9 <= math.log10(value) <= high + 1e-9]
    return inside if len(inside) >= 2 else linear_ticks(10**low, 10**high, nice_step(10**high - 10**low, most))


def number_labels(values: Sequence[float], step: float, tickformat: str = "", *, is_log: bool = False) -> list[str]:
    """Labels of numbers: as many decimals as the step needs, a real minus sign, commas where one reaches 10,000.

    Args:
        tickformat: d3 format; the subset `[,][.digits][f|d|%]`.
    """
    if tickformat:
        return [_formatted(value, tickformat) for value in values]
    sizes = [abs(value) for value in values if value]
    if sizes and (min(sizes) < 1e-3 or max(sizes) >= 1e6) and is_log:
        return [_power(value) for value in values]
    if sizes and (max(sizes) >= 1e7 or step < 1e-5):
        return [_minus(f"{value:.4g}") for value in values]
    comma = "," if sizes and max(sizes) >= 10_000 else ""
    digits = [_decimals(value if is_log else step) for value in values]
    return [
        _minus(f"{round(value, places) + 0.0:{comma}.{places}f}") for value, places in zip(values, digits, strict=True)
    ]


def thinned(places: Sequence[float], extents: Sequence[float], gap: float) -> list[int]:
    """Which labels to write so that none overlap: every one, or every second, fourth, ... counted from the first.

    Args:
        places: middles of the labels, points. extents: their lengths along the axis, points.
        gap: space between two of them, points.
    """
    order = sorted(range(len(places)), key=lambda one: places[one])
    for step in _THIN:
        kept = [one for one in order if one % step == 0]
        if all(
            places[right] - places[left] >= (extents[left] + extents[right]) / 2 + gap for left, right in pairwise(kept)
        ):
            return sorted(kept)
    return [0] if places else []


def _decimals(step: float) -> int:
    digits = 0
    while digits < 8 and abs(round(step, digits) - step) > 1e-6 * abs(step):
        digits += 1
    return digits


def _power(value: float) -> str:
    power = math.floor(math.log10(abs(value)) + 1e-9)
    factor = value / 10.0**power
    words = "10" + str(power).translate(_SUPERSCRIPT)
    return words if abs(factor - 1) < 1e-9 else f"{factor:g}·{words}"


def _formatted(value: float, tickformat: str) -> str:
    found = _FORMAT.fullmatch(tickformat)
    if not found:
        raise ConfigError(f"tickformat={tickformat!r} cannot be drawn; it must be like '.2f', ',d' or '.0%'.")
    kind, comma, digits = found["kind"], found["comma"], found["digits"]
    if kind == "d":
        return _minus(f"{round(value):{comma}}")
    return _minus(f"{value:{comma}.{digits or 0}{kind or 'f'}}")


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")
