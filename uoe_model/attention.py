"""SMHA: an attention block cut into experts, each a group of heads over the units that its router kept for it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uoe_model.cache import CacheStep
from uoe_model.config import UoEConfig
from uoe_model.dispatch import SlotTable, build_slot_table, kept_by_expert
from uoe_model.kernels.backend import combine, expert_attention, gather
from uoe_model.layout import RoutingLayout
from uoe_model.router import Router, RoutingDecision, RoutingOverrides


class SMHA(nn.Module):
    """Selective multi-head attention (arXiv 2503.02495, section 3).

    1. The router asks experts for every patch; capacity decides what is kept.
    2. Each expert projects its kept units to q, k, v and rotates q, k by the units' original positions.
    3. A unit attends, within the expert, to the kept units of its own example (earlier ones if causal).
    4. The expert's output rows are weighted by the gate and summed; the bias is added once where any expert kept.

    Attributes:
        w_qkv: (E, D, 3 * W), W = D / E; columns are q, then k, then v, each head by head. b_qkv: (E, 3 * W).
        w_o: (E, W, D). b_o: (D,).
    """

    def __init__(self, config: UoEConfig, layer: int) -> None:
        super().__init__()
        routing = config.router_config("attention")
        self.layer = layer
        self.num_experts = routing.num_experts
        self.gate_keys = routing.gate_keys
        self.is_causal = config.is_causal
        self.heads_per_expert = config.num_attention_heads // routing.num_experts
        self.head_width = config.hidden_size // config.num_attention_heads
        width = self.heads_per_expert * self.head_width
        self.router = Router(config.hidden_size, routing, site_id=2 * layer)
        self.w_qkv = nn.Parameter(torch.empty(routing.num_experts, config.hidden_size, 3 * width))
        self.b_qkv = nn.Parameter(torch.zeros(routing.num_experts, 3 * width))
        self.w_o = nn.Parameter(torch.empty(routing.num_experts, width, config.hidden_size))
        self.b_o = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        rotation: tuple[Tensor, Tensor] | None,
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
            out_ND, k_NHd, v_NHd = self._attend(x_ND, layout, decision, rotation)
            if step is not None:
                step.store(self.router, overrides, decision)
                step.store_keys(self.layer, k_NHd(), v_NHd())
        else:
            everything = step.decide(self.router, x_ND, overrides)
            decision = step.new_part(everything)
            out_ND = self._attend_cached(x_ND, decision, everything, rotation, step)
        reached_N1 = decision.kept_NK.any(-1, keepdim=True)
        return out_ND + reached_N1 * self.b_o.to(out_ND.dtype), decision

    def _project(
        self, x_ND: Tensor, table: SlotTable, rotation: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of all slots, each (E * G, heads, C, head width)."""
        rows_ESD = gather(x_ND, table).view(self.num_experts, -1, x_ND.shape[1])
        qkv = torch.baddbmm(self.b_qkv.to(rows_ESD.dtype).unsqueeze(1), rows_ESD, self.w_qkv.to(rows_ESD.dtype))
        qkv = qkv.view(-1, table.num_slots, 3, self.heads_per_expert, self.head_width).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if rotation is not None:
            shape = (-1, 1, table.num_slots, self.head_width // 2)
            cos, sin = (part.index_select(0, table.unit_S).view(shape).to(q.dtype) for part in rotation)
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return q, k, v

    def _output(self, heads: Tensor, decision: RoutingDecision, table: SlotTable) -> Tensor:
        """Heads (E * G, heads, C, head width) through each expert's output rows, combined to (N, D)."""
        rows_ESW = heads.transpose(1, 2).reshape(self.num_experts, -1, self.heads_per_expert * self.head_width)
        y_ESD = torch.bmm(rows_ESW, self.w_o.to(rows_ESW.dtype))
        return combine(y_ESD.flatten(0, 1), decision.gate_NK, table)

    def _attend(
        self, x_ND: Tensor, layout: RoutingLayout, decision: RoutingDecision, rotation: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Callable[[], Tensor], Callable[[], Tensor]]:
        """All units at once; also how to get their keys and values (N, H, head width) for a cache."""
        table = build_slot_table(decision, self.num_experts, layout.group_N, layout.num_groups)
        q, k, v = self._project(x_ND, table, rotation)
        log_gate = None
        if self.gate_keys:
            log_gate_NE = log_gates(kept_by_expert(decision, decision.gate_NK, self.num_experts))
            expert_S = torch.arange(table.unit_S.shape[0], device=x_ND.device) // (table.num_groups * table.num_slots)
            log_gate = log_gate_NE[table.unit_S, expert_S].view(-1, table.num_slots)
        used = None if self.is_causal else table.used_S.view(-1, table.num_slots)
        heads = expert_attention(q, k, v, log_gate, used, causal=self.is_causal)
        out_ND = self._output(heads, decision, table)
        return out_ND, lambda: self._by_unit(k, table, x_ND.shape[0]), lambda: self._by_unit(v, table, x_ND.shape[0])

    def _by_unit(self, slots: Tensor, table: SlotTable, num_units: int) -> Tensor:
        """(E * G, heads, C, head width) to (N, H, head width), 0 where the unit has no slot of the head's expert."""
        by_slot = slots.transpose(1, 2).reshape(-1, self.heads_per_expert, self.head_width)
        expert_S = torch.arange(by_slot.shape[0], device=slots.device) // (table.num_groups * table.num_slots)
        out = by_slot.new_zeros(num_units * self.num_experts, self.heads_per_expert, self.head_width)
        row = (table.unit_S * self.num_experts + expert_S)[table.used_S]
        return out.index_copy(0, row, by_slot[table.used_S]).view(num_units, -1, self.head_width)

    def _attend_cached(
        self,
        x_ND: Tensor,
        decision: RoutingDecision,
        everything: RoutingDecision,
        rotation: tuple[Tensor, Tensor] | None,
        step: CacheStep,
    ) -> Tensor:
        """New units against all units so far; keys that an expert did not keep are masked."""
        table = build_slot_table(decision, self.num_experts, step.layout.group_N, step.layout.num_groups)
        q, k, v = self._project(x_ND, table, rotation)
        units = x_ND.shape[0]
        keys, values = step.store_keys(self.layer, self._by_unit(k, table, units), self._by_unit(v, table, units))
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
        shape = (rows, length, self.num_experts, self.heads_per_expert, self.head_width)
        keys, values = (part.view(shape).permute(2, 0, 3, 1, 4).flatten(0, 1) for part in (keys, values))
        heads = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=self.head_width**-0.5)
        return self._output(heads, decision, table)


def log_gates(gate: Tensor) -> Tensor:
    """ln(gate), finite where a gate is 0 (those keys are hidden anyway)."""
    return gate.clamp_min(torch.finfo(gate.dtype).tiny).log()


def rotary_angles(position_N: Tensor, head_width: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin (N, head width / 2) of rotary position embeddings (arXiv 2104.09864), halves paired."""
    exponent = torch.arange(0, head_width, 2, device=position_N.device, dtype=torch.float64) / head_width
    angle = position_N.to(torch.float64).unsqueeze(1) * theta**-exponent
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate feature i together with feature i + width / 2."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
