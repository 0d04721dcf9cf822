"""Causal means causal: no earlier output knows a later token, at tight capacity and with trained weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.uoe_model.models import (
    CAUSAL_VARIANTS,
    assert_same_decisions,
    build_lm,
    causal_router,
    dropped,
    tokens,
    units_of,
)
from uoe_model.config import UoEConfig
from uoe_model.modeling import UoEForCausalLM
from uoe_model.router import RoutingOverrides

TRAINED = Path(__file__).parents[2] / "uoe_model" / "pretrained" / "uoe-text"


def check_causal(model: UoEForCausalLM, ids: Tensor, cut: int, overrides: RoutingOverrides | None = None) -> None:
    """Replace or remove everything from `cut` on: nothing before it may change."""
    before = model(input_ids=ids, routing=overrides)
    assert all(dropped(decision) > 0 for decision in before.decisions)
    other = ids.clone()
    other[:, cut:] = (ids[:, cut:] + 11) % model.config.vocab_size
    for changed in (other, ids[:, :cut]):
        after = model(input_ids=changed, routing=overrides)
        scale = before.logits.abs().max()
        assert (after.logits[:, :cut] - before.logits[:, :cut]).abs().max() <= 1e-12 * scale
        for old, new in zip(before.decisions, after.decisions, strict=True):
            assert_same_decisions(units_of(new, first_columns(changed, cut)), units_of(old, first_columns(ids, cut)))


def first_columns(ids: Tensor, cut: int) -> Tensor:
    return torch.cat([torch.arange(cut) + row * ids.shape[1] for row in range(ids.shape[0])])


@pytest.mark.parametrize("variant", CAUSAL_VARIANTS, ids=str)
@torch.no_grad()
def test_later_tokens_change_no_earlier_output_at_tight_capacity(variant):
    routers = {
        "attention_router": causal_router(**variant, capacity_factor=0.4),
        "mlp_router": causal_router(**variant | {"gate_keys": False}, capacity_factor=0.4, num_experts=8),
    }
    model = build_lm(**routers, num_hidden_layers=3)
    for seed, cut in enumerate((1, 6, 37, 38, 39, 40, 59)):
        check_causal(model, tokens(2, 60, seed=seed), cut)


def test_no_gradient_flows_from_an_earlier_output_to_a_later_input():
    model = build_lm(attention_router=causal_router(patch_len=4), mlp_router=causal_router(patch_len=4))
    x = model.model.embed(tokens(1, 30)).detach().requires_grad_()
    model(inputs_embeds=x).logits[0, :18].sum().backward()
    assert bool((x.grad[0, :18].abs().sum(-1) > 0).all())
    assert not x.grad[0, 18:].any()


@pytest.mark.skipif(not (TRAINED / "model.safetensors").exists(), reason="no bundled text checkpoint yet")
@pytest.mark.parametrize("patch_len", [1, 4])
@torch.no_grad()
def test_the_trained_model_is_causal_at_tight_capacity(patch_len):
    config = UoEConfig.from_pretrained(TRAINED)
    config.attention_router["patch_len"] = config.mlp_router["patch_len"] = patch_len
    model = UoEForCausalLM.from_pretrained(TRAINED, config=config, dtype=torch.float64).eval()
    ids = tokens(2, 128, seed=5, vocab_size=config.vocab_size)
    for cut in (50, 90):
        check_causal(model, ids, cut, RoutingOverrides(capacity_factor=0.5))
