"""On a GPU: errors against float64 in all types and lengths, no waiting for the device, few launches, graphs.

What is checked here was not run on a GPU yet; how it is checked runs on a CPU too, in float32 and short.
"""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.uoe_model.kernels.running import DEVICE, randn
from tests.uoe_model.models import causal_router, free_router, randomised
from uoe_model.config import RouterConfig, UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.kernels import backend
from uoe_model.kernels.triton_router import route
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.modeling import Block, UoEModel
from uoe_model.router import decide

LARGEST_ERROR = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2.5e-2}
"""Norm of the difference from float64, as a share of the norm; a few roundings of each type."""


def build_block(length: int, *, width: int = 256, causal: bool = True, gate: str = "mean_one") -> UoEModel:
    """One layer of the project's configuration: top-4 of 8 attention experts, top-2 of 8 MLP experts."""
    router = causal_router if causal else free_router
    common = {"num_experts": 8, "capacity_factor": 1.0, "gate": gate}
    config = UoEConfig(
        vocab_size=8,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=8,
        intermediate_size=4 * width,
        is_causal=causal,
        max_position_embeddings=max(length, 2),
        position_embedding="rotary",
        attention_router=router(**common, num_experts_per_tok=4, gate_keys=True),
        mlp_router=router(**common, num_experts_per_tok=2),
    )
    model = randomised(UoEModel(config), 0, torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "router" not in name:
                parameter.mul_(0.1)
    return model.to(DEVICE)


def layout_of_length(length: int, *, rows: int = 2) -> RoutingLayout:
    """Examples of the length given and of two thirds of it."""
    valid = torch.ones(rows, length, dtype=torch.bool, device=DEVICE)
    valid[1:, max(1, 2 * length // 3) :] = False
    return build_layout(valid, 1)


def through_experts(
    model: UoEModel, layout: RoutingLayout, decisions: list[RoutingDecision], x: Tensor, name: backend.Backend
) -> list[Tensor]:
    """Outputs of both kinds of experts for fixed requests, and gradients of input, gates and weights."""
    dtype, block = x.dtype, model.blocks[0]
    leaves = {"x": x.clone().requires_grad_()}
    for key in ("w_qkv", "b_qkv", "w_o", "b_o"):
        leaves[key] = getattr(block.attention, key).detach().to(dtype).requires_grad_()
    for key in ("w1", "b1", "w2", "b2"):
        leaves[key] = getattr(block.mlp, key).detach().to(dtype).requires_grad_()
    gates = [decision.gate_NK.to(torch.promote_types(dtype, torch.float32)) for decision in decisions]
    gates = [gate.clone().requires_grad_() for gate in gates]
    attention, mlp = (
        dataclasses.replace(decision, gate_NK=gate) for decision, gate in zip(decisions, gates, strict=True)
    )
    x, w_qkv, b_qkv, w_o, b_o, w1, b1, w2, b2 = leaves.values()
    with backend.use_backend(name):
        attended, _ = backend.expert_attention(
            x,
            attention,
            layout,
            w_qkv,
            b_qkv,
            w_o,
            b_o,
            block.attention.shape,
            model.rotation(layout, dtype),
            causal=block.attention.is_causal,
            gate_keys=True,
        )
        transformed = backend.expert_mlp(x, mlp, w1, b1, w2, b2, block.mlp.act)
    weights = randn(*x.shape, seed=7).to(dtype)
    ((attended * weights).sum() + (transformed * weights).sum()).backward()
    return [attended.detach(), transformed.detach(), *(leaf.grad for leaf in [*leaves.values(), *gates])]


def check_errors(length: int, dtype: torch.dtype, gate: Any, *, causal: bool, width: int = 256) -> None:
    model, layout = build_block(length, width=width, causal=causal, gate=gate), layout_of_length(length)
    x = randn(layout.num_units, width).to(dtype)
    with torch.no_grad(), backend.use_backend("plain"):
        routers = (model.blocks[0].attention.router, model.blocks[0].mlp.router)
        decisions = [router(x.double(), layout, causal=causal) for router in routers]
    rounded = model.to(dtype).double()  # both compute with the same weights
    expected = through_experts(rounded, layout, decisions, x.double(), "plain")
    found = through_experts(rounded, layout, decisions, x, "triton")
    for part, (ours, exact) in enumerate(zip(found, expected, strict=True)):
        assert torch.isfinite(ours).all(), f"part {part}"
        scale = float(exact.norm())
        error = float((ours.double() - exact).norm()) / scale if scale else float(ours.double().norm())
        assert error < LARGEST_ERROR[dtype], f"part {part}: {error}"


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize("dtype", LARGEST_ERROR, ids=str)
@pytest.mark.parametrize("length", [1, 2, 17, 64, 255, 1024, 4097, 8192])
def test_errors_against_float64(length, dtype, gate, causal):
    check_errors(length, dtype, gate, causal=causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 17])
def test_how_errors_are_measured_on_a_gpu(length, causal):
    check_errors(length, torch.float32, "mean_one", causal=causal, width=64)


def check_routes(config: RouterConfig, layout: RoutingLayout) -> None:
    """The same choices; admission may differ where probabilities of two units differ by rounding."""
    logits = randn(layout.num_patches, config.num_experts)
    found, expected = route(logits, config, layout), decide(logits, config, layout)
    assert (found.expert_NK != expected.expert_NK).float().mean() < 1e-4
    assert (found.kept_NK != expected.kept_NK).float().mean() < 1e-3
    assert torch.equal(found.capacity_G, expected.capacity_G)


@pytest.mark.gpu
@pytest.mark.parametrize("length", [1, 1023, 1025, 8192])
@pytest.mark.parametrize("admission", ["score", "position"])
@pytest.mark.parametrize("factor", [None, 0.5, 1.0])
def test_routes_of_long_inputs(length, admission, factor):
    config = RouterConfig(num_experts=16, num_experts_per_tok=4, admission=admission, capacity_factor=factor)
    check_routes(config, layout_of_length(length))


def forward(block: Block, x: Tensor, layout: RoutingLayout, rotation: Any) -> Tensor:
    with backend.use_backend("triton"), torch.inference_mode():
        out: Tensor = block(x, layout, rotation, None, None)[0]
    return out


@pytest.mark.gpu
def test_a_block_never_waits_for_the_device_and_needs_few_launches():
    model, layout = build_block(1024).bfloat16(), layout_of_length(1024)
    block, x = model.blocks[0], randn(layout.num_units, 256).bfloat16()
    rotation = model.rotation(layout, torch.bfloat16)
    first = forward(block, x, layout, rotation)  # compiles, and measures the layout once
    torch.cuda.set_sync_debug_mode("error")
    try:
        second = forward(block, x, layout, rotation)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(first, second)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        forward(block, x, layout, rotation)
        torch.cuda.synchronize()
    launched = [event for event in profile.events() if "memcpy" not in event.name.lower()]
    assert 0 < len(launched) <= 24, [event.name for event in launched]


@pytest.mark.gpu
def test_a_captured_graph_computes_the_same():
    model, layout = build_block(256).bfloat16(), layout_of_length(256)
    block, rotation = model.blocks[0], model.rotation(layout, torch.bfloat16)
    inputs = [randn(layout.num_units, 256, seed=seed).bfloat16() for seed in range(2)]
    expected = [forward(block, x, layout, rotation) for x in inputs]
    static = inputs[0].clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = forward(block, static, layout, rotation)
    for x, wanted in zip(inputs, expected, strict=True):
        static.copy_(x)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(out, wanted)
