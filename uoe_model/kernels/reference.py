"""Experts in plain PyTorch: padded batches per expert, contiguous weights, one-pass combine. The definition of correct.

The backward passes gather rows again instead of saving them, and need no scatter: the gradient of a gather is a
combine and the other way round.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.dispatch import SlotTable

CHUNK_BYTES = 8 << 20
"""Experts are processed in groups whose temporaries stay about this small; larger ones are page-faulted every call."""


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, table: SlotTable) -> Tensor:
        ctx.table = table
        return x_ND.index_select(0, table.unit_S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_SD: Tensor) -> tuple[Tensor, None]:
        table: SlotTable = ctx.table
        return _weighted_sum(table.slot_NK, grad_SD, table.kept_NK.to(grad_SD.dtype)), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y_SD: Tensor, gate_NK: Tensor, table: SlotTable) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(y_SD, gate_NK)
        return _weighted_sum(table.slot_NK, y_SD, gate_NK.to(y_SD.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, Tensor, None]:
        y_SD, gate_NK = ctx.saved_tensors
        table: SlotTable = ctx.table
        grad_rows_SD = grad_ND.index_select(0, table.unit_S)
        grad_gate_NK = _slot_values_to_units((y_SD * grad_rows_SD).sum(-1), table).to(gate_NK.dtype)
        return grad_rows_SD.mul_(slot_gates(gate_NK, table).to(y_SD.dtype).unsqueeze(1)), grad_gate_NK, None


class _ExpertMLP(torch.autograd.Function):
    """Gather, two products, combine. Saves the input and the pre-activations, not the gathered rows or the outputs."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        gate_NK: Tensor,
        w1_EDF: Tensor,
        b1_EF: Tensor,
        w2_EFD: Tensor,
        act: str,
        table: SlotTable,
    ) -> Tensor:
        num_experts, width = w1_EDF.shape[0], x_ND.shape[1]
        keep = any(ctx.needs_input_grad)
        rows_per_expert = table.num_groups * table.num_slots
        y_SD = x_ND.new_empty(num_experts * rows_per_expert, width)
        chunk = _experts_per_chunk(rows_per_expert, width + w1_EDF.shape[2], x_ND.element_size())
        parts = []
        for first in range(0, num_experts, chunk):
            experts = slice(first, min(first + chunk, num_experts))
            slots = slice(experts.start * rows_per_expert, experts.stop * rows_per_expert)
            rows_ESD = x_ND.index_select(0, table.unit_S[slots]).view(-1, rows_per_expert, width)
            a_ESF = torch.baddbmm(b1_EF[experts].unsqueeze(1), rows_ESD, w1_EDF[experts])
            out_ESD = y_SD[slots].view(-1, rows_per_expert, width)
            torch.bmm(activate(a_ESF, act), w2_EFD[experts], out=out_ESD)
            parts.append(a_ESF)
        if keep:
            ctx.save_for_backward(x_ND, gate_NK, w1_EDF, w2_EFD, *parts)
            ctx.act, ctx.table, ctx.chunk = act, table, chunk
        return _weighted_sum(table.slot_NK, y_SD, gate_NK.to(y_SD.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, gate_NK, w1_EDF, w2_EFD, *parts = ctx.saved_tensors
        table: SlotTable = ctx.table
        num_experts, width = w1_EDF.shape[0], x_ND.shape[1]
        rows_per_expert = table.num_groups * table.num_slots
        gate_S = slot_gates(gate_NK, table).to(x_ND.dtype)
        grad_gate_S = torch.empty_like(gate_S)
        grad_rows_SD = x_ND.new_empty(num_experts * rows_per_expert, width)
        grad_w1, grad_w2 = torch.empty_like(w1_EDF), torch.empty_like(w2_EFD)
        grad_b1 = w1_EDF.new_empty(num_experts, w1_EDF.shape[2])
        for part, first in zip(parts, range(0, num_experts, ctx.chunk), strict=True):
            experts = slice(first, min(first + ctx.chunk, num_experts))
            slots = slice(experts.start * rows_per_expert, experts.stop * rows_per_expert)
            unit_S = table.unit_S[slots]
            gate_ES1 = gate_S[slots].view(-1, rows_per_expert, 1)
            grad_ESD = grad_ND.index_select(0, unit_S).view(-1, rows_per_expert, width)
            hidden_ESF, backward = activation_and_backward(part, ctx.act)
            u_ESF = torch.bmm(grad_ESD, w2_EFD[experts].transpose(1, 2))
            grad_gate_S[slots] = (u_ESF * hidden_ESF).sum(-1).flatten()
            torch.bmm((hidden_ESF * gate_ES1).transpose(1, 2), grad_ESD, out=grad_w2[experts])
            grad_a_ESF = backward(u_ESF.mul_(gate_ES1))
            rows_ESD = x_ND.index_select(0, unit_S).view(-1, rows_per_expert, width)
            torch.bmm(rows_ESD.transpose(1, 2), grad_a_ESF, out=grad_w1[experts])
            grad_b1[experts] = grad_a_ESF.sum(1)
            torch.bmm(
                grad_a_ESF, w1_EDF[experts].transpose(1, 2), out=grad_rows_SD[slots].view(-1, rows_per_expert, width)
            )
        grad_x = _weighted_sum(table.slot_NK, grad_rows_SD, table.kept_NK.to(x_ND.dtype))
        grad_gate_NK = _slot_values_to_units(grad_gate_S, table).to(gate_NK.dtype)
        return grad_x, grad_gate_NK, grad_w1, grad_b1, grad_w2, None, None


def gather(x_ND: Tensor, table: SlotTable) -> Tensor:
    """Rows of all slots (S, D); unused slots hold some unit's row and must not be read back."""
    return _Gather.apply(x_ND, table)  # type: ignore[no-any-return, no-untyped-call]


def combine(y_SD: Tensor, gate_NK: Tensor, table: SlotTable) -> Tensor:
    """Sum of gate * expert output over each unit's kept experts (N, D); 0 for a unit nobody kept."""
    return _Combine.apply(y_SD, gate_NK, table)  # type: ignore[no-any-return, no-untyped-call]


def expert_mlp(
    x_ND: Tensor, gate_NK: Tensor, w1_EDF: Tensor, b1_EF: Tensor, w2_EFD: Tensor, act: str, table: SlotTable
) -> Tensor:
    """Gated sum over each unit's kept experts of act(x W1 + b1) W2 (N, D). SwiGLU: W1 holds gate columns, then up."""
    return _ExpertMLP.apply(x_ND, gate_NK, w1_EDF, b1_EF, w2_EFD, act, table)  # type: ignore[no-any-return, no-untyped-call]


def expert_attention(
    q: Tensor, k: Tensor, v: Tensor, log_gate_key: Tensor | None, used: Tensor | None, *, causal: bool
) -> Tensor:
    """Attention within each (expert, example) batch.

    Args:
        q, k, v: (E * G, heads, C, head width), original order, unused slots last.
        log_gate_key: (E * G, C), added to the logits of the keys; None adds nothing.
        used: bool (E * G, C), slots that may be keys; None where `causal` hides the unused ones anyway.
    """
    scale = q.shape[-1] ** -0.5
    if causal:
        if log_gate_key is not None:
            # One more feature carries the key bias through the product, so that no C x C mask is needed.
            extra = (*q.shape[:3], 1)
            key = log_gate_key[:, None, :, None].to(q.dtype).expand(extra)
            q = torch.cat([q, q.new_full(extra, 1 / scale)], -1)
            k = torch.cat([k, key], -1)
            v = torch.cat([v, v.new_zeros(extra)], -1)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return out if log_gate_key is None else out[..., :-1]
    bias = None
    if used is not None:
        bias = q.new_zeros(used.shape).masked_fill(~used, torch.finfo(q.dtype).min / 2)
    if log_gate_key is not None:
        bias = log_gate_key.to(q.dtype) if bias is None else bias + log_gate_key.to(q.dtype)
    mask = None if bias is None else bias[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def slot_gates(gate_NK: Tensor, table: SlotTable) -> Tensor:
    """Gate of the unit in each slot (S,), 0 where unused."""
    gate_S = gate_NK.new_zeros(table.unit_S.shape[0] + 1)
    slot_NK = table.slot_NK.masked_fill(~table.kept_NK, table.unit_S.shape[0])
    return gate_S.scatter_(0, slot_NK.flatten(), gate_NK.flatten())[:-1]


def activate(a: Tensor, act: str) -> Tensor:
    """Exact GELU, or SwiGLU over the two halves of the last dimension."""
    if act == "gelu":
        return F.gelu(a)
    gate, up = a.chunk(2, -1)
    return F.silu(gate) * up


def activation_and_backward(a: Tensor, act: str) -> tuple[Tensor, Any]:
    """The activation of `a`, and a function from its gradient to the gradient of `a`."""
    if act == "gelu":
        return F.gelu(a), lambda grad: torch.ops.aten.gelu_backward(grad, a)
    gate, up = a.chunk(2, -1)
    silu = F.silu(gate)
    return silu * up, lambda grad: torch.cat([torch.ops.aten.silu_backward(grad * up, gate), grad * silu], -1)


def _weighted_sum(slot_NK: Tensor, values_SD: Tensor, weight_NK: Tensor) -> Tensor:
    """sum over K of weight * values[slot] (N, D); embedding_bag is the fastest deterministic way."""
    return F.embedding_bag(slot_NK, values_SD, mode="sum", per_sample_weights=weight_NK)


def _slot_values_to_units(values_S: Tensor, table: SlotTable) -> Tensor:
    """One value per slot back to (N, K), 0 where not kept."""
    return values_S[table.slot_NK] * table.kept_NK


def _experts_per_chunk(rows_per_expert: int, width: int, element_size: int) -> int:
    return max(1, CHUNK_BYTES // max(rows_per_expert * width * element_size, 1))


__all__ = ["combine", "expert_attention", "expert_mlp", "gather", "slot_gates"]
