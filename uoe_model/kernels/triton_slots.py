"""The router's second launch: which requests are admitted, and where the rows of what is kept stand.

One program per (expert, example) pair. The rules are those of `uoe_model.router.admit`, which defines them.
"""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from uoe_model.capacity import capacity_table
from uoe_model.config import RouterConfig
from uoe_model.decision import RaggedSlots, RoutingDecision
from uoe_model.layout import RoutingLayout

_CHUNK: Final = 1024
"""Units or patches of a pair looked at together."""


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
            asks = is_request.to(tl.int32)
            asked = asked_before + tl.cumsum(asks, 0)
            left = tl.load(capacity_X + t + 1, mask=t < count, other=0).to(tl.int32) - asked
            left_before = tl.load(capacity_X + t, mask=t < count, other=0).to(tl.int32) - (asked - asks)
            left_before = tl.where((t < count) & (t > 0), left_before, 0)
            least_before = tl.minimum(tl.associative_scan(left_before, 0, _smaller), least)
            _keep(column_m, kept_MK, gate_MK, m, column, is_request, is_request & (left >= least_before), top_k)
            asked_before += tl.sum(asks, 0)
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
            tl.store(capacity_G + g, tl.load(capacity_X + count))
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


def admit_and_place(
    p_EM: Tensor,
    column_EM: Tensor,
    gate_MK: Tensor,
    kept_MK: Tensor,
    ticket: Tensor,
    config: RouterConfig,
    layout: RoutingLayout,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Admit requests as `config` says, and number their rows.

    Args:
        p_EM: float32 probabilities. column_EM: int32, preference 0..K-1 of requests, else -1; dropped ones become -1.
        gate_MK: float32, becomes 0 where not kept. kept_MK: bool, all False; becomes True where kept.
        ticket: int32 (1,), 0.

    Returns:
        capacity_G of the decision, and assignment_EN, place_NK, start_X of its slots.
    """
    num_experts, num_patches = column_EM.shape
    top_k = gate_MK.shape[1]
    capacity_G = torch.empty_like(layout.patches_G)
    found = _new_slots(column_EM, layout.num_units, layout.num_groups, top_k)
    _place_kernel[(num_experts * layout.num_groups,)](
        p_EM,
        column_EM,
        capacity_table(config, layout.longest, p_EM.device),
        layout.first_patch_X,
        layout.first_unit_X,
        layout.patch_N,
        gate_MK,
        kept_MK,
        capacity_G,
        *found,
        ticket,
        num_patches,
        layout.num_units,
        layout.num_groups,
        top_k,
        ADMISSION="all" if config.capacity_factor is None else config.admission,
        HAS_PATCHES=num_patches != layout.num_units,
        CHUNK=_CHUNK,
    )
    return capacity_G, *found


def _new_slots(column_EM: Tensor, num_units: int, num_groups: int, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    num_experts = column_EM.shape[0]
    assignment_EN = column_EM.new_empty(num_experts, num_units)
    return assignment_EN, column_EM.new_empty(num_units, top_k), column_EM.new_empty(num_experts * num_groups + 1)


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
    assignment_EN, place_NK, start_X = _new_slots(column_EN, num_units, num_groups, top_k)
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
