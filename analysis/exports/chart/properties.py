"""Properties of a plotly figure, each read once: what nobody read is an error, so nothing is left out in silence."""

import base64
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import plotly.graph_objects as go

from uoe_model.errors import ConfigError

_AXES: Final = ("xaxis", "yaxis")


class Properties:
    """The properties of one object of a figure.

    Used as a context: leaving it raises for every property that was neither taken nor skipped.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = {name: _unpacked(value) for name, value in values.items() if value is not None}
        self.where = where

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None and self._values:
            names = ", ".join(f"{name}={_short(value)}" for name, value in sorted(self._values.items()))
            raise ConfigError(
                f"{self.where}: the exports cannot draw {names}. Leave it out of the figure, or add it to "
                "analysis/exports/chart."
            )

    def names(self) -> tuple[str, ...]:
        """What is left to take."""
        return tuple(self._values)

    def take(self, name: str, default: Any = None) -> Any:
        """A property in the form plotly has it."""
        return self._values.pop(name, default)

    def text(self, name: str, default: str = "") -> str:
        """A property as text."""
        return str(self.take(name, default))

    def number(self, name: str, default: float) -> float:
        """A number; lists of numbers are refused."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refuse(name, value, "one number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, value, "True or False")
        return value

    def one_of(self, name: str, allowed: tuple[Any, ...], default: Any) -> Any:
        """One of a few values."""
        value = self.take(name, default)
        if not any(value is other or (type(value) is type(other) and value == other) for other in allowed):
            raise self.refuse(name, value, "one of " + ", ".join(repr(other) for other in allowed))
        return value

    def inner(self, name: str) -> "Properties":
        """The properties of an object inside this one; none if it is not there."""
        value = self.take(name, {})
        if isinstance(value, str) and name == "title":
            value = {"text": value}
        if not isinstance(value, Mapping):
            raise self.refuse(name, value, "an object")
        return Properties(value, f"{self.where}.{name}")

    def each(self, name: str) -> list["Properties"]:
        """The objects of a list."""
        return [Properties(value, f"{self.where}.{name}[{place}]") for place, value in enumerate(self.take(name, ()))]

    def skip(self, *names: str) -> None:
        """Leave out what has no look on paper."""
        for name in names:
            self._values.pop(name, None)

    def refuse(self, name: str, value: Any, allowed: str) -> ConfigError:
        """The error to raise for a value that cannot be drawn."""
        return ConfigError(f"{self.where}: {name}={_short(value)} cannot be drawn; it must be {allowed}.")


def layout_of(figure: go.Figure) -> Properties:
    """The layout of a figure with its template filled in."""
    layout = figure.layout.to_plotly_json()
    template = layout.pop("template", None) or {}
    if any(template.get("data", {}).values()):
        raise ConfigError(
            "figure: its template has defaults of traces, which the exports do not read. Build the figure with "
            "template=analysis.figures.theme.template('light')."
        )
    defaults = dict(template.get("layout", {}))
    axes = {name: defaults.pop(name, {}) for name in _AXES}
    merged = _merge(defaults, layout)
    for name in {*merged, *_AXES}:
        if name.startswith(_AXES):
            merged[name] = _merge(axes[name[:5]], merged.get(name, {}))
    return Properties(merged, "figure.layout")


def _unpacked(value: Any) -> Any:
    """Plotly writes arrays of numbers as base64 when a figure becomes a dict."""
    if isinstance(value, Mapping) and {"dtype", "bdata"} <= set(value) <= {"dtype", "bdata", "shape"}:
        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]))
    return value


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for name, value in high.items():
        if value is None:
            continue
        below = merged.get(name)
        merged[name] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def _short(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."
