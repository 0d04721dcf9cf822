"""Replaced routes: what each replacement promises, on real layouts of packed and padded examples."""

import pytest
import torch
from torch import Tensor

from tests.uoe_model.models import build_classifier, build_lm, causal_router, tokens
from uoe_model.config import RouterConfig
from uoe_model.decision import RoutingDecision
from uoe_model.errors import ConfigError
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.replacements import BalancedRandom, LogitTable, LookedUp, Permuted, Untrained, patch_keys, target_sites
from uoe_model.router import Router, RoutingOverrides

LENGTHS = (9, 4, 12)


def layout_of(patch_len: int = 1) -> RoutingLayout:
    """Three rows of 9, 4 and 12 units, padded on the right."""
    valid = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        valid[row, :length] = True
    return build_layout(valid, patch_len)


def random_logits(layout: RoutingLayout, num_experts: int = 4) -> Tensor:
    return torch.randn(layout.num_patches, num_experts, generator=torch.Generator().manual_seed(0))


def asked(logits_ME: Tensor, k: int) -> list[set[int]]:
    """The experts each patch would request."""
    return [set(row) for row in logits_ME.topk(k, dim=1).indices.tolist()]


@pytest.mark.parametrize(("num_experts", "k"), [(4, 2), (8, 2), (6, 3), (6, 1)])
def test_balanced_random_deals_every_expert_once_to_consecutive_patches(num_experts: int, k: int):
    layout = layout_of()
    config = RouterConfig(num_experts=num_experts, num_experts_per_tok=k, gate="probability")
    own = random_logits(layout, num_experts)
    logits = BalancedRandom({0: config}, seed=0)(0, own, layout, own)
    p = logits.softmax(-1)
    chosen = p.topk(k, dim=-1).values
    torch.testing.assert_close(chosen, chosen[:1, :1].expand_as(chosen))
    torch.testing.assert_close(chosen.sum(-1)[0], own.softmax(-1).topk(k, dim=-1).values.sum(-1).mean())
    experts = asked(logits, k)
    hands = num_experts // k
    for example in range(len(LENGTHS)):
        mine = [experts[patch] for patch in (layout.group_M == example).nonzero().flatten().tolist()]
        for start in range(0, len(mine), hands):
            dealt = [expert for hand in mine[start : start + hands] for expert in hand]
            assert len(dealt) == len(set(dealt)) == k * len(mine[start : start + hands])


def test_balanced_random_is_never_full_and_weighs_evenly():
    config = causal_router(capacity_factor=1.0)
    model = build_lm(attention_router=config, mlp_router=config)
    replacement = BalancedRandom(dict(enumerate(model.config.site_configs())), seed=1)
    ids = tokens(2, 40)
    own = model(input_ids=ids).decisions
    assert any(not decision.kept_NK.all() for decision in own)
    for decision in model(input_ids=ids, routing=RoutingOverrides(replace_logits=replacement)).decisions:
        assert decision.kept_NK.all()
        torch.testing.assert_close(decision.gate_NK, torch.ones_like(decision.gate_NK))
        assert torch.bincount(decision.expert_NK.flatten()).tolist() == [40, 40, 40, 40]


def test_balanced_random_needs_whole_deals():
    with pytest.raises(ConfigError, match="num_experts=5"):
        BalancedRandom({3: RouterConfig(num_experts=5, num_experts_per_tok=2)}, seed=0)


def test_draws_differ_by_seed_alone():
    layout = layout_of()
    own = random_logits(layout)
    config = RouterConfig(num_experts=4, num_experts_per_tok=2)
    drawn = [BalancedRandom({0: config}, seed)(0, own, layout, own) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_permuted_logits_stay_within_their_example():
    layout = layout_of()
    own = random_logits(layout)
    changed = Permuted(seed=0)(0, own, layout, own)
    assert not torch.equal(changed, own)
    for example in range(len(LENGTHS)):
        mine = layout.group_M == example
        assert sorted(changed[mine].tolist()) == sorted(own[mine].tolist())


def test_the_untrained_router_in_its_own_place_changes_nothing():
    model = build_classifier()
    weights = {m.site_id: m.weight.detach().clone() for m in model.modules() if isinstance(m, Router)}
    pixels = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    same = model(pixel_values=pixels, routing=RoutingOverrides(replace_logits=Untrained(weights)))
    torch.testing.assert_close(same.logits, model(pixel_values=pixels).logits)
    weights[0] = -weights[0]
    other = model(pixel_values=pixels, routing=RoutingOverrides(replace_logits=Untrained(weights)))
    assert not torch.allclose(other.logits, same.logits)


def test_the_key_of_a_patch_is_that_of_its_first_unit():
    keys_BT = torch.arange(36).view(3, 12)
    assert patch_keys(keys_BT.flatten(), layout_of(patch_len=4)).tolist() == [0, 4, 8, 12, 24, 28, 32]


def test_the_table_holds_means_and_leans_to_the_overall_mean():
    layout = build_layout(torch.ones(1, 3, dtype=torch.bool), 1)
    own = torch.tensor([[1.0, 0.0], [3.0, 0.0], [-1.0, 3.0]])
    table = LogitTable(num_keys=4)
    table.start_batch(torch.tensor([[2, 2, 0]]))
    assert torch.equal(table(5, own, layout, own), own)
    overall = torch.tensor([1.0, 1.0])
    expected = torch.stack([(own[2] + overall) / 2, overall, (own[0] + own[1] + overall) / 3, overall])
    means = table.means()
    torch.testing.assert_close(means[5], expected.double())
    looked_up = LookedUp(means)
    looked_up.start_batch(torch.tensor([[3, 0, 2]]))
    torch.testing.assert_close(looked_up(5, own, layout, own), expected[[3, 0, 2]])


def test_looked_up_routes_are_the_same_for_the_same_token():
    model = build_lm()
    table = LogitTable(num_keys=29)
    ids = tokens(4, 30)
    table.start_batch(ids)
    model(input_ids=ids, routing=RoutingOverrides(replace_logits=table))
    looked_up = LookedUp(table.means())
    looked_up.start_batch(ids)
    decisions: tuple[RoutingDecision, ...] = model(
        input_ids=ids, routing=RoutingOverrides(replace_logits=looked_up)
    ).decisions
    for decision in decisions:
        for token in ids.unique():
            experts = decision.expert_NK[ids.flatten() == token]
            assert torch.equal(experts, experts[:1].expand_as(experts))


def test_blocks_are_told_apart():
    assert target_sites("attention", 4) == {0, 2}
    assert target_sites("mlp", 4) == {1, 3}
    assert target_sites("both", 4) == {0, 1, 2, 3}
