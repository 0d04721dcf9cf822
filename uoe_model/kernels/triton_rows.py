"""Which rows a program of a Triton kernel works on, and how large its tiles are.

Rows are those of `RaggedSlots`. Grids cover the largest number of rows there can be; programs beyond the last row end
at once. Neighbouring programs take the same stretch of rows of all experts, which read the same units.
"""

import dataclasses
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from uoe_model.decision import RaggedSlots


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tiles:
    """Rows, columns and depth of a product's tiles. Starting values: not measured on GPU yet."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


LARGEST_ROWS: Final = 128
"""The largest `Tiles.rows`."""


def product_tiles(dtype: torch.dtype, rows: int, columns: int, depth: int, *, accumulators: int = 1) -> Tiles:
    """Tiles for (rows, depth) @ (depth, columns) per expert.

    Args:
        rows: of one expert at most. columns: of one accumulator. accumulators: how many a program holds.
    """
    is_wide, is_amd = dtype == torch.float32, torch.version.hip is not None
    largest_columns = 64 if is_wide or accumulators > 1 else 128
    tile_rows = _clamped(rows, 64 if is_wide else LARGEST_ROWS)
    tile_columns = _clamped(columns, largest_columns)
    return Tiles(
        rows=tile_rows,
        columns=tile_columns,
        depth=_clamped(depth, 32 if is_wide or is_amd else 64),
        warps=8 if tile_rows * tile_columns * accumulators >= 128 * 128 else 4,
        stages=2 if is_wide or is_amd else 3,
    )


def _clamped(size: int, largest: int) -> int:
    """The power of two at or above `size`, 16 (what tensor cores take) to `largest`."""
    return max(16, min(largest, 1 << (size - 1).bit_length()))


def precision(dtype: torch.dtype) -> str:
    """How float32 is multiplied: as `torch.set_float32_matmul_precision` asks."""
    return "tf32" if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest" else "ieee"


def group_steps(slots: RaggedSlots) -> int:
    """Halvings that find a row's example."""
    return max(slots.num_groups - 1, 0).bit_length()


def row_grid(slots: RaggedSlots, tile_rows: int, column_tiles: int = 1) -> tuple[int]:
    """Programs for all stretches of rows of all experts, times the tiles of columns."""
    return (triton.cdiv(slots.max_rows_per_expert, tile_rows) * slots.num_experts * column_tiles,)


def slot_arguments(slots: RaggedSlots) -> dict[str, Any]:
    """What `rows_of_program` and `assignments_of_rows` need."""
    return {
        "assignment_EN": slots.assignment_EN,
        "start_X": slots.start_X,
        "first_unit_X": slots.first_unit_X,
        "num_experts": slots.num_experts,
        "num_groups": slots.num_groups,
        "num_units": slots.assignment_EN.shape[1],
    }


@triton.jit
def rows_of_program(program, start_X, num_experts, num_groups, BLOCK_R: tl.constexpr):
    """Expert, rows, and which of them are there, of the program-th stretch of rows; the expert turns fastest."""
    e = program % num_experts
    first = tl.load(start_X + e * num_groups) + program // num_experts * BLOCK_R
    last = tl.load(start_X + (e + 1) * num_groups)
    r = first + tl.arange(0, BLOCK_R)
    return e, r.to(tl.int64), r < last, first < last


@triton.jit
def assignments_of_rows(r, is_row, e, assignment_EN, start_X, first_unit_X, num_groups, num_units, STEPS: tl.constexpr):
    """n * K + k of rows of expert e, found by halving the examples; 0 where there is no row."""
    low = tl.zeros_like(r).to(tl.int32)
    high = tl.zeros_like(low) + num_groups
    for _ in tl.static_range(STEPS):
        middle = (low + high) // 2
        is_later = tl.load(start_X + e * num_groups + middle) <= r
        low = tl.where(is_later, middle, low)
        high = tl.where(is_later, high, middle)
    place = r - tl.load(start_X + e * num_groups + low)
    at = e.to(tl.int64) * num_units + tl.load(first_unit_X + low) + place
    return tl.load(assignment_EN + at, mask=is_row, other=0).to(tl.int64)


@triton.jit
def _combine_kernel(
    values_RD,
    weight_NK,
    bias_D,
    expert_NK,
    kept_NK,
    place_NK,
    start_X,
    group_N,
    out_ND,
    gate_parts_RP,
    grad_gate_NK,
    num_units,
    num_groups,
    width,
    top_k,
    num_parts,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_GROUPS: tl.constexpr,
    HAS_GATE_GRAD: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Sum over each unit's kept rows; gradients of gates come from parts that stand beside the rows."""
    n = (tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    is_unit, is_column = n < num_units, d < width
    inside = is_unit[:, None] & is_column[None, :]
    g = tl.load(group_N + n, mask=is_unit, other=0) if HAS_GROUPS else tl.zeros_like(n)
    total = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    reached = tl.zeros((BLOCK_N,), tl.int1)
    for k in range(top_k):
        is_kept = tl.load(kept_NK + n * top_k + k, mask=is_unit, other=0)
        e = tl.load(expert_NK + n * top_k + k, mask=is_kept, other=0)
        place = tl.load(place_NK + n * top_k + k, mask=is_kept, other=0)
        r = (tl.load(start_X + e * num_groups + g, mask=is_kept, other=0) + place).to(tl.int64)
        values = tl.load(values_RD + r[:, None] * width + d[None, :], mask=inside & is_kept[:, None], other=0.0)
        values = values.to(tl.float32)
        if HAS_WEIGHT:
            values *= tl.load(weight_NK + n * top_k + k, mask=is_kept, other=0.0)[:, None]
        total += values
        reached = reached | is_kept
        if HAS_GATE_GRAD:
            grad = tl.zeros((BLOCK_N,), tl.float32)
            for part in range(num_parts):
                grad += tl.load(gate_parts_RP + r * num_parts + part, mask=is_kept, other=0.0)
            tl.store(grad_gate_NK + n * top_k + k, grad, mask=is_unit & (tl.program_id(1) == 0))
    if HAS_BIAS:
        bias = tl.load(bias_D + d, mask=is_column, other=0.0).to(tl.float32)
        total += tl.where(reached[:, None], bias[None, :], 0.0)
    tl.store(out_ND + n[:, None] * width + d[None, :], total.to(out_ND.dtype.element_ty), mask=inside)


def combine(
    values_RD: Tensor,
    expert_NK: Tensor,
    kept_NK: Tensor,
    slots: RaggedSlots,
    *,
    weight_NK: Tensor | None = None,
    bias_D: Tensor | None = None,
    gate_parts_RP: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Every unit's sum over its kept rows (N, D), in the dtype of the rows, always added in the same order.

    Args:
        values_RD: rows of all experts. weight_NK: float32; None: 1. bias_D: added once to units with a kept row.
        gate_parts_RP: float32, parts that sum to the gradient of every row's gate.

    Returns:
        The sums, and the gates' gradient (N, K), 0 where not kept, if parts were given.
    """
    num_units, top_k = expert_NK.shape
    width = values_RD.shape[1]
    out_ND = values_RD.new_empty(num_units, width)
    grad_gate_NK = None if gate_parts_RP is None else gate_parts_RP.new_empty(num_units, top_k)
    rows, columns = 16, min(256, triton.next_power_of_2(width))
    _combine_kernel[(triton.cdiv(num_units, rows), triton.cdiv(width, columns))](
        values_RD,
        values_RD if weight_NK is None else weight_NK,
        values_RD if bias_D is None else bias_D,
        expert_NK,
        kept_NK,
        slots.place_NK,
        slots.start_X,
        expert_NK if slots.group_N is None else slots.group_N,
        out_ND,
        values_RD if gate_parts_RP is None else gate_parts_RP,
        values_RD if grad_gate_NK is None else grad_gate_NK,
        num_units,
        slots.num_groups,
        width,
        top_k,
        0 if gate_parts_RP is None else gate_parts_RP.shape[1],
        HAS_WEIGHT=weight_NK is not None,
        HAS_BIAS=bias_D is not None,
        HAS_GROUPS=slots.group_N is not None,
        HAS_GATE_GRAD=gate_parts_RP is not None,
        BLOCK_N=rows,
        BLOCK_D=columns,
    )
    return out_ND, grad_gate_NK
