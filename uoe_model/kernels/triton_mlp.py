"""MLP experts in Triton: gather, product, activation; product; combine. Backward saves what the plain one saves."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.decision import RaggedSlots
from uoe_model.kernels.plain_rows import bias_gradient
from uoe_model.kernels.triton_activations import gelu, gelu_slope
from uoe_model.kernels.triton_products import expert_product, product_of_rows
from uoe_model.kernels.triton_rows import (
    assignments_of_rows,
    combine,
    group_steps,
    precision,
    product_tiles,
    row_grid,
    rows_of_program,
    slot_arguments,
)
from uoe_model.kernels.triton_weight_gradient import weight_gradient


@triton.jit
def _hidden_gradient_kernel(
    grad_ND,
    w2_EFD,
    before_RA,
    gate_NK,
    grad_before_RA,
    hidden_RF,
    gate_parts_RP,
    assignment_EN,
    start_X,
    first_unit_X,
    num_experts,
    num_groups,
    num_units,
    hidden_size,
    width,
    stride_grad,
    TOP_K: tl.constexpr,
    STEPS: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient before the activation; the gated hidden units, for W2's gradient; and parts of the gates' gradient."""
    tiles = tl.cdiv(hidden_size, BLOCK_F)
    program = tl.program_id(0)
    e, r, is_row, any_row = rows_of_program(program // tiles, start_X, num_experts, num_groups, BLOCK_R)
    if any_row:
        part = program % tiles
        f = part * BLOCK_F + tl.arange(0, BLOCK_F)
        is_f = f < hidden_size
        assignment = assignments_of_rows(
            r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS
        )
        gate = tl.load(gate_NK + assignment, mask=is_row, other=0.0).to(tl.float32)[:, None]
        # The weights turned: (width, hidden) of this expert.
        u = product_of_rows(
            grad_ND,
            assignment // TOP_K,
            is_row,
            w2_EFD + e.to(tl.int64) * hidden_size * width,
            f,
            is_f,
            width,
            stride_grad,
            1,
            width,
            BLOCK_R,
            BLOCK_F,
            BLOCK_D,
            PRECISION,
        )
        inside = is_row[:, None] & is_f[None, :]
        dtype = grad_before_RA.dtype.element_ty
        if ACT == "swiglu":
            at = r[:, None] * 2 * hidden_size + f[None, :]
            z = tl.load(before_RA + at, mask=inside, other=0.0).to(tl.float32)
            up = tl.load(before_RA + at + hidden_size, mask=inside, other=0.0).to(tl.float32)
            s = tl.sigmoid(z)
            hidden = z * s * up
            grad = u * gate
            tl.store(grad_before_RA + at, (grad * up * s * (1 + z * (1 - s))).to(dtype), mask=inside)
            tl.store(grad_before_RA + at + hidden_size, (grad * z * s).to(dtype), mask=inside)
        else:
            at = r[:, None] * hidden_size + f[None, :]
            z = tl.load(before_RA + at, mask=inside, other=0.0).to(tl.float32)
            hidden = gelu(z, ACT == "gelu_tanh")
            tl.store(grad_before_RA + at, (u * gate * gelu_slope(z, ACT == "gelu_tanh")).to(dtype), mask=inside)
        tl.store(hidden_RF + r[:, None] * hidden_size + f[None, :], (hidden * gate).to(dtype), mask=inside)
        tl.store(gate_parts_RP + r * tiles + part, tl.sum(u * hidden, 1), mask=is_row)


def _hidden_gradient(
    grad_ND: Tensor, w2_EFD: Tensor, before_RA: Tensor, gate_NK: Tensor, act: str, slots: RaggedSlots
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient before the activation (R, A), gated hidden units (R, F), parts of the gates' gradient (R, tiles)."""
    _, hidden_size, width = w2_EFD.shape
    # As narrow as for two accumulators: beside the product it holds what the activation's derivative needs.
    tiles = product_tiles(grad_ND.dtype, slots.max_rows_per_expert, hidden_size, width, accumulators=2)
    num_parts = triton.cdiv(hidden_size, tiles.columns)
    grad_before_RA = torch.empty_like(before_RA)
    hidden_RF = before_RA.new_empty(slots.max_rows, hidden_size)
    gate_parts_RP = before_RA.new_empty(slots.max_rows, num_parts, dtype=torch.float32)
    _hidden_gradient_kernel[row_grid(slots, tiles.rows, num_parts)](
        grad_ND,
        w2_EFD,
        before_RA,
        gate_NK,
        grad_before_RA,
        hidden_RF,
        gate_parts_RP,
        **slot_arguments(slots),
        hidden_size=hidden_size,
        width=width,
        stride_grad=grad_ND.stride(0),
        TOP_K=slots.place_NK.shape[1],
        STEPS=group_steps(slots),
        ACT=act,
        BLOCK_R=tiles.rows,
        BLOCK_F=tiles.columns,
        BLOCK_D=tiles.depth,
        PRECISION=precision(grad_ND.dtype),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return grad_before_RA, hidden_RF, gate_parts_RP


class _ExpertMLP(torch.autograd.Function):
    """Saves the input and the products before the activation."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        gate_NK: Tensor,
        w1_EDA: Tensor,
        b1_EA: Tensor,
        w2_EFD: Tensor,
        b2_D: Tensor | None,
        act: str,
        expert_NK: Tensor,
        kept_NK: Tensor,
        slots: RaggedSlots,
    ) -> Tensor:
        keep = any(ctx.needs_input_grad)
        x_ND, gate_NK, w2_EFD = x_ND.contiguous(), gate_NK.contiguous(), w2_EFD.contiguous()
        hidden_RF, before_RA = expert_product(
            x_ND,
            w1_EDA,
            slots,
            gather=True,
            bias_EN=b1_EA,
            finish=act,  # type: ignore[arg-type]
            keep=keep,
        )
        y_RD, _ = expert_product(hidden_RF, w2_EFD, slots, gather=False)
        out_ND, _ = combine(y_RD, expert_NK, kept_NK, slots, weight_NK=gate_NK, bias_D=b2_D)
        if keep:
            ctx.save_for_backward(x_ND, gate_NK, w1_EDA, w2_EFD, before_RA, expert_NK, kept_NK)
            ctx.act, ctx.slots, ctx.has_bias = act, slots, b2_D is not None
        return out_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, gate_NK, w1_EDA, w2_EFD, before_RA, expert_NK, kept_NK = ctx.saved_tensors
        slots: RaggedSlots = ctx.slots
        grad_ND = grad_ND.contiguous()
        grad_before_RA, hidden_RF, gate_parts_RP = _hidden_gradient(grad_ND, w2_EFD, before_RA, gate_NK, ctx.act, slots)
        grad_w2_EFD, _ = weight_gradient(hidden_RF, grad_ND, slots, gather_b=True)
        grad_w1_EDA, grad_b1_EA = weight_gradient(x_ND, grad_before_RA, slots, gather_a=True, with_sum=True)
        grad_rows_RD, _ = expert_product(grad_before_RA, w1_EDA.transpose(1, 2), slots, gather=False)
        grad_x_ND, grad_gate_NK = combine(grad_rows_RD, expert_NK, kept_NK, slots, gate_parts_RP=gate_parts_RP)
        grad_b2_D = bias_gradient(grad_ND, kept_NK) if ctx.has_bias else None
        return grad_x_ND, grad_gate_NK, grad_w1_EDA, grad_b1_EA, grad_w2_EFD, grad_b2_D, None, None, None, None


def expert_mlp(
    x_ND: Tensor,
    gate_NK: Tensor,
    w1_EDA: Tensor,
    b1_EA: Tensor,
    w2_EFD: Tensor,
    b2_D: Tensor | None,
    act: str,
    expert_NK: Tensor,
    kept_NK: Tensor,
    slots: RaggedSlots,
) -> Tensor:
    """`uoe_model.kernels.plain_mlp.expert_mlp` over ragged rows, with the output bias of units that were kept."""
    return _ExpertMLP.apply(  # type: ignore[no-any-return]
        x_ND, gate_NK, w1_EDA, b1_EA, w2_EFD, b2_D, act, expert_NK, kept_NK, slots
    )
