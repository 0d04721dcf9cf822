"""A Union-of-Experts block, one unit and one expert at a time.

Weights are those of the dense block: expert e owns the e-th of `num_experts` equal runs of heads, or of hidden units.
Vectors multiply matrices from the left: q = x @ w_q.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tests.oracles.routing import Array, Route


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseAttention:
    """Matrices (D, H * head width), w_o (H * head width, D), and biases of a multi-head attention block."""

    w_q: Array
    w_k: Array
    w_v: Array
    w_o: Array
    b_q: Array
    b_k: Array
    b_v: Array
    b_o: Array
    num_heads: int
    rope_theta: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenseMLP:
    """w_in (D, F), for SwiGLU also w_up (D, F); w_out (F, D); biases."""

    act: str
    w_in: Array
    b_in: Array
    w_up: Array | None
    b_up: Array | None
    w_out: Array
    b_out: Array


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
    """Of every row."""
    return np.stack([scale * row / math.sqrt(float(np.mean(row**2)) + eps) for row in x])


def rotate(head: Array, position: int, theta: float) -> Array:
    """Rotary position embedding of one head's vector: feature i turns together with feature i + width / 2."""
    width = len(head)
    pairs = head[: width // 2] + 1j * head[width // 2 :]
    turned = np.array(
        [value * complex(np.exp(1j * position * theta ** (-2 * i / width))) for i, value in enumerate(pairs)]
    )
    return np.concatenate([turned.real, turned.imag])


def attention(
    x: Array,
    examples: Sequence[Sequence[int]],
    routes: Mapping[int, Route],
    dense: DenseAttention,
    *,
    num_experts: int,
    causal: bool,
    gate_keys: bool,
) -> Array:
    """Output (units, D) without the residual; 0 for units that no expert kept and for padding."""
    width = dense.w_q.shape[1] // dense.num_heads
    out = np.zeros_like(x)
    for example in examples:
        for query_position, query_unit in enumerate(example):
            for head in range(dense.num_heads):
                expert = head // (dense.num_heads // num_experts)
                query_gate = routes[query_unit].gate_of(expert)
                if query_gate is None:
                    continue
                columns = slice(head * width, (head + 1) * width)
                q = x[query_unit] @ dense.w_q[:, columns] + dense.b_q[columns]
                q = _positioned(q, query_position, dense)
                scores, values = [], []
                for key_position, key_unit in enumerate(example):
                    key_gate = routes[key_unit].gate_of(expert)
                    if key_gate is None or (causal and key_position > query_position):
                        continue
                    k = x[key_unit] @ dense.w_k[:, columns] + dense.b_k[columns]
                    score = float(q @ _positioned(k, key_position, dense)) / math.sqrt(width)
                    scores.append(score + (math.log(key_gate) if gate_keys else 0.0))
                    values.append(x[key_unit] @ dense.w_v[:, columns] + dense.b_v[columns])
                weights = np.exp(np.array(scores) - max(scores))
                head_out = (weights / weights.sum()) @ np.stack(values)
                out[query_unit] += query_gate * (head_out @ dense.w_o[columns])
            if routes[query_unit].is_reached:
                out[query_unit] += dense.b_o
    return out


def mlp(x: Array, routes: Mapping[int, Route], dense: DenseMLP, *, num_experts: int) -> Array:
    """Output (units, D) without the residual; 0 for units that no expert kept and for padding."""
    share = dense.w_in.shape[1] // num_experts
    out = np.zeros_like(x)
    for unit, route in routes.items():
        for expert in range(num_experts):
            gate = route.gate_of(expert)
            if gate is None:
                continue
            columns = slice(expert * share, (expert + 1) * share)
            hidden = x[unit] @ dense.w_in[:, columns] + dense.b_in[columns]
            if dense.w_up is not None and dense.b_up is not None:
                hidden = _silu(hidden) * (x[unit] @ dense.w_up[:, columns] + dense.b_up[columns])
            else:
                hidden = _gelu(hidden)
            out[unit] += gate * (hidden @ dense.w_out[columns])
        if route.is_reached:
            out[unit] += dense.b_out
    return out


def _positioned(vector: Array, position: int, dense: DenseAttention) -> Array:
    return vector if dense.rope_theta is None else rotate(vector, position, dense.rope_theta)


def _gelu(x: Array) -> Array:
    return np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


def _silu(x: Array) -> Array:
    return np.array([value / (1 + math.exp(-value)) for value in x])
