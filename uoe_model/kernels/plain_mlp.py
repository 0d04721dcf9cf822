"""MLP experts in plain PyTorch: padded batches per expert, contiguous weights, one-pass combine.

The backward pass gathers rows again instead of saving them, and needs no expert outputs.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.dispatch import SlotTable
from uoe_model.kernels.plain_rows import (
    add_bias_,
    bias_gradient,
    experts_per_chunk,
    slot_gates,
    slot_values_to_units,
    slots_of,
    weighted_sum,
)

_APPROXIMATE: Final = {"gelu": "none", "gelu_tanh": "tanh"}


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
        b2_D: Tensor | None,
        act: str,
        table: SlotTable,
    ) -> Tensor:
        num_experts, width = w1_EDF.shape[0], x_ND.shape[1]
        keep = any(ctx.needs_input_grad)
        rows_per_expert = table.num_groups * table.num_slots
        y_SD = x_ND.new_empty(num_experts * rows_per_expert, width)
        chunk = experts_per_chunk(rows_per_expert, width + w1_EDF.shape[2], x_ND.element_size())
        parts = []
        buffer_SD = x_ND.new_empty(min(chunk, num_experts) * rows_per_expert, width)
        for first in range(0, num_experts, chunk):
            experts = slice(first, min(first + chunk, num_experts))
            slots, _ = slots_of(experts, table)
            unit_S = table.unit_S[slots]
            rows_SD = torch.index_select(x_ND, 0, unit_S, out=buffer_SD[: unit_S.shape[0]])
            rows_ESD = rows_SD.view(-1, rows_per_expert, width)
            a_ESF = torch.baddbmm(b1_EF[experts].unsqueeze(1), rows_ESD, w1_EDF[experts])
            out_ESD = y_SD[slots].view(-1, rows_per_expert, width)
            torch.bmm(activate(a_ESF, act), w2_EFD[experts], out=out_ESD)
            parts.append(a_ESF)
        if keep:
            ctx.save_for_backward(x_ND, gate_NK, w1_EDF, w2_EFD, *parts)
            ctx.act, ctx.table, ctx.chunk = act, table, chunk
        out_ND = weighted_sum(table.slot_NK, y_SD, gate_NK.to(y_SD.dtype))
        ctx.has_bias = b2_D is not None
        if b2_D is not None:
            add_bias_(out_ND, b2_D, table)
        return out_ND

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
            slots, _ = slots_of(experts, table)
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
        grad_x = weighted_sum(table.slot_NK, grad_rows_SD, table.kept_NK.to(x_ND.dtype))
        grad_gate_NK = slot_values_to_units(grad_gate_S, table).to(gate_NK.dtype)
        grad_b2 = bias_gradient(grad_ND, table.kept_NK) if ctx.has_bias else None
        return grad_x, grad_gate_NK, grad_w1, grad_b1, grad_w2, grad_b2, None, None


def expert_mlp(
    x_ND: Tensor,
    gate_NK: Tensor,
    w1_EDF: Tensor,
    b1_EF: Tensor,
    w2_EFD: Tensor,
    b2_D: Tensor | None,
    act: str,
    table: SlotTable,
) -> Tensor:
    """Gated sum over each unit's kept experts of act(x W1 + b1) W2 (N, D), b2 once where any expert kept.

    SwiGLU: W1 holds gate columns, then up columns.
    """
    return _ExpertMLP.apply(x_ND, gate_NK, w1_EDF, b1_EF, w2_EFD, b2_D, act, table)  # type: ignore[no-any-return, no-untyped-call]


def activate(a: Tensor, act: str) -> Tensor:
    """GELU, exact or by tanh, or SwiGLU over the two halves of the last dimension."""
    if act != "swiglu":
        return F.gelu(a, approximate=_APPROXIMATE[act])
    gate, up = a.chunk(2, -1)
    return F.silu(gate) * up


def activation_and_backward(a: Tensor, act: str) -> tuple[Tensor, Any]:
    """The activation of `a`, and a function from its gradient to the gradient of `a`."""
    if act != "swiglu":
        how = _APPROXIMATE[act]
        return F.gelu(a, approximate=how), lambda grad: torch.ops.aten.gelu_backward(grad, a, approximate=how)
    gate, up = a.chunk(2, -1)
    silu = F.silu(gate)
    return silu * up, lambda grad: torch.cat([torch.ops.aten.silu_backward(grad * up, gate), grad * silu], -1)
