"""Attention experts in Triton: gather, project and rotate; attend; project; combine."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.decision import RaggedSlots
from uoe_model.kernels.head_shape import HeadShape, Rotation
from uoe_model.kernels.plain_rows import bias_gradient
from uoe_model.kernels.triton_flash import Attending
from uoe_model.kernels.triton_products import expert_product
from uoe_model.kernels.triton_rows import (
    assignments_of_rows,
    combine,
    group_steps,
    row_grid,
    rows_of_program,
    slot_arguments,
)
from uoe_model.kernels.triton_weight_gradient import weight_gradient

_ROWS = 16


@triton.jit
def _gate_heads_kernel(
    u_RW,
    heads_RW,
    gated_RW,
    delta_RH,
    gate_parts_RP,
    gate_NK,
    assignment_EN,
    start_X,
    first_unit_X,
    num_experts,
    num_groups,
    num_units,
    heads,
    width,
    num_parts,
    STEPS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """u becomes the heads' gradient, times the gate; gated heads; sums of u times heads, per head and for the gate."""
    e, r, is_row, any_row = rows_of_program(tl.program_id(0), start_X, num_experts, num_groups, BLOCK_R)
    if any_row:
        assignment = assignments_of_rows(
            r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS
        )
        gate = tl.load(gate_NK + assignment, mask=is_row, other=0.0).to(tl.float32)
        w = tl.arange(0, BLOCK_W)
        inside = is_row[:, None] & (w < width)[None, :]
        total = tl.zeros((BLOCK_R,), tl.float32)
        for h in range(heads):
            at = r[:, None] * heads * width + h * width + w[None, :]
            u = tl.load(u_RW + at, mask=inside, other=0.0).to(tl.float32)
            value = tl.load(heads_RW + at, mask=inside, other=0.0).to(tl.float32)
            found = tl.sum(u * value, 1)
            total += found
            tl.store(gated_RW + at, (value * gate[:, None]).to(gated_RW.dtype.element_ty), mask=inside)
            tl.store(delta_RH + r * heads + h, found * gate, mask=is_row)
            tl.store(u_RW + at, (u * gate[:, None]).to(u_RW.dtype.element_ty), mask=inside)
        tl.store(gate_parts_RP + r * num_parts, total, mask=is_row)


@triton.jit
def _rotate_back_kernel(
    grad_RC,
    cos_NI,
    sin_NI,
    assignment_EN,
    start_X,
    first_unit_X,
    num_experts,
    num_groups,
    num_units,
    turned_heads,
    half,
    columns,
    TOP_K: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_I: tl.constexpr,
):
    """Undo the rotation of the first heads, in place."""
    e, r, is_row, any_row = rows_of_program(tl.program_id(0), start_X, num_experts, num_groups, BLOCK_R)
    if any_row:
        assignment = assignments_of_rows(
            r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS
        )
        i = tl.arange(0, BLOCK_I)
        inside = is_row[:, None] & (i < half)[None, :]
        angle = (assignment // TOP_K)[:, None] * half + i[None, :]
        cos = tl.load(cos_NI + angle, mask=inside, other=0.0).to(tl.float32)
        sin = tl.load(sin_NI + angle, mask=inside, other=0.0).to(tl.float32)
        for h in range(turned_heads):
            at = grad_RC + r[:, None] * columns + h * 2 * half + i[None, :]
            first = tl.load(at, mask=inside, other=0.0).to(tl.float32)
            second = tl.load(at + half, mask=inside, other=0.0).to(tl.float32)
            tl.store(at, (first * cos + second * sin).to(grad_RC.dtype.element_ty), mask=inside)
            tl.store(at + half, (second * cos - first * sin).to(grad_RC.dtype.element_ty), mask=inside)


def _gate_heads(
    u_RW: Tensor, heads_RW: Tensor, gate_NK: Tensor, shape: HeadShape, slots: RaggedSlots, num_parts: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gated heads (R, W), sums per head (R, H), parts of the gates' gradient, the first filled; `u_RW` is changed."""
    gated_RW = torch.empty_like(heads_RW)
    delta_RH = u_RW.new_empty(slots.max_rows, shape.heads, dtype=torch.float32)
    gate_parts_RP = u_RW.new_empty(slots.max_rows, num_parts, dtype=torch.float32)
    _gate_heads_kernel[row_grid(slots, _ROWS)](
        u_RW,
        heads_RW,
        gated_RW,
        delta_RH,
        gate_parts_RP,
        gate_NK,
        **slot_arguments(slots),
        heads=shape.heads,
        width=shape.width,
        num_parts=num_parts,
        STEPS=group_steps(slots),
        BLOCK_R=_ROWS,
        BLOCK_W=triton.next_power_of_2(shape.width),
    )
    return gated_RW, delta_RH, gate_parts_RP


def _rotate_back(grad_qkv_RC: Tensor, shape: HeadShape, rotation: Rotation, slots: RaggedSlots) -> None:
    """Gradients of rotated q and k to those before rotation, in place."""
    half = rotation[0].shape[1]
    _rotate_back_kernel[row_grid(slots, _ROWS)](
        grad_qkv_RC,
        *rotation,
        **slot_arguments(slots),
        turned_heads=shape.heads + shape.kv_heads,
        half=half,
        columns=shape.columns,
        TOP_K=slots.place_NK.shape[1],
        STEPS=group_steps(slots),
        BLOCK_R=_ROWS,
        BLOCK_I=triton.next_power_of_2(half),
    )


class _ExpertAttention(torch.autograd.Function):
    """Saves the input, q, k, v, the heads and their log-sum-exp; the rows it returns carry no gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        gate_NK: Tensor,
        w_qkv_EDC: Tensor,
        b_qkv_EC: Tensor,
        w_o_EWD: Tensor,
        b_o_D: Tensor | None,
        shape: HeadShape,
        rotation: Rotation | None,
        expert_NK: Tensor,
        kept_NK: Tensor,
        slots: RaggedSlots,
        causal: bool,
        gate_keys: bool,
    ) -> tuple[Tensor, Tensor]:
        x_ND, gate_NK = x_ND.contiguous(), gate_NK.contiguous()
        if rotation is not None:
            rotation = (rotation[0].contiguous(), rotation[1].contiguous())
        qkv_RC, _ = expert_product(
            x_ND,
            w_qkv_EDC,
            slots,
            gather=True,
            bias_EN=b_qkv_EC,
            finish="none" if rotation is None else "rotate",
            rotation=rotation,
            rotated=(shape.heads + shape.kv_heads) * shape.width // 2,
        )
        attending = Attending(shape=shape, slots=slots, gate_NK=gate_NK, causal=causal, gate_keys=gate_keys)
        heads_RW, lse_RH = attending.forward(qkv_RC)
        y_RD, _ = expert_product(heads_RW, w_o_EWD, slots, gather=False)
        out_ND, _ = combine(y_RD, expert_NK, kept_NK, slots, weight_NK=gate_NK, bias_D=b_o_D)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(x_ND, gate_NK, w_qkv_EDC, w_o_EWD, qkv_RC, heads_RW, lse_RH, expert_NK, kept_NK)
            ctx.attending, ctx.rotation, ctx.has_bias = (shape, slots, causal, gate_keys), rotation, b_o_D is not None
        ctx.mark_non_differentiable(qkv_RC)
        return out_ND, qkv_RC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, gate_NK, w_qkv_EDC, w_o_EWD, qkv_RC, heads_RW, lse_RH, expert_NK, kept_NK = ctx.saved_tensors
        shape, slots, causal, gate_keys = ctx.attending
        attending = Attending(shape=shape, slots=slots, gate_NK=gate_NK, causal=causal, gate_keys=gate_keys)
        grad_ND = grad_ND.contiguous()
        u_RW = expert_product(grad_ND, w_o_EWD.transpose(1, 2), slots, gather=True)[0]
        num_parts = 1 + shape.kv_heads if gate_keys else 1
        gated_RW, delta_RH, gate_parts_RP = _gate_heads(u_RW, heads_RW, gate_NK, shape, slots, num_parts)
        grad_w_o = weight_gradient(gated_RW, grad_ND, slots, gather_b=True)[0]
        grad_qkv_RC = attending.backward(u_RW, qkv_RC, lse_RH, delta_RH, gate_parts_RP)
        if ctx.rotation is not None:
            _rotate_back(grad_qkv_RC, shape, ctx.rotation, slots)
        grad_w_qkv, grad_b_qkv = weight_gradient(x_ND, grad_qkv_RC, slots, gather_a=True, with_sum=True)
        grad_rows_RD = expert_product(grad_qkv_RC, w_qkv_EDC.transpose(1, 2), slots, gather=False)[0]
        grad_x_ND, grad_gate_NK = combine(grad_rows_RD, expert_NK, kept_NK, slots, gate_parts_RP=gate_parts_RP)
        grad_b_o = bias_gradient(grad_ND, kept_NK) if ctx.has_bias else None
        return grad_x_ND, grad_gate_NK, grad_w_qkv, grad_b_qkv, grad_w_o, grad_b_o, *([None] * 7)


def expert_attention(
    x_ND: Tensor,
    gate_NK: Tensor,
    w_qkv_EDC: Tensor,
    b_qkv_EC: Tensor,
    w_o_EWD: Tensor,
    b_o_D: Tensor | None,
    shape: HeadShape,
    rotation: Rotation | None,
    expert_NK: Tensor,
    kept_NK: Tensor,
    slots: RaggedSlots,
    *,
    causal: bool,
    gate_keys: bool,
) -> tuple[Tensor, Tensor]:
    """`uoe_model.kernels.plain_attention.expert_attention` over ragged rows, with the output bias of kept units.

    Returns:
        Output (N, D), and the rows of rotated q, k and v (R, C), which carry no gradient.
    """
    return _ExpertAttention.apply(  # type: ignore[no-any-return]
        x_ND,
        gate_NK,
        w_qkv_EDC,
        b_qkv_EC,
        w_o_EWD,
        b_o_D,
        shape,
        rotation,
        expert_NK,
        kept_NK,
        slots,
        causal,
        gate_keys,
    )


def keys_and_values(
    qkv_RC: Tensor, expert_NK: Tensor, kept_NK: Tensor, shape: HeadShape, slots: RaggedSlots
) -> tuple[Tensor, Tensor]:
    """Keys and values by unit (N, all experts' kv heads, head width), 0 where an expert did not keep the unit."""
    num_units = expert_NK.shape[0]
    group_N = torch.zeros_like(expert_NK[:, 0]) if slots.group_N is None else slots.group_N
    expert_NK = expert_NK.clamp_min(0)
    row_NK = slots.start_X[expert_NK * slots.num_groups + group_N.unsqueeze(1)].long() + slots.place_NK
    row_NK = row_NK.masked_fill(~kept_NK, 0)
    num_experts = slots.num_experts
    unit_N1 = torch.arange(num_units, device=expert_NK.device).unsqueeze(1)
    # What is not kept goes to a last row that is cut off.
    target_NK = (unit_N1 * num_experts + expert_NK).masked_fill(~kept_NK, num_units * num_experts)
    parts = []
    for first in (shape.heads, shape.heads + shape.kv_heads):
        columns = slice(first * shape.width, (first + shape.kv_heads) * shape.width)
        out = qkv_RC.new_zeros(num_units * num_experts + 1, shape.kv_heads * shape.width)
        out.index_copy_(0, target_NK.flatten(), qkv_RC[:, columns].index_select(0, row_NK.flatten()))
        parts.append(out[:-1].view(num_units, num_experts * shape.kv_heads, shape.width))
    return parts[0], parts[1]
