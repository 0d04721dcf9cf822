"""The router in two launches: softmax, top-k and gates; then admission and the places of what is kept.

The same rules as `uoe_model.router.decide`, which defines them. Nothing here asks the device for a number.
"""

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.capacity import largest_batch
from uoe_model.config import RouterConfig
from uoe_model.decision import RaggedSlots, RoutingDecision
from uoe_model.kernels.triton_slots import admit_and_place
from uoe_model.layout import RoutingLayout

_TINY: Final = tl.constexpr(torch.finfo(torch.float32).tiny)
_ROWS: Final = 32


@triton.jit
def _choose_kernel(
    logits_ME,
    expert_MK,
    gate_MK,
    kept_MK,
    p_EM,
    column_EM,
    ticket,
    num_patches,
    num_experts,
    top_k,
    GATE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """Probabilities, the k best experts of every patch, and their gates before capacity."""
    if tl.program_id(0) == 0:
        tl.store(ticket, 0)
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    e = tl.arange(0, BLOCK_E)
    is_patch, is_expert = m < num_patches, e < num_experts
    z = tl.load(logits_ME + m[:, None] * num_experts + e[None, :], mask=is_patch[:, None] & is_expert[None, :], other=0)
    z = tl.where(is_expert[None, :], z, float("-inf"))
    p = tl.exp(z - tl.max(z, 1)[:, None])
    p = p / tl.sum(p, 1)[:, None]
    left = tl.where(is_expert[None, :], p, -2.0)
    column = tl.full((BLOCK_M, BLOCK_E), -1, tl.int32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    for k in range(top_k):
        # NaN logits could point beyond the last expert.
        best = tl.minimum(tl.argmax(left, 1), num_experts - 1)
        is_best = e[None, :] == best[:, None]
        total += tl.maximum(tl.sum(tl.where(is_best, p, 0.0), 1), _TINY)
        column = tl.where(is_best, k, column)
        left = tl.where(is_best, -1.0, left)
        tl.store(expert_MK + m * top_k + k, best.to(tl.int64), mask=is_patch)
    for k in range(top_k):
        p_k = tl.maximum(tl.sum(tl.where(column == k, p, 0.0), 1), _TINY)
        if GATE == "one":
            gate = tl.full((BLOCK_M,), 1.0, tl.float32)
        elif GATE == "probability":
            gate = p_k
        else:
            gate = top_k * p_k / total
        tl.store(gate_MK + m * top_k + k, gate, mask=is_patch)
        tl.store(kept_MK + m * top_k + k, tl.zeros((BLOCK_M,), tl.int1), mask=is_patch)
    inside = is_patch[:, None] & is_expert[None, :]
    turned = e[None, :] * num_patches + m[:, None]
    tl.store(p_EM + turned, p, mask=inside)
    tl.store(column_EM + turned, column, mask=inside)


@triton.jit
def _choose_backward_kernel(
    logits_ME,
    expert_MK,
    kept_MK,
    grad_gate_MK,
    grad_logits_ME,
    num_patches,
    num_experts,
    top_k,
    GATE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """From the gates' gradient to that of the logits; probabilities are computed again."""
    m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    e = tl.arange(0, BLOCK_E)
    is_patch, is_expert = m < num_patches, e < num_experts
    inside = is_patch[:, None] & is_expert[None, :]
    z = tl.load(logits_ME + m[:, None] * num_experts + e[None, :], mask=inside, other=0)
    z = tl.where(is_expert[None, :], z, float("-inf"))
    p = tl.exp(z - tl.max(z, 1)[:, None])
    p = p / tl.sum(p, 1)[:, None]
    grad = tl.zeros((BLOCK_M, BLOCK_E), tl.float32)
    is_asked = tl.zeros((BLOCK_M, BLOCK_E), tl.int1)
    for k in range(top_k):
        expert = tl.load(expert_MK + m * top_k + k, mask=is_patch, other=0)
        is_kept = tl.load(kept_MK + m * top_k + k, mask=is_patch, other=0)
        g = tl.load(grad_gate_MK + m * top_k + k, mask=is_patch & is_kept, other=0.0)
        is_this = e[None, :] == expert[:, None]
        grad += tl.where(is_this, g[:, None], 0.0)
        is_asked = is_asked | is_this
    if GATE == "mean_one":
        asked = tl.where(is_asked, tl.maximum(p, _TINY), 0.0)
        total = tl.sum(asked, 1)[:, None]
        mean = tl.sum(grad * asked, 1)[:, None] / total
        grad = tl.where(is_asked, top_k * (grad - mean) / total, 0.0)
    grad = p * (grad - tl.sum(p * grad, 1)[:, None])
    tl.store(grad_logits_ME + m[:, None] * num_experts + e[None, :], grad, mask=inside)


class _Route(torch.autograd.Function):
    """Requests and gates of all patches with their kept flags and slots; the gates are differentiable."""

    @staticmethod
    def forward(ctx: Any, logits_ME: Tensor, config: RouterConfig, layout: RoutingLayout) -> tuple[Tensor, ...]:
        logits_ME = logits_ME.contiguous()
        num_patches, num_experts = logits_ME.shape
        top_k = config.num_experts_per_tok
        expert_MK = logits_ME.new_empty(num_patches, top_k, dtype=torch.int64)
        gate_MK = logits_ME.new_empty(num_patches, top_k)
        kept_MK = logits_ME.new_empty(num_patches, top_k, dtype=torch.bool)
        p_EM = logits_ME.new_empty(num_experts, num_patches)
        column_EM = logits_ME.new_empty(num_experts, num_patches, dtype=torch.int32)
        ticket = logits_ME.new_empty(1, dtype=torch.int32)
        _choose_kernel[(triton.cdiv(num_patches, _ROWS),)](
            logits_ME,
            expert_MK,
            gate_MK,
            kept_MK,
            p_EM,
            column_EM,
            ticket,
            num_patches,
            num_experts,
            top_k,
            GATE=config.gate,
            BLOCK_M=_ROWS,
            BLOCK_E=triton.next_power_of_2(num_experts),
        )
        capacity_G, *slots = admit_and_place(p_EM, column_EM, gate_MK, kept_MK, ticket, config, layout)
        ctx.save_for_backward(logits_ME, expert_MK, kept_MK)
        ctx.gate = config.gate
        ctx.mark_non_differentiable(expert_MK, kept_MK, capacity_G, *slots)
        return gate_MK, expert_MK, kept_MK, capacity_G, *slots

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gate_MK: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        logits_ME, expert_MK, kept_MK = ctx.saved_tensors
        if ctx.gate == "one":
            return None, None, None
        num_patches, num_experts = logits_ME.shape
        grad_logits_ME = torch.empty_like(logits_ME)
        _choose_backward_kernel[(triton.cdiv(num_patches, _ROWS),)](
            logits_ME,
            expert_MK,
            kept_MK,
            grad_gate_MK.contiguous(),
            grad_logits_ME,
            num_patches,
            num_experts,
            expert_MK.shape[1],
            GATE=ctx.gate,
            BLOCK_M=_ROWS,
            BLOCK_E=triton.next_power_of_2(num_experts),
        )
        return grad_logits_ME, None, None


def route(logits_ME: Tensor, config: RouterConfig, layout: RoutingLayout) -> RoutingDecision:
    """`uoe_model.router.decide` for requests of units or examples, with the slots of what is kept.

    Args:
        logits_ME: float32. config: of any selection but `expert_choice`.
    """
    found = _Route.apply(logits_ME, config, layout)
    gate_MK, expert_MK, kept_MK, capacity_G, assignment_EN, place_NK, start_X = found
    slots = RaggedSlots(
        assignment_EN=assignment_EN,
        start_X=start_X,
        place_NK=place_NK,
        first_unit_X=layout.first_unit_X,
        group_N=layout.group_N,
        longest=min(largest_batch(layout.longest, config) * layout.patch_len, layout.row_length),
    )
    rows = {"logits_NE": logits_ME, "expert_NK": expert_MK, "gate_NK": gate_MK, "kept_NK": kept_MK}
    if layout.num_patches != layout.num_units:
        rows = {name: value.index_select(0, layout.patch_N) for name, value in rows.items()}
    return RoutingDecision(**rows, capacity_G=capacity_G, slots=slots)
