"""Names of terms, sites and experts in figures, and the one place where text of the input enters a plotly figure."""

import html
from typing import Final

from analysis.glossary import TERMS

BLOCK_NAMES: Final = {"attention": "attention", "mlp": "MLP"}
VISIBLE: Final = {"\n": "⏎", "\r": "␍", "\t": "⇥"}


def term_title(term: str) -> str:
    """Name of a term of the glossary, as a title: `Relative load`."""
    name = TERMS[term].name
    return name[0].upper() + name[1:]


def axis_title(term: str) -> str:
    """Name of a term with its unit: `Loss (nats)`; a share and a probability need none."""
    unit = TERMS[term].unit
    return term_title(term) if unit in ("", "share", "probability") else f"{term_title(term)} ({unit})"


def site_label(layer: int, block: str) -> str:
    """Name of a site: `L0 attention`, `L3 MLP`."""
    return f"L{layer} {BLOCK_NAMES.get(block, block)}"


def expert_label(expert_id: int) -> str:
    """Name of an expert at its site: `E3`."""
    return f"E{expert_id}"


def visible(text: str) -> str:
    """Write line breaks, tabs, control characters and leading spaces so that a reader sees them; nothing as ∅."""
    shown = "".join(VISIBLE.get(letter, chr(0x2400 + ord(letter)) if letter < " " else letter) for letter in text)
    words = shown.lstrip(" ")
    return "·" * (len(shown) - len(words)) + words or "∅"


def plain(text: str) -> str:
    """Escape text of the input or of a model for plotly, which reads markup, entities and `$` formulas in labels."""
    return html.escape(visible(text), quote=False).replace("$", "&#36;")
