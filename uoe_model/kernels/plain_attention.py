"""Attention experts in plain PyTorch: project, rotate, attend within each (expert, example) batch, project, combine.

The backward pass gathers the input again, and gets the gates' gradient from the heads, so that neither gathered rows
nor expert outputs are saved.
"""

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from uoe_model.dispatch import SlotTable
from uoe_model.kernels.head_shape import HeadShape, Rotation
from uoe_model.kernels.plain_rows import (
    add_bias_,
    bias_gradient,
    experts_per_chunk,
    is_large,
    side_by_side,
    slot_gates,
    slot_values_to_units,
    slots_of,
    weighted_sum,
)

MOST_ZEROS: Final = 4
"""How many times the kept rows all units may be for their heads to be projected in one product."""

_HIDDEN: Final = -1e30
_HIDDEN_HALF: Final = -3e4
"""Added to the logit of a slot that holds nobody; finite, so that a batch without any unit stays finite too."""


class AttentionRows:
    """What attention computed beside its output: rotated keys, and values, by slot."""

    def __init__(self, k: Tensor, v: Tensor, table: SlotTable, shape: HeadShape, num_units: int) -> None:
        self._parts, self._table, self._shape, self._num_units = (k, v), table, shape, num_units

    def by_unit(self) -> tuple[Tensor, Tensor]:
        """Keys and values (N, all experts' kv heads, head width), 0 where the unit has no slot of the expert."""
        table, shape = self._table, self._shape
        expert_S = torch.arange(table.unit_S.shape[0], device=table.unit_S.device)
        expert_S //= table.num_groups * table.num_slots
        row = (table.unit_S * table.num_experts + expert_S)[table.used_S]
        found = []
        for part in self._parts:
            by_slot = part.transpose(1, 2).reshape(-1, shape.kv_heads, shape.width)
            out = by_slot.new_zeros(self._num_units * table.num_experts, shape.kv_heads, shape.width)
            found.append(out.index_copy(0, row, by_slot[table.used_S]).view(self._num_units, -1, shape.width))
        return found[0], found[1]


def project_slots(
    x_ND: Tensor, w_qkv_EDC: Tensor, b_qkv_EC: Tensor, shape: HeadShape, rotation: Rotation | None, table: SlotTable
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of all slots, each (E * G, heads, slots, head width); q and k rotated."""
    rows_ESD = x_ND.index_select(0, table.unit_S).view(w_qkv_EDC.shape[0], -1, x_ND.shape[1])
    return _split_and_rotate(
        torch.baddbmm(b_qkv_EC.unsqueeze(1), rows_ESD, w_qkv_EDC), table.unit_S, shape, rotation, table
    )


def expert_attention(
    x_ND: Tensor,
    gate_NK: Tensor,
    w_qkv_EDC: Tensor,
    b_qkv_EC: Tensor,
    w_o_EWD: Tensor,
    b_o_D: Tensor | None,
    shape: HeadShape,
    rotation: Rotation | None,
    table: SlotTable,
    *,
    causal: bool,
    gate_keys: bool,
    keep_rows: bool = False,
) -> tuple[Tensor, AttentionRows | None]:
    """Gated sum over each unit's kept experts of their attention's output (N, D), b_o once where any expert kept.

    A unit attends, within the expert, to the kept units of its own example; to itself and earlier ones if `causal`.
    With `gate_keys` ln(gate) of the key's unit is added to its logit.

    Args:
        x_ND: input of all units. gate_NK: 0 where not kept.
        w_qkv_EDC: columns as in `HeadShape.columns`. w_o_EWD: rows are the q heads' outputs.
        rotation: of q and k, halves of a head paired; None: no rotation.
        keep_rows: whether keys and values are wanted too, for a cache; they carry no gradient.
    """
    out_ND, *rows = _ExpertAttention.apply(  # type: ignore[no-untyped-call]
        x_ND, gate_NK, w_qkv_EDC, b_qkv_EC, w_o_EWD, b_o_D, shape, rotation, table, causal, gate_keys, keep_rows
    )
    return out_ND, AttentionRows(rows[0], rows[1], table, shape, x_ND.shape[0]) if rows else None


class _ExpertAttention(torch.autograd.Function):
    """Saves the input, q, k, v, the heads and their log-sum-exp; the keys and values it returns carry no gradient."""

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
        table: SlotTable,
        causal: bool,
        gate_keys: bool,
        keep_rows: bool,
    ) -> tuple[Tensor, ...]:
        num_experts, width = w_qkv_EDC.shape[0], x_ND.shape[1]
        keep = any(ctx.needs_input_grad)
        rows_per_expert = table.num_groups * table.num_slots
        bias_GC = _key_bias(gate_NK, table, x_ND.dtype, causal=causal, gate_keys=gate_keys)
        # One product for all experts multiplies zeros too, but writes no rows of the width D.
        together = is_large(table, width, x_ND.element_size()) and x_ND.shape[0] <= MOST_ZEROS * rows_per_expert
        y_SD = x_ND.new_empty(num_experts * rows_per_expert + together, w_o_EWD.shape[1] if together else width)
        gate_S = slot_gates(gate_NK, table).to(x_ND.dtype) if together else None
        chunk = experts_per_chunk(rows_per_expert, width + 2 * shape.columns, x_ND.element_size())
        parts: list[Tensor] = []
        keys, values = [], []
        buffer_SD = x_ND.new_empty(min(chunk, num_experts) * rows_per_expert, width)
        for first in range(0, num_experts, chunk):
            experts = slice(first, min(first + chunk, num_experts))
            slots, batches = slots_of(experts, table)
            unit_S = table.unit_S[slots]
            rows_SD = torch.index_select(x_ND, 0, unit_S, out=buffer_SD[: unit_S.shape[0]])
            rows_ESD = rows_SD.view(-1, rows_per_expert, width)
            qkv = torch.baddbmm(b_qkv_EC[experts].unsqueeze(1), rows_ESD, w_qkv_EDC[experts])
            q, k, v = _split_and_rotate(qkv, unit_S, shape, rotation, table)
            if keep and rotation is not None:
                v = v.contiguous()  # so that the rest of qkv need not be kept
            heads, saved = _attend(q, k, v, None if bias_GC is None else bias_GC[batches], causal, gate_keys)
            heads_ESW = _join_heads(heads, rows_per_expert)
            out_ESX = y_SD[slots].view(-1, rows_per_expert, y_SD.shape[1])
            if gate_S is None:
                torch.bmm(heads_ESW, w_o_EWD[experts], out=out_ESX)
            else:
                torch.mul(heads_ESW, gate_S[slots].view(-1, rows_per_expert, 1), out=out_ESX)
            if keep_rows:
                keys.append(k)
                values.append(v)
            if keep:
                parts += [q, k, v, heads, *saved]
        if keep:
            ctx.save_for_backward(x_ND, gate_NK, w_qkv_EDC, w_o_EWD, *parts)
            ctx.shape, ctx.rotation, ctx.table = shape, rotation, table
            ctx.causal, ctx.gate_keys, ctx.chunk = causal, gate_keys, chunk
        if together:
            y_SD[-1] = 0
            out_ND = side_by_side(y_SD, table) @ w_o_EWD.flatten(0, 1)
        else:
            out_ND = weighted_sum(table.slot_NK, y_SD, gate_NK.to(y_SD.dtype))
        ctx.has_bias = b_o_D is not None
        if b_o_D is not None:
            add_bias_(out_ND, b_o_D, table)
        if not keep_rows:
            return (out_ND,)
        all_k, all_v = torch.cat(keys), torch.cat(values)
        ctx.mark_non_differentiable(all_k, all_v)
        return out_ND, all_k, all_v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x_ND, gate_NK, w_qkv_EDC, w_o_EWD, *parts = ctx.saved_tensors
        table: SlotTable = ctx.table
        shape: HeadShape = ctx.shape
        num_experts, width = w_qkv_EDC.shape[0], x_ND.shape[1]
        rows_per_expert = table.num_groups * table.num_slots
        gate_S = slot_gates(gate_NK, table).to(x_ND.dtype)
        bias_GC = _key_bias(gate_NK, table, x_ND.dtype, causal=ctx.causal, gate_keys=ctx.gate_keys)
        grad_gate_S = torch.empty_like(gate_S)
        grad_rows_SD = x_ND.new_empty(num_experts * rows_per_expert, width)
        grad_w_qkv, grad_w_o = torch.empty_like(w_qkv_EDC), torch.empty_like(w_o_EWD)
        grad_b_qkv = w_qkv_EDC.new_empty(num_experts, w_qkv_EDC.shape[2])
        per_chunk = len(parts) // len(range(0, num_experts, ctx.chunk))
        for number, first in enumerate(range(0, num_experts, ctx.chunk)):
            experts = slice(first, min(first + ctx.chunk, num_experts))
            slots, batches = slots_of(experts, table)
            unit_S = table.unit_S[slots]
            q, k, v, heads, *saved = parts[number * per_chunk : (number + 1) * per_chunk]
            gate_ES1 = gate_S[slots].view(-1, rows_per_expert, 1)
            grad_ESD = grad_ND.index_select(0, unit_S).view(-1, rows_per_expert, width)
            heads_ESW = _join_heads(heads, rows_per_expert)
            u_ESW = torch.bmm(grad_ESD, w_o_EWD[experts].transpose(1, 2))
            grad_gate_S[slots] = (u_ESW * heads_ESW).sum(-1).flatten()
            torch.bmm((heads_ESW * gate_ES1).transpose(1, 2), grad_ESD, out=grad_w_o[experts])
            grad_heads = u_ESW.mul_(gate_ES1).view(-1, table.num_slots, shape.heads, shape.width).transpose(1, 2)
            bias = None if bias_GC is None else bias_GC[batches]
            grads, grad_bias_GC = _attend_backward(
                grad_heads, q, k, v, heads, saved, bias, causal=ctx.causal, gate_keys=ctx.gate_keys
            )
            if grad_bias_GC is not None:  # d ln(gate) = d gate / gate; unused slots have gate 0 and no gradient
                grad_gate_S[slots] += grad_bias_GC.flatten() / gate_S[slots].clamp_min(torch.finfo(gate_S.dtype).tiny)
            grad_qkv = _join_and_rotate_back(*grads, unit_S, shape, ctx.rotation, table)
            rows_ESD = x_ND.index_select(0, unit_S).view(-1, rows_per_expert, width)
            torch.bmm(rows_ESD.transpose(1, 2), grad_qkv, out=grad_w_qkv[experts])
            grad_b_qkv[experts] = grad_qkv.sum(1)
            torch.bmm(
                grad_qkv, w_qkv_EDC[experts].transpose(1, 2), out=grad_rows_SD[slots].view(-1, rows_per_expert, width)
            )
        grad_x = weighted_sum(table.slot_NK, grad_rows_SD, table.kept_NK.to(x_ND.dtype))
        grad_gate_NK = slot_values_to_units(grad_gate_S, table).to(gate_NK.dtype)
        grad_b_o = bias_gradient(grad_ND, table.kept_NK) if ctx.has_bias else None
        return grad_x, grad_gate_NK, grad_w_qkv, grad_b_qkv, grad_w_o, grad_b_o, *([None] * 6)


def _join_heads(heads: Tensor, rows_per_expert: int) -> Tensor:
    """(E * G, heads, C, width) to (E, G * C, heads * width)."""
    return heads.transpose(1, 2).reshape(-1, rows_per_expert, heads.shape[1] * heads.shape[3])


def _angles(unit_S: Tensor, rotation: Rotation, table: SlotTable, dtype: torch.dtype) -> Rotation:
    """cos and sin of every slot's unit, (E * G, 1, C, width / 2)."""
    cos, sin = (part.index_select(0, unit_S).view(-1, 1, table.num_slots, part.shape[1]).to(dtype) for part in rotation)
    return cos, sin


def _split_and_rotate(
    qkv: Tensor, unit_S: Tensor, shape: HeadShape, rotation: Rotation | None, table: SlotTable
) -> tuple[Tensor, Tensor, Tensor]:
    """(E, G * C, columns) to q, k, v (E * G, heads, C, width)."""
    parts = qkv.view(-1, table.num_slots, shape.heads + 2 * shape.kv_heads, shape.width).transpose(1, 2)
    if rotation is None:
        q, k, v = torch.split(parts, [shape.heads, shape.kv_heads, shape.kv_heads], 1)
        return q, k, v
    both, v = torch.split(parts, [shape.heads + shape.kv_heads, shape.kv_heads], 1)
    both = rotate(both, *_angles(unit_S, rotation, table, qkv.dtype))
    q, k = torch.split(both, [shape.heads, shape.kv_heads], 1)
    return q, k, v


def _join_and_rotate_back(
    grad_q: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
    unit_S: Tensor,
    shape: HeadShape,
    rotation: Rotation | None,
    table: SlotTable,
) -> Tensor:
    """The gradient of (E, G * C, columns)."""
    both = torch.cat([grad_q, grad_k], 1)
    if rotation is not None:
        cos, sin = _angles(unit_S, rotation, table, both.dtype)
        both = rotate(both, cos, -sin)
    joined = torch.cat([both, grad_v], 1).transpose(1, 2)
    return joined.reshape(-1, table.num_groups * table.num_slots, shape.columns)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate feature i together with feature i + width / 2."""
    first, second = x.chunk(2, -1)
    if torch.is_grad_enabled() and x.requires_grad:
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    out = x.new_empty(x.shape)  # written in two passes instead of seven
    half = x.shape[-1] // 2
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half:]).addcmul_(first, sin)
    return out


def _key_bias(gate_NK: Tensor, table: SlotTable, dtype: torch.dtype, *, causal: bool, gate_keys: bool) -> Tensor | None:
    """What is added to every key's logit (E * G, C); None if nothing is.

    Unused slots stand last, so that causal attention never looks at them; otherwise they are hidden.
    """
    if not gate_keys:
        if causal:
            return None
        bias_S = table.used_S.new_zeros(table.used_S.shape, dtype=dtype)
    else:
        bias_S = slot_gates(gate_NK, table).to(dtype)
        bias_S = bias_S.clamp_min(torch.finfo(dtype).tiny).log()
    hidden = _HIDDEN_HALF if dtype == torch.float16 else _HIDDEN
    return bias_S.masked_fill(~table.used_S, hidden).view(-1, table.num_slots)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, bias_GC: Tensor | None, causal: bool, gate_keys: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Heads (E * G, heads, C, width), and what the backward pass needs beside them."""
    q, k, v, mask, scale = _prepared(q, k, v, bias_GC, gate_keys=gate_keys)
    if not _has_flash(q):
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
        return out[..., : v.shape[-1] - gate_keys], ()
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, causal, attn_mask=mask, scale=scale
    )
    return out[..., : v.shape[-1] - gate_keys], (lse,)


def _attend_backward(
    grad_heads: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: Tensor,
    saved: list[Tensor],
    bias_GC: Tensor | None,
    *,
    causal: bool,
    gate_keys: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None]:
    """Gradients of q, k, v, and of the key bias (E * G, C) if it is learned."""
    kv_heads, width = k.shape[1], k.shape[-1]
    wide_q, wide_k, wide_v, mask, scale = _prepared(q, k, v, bias_GC, gate_keys=gate_keys)
    if saved:
        if gate_keys:  # the extra feature of v is 0, so that of the heads is too
            grad_heads, heads = F.pad(grad_heads, (0, 1)), F.pad(heads, (0, 1))
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad_heads, wide_q, wide_k, wide_v, heads, saved[0], 0.0, causal, attn_mask=mask, scale=scale
        )
    else:
        leaves = [part.detach().requires_grad_() for part in (wide_q, wide_k, wide_v)]
        with torch.enable_grad():
            out = F.scaled_dot_product_attention(
                leaves[0], leaves[1], leaves[2], attn_mask=mask, is_causal=causal, scale=scale
            )
        if gate_keys:
            grad_heads = F.pad(grad_heads, (0, 1))
        grads = torch.autograd.grad(out, leaves, grad_heads)
    grad_q, *others = grads
    groups = wide_q.shape[1] // kv_heads
    if groups > 1:
        others = [part.unflatten(1, (kv_heads, groups)).sum(2) for part in others]
    grad_k, grad_v = others
    grad_bias = grad_k[..., width].sum(1) if gate_keys else None
    return (grad_q[..., :width], grad_k[..., :width], grad_v[..., :width]), grad_bias


def _prepared(
    q: Tensor, k: Tensor, v: Tensor, bias_GC: Tensor | None, *, gate_keys: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, float]:
    """q, k, v with one k and v per query head; what hides keys; and the scale of the products.

    A learned key bias travels as one more feature of k, met by a constant one of q: no C x C mask is made, and its
    gradient comes with that of k.
    """
    scale = q.shape[-1] ** -0.5
    groups = q.shape[1] // k.shape[1]
    mask = None
    if gate_keys and bias_GC is not None:
        extra = (*k.shape[:3], 1)
        q = torch.cat([q, q.new_full((*q.shape[:3], 1), 1 / scale)], -1)
        k = torch.cat([k, bias_GC[:, None, :, None].expand(extra)], -1)
        v = torch.cat([v, v.new_zeros(extra)], -1)
    elif bias_GC is not None:
        mask = bias_GC[:, None, None, :]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    return q, k, v, mask, scale


def _has_flash(q: Tensor) -> bool:
    """Whether torch's fused attention for CPUs can be called by name, so that its log-sum-exp can be kept."""
    return q.device.type == "cpu" and q.dtype in (torch.float32, torch.float64, torch.bfloat16)
