"""Slots of all experts in plain PyTorch: what their units' gates are, and the way back to the units."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.dispatch import SlotTable

CHUNK_BYTES: Final = 16 << 20
"""Experts are processed in groups whose temporaries stay about this small; larger ones are page-faulted every call."""


def slot_gates(gate_NK: Tensor, table: SlotTable) -> Tensor:
    """Gate of the unit in each slot (S,), 0 where unused."""
    gate_S = gate_NK.new_zeros(table.unit_S.shape[0] + 1)
    slot_NK = table.slot_NK.masked_fill(~table.kept_NK, table.unit_S.shape[0])
    return gate_S.scatter_(0, slot_NK.flatten(), gate_NK.flatten())[:-1]


def weighted_sum(slot_NK: Tensor, values_SD: Tensor, weight_NK: Tensor) -> Tensor:
    """sum over K of weight * values[slot] (N, D); embedding_bag is the fastest deterministic way."""
    return F.embedding_bag(slot_NK, values_SD, mode="sum", per_sample_weights=weight_NK)


def add_bias_(out_ND: Tensor, bias_D: Tensor, table: SlotTable) -> None:
    """Add a bias once to units that any expert kept, in place."""
    out_ND.addcmul_(table.kept_NK.any(-1, keepdim=True).to(out_ND.dtype), bias_D)


def bias_gradient(grad_ND: Tensor, kept_NK: Tensor) -> Tensor:
    """Of a bias (D,) that every unit with a kept expert got once."""
    return kept_NK.any(-1).to(grad_ND.dtype) @ grad_ND


def slot_values_to_units(values_S: Tensor, table: SlotTable) -> Tensor:
    """One value per slot back to (N, K), 0 where not kept."""
    return values_S[table.slot_NK] * table.kept_NK


def is_large(table: SlotTable, width: int, element_size: int) -> bool:
    """Whether a row of this width for every slot is more than a temporary should be."""
    return table.unit_S.shape[0] * width * element_size > CHUNK_BYTES


def side_by_side(rows_SW: Tensor, table: SlotTable) -> Tensor:
    """Rows of all experts beside each other (N, E * W); the last one, after all slots, where none kept the unit."""
    num_units, num_slots = table.slot_NK.shape[0], table.unit_S.shape[0]
    slots_per_expert = table.num_groups * table.num_slots
    expert_NK = (table.slot_NK // slots_per_expert).masked_fill_(~table.kept_NK, table.num_experts)
    slot_NE = table.slot_NK.new_full((num_units, table.num_experts + 1), num_slots)
    slot_NE = slot_NE.scatter_(1, expert_NK, table.slot_NK)[:, :-1]
    return rows_SW.index_select(0, slot_NE.flatten()).view(num_units, -1)


def slots_of(experts: slice, table: SlotTable) -> tuple[slice, slice]:
    """Where consecutive experts stand among all slots, and among all (expert, example) batches."""
    batches = slice(experts.start * table.num_groups, experts.stop * table.num_groups)
    return slice(batches.start * table.num_slots, batches.stop * table.num_slots), batches


def experts_per_chunk(rows_per_expert: int, width: int, element_size: int) -> int:
    """How many experts are processed together, given what one row of theirs needs at the same time."""
    return max(1, CHUNK_BYTES // max(rows_per_expert * width * element_size, 1))


def compute_dtype(x: Tensor) -> torch.dtype:
    """What products run in: the autocast type inside autocast, else the input's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
