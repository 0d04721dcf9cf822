"""Overrides travel with one call: the model is not touched, and visitors can share it."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.uoe_model.models import assert_same_decisions, build_classifier, build_lm, causal_router, dropped, tokens
from uoe_model.errors import ConfigError
from uoe_model.modeling import UoEForCausalLM, UoEOutput
from uoe_model.router import RoutingOverrides

IDS = tokens(2, 40)


def configured(model: UoEForCausalLM, **changes: Any) -> UoEForCausalLM:
    """The same weights under another configuration of both routers."""
    other = build_lm(attention_router=causal_router(**changes), mlp_router=causal_router(**changes))
    other.load_state_dict(model.state_dict())
    return other


def assert_same_output(actual: UoEOutput, expected: UoEOutput) -> None:
    assert torch.equal(actual.logits, expected.logits)
    for one, other in zip(actual.decisions, expected.decisions, strict=True):
        assert_same_decisions(one, other)
        assert torch.equal(one.capacity_G, other.capacity_G)


@pytest.mark.parametrize(
    "changes",
    [
        {"capacity_factor": None},
        {"capacity_factor": 0.3},
        {"num_experts_per_tok": 3},
        {"gate": "probability"},
        {"gate": "one"},
        {"capacity_factor": 1.0, "num_experts_per_tok": 3, "gate": "probability"},
    ],
    ids=str,
)
@torch.no_grad()
def test_an_overridden_call_equals_a_model_configured_so(changes):
    model = build_lm()
    overridden = model(input_ids=IDS, routing=RoutingOverrides(**changes))
    assert_same_output(overridden, configured(model, **changes)(input_ids=IDS))
    assert not torch.equal(overridden.logits, model(input_ids=IDS).logits)


@torch.no_grad()
def test_a_single_expert_can_be_asked_for_in_a_call():
    out = build_lm()(input_ids=IDS, routing=RoutingOverrides(num_experts_per_tok=1))
    assert all(decision.expert_NK.shape[1] == 1 for decision in out.decisions)


@torch.no_grad()
def test_no_overrides_and_empty_overrides_are_the_model_as_it_is():
    model = build_lm()
    assert_same_output(model(input_ids=IDS, routing=RoutingOverrides()), model(input_ids=IDS))


@torch.no_grad()
def test_an_overridden_call_does_not_touch_the_model():
    model = build_lm()
    weights, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    before = model(input_ids=IDS)
    model(
        input_ids=IDS,
        routing=RoutingOverrides(
            capacity_factor=0.3, num_experts_per_tok=4, gate="one", replace_logits=lambda site, logits, *_: -logits
        ),
    )
    assert_same_output(model(input_ids=IDS), before)
    assert model.config.to_dict() == config
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@torch.no_grad()
def test_overrides_can_be_kept_to_some_sites():
    model = build_lm()
    plain = model(input_ids=IDS)
    assert dropped(plain.decisions[1]) > 0
    out = model(input_ids=IDS, routing=RoutingOverrides(capacity_factor=None, sites=frozenset({1})))
    assert_same_decisions(out.decisions[0], plain.decisions[0])
    assert [dropped(decision) > 0 for decision in out.decisions] == [True, False, True, True]
    assert [int(decision.capacity_G[0]) == -1 for decision in out.decisions] == [False, True, False, False]


@torch.no_grad()
def test_replaced_logits_are_what_is_routed_by_and_reported():
    model = build_lm()
    seen: dict[int, tuple[int, ...]] = {}

    def prefer_by_site(site: int, logits: Tensor, *_: Any) -> Tensor:
        seen[site] = tuple(logits.shape)
        wanted = torch.zeros_like(logits)
        wanted[:, site] = 2.0
        wanted[:, (site + 1) % 4] = 1.0
        return wanted

    out = model(input_ids=IDS, routing=RoutingOverrides(replace_logits=prefer_by_site, capacity_factor=None))
    assert seen == dict.fromkeys(range(4), (80, 4))
    for site, decision in enumerate(out.decisions):
        assert decision.expert_NK.unique(dim=0).tolist() == [[site, (site + 1) % 4]]
        assert decision.logits_NE[0, site] == 2.0
    once = model(
        input_ids=IDS,
        routing=RoutingOverrides(replace_logits=prefer_by_site, capacity_factor=None, sites=frozenset({2})),
    )
    assert once.decisions[2].expert_NK.unique(dim=0).tolist() == [[2, 3]]
    assert_same_decisions(once.decisions[0], model(input_ids=IDS).decisions[0])


@torch.no_grad()
def test_logits_replaced_by_themselves_change_nothing():
    model = build_lm()
    same = model(input_ids=IDS, routing=RoutingOverrides(replace_logits=lambda site, logits, *_: logits))
    assert_same_output(same, model(input_ids=IDS))


@torch.no_grad()
def test_an_image_model_takes_overrides_too():
    model = build_classifier()
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert sum(map(dropped, model(pixel_values=pixels).decisions)) > 0
    free = model(pixel_values=pixels, routing=RoutingOverrides(capacity_factor=None))
    assert sum(map(dropped, free.decisions)) == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_experts_per_tok": 9}, "num_experts_per_tok=9"),
        ({"capacity_factor": -1.0}, "capacity_factor=-1.0"),
        ({"gate": "loud"}, "gate='loud'"),
    ],
)
def test_overrides_that_do_not_fit_are_an_error_that_names_them(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build_lm()(input_ids=IDS, routing=RoutingOverrides(**changes))


def test_two_visitors_share_a_model_without_noticing():
    model = build_lm(dtype=torch.float32)
    wanted = [RoutingOverrides(capacity_factor=None), RoutingOverrides(num_experts_per_tok=3, gate="probability")]
    with torch.inference_mode():
        alone = [model(input_ids=IDS, routing=overrides) for overrides in wanted]
    together: list[list[UoEOutput]] = [[], []]
    start = threading.Barrier(2)

    def visit(visitor: int) -> None:
        start.wait()
        with torch.inference_mode():
            for _ in range(10):
                together[visitor].append(model(input_ids=IDS, routing=wanted[visitor]))

    threads = [threading.Thread(target=visit, args=(visitor,)) for visitor in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for visitor in (0, 1):
        assert len(together[visitor]) == 10
        for out in together[visitor]:
            assert_same_output(out, alone[visitor])
