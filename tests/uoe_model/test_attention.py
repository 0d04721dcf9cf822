"""SMHA: the slow loop, and what gates, positions and the bias mean."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.oracles import blocks
from tests.oracles.routing import examples_of, route_inputs
from tests.uoe_model.models import (
    CAUSAL_VARIANTS,
    array,
    assert_routes,
    build_encoder,
    build_lm,
    causal_router,
    dense_attention,
    free_router,
    rule_of,
)
from uoe_model.attention import SMHA, rotary_angles
from uoe_model.decision import RoutingDecision
from uoe_model.layout import build_layout
from uoe_model.modeling import UoEModel

VALID = [[1] * 20, [0] * 6 + [1] * 14, [1] * 9 + [0] * 11]


def inputs(rows: int, columns: int, *, seed: int = 0, width: int = 16) -> Tensor:
    return torch.randn(rows, columns, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attend(model: UoEModel, x: Tensor, valid: list[list[int]]) -> tuple[Tensor, RoutingDecision]:
    """The first layer's attention alone, on the flat grid of units."""
    block: SMHA = model.blocks[0].attention
    layout = build_layout(torch.tensor(valid, dtype=torch.bool), block.router.config.patch_len)
    theta = model.config.rope_theta
    rotation = None
    if model.config.position_embedding == "rotary":
        rotation = rotary_angles(layout.position_N, block.shape.width, theta, x.dtype)
    out, decision = block(layout.select(x), layout, rotation)
    return layout.spread(out), decision.spread(layout)


def check_against_loop(model: UoEModel) -> None:
    block, causal = model.blocks[0].attention, model.config.is_causal
    x = inputs(3, 20)
    out, decision = attend(model, x, VALID)
    flat, examples = array(x.flatten(0, 1)), examples_of(VALID)
    routes = route_inputs(flat, array(block.router.weight), examples, rule_of(block.router.config, causal=causal))
    theta = model.config.rope_theta if model.config.position_embedding == "rotary" else None
    expected = blocks.attention(
        flat,
        examples,
        routes,
        dense_attention(block, theta),
        num_experts=block.num_experts,
        causal=causal,
        gate_keys=block.gate_keys,
    )
    assert_routes(decision, routes, 60)
    np.testing.assert_allclose(array(out), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("variant", CAUSAL_VARIANTS, ids=str)
def test_causal_attention_equals_the_loop(variant):
    mlp_router = causal_router(patch_len=variant["patch_len"])
    check_against_loop(build_lm(attention_router=causal_router(**variant), mlp_router=mlp_router).model)


@pytest.mark.parametrize("gate_keys", [False, True])
@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize("position", ["rotary", "learned"])
@pytest.mark.parametrize(
    "router",
    [
        free_router(),
        free_router(capacity_factor=None, num_experts=2),
        free_router(patch_len=3),
        free_router(selection="expert_choice"),
        free_router(selection="expert", capacity_factor=None),
    ],
    ids=["score", "two-heads-each", "patches", "expert_choice", "expert"],
)
def test_attention_that_looks_ahead_equals_the_loop(router, gate, gate_keys, position):
    router = router | {"gate": gate, "gate_keys": gate_keys}
    other = free_router(patch_len=router.get("patch_len", 1))
    check_against_loop(build_encoder(attention_router=router, mlp_router=other, position_embedding=position))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("gate_keys", [False, True])
def test_heads_that_share_keys_and_have_their_own_width_equal_the_loop(causal, gate_keys):
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6}
    if causal:
        router = causal_router(num_experts=2, capacity_factor=0.75, gate_keys=gate_keys, gate="probability")
        check_against_loop(build_lm(attention_router=router | {"num_experts_per_tok": 1}, **heads).model)
    else:
        router = free_router(num_experts=4, gate_keys=gate_keys)
        check_against_loop(build_encoder(attention_router=router, **heads))


@pytest.mark.parametrize("selection", ["data", "expert_choice"])
def test_key_gates_change_nothing_at_gate_one_and_something_otherwise(selection):
    x = inputs(1, 20)
    for gate, is_same in (("one", True), ("probability", False)):
        routers = (free_router(selection=selection, gate=gate, gate_keys=on) for on in (False, True))
        plain, keyed = (attend(build_encoder(attention_router=router), x, [[1] * 20]) for router in routers)
        assert torch.equal(plain[1].kept_NK, keyed[1].kept_NK)
        assert torch.allclose(plain[0], keyed[0], rtol=0, atol=1e-12) == is_same


def test_units_that_no_expert_kept_get_nothing_and_others_the_bias_once():
    model = build_encoder(attention_router=free_router(capacity_factor=0.5, gate="one"))
    block = model.blocks[0].attention
    with torch.no_grad():
        block.w_o.zero_()
    out, decision = attend(model, inputs(1, 20), [[1] * 20])
    reached = decision.kept_NK.any(-1)
    assert 0 < reached.sum() < 20
    assert bool((decision.kept_NK.sum(-1) == 2).any())
    assert torch.equal(out[~reached], torch.zeros_like(out[~reached]))
    assert torch.equal(out[reached], block.b_o.expand(int(reached.sum()), -1))


@pytest.mark.parametrize("shared_keys", [False, True])
@pytest.mark.parametrize("gate_keys", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_equal_finite_differences(causal, gate_keys, shared_keys, monkeypatch):
    monkeypatch.setattr("uoe_model.kernels.plain_rows.CHUNK_BYTES", 20_000)  # several chunks of experts
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4} if shared_keys else {}
    if causal:
        model = build_lm(attention_router=causal_router(capacity_factor=0.4, gate_keys=gate_keys), **heads).model
    else:
        model = build_encoder(attention_router=free_router(gate_keys=gate_keys), **heads)
    block = model.blocks[0].attention
    valid = [[1] * 10, [0] * 3 + [1] * 7]
    names = ["w_qkv", "b_qkv", "w_o", "b_o", "router.weight"]
    values = [block.get_parameter(name).detach().clone().requires_grad_() for name in names]
    layout = build_layout(torch.tensor(valid, dtype=torch.bool), 1)
    rotation = rotary_angles(layout.position_N, block.shape.width, 10_000.0, torch.float64)

    def forward(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(block, named, (x, layout, rotation))[0]

    x = inputs(1, 17)[0].requires_grad_()
    assert torch.autograd.gradcheck(forward, (x, *values), fast_mode=True)
