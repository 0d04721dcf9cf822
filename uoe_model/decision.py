"""What a router decided, and where the kept requests stand when experts take their rows without gaps."""

import dataclasses
from typing import Final

from torch import Tensor

from uoe_model.layout import RoutingLayout

UNLIMITED: Final = -1
"""Capacity of an expert that is never full."""

NOBODY: Final = -1
"""Expert id of a column that is no request."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RaggedSlots:
    """Rows of all experts one after the other: by expert, then example, then position, without gaps.

    How many rows there are is known on the device alone; `max_rows` bounds them. Made and used without asking the
    device for a number.

    Attributes:
        assignment_EN: int32, n * K + k of the units that an expert kept; example g's begin at `first_unit_X[g]`.
        start_X: int32 (E * G + 1), first row of every (expert, example) batch, and the number of rows.
        place_NK: int32, place within its batch of every kept request; undefined where not kept.
        first_unit_X: int32 (G + 1), first unit of every example, and N.
        group_N: int64, example of every unit; None if all units are one.
        longest: units of the longest batch at most.
    """

    assignment_EN: Tensor
    start_X: Tensor
    place_NK: Tensor
    first_unit_X: Tensor
    group_N: Tensor | None
    longest: int

    @property
    def num_experts(self) -> int:
        """E."""
        return self.assignment_EN.shape[0]

    @property
    def num_groups(self) -> int:
        """G."""
        return self.first_unit_X.shape[0] - 1

    @property
    def max_rows(self) -> int:
        """Rows there can be at most."""
        return min(self.place_NK.numel(), self.num_experts * self.num_groups * self.longest)

    @property
    def max_rows_per_expert(self) -> int:
        """Rows one expert can have at most."""
        return min(self.assignment_EN.shape[1], self.num_groups * self.longest)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingDecision:
    """What one router decided, per unit; K columns in order of preference.

    Over the valid units of a layout N counts those; in a model's output N = B * T and padding holds no request.

    Attributes:
        logits_NE: float32 (float64 in a float64 model), before softmax; of the unit's patch.
        expert_NK: int64, requested experts; -1 where there is no request (expert choice, padding).
        gate_NK: float, weight applied to the expert's output; 0 where not kept.
        kept_NK: bool, whether the expert had a slot.
        capacity_G: int64, patches an expert takes of each example (-1 unlimited); under `position` admission the value
            at the last patch.
        slots: where the kept requests stand, if that was found along with them; over valid units only.
    """

    logits_NE: Tensor
    expert_NK: Tensor
    gate_NK: Tensor
    kept_NK: Tensor
    capacity_G: Tensor
    slots: RaggedSlots | None = None

    def without_slots(self) -> "RoutingDecision":
        """The same decision; what only the experts needed can be freed."""
        return self if self.slots is None else dataclasses.replace(self, slots=None)

    def spread(self, layout: RoutingLayout) -> "RoutingDecision":
        """The same decision on the flattened grid of B * T units."""
        if layout.is_full:
            return self
        return RoutingDecision(
            logits_NE=layout.spread(self.logits_NE),
            expert_NK=layout.spread(self.expert_NK, NOBODY),
            gate_NK=layout.spread(self.gate_NK),
            kept_NK=layout.spread(self.kept_NK),
            capacity_G=self.capacity_G,
        )
