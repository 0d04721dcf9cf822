"""A model to compare with, not to use: our dense attention, and the Switch MLP of transformers in place of UoME.

Router rule, capacity rule and experts are the modules of transformers (SwitchTransformersSparseMLP, after arXiv
2101.03961); embedding, attention, norms and head are ours. The decisions come in our own form, so that everything that
measures a UoE model measures this one too.
"""

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import SwitchTransformersConfig
from transformers.models.switch_transformers.modeling_switch_transformers import (
    SwitchTransformersDenseActDense,
    SwitchTransformersSparseMLP,
    SwitchTransformersTop1Router,
)

from uoe_model.cache import CacheStep
from uoe_model.config import BLOCKS, UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.errors import CheckpointError, ConfigError
from uoe_model.layout import RoutingLayout
from uoe_model.losses import load_balancing_loss, router_z_loss
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification, UoEModel
from uoe_model.outputs import UoEModelOutput
from uoe_model.replacements import UNTRAINED_ROUTERS
from uoe_model.router import RoutingOverrides, Unset
from uoe_model.training.settings import Kind


def switch_config(config: UoEConfig, *, units: int) -> SwitchTransformersConfig:
    """What the modules of transformers are built from.

    Args:
        config: its `mlp_router` gives experts and capacity factor, and `intermediate_size` / experts the hidden units
            of one expert.
        units: of a row; an expert takes at most ceil(f * units / E) of them, the first that ask.
    """
    routing = config.router_config("mlp")
    factor = routing.capacity_factor
    capacity = units if factor is None else min(units, math.ceil(factor * units / routing.num_experts))
    return SwitchTransformersConfig(
        d_model=config.hidden_size,
        d_ff=config.intermediate_size // routing.num_experts,
        num_experts=routing.num_experts,
        expert_capacity=capacity,
        router_bias=False,
        router_jitter_noise=0.0,
        router_dtype="float32",
        dropout_rate=0.0,
        dense_act_fn=config.hidden_act,
    )


class SwitchMLP(nn.Module):
    """SwitchTransformersSparseMLP behind the interface of `UoME`; top-1, padding of a row on the right only."""

    def __init__(self, config: UoEConfig, layer: int) -> None:
        super().__init__()
        units = config.max_position_embeddings if config.is_causal else config.grid_size**2
        settings = switch_config(config, units=units)
        self.site_id = len(BLOCKS) * layer + 1
        self.capacity = settings.expert_capacity
        self.sparse = SwitchTransformersSparseMLP(settings)
        self._given_logits = SwitchTransformersTop1Router(settings)
        self._given_logits.register_module("classifier", nn.Identity())  # it decides by the logits it is handed
        self._without_limit = SwitchTransformersTop1Router(settings)
        self._without_limit.register_module("classifier", nn.Identity())
        self._without_limit.expert_capacity = units

    def forward(
        self,
        x_ND: Tensor,
        layout: RoutingLayout,
        overrides: RoutingOverrides | None = None,
        step: CacheStep | None = None,
    ) -> tuple[Tensor, RoutingDecision]:
        """Route the normed input (N, D) of valid units; output (N, D) without the residual, and the decision.

        Raises:
            ConfigError: a cache, another top-k or gate, or another limit than the trained one and none.
        """
        if step is not None:
            raise ConfigError("the Switch comparison model has no cache: pass use_cache=False")
        logits_NE = self.sparse.router.classifier(x_ND.float())
        decide = self._given_logits
        if overrides is not None and overrides.touches(self.site_id):
            if overrides.num_experts_per_tok is not None or overrides.gate is not None:
                raise ConfigError("the Switch comparison model is top-1 with its own gate: neither can be changed")
            if not isinstance(overrides.capacity_factor, Unset):
                if overrides.capacity_factor is not None:
                    raise ConfigError("the Switch comparison model takes its trained capacity, or None for no limit")
                decide = self._without_limit
            if overrides.replace_logits is not None:
                logits_NE = overrides.replace_logits(self.site_id, logits_NE, layout, x_ND)
        grid = (layout.num_rows, layout.row_length, -1)
        selected_BTE, gate_BT1, _ = decide(layout.spread(logits_NE).view(grid))
        num_experts = selected_BTE.shape[-1]
        out_MD = self.sparse.experts(
            layout.spread(x_ND), selected_BTE.view(-1, 1, num_experts), gate_BT1.view(-1, 1).to(x_ND.dtype)
        )
        kept_N1 = layout.select(selected_BTE).sum(-1, keepdim=True) > 0
        decision = RoutingDecision(
            logits_NE=logits_NE,
            expert_NK=logits_NE.argmax(-1, keepdim=True),
            gate_NK=layout.select(gate_BT1) * kept_N1,
            kept_NK=kept_N1,
            capacity_G=layout.patches_G.new_full((layout.num_groups,), decide.expert_capacity),
        )
        return layout.select(out_MD.view(*grid[:2], -1)), decision


class SwitchModel(UoEModel):
    """Blocks with dense attention and a Switch MLP."""

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        if config.router_config("attention").num_experts != 1 or config.router_config("mlp").num_experts_per_tok != 1:
            raise ConfigError("the Switch comparison model needs one attention expert and top-1 MLP experts")
        for layer, block in enumerate(self.blocks):
            block.mlp = SwitchMLP(config, layer)
        self.post_init()  # type: ignore[no-untyped-call]
        self._scale_like_union()

    @torch.no_grad()
    def _scale_like_union(self) -> None:
        """Initial weights on the scale of UoE's: `post_init` gives every linear map the same one."""
        config = self.config
        for module in self.modules():
            if isinstance(module, SwitchMLP):
                module.sparse.router.classifier.weight.normal_(std=config.router_init_std)
            elif isinstance(module, SwitchTransformersDenseActDense):
                module.wo.weight.normal_(std=config.initializer_range / (2 * config.num_hidden_layers) ** 0.5)

    def router_losses(self, out: UoEModelOutput) -> tuple[Tensor, Tensor]:
        """Those of the Switch sites, summed, over the number of all sites: `UoEForCausalLM` multiplies by it."""
        sites = list(zip(out.decisions, self.config.site_configs(), strict=True))[1 :: len(BLOCKS)]
        balance = [load_balancing_loss(decision, config, out.layout, scope="sequence") for decision, config in sites]
        z = [router_z_loss(decision, out.layout) for decision, _ in sites]
        known = torch.stack([loss for loss in balance if loss is not None])
        return known.sum() / len(out.decisions), torch.stack(z).sum() / len(out.decisions)


class SwitchForCausalLM(UoEForCausalLM):
    """Predicts the next token."""

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        self.model = SwitchModel(config)
        self.post_init()  # type: ignore[no-untyped-call]


class SwitchForImageClassification(UoEForImageClassification):
    """Classifies an image from the mean of its cells."""

    def __init__(self, config: UoEConfig) -> None:
        super().__init__(config)
        self.model = SwitchModel(config)
        self.post_init()  # type: ignore[no-untyped-call]


def model_class(kind: Kind, mlp_block: str) -> type[UoEForCausalLM] | type[UoEForImageClassification]:
    """The model of this kind whose layers have this MLP."""
    if mlp_block == "switch":
        return SwitchForImageClassification if kind == "image" else SwitchForCausalLM
    return UoEForImageClassification if kind == "image" else UoEForCausalLM


def untrained_switch_weights(model: nn.Module, folder: Path) -> dict[int, Tensor]:
    """The initial router weights (E, D) of a run, by site id.

    Raises:
        CheckpointError: they are missing or damaged.
    """
    path = folder / UNTRAINED_ROUTERS
    try:
        stored: dict[str, Any] = load_file(path)
        return {
            module.site_id: stored[f"{name}.sparse.router.classifier.weight"]
            for name, module in model.named_modules()
            if isinstance(module, SwitchMLP)
        }
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{folder.name}/{path.name} cannot be read: {error}") from error
