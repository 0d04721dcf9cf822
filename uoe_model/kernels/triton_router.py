"""The router in two launches: softmax, top-k and gates; then admission and the places of what is kept.

The same rules as `uoe_model.router.decide`, which defines them. Nothing here asks the device for a number.
"""

from functools import lru_cache
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.capacity import example_capacity, largest_batch
from uoe_model.config import RouterConfig
from uoe_model.decision import RaggedSlots, RoutingDecision
from uoe_model.layout import RoutingLayout

_TINY: Final = tl.constexpr(torch.finfo(torch.float32).tiny)
_CHUNK: Final = 1024
"""Units or patches of one (expert, example) pair looked at together."""

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
def _smaller(a, b):
    return tl.minimum(a, b)


@triton.jit
def _keep(column_m, kept_MK, gate_MK, m, column, is_request, is_kept, top_k):
    """Write down which requests of one chunk of patches were kept."""
    at = m * top_k + column
    gate = tl.load(gate_MK + at, mask=is_request, other=0.0)
    tl.store(kept_MK + at, is_kept, mask=is_request)
    tl.store(gate_MK + at, tl.where(is_kept, gate, 0.0), mask=is_request)
    tl.store(column_m + m, tl.where(is_kept, column, -1), mask=is_request)


@triton.jit
def _place_kernel(
    p_EM,
    column_EM,
    capacity_X,
    first_patch_X,
    first_unit_X,
    patch_N,
    gate_MK,
    kept_MK,
    capacity_G,
    assignment_EN,
    place_NK,
    start_X,
    ticket,
    num_patches,
    num_units,
    num_groups,
    top_k,
    ADMISSION: tl.constexpr,
    HAS_PATCHES: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """One (expert, example) pair: which requests are admitted, and the place of every unit that is kept."""
    pair = tl.program_id(0)
    e, g = (pair // num_groups).to(tl.int64), pair % num_groups
    p_m, column_m = p_EM + e * num_patches, column_EM + e * num_patches
    first, last = tl.load(first_patch_X + g), tl.load(first_patch_X + g + 1)
    count = last - first
    lane = tl.arange(0, CHUNK)
    if ADMISSION == "all":
        for t0 in range(0, count, CHUNK):
            m = (first + t0 + lane).to(tl.int64)
            column = tl.load(column_m + m, mask=t0 + lane < count, other=-1)
            tl.store(kept_MK + m * top_k + column, tl.full((CHUNK,), 1, tl.int1), mask=column >= 0)
    if ADMISSION == "position":
        # kept(t) = min(kept(t-1) + request(t), C(t)): a request is dropped where what is left reaches a new minimum.
        asked_before, least = 0, 0
        for t0 in range(0, count, CHUNK):
            t = t0 + lane
            m = (first + t).to(tl.int64)
            column = tl.load(column_m + m, mask=t < count, other=-1)
            is_request = column >= 0
            asked = asked_before + tl.cumsum(is_request.to(tl.int32), 0)
            left = tl.load(capacity_X + t + 1, mask=t < count, other=0) - asked
            left_before = tl.load(capacity_X + t, mask=t < count, other=0) - (asked - is_request.to(tl.int32))
            left_before = tl.where((t < count) & (t > 0), left_before, 0)
            least_before = tl.minimum(tl.associative_scan(left_before, 0, _smaller), least)
            _keep(column_m, kept_MK, gate_MK, m, column, is_request, is_request & (left >= least_before), top_k)
            asked_before += tl.sum(is_request.to(tl.int32), 0)
            least = tl.minimum(least, tl.min(tl.where(t < count, left, 0), 0))
    if ADMISSION == "score":
        capacity = tl.load(capacity_X + count)
        # The capacity-th largest probability, bit after bit: floats that are not negative are ordered like integers.
        threshold = 0
        for bit in range(31):
            candidate = threshold | (1 << (30 - bit))
            above = 0
            for t0 in range(0, count, CHUNK):
                m = (first + t0 + lane).to(tl.int64)
                inside = t0 + lane < count
                is_request = tl.load(column_m + m, mask=inside, other=-1) >= 0
                bits = tl.load(p_m + m, mask=inside, other=0.0).to(tl.int32, bitcast=True)
                above += tl.sum((is_request & (bits >= candidate)).to(tl.int32), 0)
            threshold = tl.where(above >= capacity, candidate, threshold)
        greater = 0
        for t0 in range(0, count, CHUNK):
            m = (first + t0 + lane).to(tl.int64)
            inside = t0 + lane < count
            is_request = tl.load(column_m + m, mask=inside, other=-1) >= 0
            bits = tl.load(p_m + m, mask=inside, other=0.0).to(tl.int32, bitcast=True)
            greater += tl.sum((is_request & (bits > threshold)).to(tl.int32), 0)
        equal_before = 0
        for t0 in range(0, count, CHUNK):
            m = (first + t0 + lane).to(tl.int64)
            inside = t0 + lane < count
            column = tl.load(column_m + m, mask=inside, other=-1)
            is_request = column >= 0
            bits = tl.load(p_m + m, mask=inside, other=0.0).to(tl.int32, bitcast=True)
            is_equal = is_request & (bits == threshold)
            equal = equal_before + tl.cumsum(is_equal.to(tl.int32), 0)
            is_kept = (is_request & (bits > threshold)) | (is_equal & (equal <= capacity - greater))
            _keep(column_m, kept_MK, gate_MK, m, column, is_request, is_kept, top_k)
            equal_before += tl.sum(is_equal.to(tl.int32), 0)
    if ADMISSION != "given":  # noqa: SIM102  (decided when compiled)
        if e == 0:
            tl.store(capacity_G + g, tl.load(capacity_X + count).to(tl.int64))
    tl.debug_barrier()
    unit, end = tl.load(first_unit_X + g), tl.load(first_unit_X + g + 1)
    placed = 0
    for n0 in range(unit, end, CHUNK):
        n = (n0 + lane).to(tl.int64)
        inside = n < end
        m = tl.load(patch_N + n, mask=inside, other=0) if HAS_PATCHES else n
        column = tl.load(column_m + m, mask=inside, other=-1)
        is_kept = column >= 0
        place = placed + tl.cumsum(is_kept.to(tl.int32), 0) - 1
        at = n * top_k + column
        tl.store(assignment_EN + e * num_units + unit + place, at.to(tl.int32), mask=is_kept)
        tl.store(place_NK + at, place, mask=is_kept)
        placed += tl.sum(is_kept.to(tl.int32), 0)
    tl.store(start_X + 1 + pair, placed)
    tl.debug_barrier()
    if tl.atomic_add(ticket, 1) == tl.num_programs(0) - 1:
        _sum_up(start_X, tl.num_programs(0), CHUNK)


@triton.jit
def _sum_up(start_X, num_pairs, CHUNK: tl.constexpr):
    """Turn the counts behind `start_X` into first rows; run by the program that came last."""
    tl.store(start_X, 0)
    total = 0
    for first in range(0, num_pairs, CHUNK):
        pair = first + tl.arange(0, CHUNK)
        counts = tl.load(start_X + 1 + pair, mask=pair < num_pairs, other=0, volatile=True)
        tl.store(start_X + 1 + pair, total + tl.cumsum(counts, 0), mask=pair < num_pairs)
        total += tl.sum(counts, 0)


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
    grad = tl.where(p >= _TINY, grad, 0.0)
    grad = p * (grad - tl.sum(p * grad, 1)[:, None])
    tl.store(grad_logits_ME + m[:, None] * num_experts + e[None, :], grad, mask=inside)


@lru_cache(maxsize=64)
def _capacities(config: RouterConfig, longest: int, device: torch.device) -> Tensor:
    """int32 (longest + 1): `example_capacity` of an example of so many patches."""
    with torch.inference_mode(False):
        counts = torch.arange(longest + 1, device=device)
        return example_capacity(config, counts).int()


class _Route(torch.autograd.Function):
    """Requests and gates of all patches with their kept flags and slots; the gates are differentiable."""

    @staticmethod
    def forward(ctx: Any, logits_ME: Tensor, config: RouterConfig, layout: RoutingLayout) -> tuple[Tensor, ...]:
        logits_ME = logits_ME.contiguous()
        num_patches, num_experts = logits_ME.shape
        top_k = config.num_experts_per_tok
        num_units, num_groups = layout.num_units, layout.num_groups
        expert_MK = logits_ME.new_empty(num_patches, top_k, dtype=torch.int64)
        gate_MK = logits_ME.new_empty(num_patches, top_k)
        kept_MK = logits_ME.new_empty(num_patches, top_k, dtype=torch.bool)
        p_EM = logits_ME.new_empty(num_experts, num_patches)
        column_EM = logits_ME.new_empty(num_experts, num_patches, dtype=torch.int32)
        ticket = logits_ME.new_empty(1, dtype=torch.int32)
        block_e = triton.next_power_of_2(num_experts)
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
            BLOCK_E=block_e,
        )
        admission = "all" if config.capacity_factor is None else config.admission
        capacity_X = _capacities(config, layout.longest, logits_ME.device)
        capacity_G = logits_ME.new_empty(num_groups, dtype=torch.int64)
        place_NK = logits_ME.new_empty(num_units, top_k, dtype=torch.int32)
        assignment_EN = logits_ME.new_empty(num_experts, num_units, dtype=torch.int32)
        start_X = logits_ME.new_empty(num_experts * num_groups + 1, dtype=torch.int32)
        _place_kernel[(num_experts * num_groups,)](
            p_EM,
            column_EM,
            capacity_X,
            layout.first_patch_X,
            layout.first_unit_X,
            layout.patch_N,
            gate_MK,
            kept_MK,
            capacity_G,
            assignment_EN,
            place_NK,
            start_X,
            ticket,
            num_patches,
            num_units,
            num_groups,
            top_k,
            ADMISSION=admission,
            HAS_PATCHES=num_patches != num_units,
            CHUNK=_CHUNK,
        )
        ctx.save_for_backward(logits_ME, expert_MK, kept_MK)
        ctx.gate = config.gate
        ctx.mark_non_differentiable(expert_MK, kept_MK, capacity_G, assignment_EN, place_NK, start_X)
        return gate_MK, expert_MK, kept_MK, capacity_G, assignment_EN, place_NK, start_X

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


def slots_of_decision(decision: RoutingDecision, num_experts: int, layout: RoutingLayout | None) -> RaggedSlots:
    """Slots of a decision that came without them.

    Args:
        layout: of the same valid units; examples are apart. None: all units are one example.
    """
    expert_NK, kept_NK = decision.expert_NK, decision.kept_NK
    num_units, top_k = expert_NK.shape
    device = expert_NK.device
    column_NE = torch.full((num_units, num_experts + 1), -1, dtype=torch.int32, device=device)
    columns = torch.arange(top_k, dtype=torch.int32, device=device).expand_as(expert_NK)
    column_NE.scatter_(1, torch.where(kept_NK, expert_NK, num_experts), columns)
    column_EN = column_NE[:, :num_experts].t().contiguous()
    if layout is None:
        first_unit_X = torch.arange(2, dtype=torch.int32, device=device) * num_units
    else:
        first_unit_X = layout.first_unit_X
    num_groups = first_unit_X.shape[0] - 1
    place_NK = torch.empty(num_units, top_k, dtype=torch.int32, device=device)
    assignment_EN = torch.empty(num_experts, num_units, dtype=torch.int32, device=device)
    start_X = torch.empty(num_experts * num_groups + 1, dtype=torch.int32, device=device)
    unused = start_X
    _place_kernel[(num_experts * num_groups,)](
        unused,
        column_EN,
        unused,
        first_unit_X,
        first_unit_X,
        unused,
        unused,
        unused,
        unused,
        assignment_EN,
        place_NK,
        start_X,
        torch.zeros(1, dtype=torch.int32, device=device),
        num_units,
        num_units,
        num_groups,
        top_k,
        ADMISSION="given",
        HAS_PATCHES=False,
        CHUNK=_CHUNK,
    )
    return RaggedSlots(
        assignment_EN=assignment_EN,
        start_X=start_X,
        place_NK=place_NK,
        first_unit_X=first_unit_X,
        group_N=None if layout is None else layout.group_N,
        longest=num_units if layout is None else min(layout.longest * layout.patch_len, num_units),
    )
