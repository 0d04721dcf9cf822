"""Router losses by their formulas, and how the parts make up the loss."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.oracles.routing import decisions_of, examples_of, softmax, top_k
from tests.uoe_model.models import (
    build_classifier,
    build_encoder,
    build_lm,
    causal_router,
    free_router,
    pad,
    rule_of,
    tokens,
)
from uoe_model.config import RouterConfig
from uoe_model.decision import RoutingDecision
from uoe_model.layout import RoutingLayout, build_layout
from uoe_model.losses import load_balancing_loss, next_token_loss, router_z_loss
from uoe_model.router import decide

VALID = [[1] * 14, [0] * 5 + [1] * 9, [1] * 3 + [0] * 11]


def random_decision(config: RouterConfig, seed: int) -> tuple[RoutingDecision, RoutingLayout, list[list[list[float]]]]:
    """A decision over three padded rows; the logits per example and patch beside it."""
    layout = build_layout(torch.tensor(VALID, dtype=torch.bool), config.patch_len)
    rule = rule_of(config, causal=False)
    counts = [len(decisions_of(example, rule)) for example in examples_of(VALID)]
    logits = np.random.default_rng(seed).normal(size=(sum(counts), config.num_experts)) * 2
    patches = layout.whole_examples if config.selection == "expert" else layout
    by_example = np.split(logits, np.cumsum(counts)[:-1])
    return decide(torch.from_numpy(logits), config, patches), layout, [part.tolist() for part in by_example]


def balance_of(patches: list[list[float]], config: RouterConfig) -> float:
    """E * sum over experts of (share of requests) * (mean probability)."""
    total = 0.0
    probabilities = [softmax(row) for row in patches]
    for expert in range(config.num_experts):
        asked = sum(expert in top_k(row, config.num_experts_per_tok) for row in probabilities)
        share = asked / (len(patches) * config.num_experts_per_tok)
        total += share * sum(row[expert] for row in probabilities) / len(patches)
    return config.num_experts * total


@pytest.mark.parametrize("patch_len", [1, 4])
@pytest.mark.parametrize("factor", [None, 0.5])
def test_the_balance_loss_counts_requests_of_patches_before_capacity(factor, patch_len):
    config = RouterConfig(num_experts=5, num_experts_per_tok=2, capacity_factor=factor, patch_len=patch_len)
    for seed in range(5):
        decision, layout, examples = random_decision(config, seed)
        batch = load_balancing_loss(decision, config, layout, scope="batch")
        assert batch.item() == pytest.approx(balance_of([row for rows in examples for row in rows], config))
        sequence = load_balancing_loss(decision, config, layout, scope="sequence")
        assert sequence.item() == pytest.approx(np.mean([balance_of(rows, config) for rows in examples]))


def test_the_balance_loss_of_sample_wise_selection_counts_examples():
    config = RouterConfig(selection="expert", num_experts=5, num_experts_per_tok=2)
    decision, layout, examples = random_decision(config, 0)
    loss = load_balancing_loss(decision, config, layout, scope="batch")
    assert loss.item() == pytest.approx(balance_of([rows[0] for rows in examples], config))


def test_the_balance_loss_is_one_when_routing_is_even_and_larger_when_it_is_not():
    config = RouterConfig(num_experts=4, num_experts_per_tok=2)
    layout = build_layout(torch.ones(1, 4, dtype=torch.bool), 1)
    even = 0.01 * (torch.eye(4, dtype=torch.float64) + torch.eye(4, dtype=torch.float64).roll(1, 1))
    loss = load_balancing_loss(decide(even, config, layout), config, layout)
    assert loss.item() == pytest.approx(1.0)
    crowded = torch.tensor([[3.0, 2.0, 0.0, 0.0]]).expand(4, -1)
    assert load_balancing_loss(decide(crowded, config, layout), config, layout).item() > 1.5


@pytest.mark.parametrize("patch_len", [1, 4])
def test_the_z_loss_is_the_mean_square_of_the_log_partition_function_over_patches(patch_len):
    config = RouterConfig(num_experts=5, num_experts_per_tok=2, patch_len=patch_len)
    decision, layout, examples = random_decision(config, 0)
    rows = np.array([row for rows in examples for row in rows])
    expected = np.mean(np.log(np.exp(rows).sum(-1)) ** 2)
    assert router_z_loss(decision, layout).item() == pytest.approx(expected)


def test_the_next_token_loss_skips_ignored_labels_and_document_borders():
    logits = torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[3, 1, -100, 4, 5, 6]])
    documents = torch.tensor([[0, 0, 0, 0, 1, 1]])
    nats = -logits.log_softmax(-1)[0]
    assert next_token_loss(logits, labels, documents).item() == pytest.approx(
        ((nats[0, 1] + nats[2, 4] + nats[4, 6]) / 3).item()
    )
    assert next_token_loss(logits, labels).item() == pytest.approx(
        ((nats[0, 1] + nats[2, 4] + nats[3, 5] + nats[4, 6]) / 4).item()
    )


@torch.no_grad()
def test_the_loss_is_cross_entropy_plus_router_losses_summed_over_sites():
    for balance, z in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.2)):
        model = build_lm(router_aux_loss_coef=balance, router_z_loss_coef=z)
        ids, mask = pad([tokens(30), tokens(12, seed=1)], "right")
        out = model(input_ids=ids, attention_mask=mask, labels=ids)
        sites = 2 * model.config.num_hidden_layers
        expected = out.cross_entropy + sites * (balance * out.balance_loss + z * out.z_loss)
        assert out.loss.item() == pytest.approx(expected.item())
        real = mask.bool()[:, 1:]
        nats = F.cross_entropy(out.logits[:, :-1][real].float(), ids[:, 1:][real])
        assert out.cross_entropy.item() == pytest.approx(nats.item(), rel=1e-5)


@torch.no_grad()
def test_the_models_router_losses_are_means_over_sites():
    model = build_lm(mlp_router=causal_router(num_experts=8), attention_router=causal_router())
    ids = tokens(2, 30)
    out = model(input_ids=ids, labels=ids)
    layout = build_layout(torch.ones(2, 30, dtype=torch.bool), 1)
    pairs = list(zip(out.decisions, model.config.site_configs(), strict=True))
    balance = [load_balancing_loss(decision, config, layout).item() for decision, config in pairs]
    assert out.balance_loss.item() == pytest.approx(np.mean(balance))
    z = [router_z_loss(decision, layout).item() for decision, _ in pairs]
    assert out.z_loss.item() == pytest.approx(np.mean(z))


def test_without_labels_there_is_no_loss():
    out = build_lm()(input_ids=tokens(1, 8))
    assert out.loss is None
    assert out.cross_entropy is None


def test_expert_choice_is_even_by_construction_and_has_no_balance_loss():
    router = free_router(selection="expert_choice")
    model = build_classifier(attention_router=router, mlp_router=router)
    out = model(pixel_values=torch.randn(2, 3, 8, 8, dtype=torch.float64), labels=torch.tensor([0, 1]))
    assert out.balance_loss.item() == 0
    assert torch.isfinite(out.loss)


def test_balance_loss_alone_spreads_the_load():
    model = build_encoder(
        attention_router=free_router(capacity_factor=None), mlp_router=free_router(capacity_factor=None)
    )
    routers = [part.router.weight for block in model.blocks for part in (block.attention, block.mlp)]
    optimizer = torch.optim.Adam(routers, lr=0.05)
    ids = tokens(4, 32)
    losses = []
    for _ in range(30):
        loss, _ = model.router_losses(model.encode(input_ids=ids))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] - 1 < 0.5 * (losses[0] - 1)
