"""MLP and attention experts in Triton compute what the plain backend computes, and touch nothing else in memory."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.uoe_model.kernels.running import (
    DEVICE,
    decision_of,
    guarded,
    inside_nan,
    largest_difference,
    layout_of,
    randn,
)
from uoe_model.attention import rotary_angles
from uoe_model.decision import RoutingDecision
from uoe_model.kernels import backend
from uoe_model.kernels.head_shape import HeadShape

WIDTH = 20
NUM_EXPERTS = 4
LAYOUT = (7, 1, 12)
KEPT = [[unit % 3, (unit + 1) % 3][: 0 if unit == 5 else 1 + unit % 2] for unit in range(19)] + [[2]]
"""Expert 3 has no row, unit 5 no expert, and batches hold odd numbers of rows; one has a single row."""

TOLERANCE = 2e-6

Forward = Callable[[RoutingDecision, list[Tensor]], Tensor]


def run(name: backend.Backend, forward: Forward, decision: RoutingDecision, values: list[Tensor]) -> list[Tensor]:
    """Output, and the gradients of the gates and of all values, of a weighted sum of it."""
    gate_NK = decision.gate_NK.clone().requires_grad_()
    leaves = [inside_nan(value).requires_grad_() for value in values]
    with backend.use_backend(name):
        out = forward(dataclasses.replace(decision, gate_NK=gate_NK), leaves)
    out.backward(randn(*out.shape, seed=9))
    found = [out.detach(), gate_NK.grad, *(leaf.grad for leaf in leaves)]
    assert all(part is not None for part in found)
    return found  # type: ignore[return-value]


def check(forward: Forward, decision: RoutingDecision, values: list[Tensor]) -> None:
    expected = run("plain", forward, decision, values)
    with guarded():
        found = run("triton", forward, decision, values)
    for part, (ours, plain) in enumerate(zip(found, expected, strict=True)):
        assert largest_difference(ours, plain) < TOLERANCE, f"part {part}"
    assert torch.equal(found[0][5], torch.zeros(WIDTH, device=DEVICE))  # no expert, no bias


def mlp_values(act: str, hidden: int = 24) -> list[Tensor]:
    columns = 2 * hidden if act == "swiglu" else hidden
    return [
        randn(len(KEPT), WIDTH),
        randn(NUM_EXPERTS, WIDTH, columns, seed=1, scale=0.3),
        randn(NUM_EXPERTS, columns, seed=2),
        randn(NUM_EXPERTS, hidden, WIDTH, seed=3, scale=0.3),
        randn(WIDTH, seed=4),
    ]


@pytest.mark.parametrize("act", ["gelu", "gelu_tanh", "swiglu"])
def test_mlp_experts(act):
    decision = decision_of(KEPT, choices=2)
    check(lambda decision, values: backend.expert_mlp(values[0], decision, *values[1:], act), decision, mlp_values(act))


def test_mlp_experts_wider_than_a_tile():
    decision = decision_of(KEPT, choices=3)
    values = mlp_values("gelu", hidden=80)
    check(lambda decision, values: backend.expert_mlp(values[0], decision, *values[1:], "gelu"), decision, values)


def attention_values(shape: HeadShape) -> list[Tensor]:
    return [
        randn(len(KEPT), WIDTH),
        randn(NUM_EXPERTS, WIDTH, shape.columns, seed=1, scale=0.3),
        randn(NUM_EXPERTS, shape.columns, seed=2, scale=0.3),
        randn(NUM_EXPERTS, shape.heads * shape.width, WIDTH, seed=3, scale=0.3),
        randn(WIDTH, seed=4),
    ]


def attend(shape: HeadShape, *, causal: bool, gate_keys: bool, rotary: bool) -> Forward:
    layout = layout_of(LAYOUT)
    rotation = rotary_angles(layout.position_N, shape.width, 100.0, torch.float32) if rotary else None

    def forward(decision: RoutingDecision, values: list[Tensor]) -> Tensor:
        x, *weights = values
        out, rows = backend.expert_attention(
            x, decision, layout, *weights, shape, rotation, causal=causal, gate_keys=gate_keys
        )
        assert rows is None
        return out

    return forward


SHAPES = {
    "one head": HeadShape(heads=1, kv_heads=1, width=8),
    "shared keys": HeadShape(heads=4, kv_heads=2, width=6),
    "wide": HeadShape(heads=1, kv_heads=1, width=40),
}


@pytest.mark.parametrize("rotary", [True, False])
@pytest.mark.parametrize("gate_keys", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_attention_experts(name, causal, gate_keys, rotary):
    shape = SHAPES[name]
    forward = attend(shape, causal=causal, gate_keys=gate_keys, rotary=rotary)
    check(forward, decision_of(KEPT, choices=2), attention_values(shape))


def test_heads_of_an_odd_width_that_are_not_rotated():
    shape = HeadShape(heads=2, kv_heads=1, width=5)
    forward = attend(shape, causal=True, gate_keys=True, rotary=False)
    check(forward, decision_of(KEPT, choices=2), attention_values(shape))


@pytest.mark.parametrize("causal", [True, False])
def test_batches_longer_than_a_tile(causal):
    lengths = (150, 1, 70)
    kept = [[unit % 3] for unit in range(sum(lengths))]
    kept[5] = []
    shape = HeadShape(heads=1, kv_heads=1, width=8)
    layout = layout_of(lengths)
    rotation = rotary_angles(layout.position_N, shape.width, 100.0, torch.float32)
    values = attention_values(shape)
    values[0] = randn(len(kept), WIDTH)

    def forward(decision: RoutingDecision, values: list[Tensor]) -> Tensor:
        x, *weights = values
        return backend.expert_attention(x, decision, layout, *weights, shape, rotation, causal=causal, gate_keys=True)[
            0
        ]

    check(forward, decision_of(kept, choices=1), values)


def test_keys_and_values_for_a_cache_are_those_of_the_plain_backend():
    shape, layout, decision = SHAPES["shared keys"], layout_of(LAYOUT), decision_of(KEPT, choices=2)
    rotation = rotary_angles(layout.position_N, shape.width, 100.0, torch.float32)
    found = {}
    for name in ("plain", "triton"):
        x, *weights = attention_values(shape)
        with backend.use_backend(name), torch.no_grad():
            _, found[name] = backend.expert_attention(
                x, decision, layout, *weights, shape, rotation, causal=True, gate_keys=False, keep_rows=True
            )
    for ours, plain in zip(found["triton"], found["plain"], strict=True):
        assert ours.shape == plain.shape == (len(KEPT), NUM_EXPERTS * shape.kv_heads, shape.width)
        assert largest_difference(ours, plain) < TOLERANCE


def test_experts_without_any_row():
    decision = decision_of([[], [], []], choices=2)
    values = mlp_values("gelu")
    values[0] = randn(3, WIDTH)
    with guarded():
        out, *gradients = run(
            "triton",
            lambda decision, values: backend.expert_mlp(values[0], decision, *values[1:], "gelu"),
            decision,
            values,
        )
    assert not any(part.any() for part in (out, *gradients))


def test_the_same_input_gives_the_same_bits():
    decision, values = decision_of(KEPT, choices=2), mlp_values("gelu")

    def forward(decision: RoutingDecision, values: list[Tensor]) -> Tensor:
        return backend.expert_mlp(values[0], decision, *values[1:], "gelu")

    first, second = (run("triton", forward, decision, values) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
