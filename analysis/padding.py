"""Which units of a trace are padding: a repaired model routes none of it, the authors' released code all of it."""

from typing import Final

import numpy as np

from analysis.columns import BoolArray
from uoe_model.trace import RoutingTrace

PADDING: Final = "padding"
"""Label of a unit that stands behind the end of its example."""


def padding_units(trace: RoutingTrace) -> BoolArray:
    """Say of every unit whether it is padding.

    Args:
        trace: any valid trace; padding is a special unit with the label `padding`.

    Returns:
        (N,) bool.
    """
    units = trace.units
    return np.asarray(units.is_special & (units.label == PADDING), dtype=np.bool_)
