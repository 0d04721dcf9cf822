"""Attention inside every (expert, example) batch of rows, without a matrix of scores, forward and backward.

Rows stand in the order of their units' positions, so that causal attention compares row numbers. The softmax is made
as the keys come by (online softmax: arXiv 1805.02867; its backward pass: arXiv 2205.14135, appendix B).
"""

import dataclasses
from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from uoe_model.decision import RaggedSlots
from uoe_model.kernels.head_shape import HeadShape
from uoe_model.kernels.triton_rows import precision

_TINY: Final = tl.constexpr(torch.finfo(torch.float32).tiny)


@triton.jit
def _batch(start_X, batch):
    """First row and number of rows of an (expert, example) batch."""
    first = tl.load(start_X + batch)
    return first, tl.load(start_X + batch + 1) - first


@triton.jit
def _tile(rows, row, is_row, stride, column, is_column):
    """(rows, columns) of a matrix of rows."""
    return tl.load(rows + row[:, None] * stride + column[None, :], mask=is_row[:, None] & is_column[None, :], other=0.0)


@triton.jit
def _log_gates(gate_NK, assignment_EN, first_unit_X, batch, j, is_key, num_groups, num_units):
    """ln(gate) of keys."""
    at = (batch // num_groups).to(tl.int64) * num_units + tl.load(first_unit_X + batch % num_groups) + j
    assignment = tl.load(assignment_EN + at, mask=is_key, other=0)
    gate = tl.load(gate_NK + assignment, mask=is_key, other=1.0).to(tl.float32)
    return tl.log(tl.maximum(gate, _TINY))


@triton.jit
def _attend_kernel(
    qkv_RC,
    heads_RW,
    lse_RH,
    gate_NK,
    assignment_EN,
    start_X,
    first_unit_X,
    num_groups,
    num_units,
    tiles,
    scale,
    heads,
    kv_heads,
    width,
    CAUSAL: tl.constexpr,
    GATE_KEYS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of queries of one head against all keys of its batch."""
    batch, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    h = tl.program_id(1)
    first, count = _batch(start_X, batch)
    if tile * BLOCK_Q < count:
        columns = (heads + 2 * kv_heads) * width
        kv = h // (heads // kv_heads)
        i = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
        w = tl.arange(0, BLOCK_W)
        is_query, is_w = i < count, w < width
        q = _tile(qkv_RC, (first + i).to(tl.int64), is_query, columns, h * width + w, is_w)
        best = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK_Q,), tl.float32)
        out = tl.zeros((BLOCK_Q, BLOCK_W), tl.float32)
        end = tl.minimum(count, (tile + 1) * BLOCK_Q) if CAUSAL else count
        for j0 in range(0, end, BLOCK_K):
            j = j0 + tl.arange(0, BLOCK_K)
            is_key = j < count
            row = (first + j).to(tl.int64)
            k = _tile(qkv_RC, row, is_key, columns, (heads + kv) * width + w, is_w)
            s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            if GATE_KEYS:
                bias = _log_gates(gate_NK, assignment_EN, first_unit_X, batch, j, is_key, num_groups, num_units)
                s += bias[None, :]
            is_seen = is_key[None, :] & (j[None, :] <= i[:, None]) if CAUSAL else is_key[None, :]
            s = tl.where(is_seen, s, float("-inf"))
            new_best = tl.maximum(best, tl.max(s, 1))
            shrink = tl.exp(best - new_best)
            p = tl.exp(s - new_best[:, None])
            total = total * shrink + tl.sum(p, 1)
            v = _tile(qkv_RC, row, is_key, columns, (heads + kv_heads + kv) * width + w, is_w)
            out = tl.dot(p.to(v.dtype), v, out * shrink[:, None], input_precision=PRECISION)
            best = new_best
        row = (first + i).to(tl.int64)
        at = heads_RW + row[:, None] * heads * width + h * width + w[None, :]
        out = out / total[:, None]
        tl.store(at, out.to(heads_RW.dtype.element_ty), mask=is_query[:, None] & is_w[None, :])
        tl.store(lse_RH + row * heads + h, best + tl.log(total), mask=is_query)


@triton.jit
def _key_gradient_kernel(
    qkv_RC,
    grad_heads_RW,
    lse_RH,
    delta_RH,
    gate_NK,
    grad_qkv_RC,
    gate_parts_RP,
    assignment_EN,
    start_X,
    first_unit_X,
    num_groups,
    num_units,
    tiles,
    scale,
    heads,
    kv_heads,
    width,
    CAUSAL: tl.constexpr,
    GATE_KEYS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of one tile of keys and values of one kv head, over all query heads that share it."""
    batch, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    kv = tl.program_id(1)
    first, count = _batch(start_X, batch)
    if tile * BLOCK_K < count:
        columns = (heads + 2 * kv_heads) * width
        j = tile * BLOCK_K + tl.arange(0, BLOCK_K)
        w = tl.arange(0, BLOCK_W)
        is_key, is_w = j < count, w < width
        row_j = (first + j).to(tl.int64)
        k = _tile(qkv_RC, row_j, is_key, columns, (heads + kv) * width + w, is_w)
        v = _tile(qkv_RC, row_j, is_key, columns, (heads + kv_heads + kv) * width + w, is_w)
        grad_k = tl.zeros((BLOCK_K, BLOCK_W), tl.float32)
        grad_v = tl.zeros((BLOCK_K, BLOCK_W), tl.float32)
        grad_bias = tl.zeros((BLOCK_K,), tl.float32)
        bias = tl.zeros((BLOCK_K,), tl.float32)
        if GATE_KEYS:
            bias = _log_gates(gate_NK, assignment_EN, first_unit_X, batch, j, is_key, num_groups, num_units)
        begin = tile * BLOCK_K // BLOCK_Q * BLOCK_Q if CAUSAL else 0
        for h in range(kv * (heads // kv_heads), (kv + 1) * (heads // kv_heads)):
            for i0 in range(begin, count, BLOCK_Q):
                i = i0 + tl.arange(0, BLOCK_Q)
                is_query = i < count
                row = (first + i).to(tl.int64)
                q = _tile(qkv_RC, row, is_query, columns, h * width + w, is_w)
                grad = _tile(grad_heads_RW, row, is_query, heads * width, h * width + w, is_w)
                lse = tl.load(lse_RH + row * heads + h, mask=is_query, other=0.0)
                delta = tl.load(delta_RH + row * heads + h, mask=is_query, other=0.0)
                s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale + bias[None, :]
                is_seen = is_query[:, None] & is_key[None, :]
                if CAUSAL:
                    is_seen = is_seen & (j[None, :] <= i[:, None])
                p = tl.where(is_seen, tl.exp(s - lse[:, None]), 0.0)
                grad_v = tl.dot(tl.trans(p.to(grad.dtype)), grad, grad_v, input_precision=PRECISION)
                grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
                grad_s = p * (grad_p - delta[:, None])
                grad_k = tl.dot(tl.trans(grad_s.to(q.dtype)), q, grad_k, input_precision=PRECISION)
                grad_bias += tl.sum(grad_s, 0)
        inside = is_key[:, None] & is_w[None, :]
        at = grad_qkv_RC + row_j[:, None] * columns + (heads + kv) * width + w[None, :]
        tl.store(at, (grad_k * scale).to(grad_qkv_RC.dtype.element_ty), mask=inside)
        tl.store(at + kv_heads * width, grad_v.to(grad_qkv_RC.dtype.element_ty), mask=inside)
        if GATE_KEYS:  # d ln(gate) = d gate / gate
            grad_bias = grad_bias / tl.exp(bias)
            tl.store(gate_parts_RP + row_j * (1 + kv_heads) + 1 + kv, grad_bias, mask=is_key)


@triton.jit
def _query_gradient_kernel(
    qkv_RC,
    grad_heads_RW,
    lse_RH,
    delta_RH,
    gate_NK,
    grad_qkv_RC,
    assignment_EN,
    start_X,
    first_unit_X,
    num_groups,
    num_units,
    tiles,
    scale,
    heads,
    kv_heads,
    width,
    CAUSAL: tl.constexpr,
    GATE_KEYS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_W: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradient of one tile of queries of one head."""
    batch, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    h = tl.program_id(1)
    first, count = _batch(start_X, batch)
    if tile * BLOCK_Q < count:
        columns = (heads + 2 * kv_heads) * width
        kv = h // (heads // kv_heads)
        i = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
        w = tl.arange(0, BLOCK_W)
        is_query, is_w = i < count, w < width
        row_i = (first + i).to(tl.int64)
        q = _tile(qkv_RC, row_i, is_query, columns, h * width + w, is_w)
        grad = _tile(grad_heads_RW, row_i, is_query, heads * width, h * width + w, is_w)
        lse = tl.load(lse_RH + row_i * heads + h, mask=is_query, other=0.0)
        delta = tl.load(delta_RH + row_i * heads + h, mask=is_query, other=0.0)
        grad_q = tl.zeros((BLOCK_Q, BLOCK_W), tl.float32)
        end = tl.minimum(count, (tile + 1) * BLOCK_Q) if CAUSAL else count
        for j0 in range(0, end, BLOCK_K):
            j = j0 + tl.arange(0, BLOCK_K)
            is_key = j < count
            row = (first + j).to(tl.int64)
            k = _tile(qkv_RC, row, is_key, columns, (heads + kv) * width + w, is_w)
            v = _tile(qkv_RC, row, is_key, columns, (heads + kv_heads + kv) * width + w, is_w)
            s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
            if GATE_KEYS:
                bias = _log_gates(gate_NK, assignment_EN, first_unit_X, batch, j, is_key, num_groups, num_units)
                s += bias[None, :]
            is_seen = is_query[:, None] & is_key[None, :]
            if CAUSAL:
                is_seen = is_seen & (j[None, :] <= i[:, None])
            p = tl.where(is_seen, tl.exp(s - lse[:, None]), 0.0)
            grad_p = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
            grad_s = p * (grad_p - delta[:, None])
            grad_q = tl.dot(grad_s.to(k.dtype), k, grad_q, input_precision=PRECISION)
        at = grad_qkv_RC + row_i[:, None] * columns + h * width + w[None, :]
        tl.store(at, (grad_q * scale).to(grad_qkv_RC.dtype.element_ty), mask=is_query[:, None] & is_w[None, :])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attending:
    """What all three kernels of one attention are launched with.

    Attributes:
        gate_NK: float32, read if `gate_keys`: ln(gate) of a key's unit is added to its logit.
    """

    shape: HeadShape
    slots: RaggedSlots
    gate_NK: Tensor
    causal: bool
    gate_keys: bool

    def _launch(self, kernel: Any, tensors: dict[str, Tensor], programs: int) -> None:
        dtype = tensors["qkv_RC"].dtype
        block_w = max(16, triton.next_power_of_2(self.shape.width))
        block = 32 if dtype == torch.float32 else 64
        block = max(16, min(block, triton.next_power_of_2(self.slots.longest)))
        tiles = triton.cdiv(self.slots.longest, block)
        batches = self.slots.num_experts * self.slots.num_groups
        kernel[(batches * tiles, programs)](
            **tensors,
            gate_NK=self.gate_NK,
            assignment_EN=self.slots.assignment_EN,
            start_X=self.slots.start_X,
            first_unit_X=self.slots.first_unit_X,
            num_groups=self.slots.num_groups,
            num_units=self.slots.assignment_EN.shape[1],
            tiles=tiles,
            scale=self.shape.width**-0.5,
            heads=self.shape.heads,
            kv_heads=self.shape.kv_heads,
            width=self.shape.width,
            CAUSAL=self.causal,
            GATE_KEYS=self.gate_keys,
            BLOCK_Q=block,
            BLOCK_K=block,
            BLOCK_W=block_w,
            PRECISION=precision(dtype),
            num_warps=4,
            num_stages=2,
        )

    def forward(self, qkv_RC: Tensor) -> tuple[Tensor, Tensor]:
        """Heads (R, heads * width), and their log-sum-exp (R, heads) float32, of rows of q, k, v."""
        rows = qkv_RC.shape[0]
        heads_RW = qkv_RC.new_empty(rows, self.shape.heads * self.shape.width)
        lse_RH = qkv_RC.new_empty(rows, self.shape.heads, dtype=torch.float32)
        tensors = {"qkv_RC": qkv_RC, "heads_RW": heads_RW, "lse_RH": lse_RH}
        self._launch(_attend_kernel, tensors, self.shape.heads)
        return heads_RW, lse_RH

    def backward(
        self, grad_heads_RW: Tensor, qkv_RC: Tensor, lse_RH: Tensor, delta_RH: Tensor, gate_parts_RP: Tensor
    ) -> Tensor:
        """Gradient of q, k, v (R, C); with `gate_keys` parts of the gates' gradient go to columns 1.. of the last."""
        grad_qkv_RC = torch.empty_like(qkv_RC)
        tensors = {
            "qkv_RC": qkv_RC,
            "grad_heads_RW": grad_heads_RW,
            "lse_RH": lse_RH,
            "delta_RH": delta_RH,
            "grad_qkv_RC": grad_qkv_RC,
        }
        keys = tensors | {"gate_parts_RP": gate_parts_RP}
        self._launch(_key_gradient_kernel, keys, self.shape.kv_heads)
        self._launch(_query_gradient_kernel, tensors, self.shape.heads)
        return grad_qkv_RC
