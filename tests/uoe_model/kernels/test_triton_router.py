"""The router in two launches decides what `uoe_model.router.decide` decides, and numbers the rows that follow."""

import pytest
import torch

from tests.uoe_model.kernels.running import (
    DEVICE,
    LENGTHS,
    check_slots,
    decision_of,
    guarded,
    largest_difference,
    layout_of,
    randn,
)
from tests.uoe_model.models import causal_router, free_router
from uoe_model.config import RouterConfig
from uoe_model.errors import ConfigError
from uoe_model.kernels import backend
from uoe_model.kernels.triton_router import route
from uoe_model.kernels.triton_slots import slots_of_decision
from uoe_model.layout import RoutingLayout
from uoe_model.router import decide

ROUTERS = {
    "never full": free_router(capacity_factor=None),
    "score": free_router(capacity_factor=0.7),
    "score, all experts": free_router(num_experts=3, num_experts_per_tok=3, capacity_factor=0.5),
    "score, one expert": free_router(num_experts_per_tok=1, gate="probability"),
    "position": causal_router(num_experts=2, num_experts_per_tok=1, capacity_factor=0.6, gate="probability"),
    "position, odd": causal_router(num_experts=5, num_experts_per_tok=2, capacity_factor=1.1),
}


def check_route(config: RouterConfig, layout: RoutingLayout, logits: torch.Tensor) -> None:
    patches = layout.whole_examples if config.selection == "expert" else layout
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = decide(plain, config, patches)
    with guarded():
        found = route(ours, config, patches)
    assert torch.equal(found.expert_NK, expected.expert_NK)
    assert torch.equal(found.kept_NK, expected.kept_NK)
    assert torch.equal(found.capacity_G, expected.capacity_G)
    torch.testing.assert_close(found.gate_NK, expected.gate_NK, rtol=1e-6, atol=1e-7)
    assert found.slots is not None
    check_slots(found.slots, found, config.num_experts, layout.group_N)
    if expected.gate_NK.requires_grad:
        weights = randn(*expected.gate_NK.shape, seed=5)
        (expected.gate_NK * weights).sum().backward()
        (found.gate_NK * weights).sum().backward()
        assert plain.grad is not None
        assert ours.grad is not None
        assert largest_difference(ours.grad, plain.grad) < 1e-5


@pytest.mark.parametrize("gate", ["mean_one", "probability", "one"])
@pytest.mark.parametrize("name", ROUTERS)
def test_requests_slots_and_gates_are_those_of_the_definition(name, gate):
    router = ROUTERS[name]
    if router.get("num_experts_per_tok") == 1 and gate == "mean_one":
        gate = "probability"
    config = RouterConfig(**router | {"gate": gate})
    layout = layout_of(pad_left=True)
    check_route(config, layout, randn(layout.num_patches, config.num_experts))


@pytest.mark.parametrize("name", ["never full", "score", "position, odd"])
def test_patches_of_several_units_are_decided_together(name):
    config = RouterConfig(**ROUTERS[name] | {"patch_len": 3})
    layout = layout_of((7, 1, 12, 2), patch_len=3)
    check_route(config, layout, randn(layout.num_patches, config.num_experts))


def test_whole_examples_are_decided_together():
    config = RouterConfig(**free_router(selection="expert", capacity_factor=None))
    check_route(config, layout_of(), randn(len(LENGTHS), config.num_experts))


@pytest.mark.parametrize("name", ["never full", "score", "position, odd"])
def test_ties_go_to_the_lower_expert_and_the_lower_position(name):
    config = RouterConfig(**ROUTERS[name])
    layout = layout_of()
    check_route(config, layout, torch.zeros(layout.num_units, config.num_experts, device=DEVICE))
    coarse = randn(layout.num_units, config.num_experts).round()
    check_route(config, layout, coarse)


@pytest.mark.parametrize("admission", ["score", "position"])
def test_examples_longer_than_what_a_program_sees_at_once(admission, monkeypatch):
    monkeypatch.setattr("uoe_model.kernels.triton_slots._CHUNK", 16)
    router = free_router(capacity_factor=0.6) if admission == "score" else causal_router(capacity_factor=0.6)
    config = RouterConfig(**router)
    layout = layout_of((53, 3, 40))
    logits = randn(layout.num_units, config.num_experts)
    logits[:, 0] += 1  # one expert is full early
    check_route(config, layout, logits)


def test_probabilities_that_underflow_are_still_requests():
    config = RouterConfig(**free_router(capacity_factor=0.6, gate="probability"))
    layout = layout_of()
    logits = randn(layout.num_units, config.num_experts)
    logits[:, 1] -= 300
    logits[:, 2] -= 300
    check_route(config, layout, logits)


@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
def test_logits_that_are_no_numbers_stay_inside_the_memory():
    config = RouterConfig(**free_router())
    layout = layout_of()
    with guarded():
        found = route(torch.full((layout.num_units, config.num_experts), torch.nan, device=DEVICE), config, layout)
    assert 0 <= int(found.expert_NK.min()) <= int(found.expert_NK.max()) < config.num_experts


@pytest.mark.parametrize("is_apart", [True, False])
def test_slots_of_decisions_that_came_without_them(is_apart):
    layout = layout_of()
    kept = [[unit % 3, 3][: unit % 4] for unit in range(layout.num_units)]
    decision = decision_of(kept, choices=3)
    slots = slots_of_decision(decision, 5, layout if is_apart else None)
    groups = layout.group_N if is_apart else torch.zeros_like(layout.group_N)
    check_slots(slots, decision, 5, groups)


def test_what_no_kernel_knows_is_left_to_plain_pytorch():
    layout = layout_of()
    logits = randn(layout.num_units, 4)
    with backend.use_backend("triton"):
        assert backend.route(logits, RouterConfig(**free_router(selection="expert_choice")), layout) is None
        assert backend.route(logits.double(), RouterConfig(**free_router()), layout) is None
        assert backend.route(logits, RouterConfig(**free_router()), layout) is not None
    with backend.use_backend("plain"):
        assert backend.route(logits, RouterConfig(**free_router()), layout) is None


def test_asking_for_triton_where_it_cannot_run_says_so(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="CUDA device"), backend.use_backend("triton"):
        pass


@pytest.mark.skipif(DEVICE.type == "cuda", reason="launches on a GPU are counted by a profiler, in test_triton_gpu")
@pytest.mark.parametrize("admission", ["score", "position"])
def test_a_site_needs_two_launches(admission, monkeypatch):
    from triton.runtime.interpreter import GridExecutor

    launched = []
    run = GridExecutor.__call__

    def count(self, *values, **named):
        launched.append(self.fn.__name__)
        return run(self, *values, **named)

    monkeypatch.setattr(GridExecutor, "__call__", count)
    router = free_router() if admission == "score" else causal_router()
    layout = layout_of()
    with backend.use_backend("triton"):
        decision = backend.route(randn(layout.num_units, 4), RouterConfig(**router), layout)
    assert decision.slots is not None
    assert launched == ["_choose_kernel", "_place_kernel"]
