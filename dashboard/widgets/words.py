"""Text of visitors and numbers of statistics, written so that nothing in them is taken for markup."""

import math
import re
from typing import Final

SHARES: Final = ("share", "probability")
COUNTS: Final = ("patches", "units", "experts", "examples", "sites")
_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")


def plain_markdown(text: str) -> str:
    """Escape a text for Streamlit's markdown: no links, pictures, colours, formulas or emoji codes come out of it."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def write_number(value: float, unit: str) -> str:
    """A number with as many digits as mean something; – when unknown."""
    if math.isnan(value):
        return "–"
    if unit in SHARES:
        return f"{value:.1%}".replace("%", " %")
    if unit in COUNTS:
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    return f"{value:.3f}"


def plain_name(name: str) -> str:
    """A file's name on one line."""
    return " ".join(name.split()) or "file"
