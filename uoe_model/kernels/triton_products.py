"""Products of every expert's rows with its weights over ragged groups, and what follows each of them.

Rows of units are read where they stand (gathered while loading); sums are float32. No padded copy is made.
"""

from typing import Literal

import triton
import triton.language as tl
from torch import Tensor

from uoe_model.decision import RaggedSlots
from uoe_model.kernels.triton_activations import gelu
from uoe_model.kernels.triton_rows import (
    assignments_of_rows,
    group_steps,
    precision,
    product_tiles,
    row_grid,
    rows_of_program,
    slot_arguments,
)

Finish = Literal["none", "gelu", "gelu_tanh", "swiglu", "rotate"]
"""What is done to a product before it is stored."""


@triton.jit
def product_of_rows(
    a,
    a_row,
    is_row,
    w,
    column,
    is_column,
    depth,
    stride_a,
    stride_wk,
    stride_wn,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Rows of `a` times columns of `w`, float32."""
    total = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for k0 in range(0, depth, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        is_k = k < depth
        a_tile = tl.load(a + a_row[:, None] * stride_a + k[None, :], mask=is_row[:, None] & is_k[None, :], other=0.0)
        w_at = w + k[:, None] * stride_wk + column[None, :] * stride_wn
        w_tile = tl.load(w_at, mask=is_k[:, None] & is_column[None, :], other=0.0)
        total = tl.dot(a_tile, w_tile, total, input_precision=PRECISION)
    return total


@triton.jit
def product_pair_of_rows(
    a,
    a_row,
    is_row,
    w,
    column,
    other_column,
    is_column,
    depth,
    stride_a,
    stride_wk,
    stride_wn,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The same for two sets of columns, rows read once."""
    total = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    other_total = tl.zeros((BLOCK_R, BLOCK_N), tl.float32)
    for k0 in range(0, depth, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        is_k = k < depth
        a_tile = tl.load(a + a_row[:, None] * stride_a + k[None, :], mask=is_row[:, None] & is_k[None, :], other=0.0)
        inside = is_k[:, None] & is_column[None, :]
        w_k = w + k[:, None] * stride_wk
        w_tile = tl.load(w_k + column[None, :] * stride_wn, mask=inside, other=0.0)
        total = tl.dot(a_tile, w_tile, total, input_precision=PRECISION)
        w_tile = tl.load(w_k + other_column[None, :] * stride_wn, mask=inside, other=0.0)
        other_total = tl.dot(a_tile, w_tile, other_total, input_precision=PRECISION)
    return total, other_total


@triton.jit
def _expert_product_kernel(
    a,
    w_EKN,
    bias_EN,
    out_RN,
    before_RN,
    cos_NI,
    sin_NI,
    assignment_EN,
    start_X,
    first_unit_X,
    num_experts,
    num_groups,
    num_units,
    columns,
    depth,
    stride_a,
    stride_we,
    stride_wk,
    stride_wn,
    stride_out,
    rotated,
    TOP_K: tl.constexpr,
    HALF: tl.constexpr,
    STEPS: tl.constexpr,
    FINISH: tl.constexpr,
    GATHER: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of one expert's product; `columns` counts those of one accumulator, of pairs half of all."""
    column_tiles = tl.cdiv(columns, BLOCK_N)
    program = tl.program_id(0)
    e, r, is_row, any_row = rows_of_program(program // column_tiles, start_X, num_experts, num_groups, BLOCK_R)
    if any_row:
        c = program % column_tiles * BLOCK_N + tl.arange(0, BLOCK_N)
        is_column = c < columns
        unit = r
        if GATHER:
            unit = (
                assignments_of_rows(r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS)
                // TOP_K
            )
        w = w_EKN + e.to(tl.int64) * stride_we
        inside = is_row[:, None] & is_column[None, :]
        out_row = out_RN + r[:, None] * stride_out
        if (FINISH == "swiglu") or (FINISH == "rotate"):
            column, other_column = c, c + columns
            if FINISH == "rotate":
                column = c // HALF * 2 * HALF + c % HALF
                other_column = column + HALF
            first, second = product_pair_of_rows(
                a,
                unit,
                is_row,
                w,
                column,
                other_column,
                is_column,
                depth,
                stride_a,
                stride_wk,
                stride_wn,
                BLOCK_R,
                BLOCK_N,
                BLOCK_K,
                PRECISION,
            )
            bias = bias_EN + e * 2 * columns
            first += tl.load(bias + column, mask=is_column, other=0.0).to(tl.float32)[None, :]
            second += tl.load(bias + other_column, mask=is_column, other=0.0).to(tl.float32)[None, :]
            if FINISH == "swiglu":
                if KEEP:
                    before = before_RN + r[:, None] * 2 * columns
                    tl.store(before + column[None, :], first.to(before_RN.dtype.element_ty), mask=inside)
                    tl.store(before + other_column[None, :], second.to(before_RN.dtype.element_ty), mask=inside)
                first = first.to(out_RN.dtype.element_ty).to(tl.float32)
                second = second.to(out_RN.dtype.element_ty).to(tl.float32)
                hidden = first * tl.sigmoid(first) * second
                tl.store(out_row + c[None, :], hidden.to(out_RN.dtype.element_ty), mask=inside)
            else:
                is_turned = inside & (c < rotated)[None, :]
                angle = unit[:, None] * HALF + (c % HALF)[None, :]
                cos = tl.load(cos_NI + angle, mask=is_turned, other=1.0).to(tl.float32)
                sin = tl.load(sin_NI + angle, mask=is_turned, other=0.0).to(tl.float32)
                turned = first * cos - second * sin
                tl.store(out_row + column[None, :], turned.to(out_RN.dtype.element_ty), mask=inside)
                turned = second * cos + first * sin
                tl.store(out_row + other_column[None, :], turned.to(out_RN.dtype.element_ty), mask=inside)
        else:
            total = product_of_rows(
                a,
                unit,
                is_row,
                w,
                c,
                is_column,
                depth,
                stride_a,
                stride_wk,
                stride_wn,
                BLOCK_R,
                BLOCK_N,
                BLOCK_K,
                PRECISION,
            )
            if HAS_BIAS:
                total += tl.load(bias_EN + e * columns + c, mask=is_column, other=0.0).to(tl.float32)[None, :]
            if FINISH != "none":
                if KEEP:
                    before = before_RN + r[:, None] * columns + c[None, :]
                    tl.store(before, total.to(before_RN.dtype.element_ty), mask=inside)
                # Rounded whether kept or not: training and inference compute the same.
                total = total.to(out_RN.dtype.element_ty).to(tl.float32)
                total = gelu(total, FINISH == "gelu_tanh")
            tl.store(out_row + c[None, :], total.to(out_RN.dtype.element_ty), mask=inside)


def expert_product(
    a: Tensor,
    w_EKN: Tensor,
    slots: RaggedSlots,
    *,
    gather: bool,
    bias_EN: Tensor | None = None,
    finish: Finish = "none",
    keep: bool = False,
    rotation: tuple[Tensor, Tensor] | None = None,
    rotated: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Rows times the weights of their expert, plus its bias.

    Args:
        a: (N, K) units if `gather`, else (R, K) rows; contiguous. w_EKN: any strides.
        finish: an activation (`swiglu`: gate columns, then up columns); or `rotate`: features i and i + width / 2 of
            the first heads by the angles of the row's unit.
        keep: also return the product before the activation, in the dtype of `a`.
        rotation: cos and sin (N, width / 2). rotated: how many of those pairs of features are rotated, in column order.

    Returns:
        Rows (R, columns), R = `slots.max_rows`; those beyond the last are undefined. And what is kept.
    """
    num_experts, depth, columns = w_EKN.shape
    is_pair = finish in ("swiglu", "rotate")
    accumulators = 2 if is_pair else 1
    own = columns // accumulators
    tiles = product_tiles(a.dtype, slots.max_rows_per_expert, own, depth, accumulators=accumulators)
    out_RN = a.new_empty(slots.max_rows, own if finish == "swiglu" else columns)
    before_RN = a.new_empty(slots.max_rows, columns) if keep else None
    cos, sin = (a, a) if rotation is None else rotation
    if is_pair and bias_EN is None:
        bias_EN = a.new_zeros(num_experts, columns)
    _expert_product_kernel[row_grid(slots, tiles.rows, triton.cdiv(own, tiles.columns))](
        a,
        w_EKN,
        a if bias_EN is None else bias_EN,
        out_RN,
        out_RN if before_RN is None else before_RN,
        cos,
        sin,
        **slot_arguments(slots),
        columns=own,
        depth=depth,
        stride_a=a.stride(0),
        stride_we=w_EKN.stride(0),
        stride_wk=w_EKN.stride(1),
        stride_wn=w_EKN.stride(2),
        stride_out=out_RN.stride(0),
        rotated=rotated,
        TOP_K=slots.place_NK.shape[1],
        HALF=1 if rotation is None else rotation[0].shape[1],
        STEPS=group_steps(slots),
        FINISH=finish,
        GATHER=gather,
        HAS_BIAS=bias_EN is not None,
        KEEP=keep,
        BLOCK_R=tiles.rows,
        BLOCK_N=tiles.columns,
        BLOCK_K=tiles.depth,
        PRECISION=precision(a.dtype),
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return out_RN, before_RN
