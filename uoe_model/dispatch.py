"""Which row of which expert's batch every kept unit becomes, and the way back."""

import dataclasses
from typing import Final

import torch
from torch import Tensor

from uoe_model.decision import RoutingDecision
from uoe_model.layout import RoutingLayout

ROW_MULTIPLE: Final = 8
"""Slots per expert are rounded up to this, so that products of similar sizes share one shape."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SlotTable:
    """One batch per (expert, example), every one C slots long, units in their original order, unused slots last.

    Attributes:
        unit_S: int64, unit of each slot (0 where unused); S = E * G * C.
        used_S: bool. slot_NK: int64, slot of each (unit, choice), 0 where not kept.
        kept_NK: bool. num_experts, num_groups, num_slots: E, G, C.
    """

    unit_S: Tensor
    used_S: Tensor
    slot_NK: Tensor
    kept_NK: Tensor
    num_experts: int
    num_groups: int
    num_slots: int


def build_slot_table(decision: RoutingDecision, num_experts: int, layout: RoutingLayout | None) -> SlotTable:
    """Number the slots that the kept requests of one site take.

    Args:
        decision: over valid units.
        layout: of those units: slots of different examples are apart (attention, where only units of one example may
            meet). None: one group of everything (MLP).
    """
    expert_NK, kept_NK = decision.expert_NK, decision.kept_NK
    num_units, device = expert_NK.shape[0], expert_NK.device
    chosen_NK = expert_NK.clamp_min(0)
    kept_NE = kept_by_expert(decision, kept_NK.int(), num_experts)
    num_groups = 1 if layout is None else layout.num_groups
    place_NE = kept_NE.cumsum(0) if layout is None else _places_in_examples(kept_NE, layout)
    longest = int(place_NE.max()) if num_units else 0
    num_slots = max(-(-longest // ROW_MULTIPLE) * ROW_MULTIPLE, ROW_MULTIPLE)
    total = num_experts * num_groups * num_slots
    slot_NK = place_NE.gather(1, chosen_NK).add_(chosen_NK, alpha=num_groups * num_slots).sub_(1)
    if layout is not None:
        slot_NK.add_(layout.group_N.unsqueeze(1), alpha=num_slots)
    unit_NK = torch.arange(num_units, device=device).unsqueeze(1).expand_as(slot_NK)
    unit_S = torch.full((total + 1,), -1, device=device)
    unit_S = unit_S.scatter_(0, slot_NK.masked_fill(~kept_NK, total).flatten(), unit_NK.flatten())[:total]
    return SlotTable(
        unit_S=unit_S.clamp_min(0),
        used_S=unit_S >= 0,
        slot_NK=slot_NK.masked_fill_(~kept_NK, 0),
        kept_NK=kept_NK,
        num_experts=num_experts,
        num_groups=num_groups,
        num_slots=num_slots,
    )


def _places_in_examples(kept_NE: Tensor, layout: RoutingLayout) -> Tensor:
    """How many units each expert has kept of each example so far (N, E)."""
    if layout.is_full and layout.num_groups == layout.num_rows:
        return kept_NE.view(layout.num_rows, layout.row_length, -1).cumsum(1).view_as(kept_NE)
    place_NE = kept_NE.cumsum(0)
    groups = torch.arange(layout.num_groups, device=kept_NE.device)
    start_G = torch.searchsorted(layout.group_N, groups)
    before_GE = place_NE.index_select(0, start_G) - kept_NE.index_select(0, start_G)
    return place_NE - before_GE.index_select(0, layout.group_N)


def kept_by_expert(decision: RoutingDecision, values_NK: Tensor, num_experts: int) -> Tensor:
    """Spread per-choice values to (N, E), 0 where a unit is not kept by the expert."""
    zeros_NE = values_NK.new_zeros(values_NK.shape[0], num_experts)
    return zeros_NE.scatter_add(1, decision.expert_NK.clamp_min(0), values_NK * decision.kept_NK)
