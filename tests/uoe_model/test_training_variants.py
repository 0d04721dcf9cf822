"""The variants of the comparison: what differs between them, and that nothing else does."""

import dataclasses
from pathlib import Path

import pytest
import torch

import uoe_model.training
from tests.uoe_model.models import randomised, tokens
from tests.uoe_model.test_modeling_dense import dense_stack
from tests.uoe_model.training_data import image_settings, text_settings
from uoe_model.errors import ConfigError
from uoe_model.modeling import UoEForCausalLM
from uoe_model.training.cost import multiply_adds
from uoe_model.training.settings import Kind, Training, load_settings
from uoe_model.training.switch import switch_config
from uoe_model.training.variants import variant_settings, variants_of


def shipped(kind: Kind) -> Training:
    return load_settings(kind, Path(uoe_model.training.__file__).parent / f"comparison_{kind}.json")


def test_dense_is_exactly_the_transformer_without_experts():
    config = variant_settings(text_settings(), "text", "dense", 0).build_config()
    model = randomised(UoEForCausalLM(config), 0, torch.float64)
    ids = tokens(1, 20)
    expected = model.lm_head(dense_stack(model.model, ids[0]))
    torch.testing.assert_close(model(input_ids=ids).logits[0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_variants_differ_in_routing_and_seed_alone(kind: Kind):
    base = image_settings() if kind == "image" else text_settings()
    routing = {"attention_router", "mlp_router", "router_aux_loss_coef", "router_z_loss_coef", "intermediate_size"}
    for variant in variants_of(kind):
        own = variant_settings(base, kind, variant, 7)
        assert own.seed == 7
        assert own.frozen_routers == (variant == "frozen")
        same = dataclasses.replace(own, model=base.model, seed=base.seed, frozen_routers=False, mlp_block="union")
        assert same == base
        changed = {name for name in own.model if own.model[name] != base.model.get(name)}
        assert changed <= routing
        assert (variant in ("data", "frozen")) == (not changed)
        own.build_config()


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_switch_expert_is_as_large_as_the_experts_a_unit_requests(kind: Kind):
    base = shipped(kind)
    costs = {}
    for variant in ("data", "switch"):
        config = variant_settings(base, kind, variant, 0).build_config()
        rows = multiply_adds(config, units=64, kept_share={"attention": 1.0, "mlp": 1.0})
        costs[variant] = {row.part: row.requested for row in rows}
    assert costs["switch"]["mlp"] == costs["data"]["mlp"]
    config = variant_settings(base, kind, "switch", 0).build_config()
    assert switch_config(config, units=64).expert_capacity == 10  # ceil(1.25 * 64 / 8)


@pytest.mark.parametrize(
    ("variant", "words"), [("expert_choice", "not causal"), ("expert", "not causal"), ("x", "none")]
)
def test_what_text_cannot_be_is_refused_with_the_reason(variant: str, words: str):
    with pytest.raises(ConfigError, match=words):
        variant_settings(text_settings(), "text", variant, 0)
