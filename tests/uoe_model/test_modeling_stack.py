"""The whole model: against the loop, its gradients, and as a Hugging Face citizen."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

from tests.uoe_model.models import (
    array,
    assert_routes,
    build_classifier,
    build_encoder,
    build_lm,
    causal_router,
    dropped,
    free_router,
    pad,
    run_slowly,
    tokens,
)
from uoe_model.config import UoEConfig
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification, UoEModel


@pytest.mark.parametrize("act", ["gelu", "swiglu"])
@pytest.mark.parametrize("position", ["rotary", "learned"])
@pytest.mark.parametrize("patch_len", [1, 4])
@torch.no_grad()
def test_the_language_model_equals_the_loop(patch_len, position, act):
    model = build_lm(
        attention_router=causal_router(gate_keys=True, patch_len=patch_len),
        mlp_router=causal_router(num_experts=8, gate="probability", patch_len=patch_len),
        position_embedding=position,
        hidden_act=act,
    )
    rows = [tokens(24, seed=1), tokens(15, seed=2)]
    for side in ("left", "right"):
        ids, mask = pad(rows, side)
        out = model(input_ids=ids, attention_mask=mask)
        x = array(model.model.embed(ids).flatten(0, 1))
        if position == "learned":
            places = (mask.cumsum(1) - 1).clamp_min(0)
            x = x + array(model.model.embed_position(places).flatten(0, 1))
        hidden, sites = run_slowly(model.model, x, mask.tolist())
        for decision, routes in zip(out.decisions, sites, strict=True):
            assert_routes(decision, routes, ids.numel())
        logits = (hidden @ array(model.lm_head.weight).T).reshape(2, 24, -1)
        real = mask.bool().numpy()
        np.testing.assert_allclose(array(out.logits)[real], logits[real], rtol=1e-8, atol=1e-8)
        assert sum(map(dropped, out.decisions)) > 0


@pytest.mark.parametrize(
    ("attention", "mlp"),
    [
        ({}, {"gate": "probability"}),
        ({"gate_keys": True, "gate": "probability"}, {"selection": "expert_choice"}),
        ({"selection": "expert_choice", "gate_keys": True}, {"selection": "expert", "capacity_factor": None}),
        ({"selection": "expert", "capacity_factor": None}, {}),
    ],
)
@pytest.mark.parametrize("patch_len", [1, 3])
@torch.no_grad()
def test_the_encoder_equals_the_loop(attention, mlp, patch_len):
    routers = [free_router(**fields, patch_len=patch_len) for fields in (attention, mlp)]
    model = build_encoder(attention_router=routers[0], mlp_router=routers[1])
    ids, mask = pad([tokens(19, seed=1), tokens(8, seed=2)], "left")
    out = model.encode(input_ids=ids, attention_mask=mask)
    hidden, sites = run_slowly(model, array(model.embed(ids).flatten(0, 1)), mask.tolist())
    np.testing.assert_allclose(array(out.last_hidden_state), hidden[mask.flatten().bool()], rtol=1e-8, atol=1e-8)
    for decision, routes in zip(out.decisions, sites, strict=True):
        assert_routes(decision.spread(out.layout), routes, ids.numel())


@torch.no_grad()
def test_the_classifier_equals_the_loop():
    model = build_classifier(attention_router=free_router(gate_keys=True), mlp_router=free_router(num_experts=8))
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = model(pixel_values=pixels)
    hidden, sites = run_slowly(model.model, array(model.stem(pixels).flatten(0, 1)), [[1] * 16] * 2)
    for decision, routes in zip(out.decisions, sites, strict=True):
        assert_routes(decision, routes, 32)
    logits = hidden.reshape(2, 16, -1).mean(1) @ array(model.classifier.weight).T + array(model.classifier.bias)
    np.testing.assert_allclose(array(out.logits), logits, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("gate_keys", [False, True])
@pytest.mark.parametrize(
    ("gate", "k", "learns"),
    [("mean_one", 2, True), ("probability", 2, True), ("probability", 1, True), ("one", 2, False)],
)
def test_the_task_alone_moves_the_routers_in_every_gate_mode_that_promises_it(gate, k, learns, gate_keys):
    router = causal_router(gate=gate, num_experts_per_tok=k, capacity_factor=1.0)
    model = build_lm(attention_router=router | {"gate_keys": gate_keys}, mlp_router=router)
    ids = tokens(2, 24)
    model(input_ids=ids, labels=ids).cross_entropy.backward()
    for block in model.model.blocks:
        for part in (block.attention, block.mlp):
            gradient = part.router.weight.grad
            per_expert = torch.zeros(4) if gradient is None else gradient.abs().amax(-1)
            assert bool((per_expert > 0).all()) if learns else not bool(per_expert.any())
            assert part.router.config.trains_router == learns


@pytest.mark.parametrize("selection", ["data", "expert_choice", "expert"])
@pytest.mark.parametrize("gate", ["mean_one", "probability"])
def test_the_task_alone_moves_the_routers_in_every_selection(gate, selection):
    router = free_router(selection=selection, gate=gate, capacity_factor=None if selection == "expert" else 1.0)
    model = build_classifier(attention_router=router, mlp_router=router)
    pixels = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model(pixel_values=pixels, labels=torch.arange(8) % 3).cross_entropy.backward()
    for block in model.model.blocks:
        assert block.attention.router.weight.grad.abs().max() > 0
        assert block.mlp.router.weight.grad.abs().max() > 0


def test_a_language_model_is_saved_and_loaded_exactly(tmp_path):
    model = build_lm(dtype=torch.float32, mlp_router=causal_router(num_experts=8, gate="probability"))
    ids = tokens(2, 24)
    expected = model(input_ids=ids)
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert json.loads((tmp_path / "config.json").read_text())["mlp_router"]["gate"] == "probability"
    for auto in (UoEForCausalLM, AutoModelForCausalLM):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is UoEForCausalLM
        assert loaded.config.site_configs() == model.config.site_configs()
        out = loaded.eval()(input_ids=ids)
        assert torch.equal(out.logits, expected.logits)
        assert all(
            torch.equal(a.expert_NK, b.expert_NK) for a, b in zip(out.decisions, expected.decisions, strict=True)
        )
    assert type(AutoConfig.from_pretrained(tmp_path)) is UoEConfig
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is UoEModel
    assert not info["missing_keys"]
    hidden = model.model(input_ids=ids).last_hidden_state
    assert torch.equal(base.eval()(input_ids=ids).last_hidden_state, hidden)


def test_an_image_classifier_is_saved_and_loaded_exactly(tmp_path):
    model = build_classifier(dtype=torch.float32, id2label={0: "cat", 1: "dog", 2: "cow"})
    pixels = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    for auto in (UoEForImageClassification, AutoModelForImageClassification):
        loaded = auto.from_pretrained(tmp_path).eval()
        assert torch.equal(loaded(pixel_values=pixels).logits, model(pixel_values=pixels).logits)
        assert loaded.config.id2label == {0: "cat", 1: "dog", 2: "cow"}


def test_a_fresh_model_has_finite_weights_even_routers_and_the_promised_size_of_start():
    model = UoEForCausalLM(build_lm().config)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    for block in model.model.blocks:
        assert not block.attention.b_o.any()
        assert not block.mlp.b2.any()
        assert block.mlp.router.weight.std().item() == pytest.approx(model.config.router_init_std, rel=0.5)
    assert model.lm_head.weight is model.model.embed.weight
