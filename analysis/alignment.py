"""Which unit of one run is which unit of another: same example, same position, same token or cell."""

import dataclasses

import numpy as np

from analysis.columns import BoolArray
from analysis.counts import Counts
from uoe_model.trace import RoutingTrace, UnitTable


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Alignment:
    """Units that two runs share.

    Attributes:
        unit_a, unit_b: (shared,) unit ids in either run, ascending.
        left_out_a, left_out_b: how many units of either run have no counterpart.
    """

    unit_a: Counts
    unit_b: Counts
    left_out_a: int
    left_out_b: int


def align_units(a: RoutingTrace, b: RoutingTrace) -> Alignment:
    """Pair the units of two runs.

    Units are the same if they stand at the same position of the same example and hold the same token id and text (or
    the same cell of the grid). After the first generated token that differs, the rest of an example's generated tail
    is left out: equal tokens there follow different ones.
    """
    one, other = a.units, b.units
    positions = 1 + max(int(one.position.max(initial=0)), int(other.position.max(initial=0)))
    key_a, key_b = (units.example_id.astype(np.int64) * positions + units.position for units in (one, other))
    _, unit_a, unit_b = np.intersect1d(key_a, key_b, assume_unique=True, return_indices=True)
    is_same = _same(one, unit_a, other, unit_b)
    is_generated = (one.phase[unit_a] == "decode") | (other.phase[unit_b] == "decode")
    differs = (is_generated & ~is_same).astype(np.int64)
    before = np.cumsum(differs) - differs  # generated units that differed earlier, over all examples
    start = np.searchsorted(one.example_id[unit_a], one.example_id[unit_a])
    is_same &= ~is_generated | (before == before[start])
    return Alignment(
        unit_a=unit_a[is_same].astype(np.int64),
        unit_b=unit_b[is_same].astype(np.int64),
        left_out_a=a.num_units - int(is_same.sum()),
        left_out_b=b.num_units - int(is_same.sum()),
    )


def _same(one: UnitTable, unit_a: Counts, other: UnitTable, unit_b: Counts) -> BoolArray:
    same = np.ones(len(unit_a), dtype=np.bool_)
    for name in ("modality", "token_id", "text", "grid_row", "grid_col"):
        same &= np.asarray(getattr(one, name)[unit_a] == getattr(other, name)[unit_b], dtype=np.bool_)
    return same
