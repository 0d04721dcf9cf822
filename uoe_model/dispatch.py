"""Which row of which expert's batch every kept unit becomes, and the way back."""

import dataclasses
from typing import Final

import torch
from torch import Tensor

from uoe_model.decision import RoutingDecision

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


def build_slot_table(decision: RoutingDecision, num_experts: int, group_N: Tensor | None, num_groups: int) -> SlotTable:
    """Number the slots that the kept requests of one site take.

    Args:
        decision: over valid units. group_N: int64, ascending: slots of different groups are apart (attention, where
            only units of one example may meet). None: one group of everything (MLP).
    """
    expert_NK, kept_NK = decision.expert_NK, decision.kept_NK
    num_units = expert_NK.shape[0]
    device = expert_NK.device
    chosen_NK = expert_NK.clamp_min(0)
    kept_EN = kept_by_expert(decision, kept_NK.int(), num_experts).t().contiguous() > 0
    place_EN = kept_EN.cumsum(1)
    if group_N is None:
        num_groups, group_N = 1, torch.zeros(num_units, dtype=torch.long, device=device)
    else:
        start_G = torch.searchsorted(group_N, torch.arange(num_groups, device=device))
        before_EG = place_EN[:, start_G] - kept_EN[:, start_G].long()
        place_EN = place_EN - before_EG[:, group_N]
    longest = int(place_EN.max()) if num_units else 0
    num_slots = max(-(-longest // ROW_MULTIPLE) * ROW_MULTIPLE, ROW_MULTIPLE)
    total = num_experts * num_groups * num_slots
    expert_E1 = torch.arange(num_experts, device=device).unsqueeze(1)
    slot_EN = torch.where(kept_EN, (expert_E1 * num_groups + group_N) * num_slots + place_EN - 1, total)
    unit_N = torch.arange(num_units, device=device)
    unit_S = torch.full((total + 1,), -1, device=device).scatter_(0, slot_EN.flatten(), unit_N.repeat(num_experts))
    unit_S = unit_S[:total]
    slot_NK = slot_EN.t().gather(1, chosen_NK).masked_fill(~kept_NK, 0)
    return SlotTable(
        unit_S=unit_S.clamp_min(0),
        used_S=unit_S >= 0,
        slot_NK=slot_NK,
        kept_NK=kept_NK,
        num_experts=num_experts,
        num_groups=num_groups,
        num_slots=num_slots,
    )


def kept_by_expert(decision: RoutingDecision, values_NK: Tensor, num_experts: int) -> Tensor:
    """Spread per-choice values to (N, E), 0 where a unit is not kept by the expert."""
    zeros_NE = values_NK.new_zeros(values_NK.shape[0], num_experts)
    return zeros_NE.scatter_add(1, decision.expert_NK.clamp_min(0), values_NK * decision.kept_NK)
