"""The least time that a block's work can take on a device: what no kernel can beat, phase by phase.

Every phase takes the longer of its arithmetic and its memory traffic; phases run one after another. Weights are left
out of the traffic (they are read once), and so are tables and launches.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import torch

from tests.benchmarks.blocks.variants import Setting

ATTENTION_SHARE: Final = 0.6
"""Of the rate of matrix products, what fused attention reaches at best."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What a device does at best: matrix products (flop/s), memory (bytes/s); and the bytes of a number."""

    flops: float
    bandwidth: float
    number_bytes: int

    @classmethod
    def measured(cls, rates: Mapping[str, Any], dtype: torch.dtype) -> "Device":
        """From `protocol.rates`, for one type of numbers."""
        name = "matmul_bf16" if dtype == torch.bfloat16 else "matmul_f32"
        return cls(flops=1e9 * rates[name], bandwidth=1e9 * rates["copy"], number_bytes=dtype.itemsize)

    def phase_ms(self, flops: float, numbers: float, *, share: float = 1.0) -> float:
        """Milliseconds of a phase that computes `flops` and moves `numbers` to and from memory."""
        return 1e3 * max(flops / (share * self.flops), numbers * self.number_bytes / self.bandwidth)


def dense_attention_phases(setting: Setting, device: Device) -> dict[str, float]:
    """Milliseconds per phase of dense attention with what surrounds it.

    norm (read, write), QKV, fused attention (half of the scores if causal), output product, residual and next norm
    (read both, write both).
    """
    units, width = setting.batch * setting.length, setting.width
    values = units * width
    scores = 4 * values * setting.length / (2 if setting.causal else 1)
    return {
        "norm": device.phase_ms(0, 2 * values),
        "QKV": device.phase_ms(6 * values * width, 4 * values),
        "attention": device.phase_ms(scores, 4 * values, share=ATTENTION_SHARE),
        "output": device.phase_ms(2 * values * width, 2 * values),
        "residual and norm": device.phase_ms(0, 4 * values),
    }


def dense_phases(setting: Setting, device: Device) -> dict[str, float]:
    """Those of attention, then W1, W2 and the residual (read both, write one)."""
    values, hidden = setting.batch * setting.length * setting.width, setting.batch * setting.length * setting.hidden
    product = device.phase_ms(2 * values * setting.hidden, values + hidden)
    return dense_attention_phases(setting, device) | {
        "W1": product,
        "W2": product,
        "residual": device.phase_ms(0, 3 * values),
    }


def union_attention_phases(setting: Setting, device: Device, rows: float | None = None) -> dict[str, float]:
    """Milliseconds per phase of our attention with what surrounds it; `rows` that experts process, about N k.

    norm, router (reads once), gather fused with QKV (reads R rows of D, writes 3 D / E each), fused attention over the
    rows of each (example, expert), output product (writes R rows of D), combine with residual and next norm (reads
    those and the residual, writes both).
    """
    values = setting.batch * setting.length * setting.width
    rows = _rows(setting, setting.attention_top_k) if rows is None else rows
    head = setting.width // setting.attention_experts
    together = rows / (setting.batch * setting.attention_experts)
    scores = 4 * rows * together * head / (2 if setting.causal else 1)
    return {
        "norm": device.phase_ms(0, 2 * values),
        "attention router": device.phase_ms(2 * values * setting.attention_experts, values),
        "QKV": device.phase_ms(6 * rows * setting.width * head, rows * (setting.width + 3 * head)),
        "attention": device.phase_ms(scores, 4 * rows * head, share=ATTENTION_SHARE),
        "output": device.phase_ms(2 * rows * setting.width * head, rows * (setting.width + head)),
        "combine and norm": device.phase_ms(0, rows * setting.width + 3 * values),
    }


def routed_mlp_phases(setting: Setting, device: Device, rows: float | None = None) -> dict[str, float]:
    """Router, gather fused with W1, W2 (writes R rows of D), combine with the residual (reads both, writes one)."""
    values = setting.batch * setting.length * setting.width
    rows = _rows(setting, setting.mlp_top_k) if rows is None else rows
    return {
        "MLP router": device.phase_ms(2 * values * setting.mlp_experts, values),
        **_expert_products(setting, device, rows),
        "combine": device.phase_ms(0, rows * setting.width + 2 * values),
    }


def sublayer_phases(setting: Setting, device: Device, rows: float) -> dict[str, float]:
    """The MLP without router and residual: gather fused with W1, W2, combine (reads R rows, writes N)."""
    values = setting.batch * setting.length * setting.width
    return {
        **_expert_products(setting, device, rows),
        "combine": device.phase_ms(0, rows * setting.width + values),
    }


def union_phases(
    setting: Setting, device: Device, attention_rows: float | None = None, mlp_rows: float | None = None
) -> dict[str, float]:
    """Our block: attention, then the MLP."""
    attention = union_attention_phases(setting, device, attention_rows)
    return attention | routed_mlp_phases(setting, device, mlp_rows)


def expert_flops(setting: Setting, rows: float) -> float:
    """Of the two products of the MLP experts over R rows."""
    return 4 * rows * setting.width * setting.hidden / setting.mlp_experts


def _expert_products(setting: Setting, device: Device, rows: float) -> dict[str, float]:
    hidden = setting.hidden / setting.mlp_experts
    product = device.phase_ms(expert_flops(setting, rows) / 2, rows * (setting.width + hidden))
    return {"W1": product, "W2": product}


def _rows(setting: Setting, top_k: int) -> float:
    """R as capacity lets it be when routing is even."""
    factor = 1.0 if setting.capacity_factor is None else min(setting.capacity_factor, 1.0)
    return factor * setting.batch * setting.length * top_k
