"""SMHA: an attention block cut into experts, each a group of heads over the units that its router kept for it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uoe_model.cache import CacheStep
from uoe_model.config import UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.dispatch import build_slot_table, kept_by_expert
from uoe_model.kernels.backend import (
    AttentionRows,
    HeadShape,
    Rotation,
    compute_dtype,
    expert_attention,
    project_slots,
    weighted_sum,
)
from uoe_model.layout import RoutingLayout
from uoe_model.router import Router, RoutingOverrides


class SMHA(nn.Module):
    """Selective multi-head attention (arXiv 2503.02495, section 3).

    1. The router asks experts for every patch; capacity decides what is kept.
    2. Each expert projects its kept units to q, k, v and rotates q, k by the units' original positions.
    3. A unit attends, within the expert, to the kept units of its own example (earlier ones if causal).
    4. The expert's output rows are weighted by the gate and summed; the bias is added once where any expert kept.

    Attributes:
        shape: heads of one expert; with fewer key/value heads than heads, experts follow key/value groups.
        w_qkv: (E, D, C), columns of q, then k, then v, each head by head. b_qkv: (E, C).
        w_o: (E, W, D), W the width of an expert's q heads together. b_o: (D,).
    """

    def __init__(self, config: UoEConfig, layer: int) -> None:
        super().__init__()
        routing = config.router_config("attention")
        self.layer = layer
        self.num_experts = routing.num_experts
        self.gate_keys = routing.gate_keys
        self.is_causal = config.is_causal
        self.shape = HeadShape(
            heads=config.num_attention_heads // routing.num_experts,
            kv_heads=config.key_value_heads // routing.num_experts,
            width=config.head_width,
        )
        self.router = Router(config.hidden_size, routing, site_id=2 * layer, bias=config.router_bias)
        self.w_qkv = nn.Parameter(torch.empty(routing.num_experts, config.hidden_size, self.shape.columns))
        self.b_qkv = nn.Parameter(torch.zeros(routing.num_experts, self.shape.columns))
        width = self.shape.heads * self.shape.width
        self.w_o = nn.Parameter(torch.empty(routing.num_experts, width, config.hidden_size))
        self.b_o = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        rotation: Rotation | None,
        overrides: RoutingOverrides | None = None,
        step: CacheStep | None = None,
    ) -> tuple[Tensor, RoutingDecision]:
        """Attend over valid units.

        Args:
            x_ND: normed input. rotation: cos and sin (N, head width / 2) of the original positions, or None.
            step: where keys and decisions of earlier units are kept while generating.

        Returns:
            Output (N, D) without the residual, and the decision for these units.
        """
        if step is None or step.is_first:
            decision = self.router(x_ND, layout, causal=self.is_causal, overrides=overrides)
            out_ND, rows = self._attend(x_ND, layout, decision, rotation, keep_rows=step is not None)
            if step is not None and rows is not None:
                step.store(self.router, overrides, decision)
                step.store_keys(self.layer, *rows)
        else:
            everything = step.decide(self.router, x_ND, overrides)
            decision = step.new_part(everything)
            out_ND = self._attend_cached(x_ND, decision, everything, rotation, step)
        return out_ND, decision

    def _attend(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        decision: RoutingDecision,
        rotation: Rotation | None,
        *,
        keep_rows: bool,
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """All units at once; also their keys and values if a cache wants them."""
        w_qkv, b_qkv, w_o = self._weights(x_ND)
        return expert_attention(
            x_ND.to(w_o.dtype),
            decision,
            layout,
            w_qkv,
            b_qkv,
            w_o,
            self.b_o.to(w_o.dtype),
            self.shape,
            rotation,
            causal=self.is_causal,
            gate_keys=self.gate_keys,
            keep_rows=keep_rows,
        )

    def _weights(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projections in the type that products run in."""
        dtype = compute_dtype(x_ND)
        return self.w_qkv.to(dtype), self.b_qkv.to(dtype), self.w_o.to(dtype)

    def _attend_cached(
        self,
        x_ND: Tensor,
        decision: RoutingDecision,
        everything: RoutingDecision,
        rotation: Rotation | None,
        step: CacheStep,
    ) -> Tensor:
        """New units against all units so far; keys that an expert did not keep are masked."""
        table = build_slot_table(decision, self.num_experts, step.layout)
        w_qkv, b_qkv, w_o = self._weights(x_ND)
        q, k, v = project_slots(x_ND.to(w_o.dtype), w_qkv, b_qkv, self.shape, rotation, table)
        new = AttentionRows(k, v, table, self.shape, x_ND.shape[0])
        keys, values = step.store_keys(self.layer, *new.by_unit())
        gate_NE = kept_by_expert(everything, everything.gate_NK, self.num_experts)
        kept_NE = kept_by_expert(everything, everything.kept_NK.to(q.dtype), self.num_experts)
        bias_NE = (kept_NE - 1) * (-torch.finfo(q.dtype).min / 2)
        if self.gate_keys:
            bias_NE = bias_NE + torch.where(kept_NE > 0, log_gates(gate_NE), 0).to(q.dtype)
        hidden = torch.finfo(q.dtype).min / 2
        bias_BTE = step.on_grid(bias_NE, hidden)
        rows, length = bias_BTE.shape[:2]
        bias_EB1T = bias_BTE.permute(2, 0, 1).reshape(-1, 1, length)
        column_S = step.new_column_N.index_select(0, table.unit_S).view(-1, table.num_slots, 1)
        future = torch.arange(length, device=q.device) > column_S
        mask = bias_EB1T.expand(-1, table.num_slots, -1).masked_fill(future, hidden).unsqueeze(1)
        shape = (rows, length, self.num_experts, self.shape.kv_heads, self.shape.width)
        keys, values = (part.view(shape).permute(2, 0, 3, 1, 4).flatten(0, 1) for part in (keys, values))
        heads = F.scaled_dot_product_attention(
            q,
            keys,
            values,
            attn_mask=mask,
            scale=self.shape.width**-0.5,
            enable_gqa=self.shape.heads != self.shape.kv_heads,
        )
        heads_ESW = heads.transpose(1, 2).reshape(self.num_experts, -1, w_o.shape[1])
        y_SD = torch.bmm(heads_ESW, w_o).flatten(0, 1)
        out_ND = weighted_sum(table.slot_NK, y_SD, decision.gate_NK.to(w_o.dtype))
        return out_ND + decision.kept_NK.any(-1, keepdim=True) * self.b_o.to(out_ND.dtype)


def log_gates(gate: Tensor) -> Tensor:
    """ln(gate), finite where a gate is 0 (those keys are hidden anyway)."""
    return gate.clamp_min(torch.finfo(gate.dtype).tiny).log()


def rotary_angles(position_N: Tensor, head_width: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (N, head width / 2) of rotary position embeddings (arXiv 2104.09864), halves paired."""
    exponent = torch.arange(0, head_width, 2, device=position_N.device, dtype=torch.float64) / head_width
    angle = position_N.to(torch.float64).unsqueeze(1) * theta**-exponent
    return angle.cos().to(dtype), angle.sin().to(dtype)
