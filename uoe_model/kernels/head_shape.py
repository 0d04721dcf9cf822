"""What every implementation of attention experts is told: heads, and the angles of positions."""

import dataclasses
from typing import TypeAlias

from torch import Tensor

Rotation: TypeAlias = tuple[Tensor, Tensor]
"""cos and sin (N, head width / 2) of every unit's original position."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class HeadShape:
    """Heads of one expert: query heads, key/value heads (each serves heads / kv_heads query heads), width of a head."""

    heads: int
    kv_heads: int
    width: int

    @property
    def columns(self) -> int:
        """Columns of an expert's projection: all q heads, then all k, then all v."""
        return (self.heads + 2 * self.kv_heads) * self.width
