"""Gradients of experts' weights: sums over the rows of ragged groups."""

import triton
import triton.language as tl
from torch import Tensor

from uoe_model.decision import RaggedSlots
from uoe_model.kernels.triton_rows import assignments_of_rows, group_steps, precision, product_tiles, slot_arguments


@triton.jit
def _weight_gradient_kernel(
    a,
    b,
    out_EIJ,
    sum_EJ,
    assignment_EN,
    start_X,
    first_unit_X,
    num_experts,
    num_groups,
    num_units,
    size_i,
    size_j,
    stride_a,
    stride_b,
    TOP_K: tl.constexpr,
    STEPS: tl.constexpr,
    GATHER_A: tl.constexpr,
    GATHER_B: tl.constexpr,
    HAS_SUM: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_J: tl.constexpr,
    BLOCK_R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of sum over an expert's rows of a_i b_j, and of sum over rows of b_j."""
    e = tl.program_id(0)
    i = tl.program_id(1) * BLOCK_I + tl.arange(0, BLOCK_I)
    j = tl.program_id(2) * BLOCK_J + tl.arange(0, BLOCK_J)
    is_i, is_j = i < size_i, j < size_j
    first, last = tl.load(start_X + e * num_groups), tl.load(start_X + (e + 1) * num_groups)
    total = tl.zeros((BLOCK_I, BLOCK_J), tl.float32)
    column_sum = tl.zeros((BLOCK_J,), tl.float32)
    for r0 in range(first, last, BLOCK_R):
        r = (r0 + tl.arange(0, BLOCK_R)).to(tl.int64)
        is_row = r < last
        unit = r
        if GATHER_A or GATHER_B:
            unit = (
                assignments_of_rows(r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS)
                // TOP_K
            )
        a_row = unit if GATHER_A else r
        b_row = unit if GATHER_B else r
        a_tile = tl.load(a + a_row[None, :] * stride_a + i[:, None], mask=is_i[:, None] & is_row[None, :], other=0.0)
        b_tile = tl.load(b + b_row[:, None] * stride_b + j[None, :], mask=is_row[:, None] & is_j[None, :], other=0.0)
        total = tl.dot(a_tile, b_tile, total, input_precision=PRECISION)
        if HAS_SUM:
            column_sum += tl.sum(b_tile.to(tl.float32), 0)
    at = out_EIJ + e.to(tl.int64) * size_i * size_j + i[:, None] * size_j + j[None, :]
    tl.store(at, total.to(out_EIJ.dtype.element_ty), mask=is_i[:, None] & is_j[None, :])
    if HAS_SUM:
        at = sum_EJ + e * size_j + j
        tl.store(at, column_sum.to(sum_EJ.dtype.element_ty), mask=is_j & (tl.program_id(1) == 0))


def weight_gradient(
    a: Tensor, b: Tensor, slots: RaggedSlots, *, gather_a: bool = False, gather_b: bool = False, with_sum: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Per expert the sum over its rows of a_i b_j (E, I, J), and of b_j (E, J) if asked; 0 for an expert without rows.

    Args:
        a, b: (R, I) and (R, J) rows, or (N, ...) units that are gathered; contiguous, of one dtype.
    """
    size_i, size_j = a.shape[1], b.shape[1]
    tiles = product_tiles(a.dtype, size_i, size_j, slots.max_rows_per_expert)
    out_EIJ = a.new_empty(slots.num_experts, size_i, size_j)
    sum_EJ = a.new_empty(slots.num_experts, size_j) if with_sum else None
    grid = (slots.num_experts, triton.cdiv(size_i, tiles.rows), triton.cdiv(size_j, tiles.columns))
    _weight_gradient_kernel[grid](
        a,
        b,
        out_EIJ,
        out_EIJ if sum_EJ is None else sum_EJ,
        **slot_arguments(slots),
        size_i=size_i,
        size_j=size_j,
        stride_a=a.stride(0),
        stride_b=b.stride(0),
        TOP_K=slots.place_NK.shape[1],
        STEPS=group_steps(slots),
        GATHER_A=gather_a,
        GATHER_B=gather_b,
        HAS_SUM=with_sum,
        BLOCK_I=tiles.rows,
        BLOCK_J=tiles.columns,
        BLOCK_R=tiles.depth,
        PRECISION=precision(a.dtype),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out_EIJ, sum_EJ
