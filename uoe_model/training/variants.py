"""The models of the comparison: one small configuration, its blocks routed in different ways or not at all."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from uoe_model.errors import ConfigError
from uoe_model.training.settings import Kind, Training

VARIANTS: Final = ("dense", "data", "frozen", "expert_choice", "expert", "switch")
"""In the order of the table:

- dense: the same blocks uncut, one expert that takes everything
- data: patch-wise data selection, as the bundled models route
- frozen: the same with routers frozen at their random initial weights
- expert_choice: every expert picks its best patches
- expert: one decision per example
- switch: dense attention, and the Switch MLP of transformers in place of the MLP experts
"""

NOT_CAUSAL: Final = ("expert_choice", "expert")
"""They look at the whole input before they decide, so no language model can route like that."""


def variants_of(kind: Kind) -> tuple[str, ...]:
    """Those that this kind of model can be."""
    return VARIANTS if kind == "image" else tuple(name for name in VARIANTS if name not in NOT_CAUSAL)


def variant_settings(base: Training, kind: Kind, variant: str, seed: int) -> Training:
    """Settings of one run: everything but the routing and the seed is the base's.

    Raises:
        ConfigError: there is no such variant of this kind.
    """
    if variant not in variants_of(kind):
        why = "it is not causal" if variant in NOT_CAUSAL else "there is none of this name"
        raise ConfigError(f"{kind} variant {variant!r}: {why}; choose from {', '.join(variants_of(kind))}")
    model = dict(base.model)
    for name in ("attention_router", "mlp_router"):
        model[name] = _routing(dict(model[name]), variant)
    if variant == "dense":
        model |= {"router_aux_loss_coef": 0.0, "router_z_loss_coef": 0.0}
    if variant == "switch":
        router = base.model["mlp_router"]
        model["mlp_router"] = _switch_router(router)
        model["intermediate_size"] *= router["num_experts_per_tok"]  # one expert as large as the k that UoE requests
    return dataclasses.replace(
        base,
        model=model,
        seed=seed,
        frozen_routers=variant == "frozen",
        mlp_block="switch" if variant == "switch" else "union",
    )


def _routing(router: dict[str, Any], variant: str) -> dict[str, Any]:
    if variant in ("dense", "switch"):
        undivided = {"num_experts": 1, "num_experts_per_tok": 1, "capacity_factor": None, "gate": "one"}
        return router | undivided | {"gate_keys": False}
    if variant == "expert_choice":
        return router | {"selection": "expert_choice"}
    if variant == "expert":
        return router | {"selection": "expert", "capacity_factor": None}
    return router


def _switch_router(router: Mapping[str, Any]) -> dict[str, Any]:
    """As many experts and slots per request as UoE has, top-1, first come, weighted by the probability."""
    return dict(router) | {"num_experts_per_tok": 1, "admission": "position", "gate": "probability"}
