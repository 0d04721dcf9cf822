"""UoME: the slow loop, the bias, and gradients."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import blocks
from tests.oracles.routing import examples_of, route_inputs
from tests.uoe_model.models import (
    array,
    assert_routes,
    build_encoder,
    build_lm,
    causal_router,
    dense_mlp,
    free_router,
    rule_of,
)
from uoe_model.decision import RoutingDecision
from uoe_model.layout import build_layout
from uoe_model.modeling import UoEModel

VALID = [[1] * 20, [0] * 6 + [1] * 14, [1] * 9 + [0] * 11]


def inputs(rows: int, columns: int, *, seed: int = 0, width: int = 16) -> Tensor:
    return torch.randn(rows, columns, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(model: UoEModel, x: Tensor, valid: list[list[int]]) -> tuple[Tensor, RoutingDecision]:
    """The first layer's MLP alone, on the flat grid of units."""
    block = model.blocks[0].mlp
    layout = build_layout(torch.tensor(valid, dtype=torch.bool), block.router.config.patch_len)
    out, decision = block(layout.select(x), layout)
    return layout.spread(out), decision.spread(layout)


def check_against_loop(model: UoEModel) -> None:
    block = model.blocks[0].mlp
    x = inputs(3, 20)
    out, decision = run(model, x, VALID)
    rule = rule_of(block.router.config, causal=model.config.is_causal)
    flat = array(x.flatten(0, 1))
    routes = route_inputs(flat, array(block.router.weight), examples_of(VALID), rule)
    assert_routes(decision, routes, 60)
    expected = blocks.mlp(flat, routes, dense_mlp(block), num_experts=rule.num_experts)
    np.testing.assert_allclose(array(out), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("act", ["gelu", "swiglu"])
@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
def test_causal_experts_equal_the_loop(gate, patch_len, act):
    router = causal_router(num_experts=8, gate=gate, patch_len=patch_len)
    other = causal_router(patch_len=patch_len)
    check_against_loop(build_lm(mlp_router=router, attention_router=other, hidden_act=act).model)


@pytest.mark.parametrize("act", ["gelu", "swiglu"])
@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize(
    "router",
    [
        free_router(),
        free_router(patch_len=3),
        free_router(selection="expert_choice", capacity_factor=None),
        free_router(selection="expert_choice"),
        free_router(selection="expert", capacity_factor=None),
    ],
    ids=["score", "patches", "expert_choice-unlimited", "expert_choice", "expert"],
)
def test_experts_that_look_ahead_equal_the_loop(router, gate, act):
    other = free_router(patch_len=router.get("patch_len", 1))
    check_against_loop(build_encoder(mlp_router=router | {"gate": gate}, attention_router=other, hidden_act=act))


def test_units_that_no_expert_kept_get_nothing_and_others_the_bias_once():
    model = build_encoder(mlp_router=free_router(capacity_factor=0.5, gate="one"))
    block = model.blocks[0].mlp
    with torch.no_grad():
        block.w2.zero_()
    out, decision = run(model, inputs(1, 20), [[1] * 20])
    reached = decision.kept_NK.any(-1)
    assert 0 < reached.sum() < 20
    assert bool((decision.kept_NK.sum(-1) == 2).any())
    assert torch.equal(out[~reached], torch.zeros_like(out[~reached]))
    assert torch.equal(out[reached], block.b2.expand(int(reached.sum()), -1))


@pytest.mark.parametrize("act", ["gelu", "swiglu"])
@pytest.mark.parametrize("selection", ["data", "expert_choice", "expert"])
def test_gradients_equal_finite_differences(selection, act):
    factor = None if selection == "expert" else 0.6
    router = free_router(selection=selection, capacity_factor=factor, gate="probability")
    block = build_encoder(mlp_router=router, hidden_act=act).blocks[0].mlp
    names = ["w1", "b1", "w2", "b2", "router.weight"]
    values = [block.get_parameter(name).detach().clone().requires_grad_() for name in names]
    layout = build_layout(torch.tensor([[1] * 10, [0] * 3 + [1] * 7], dtype=torch.bool), 1)

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x, layout))[0]

    x = inputs(1, 17)[0].requires_grad_()
    assert torch.autograd.gradcheck(forward, (x, *values), fast_mode=True)
