"""What an entry of the glossary says."""

import dataclasses
from typing import Final

HERE: Final = "definition of this project"
SWITCH: Final = "Switch Transformer, arXiv 2101.03961, eq. 4 to 6"
UNION: Final = "Union-of-Experts, arXiv 2503.02495"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One entry: `formula` is "" for what is no number, `unit` is "" for a pure number."""

    name: str
    sentence: str
    formula: str = ""
    unit: str = ""
    source: str = HERE
