"""UoME: an MLP block cut into experts, each a slice of the hidden units."""

import torch
from torch import Tensor, nn

from uoe_model.cache import CacheStep
from uoe_model.config import UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.kernels.backend import compute_dtype, expert_mlp
from uoe_model.layout import RoutingLayout
from uoe_model.router import Router, RoutingOverrides


class UoME(nn.Module):
    """Union of MLP experts (arXiv 2503.02495, section 3).

    Attributes:
        w1: (E, D, F / E), or twice as wide for SwiGLU: gate columns, then up columns. b1: (E, columns of w1).
        w2: (E, F / E, D). b2: (D,), added once to units that any expert kept.
    """

    def __init__(self, config: UoEConfig, layer: int) -> None:
        super().__init__()
        routing = config.router_config("mlp")
        self.is_causal = config.is_causal
        self.act = config.hidden_act
        hidden = config.intermediate_size // routing.num_experts
        columns = 2 * hidden if self.act == "swiglu" else hidden
        self.router = Router(config.hidden_size, routing, site_id=2 * layer + 1, bias=config.router_bias)
        self.w1 = nn.Parameter(torch.empty(routing.num_experts, config.hidden_size, columns))
        self.b1 = nn.Parameter(torch.zeros(routing.num_experts, columns))
        self.w2 = nn.Parameter(torch.empty(routing.num_experts, hidden, config.hidden_size))
        self.b2 = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        overrides: RoutingOverrides | None = None,
        step: CacheStep | None = None,
    ) -> tuple[Tensor, RoutingDecision]:
        """Route the normed input (N, D) of valid units; output (N, D) without the residual, and the decision."""
        if step is None or step.is_first:
            decision = self.router(x_ND, layout, causal=self.is_causal, overrides=overrides)
            if step is not None:
                step.store(self.router, overrides, decision)
        else:
            decision = step.new_part(step.decide(self.router, x_ND, overrides))
        dtype = compute_dtype(x_ND)
        w1, b1, w2, b2 = (weight.to(dtype) for weight in (self.w1, self.b1, self.w2, self.b2))
        return expert_mlp(x_ND.to(dtype), decision, w1, b1, w2, b2, self.act), decision
