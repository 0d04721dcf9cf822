"""Whole models on Triton kernels: outputs, losses, gradients, generation and traces are those of plain PyTorch."""

import pytest
import torch
from torch import nn

from tests.uoe_model.bundles import assert_checks_pass, text_bundle
from tests.uoe_model.kernels.running import DEVICE, largest_difference
from tests.uoe_model.models import build_classifier, build_encoder, build_lm, causal_router, free_router, pad, tokens
from uoe_model.kernels import backend
from uoe_model.outputs import UoEOutput
from uoe_model.run import run_text_on

TOLERANCE = 2e-5
ROWS = [tokens(9), tokens(1, seed=1), tokens(13, seed=2)]


def assert_same_training_step(model: nn.Module, batch: dict[str, torch.Tensor]) -> None:
    model.to(DEVICE)
    batch = {name: value.to(DEVICE) for name, value in batch.items()}
    found: dict[str, tuple[UoEOutput, dict[str, torch.Tensor]]] = {}
    for name in ("plain", "triton"):
        model.zero_grad(set_to_none=True)
        with backend.use_backend(name):
            out = model(**batch)
        out.loss.backward()
        found[name] = out, {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
    (plain, expected), (ours, gradients) = found["plain"], found["triton"]
    assert largest_difference(ours.logits, plain.logits) < TOLERANCE
    assert abs(ours.loss.item() - plain.loss.item()) < 1e-5
    for one, other in zip(ours.decisions, plain.decisions, strict=True):
        assert torch.equal(one.expert_NK, other.expert_NK)
        assert torch.equal(one.kept_NK, other.kept_NK)
        assert torch.equal(one.capacity_G, other.capacity_G)
        assert one.slots is None
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert largest_difference(gradient, expected[name]) < 10 * TOLERANCE, name


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_language_model(side):
    router = causal_router(gate_keys=True)
    model = build_lm(dtype=torch.float32, attention_router=router, mlp_router=causal_router(), num_hidden_layers=1)
    ids, mask = pad(ROWS, side)
    labels = ids.masked_fill(mask == 0, -100)
    assert_same_training_step(model, {"input_ids": ids, "attention_mask": mask, "labels": labels})


def test_packed_documents_of_several_units_a_patch():
    routers = {name: causal_router(patch_len=2, gate="probability") for name in ("attention_router", "mlp_router")}
    model = build_lm(dtype=torch.float32, num_hidden_layers=1, hidden_act="swiglu", **routers)
    ids = tokens(2, 11)
    documents = torch.tensor([[0] * 4 + [1] + [2] * 6, [0] * 8 + [1] * 3])
    assert_same_training_step(model, {"input_ids": ids, "document_ids": documents, "labels": ids})


@pytest.mark.parametrize("selection", ["data", "expert_choice", "expert"])
def test_a_classifier(selection):
    factor = None if selection == "expert" else 0.7
    router = free_router(selection=selection, capacity_factor=factor)
    model = build_classifier(
        dtype=torch.float32, num_hidden_layers=1, attention_router=router, mlp_router=router, tie_word_embeddings=False
    )
    generator = torch.Generator().manual_seed(0)
    batch = {"pixel_values": torch.randn(3, 3, 8, 8, generator=generator), "labels": torch.tensor([0, 2, 1])}
    assert_same_training_step(model, batch)


def test_different_numbers_of_experts_and_none_of_them_full():
    model = build_encoder(
        dtype=torch.float32,
        attention_router=free_router(num_experts=2, num_experts_per_tok=2, capacity_factor=None, gate="one"),
        mlp_router=free_router(num_experts=8, num_experts_per_tok=3, capacity_factor=None),
        position_embedding="learned",
    ).to(DEVICE)
    ids, mask = (part.to(DEVICE) for part in pad(ROWS, "right"))
    hidden = {}
    for name in ("plain", "triton"):
        with backend.use_backend(name), torch.no_grad():
            hidden[name] = model(ids, attention_mask=mask).last_hidden_state
    assert largest_difference(hidden["triton"], hidden["plain"]) < TOLERANCE


def test_generation_from_a_cache_that_kernels_filled():
    model = build_lm(dtype=torch.float32, num_hidden_layers=1).to(DEVICE)
    ids, mask = (part.to(DEVICE) for part in pad(ROWS, "left"))
    texts = {}
    for name in ("plain", "triton"):
        with backend.use_backend(name):
            texts[name] = model.generate(
                ids, attention_mask=mask, max_new_tokens=4, do_sample=False, eos_token_id=None, pad_token_id=1
            )
    assert torch.equal(texts["triton"], texts["plain"])


def test_a_run_says_what_computed_it():
    bundle = text_bundle(dtype=torch.float32)
    with backend.use_backend("plain"):
        expected = run_text_on(bundle, "The lazy fox.")
    with backend.use_backend("triton"):
        found = run_text_on(bundle, "The lazy fox.")
    assert (expected.trace.run.backend, found.trace.run.backend) == ("plain", "triton")
    assert_checks_pass(found.trace)
    for column in ("unit_id", "rank", "expert_id", "status"):
        ours, theirs = (getattr(result.trace.assignments, column) for result in (found, expected))
        assert (ours == theirs).all()
