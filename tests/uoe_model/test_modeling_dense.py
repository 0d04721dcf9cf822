"""With every expert chosen, no capacity and gates of one, the model is the dense transformer its slices make up."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.uoe_model.models import build_encoder, build_lm, tokens
from uoe_model.attention import SMHA
from uoe_model.mlp import UoME
from uoe_model.modeling import UoEModel

EVERYBODY = {"num_experts": 4, "num_experts_per_tok": 4, "capacity_factor": None}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def dense_attention(block: SMHA, x_TD: Tensor, theta: float) -> Tensor:
    """Multi-head attention from the concatenated slices, with rotary positions as complex numbers."""
    length, width = x_TD.shape
    q, k, v = ([], [], [])
    for w, b in zip(block.w_qkv, block.b_qkv, strict=True):
        for part, into in zip((x_TD @ w + b).chunk(3, -1), (q, k, v), strict=True):
            into.append(part)
    heads = [torch.cat(parts, -1).view(length, -1, block.shape.width).transpose(0, 1) for parts in (q, k, v)]
    half = block.shape.width // 2
    angle = torch.arange(length).double()[:, None] * theta ** (-torch.arange(half).double() / half)
    for index in (0, 1):
        wide = torch.complex(heads[index][..., :half].double(), heads[index][..., half:].double())
        wide = wide * torch.polar(torch.ones_like(angle), angle)
        heads[index] = torch.cat([wide.real, wide.imag], -1).to(x_TD.dtype)
    scores = heads[0] @ heads[1].transpose(1, 2) / block.shape.width**0.5
    if block.is_causal:
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    out = (scores.softmax(-1) @ heads[2]).transpose(0, 1).reshape(length, width)
    return out @ block.w_o.reshape(width, width) + block.b_o


def dense_mlp(block: UoME, x_TD: Tensor) -> Tensor:
    """One MLP whose hidden units are the experts' laid side by side."""
    if block.act == "gelu":
        w_in, b_in = torch.cat(list(block.w1), -1), block.b1.flatten()
        hidden = F.gelu(x_TD @ w_in + b_in)
    else:
        w_gate, w_up = (torch.cat([w.chunk(2, -1)[half] for w in block.w1], -1) for half in (0, 1))
        b_gate, b_up = (torch.cat([b.chunk(2)[half] for b in block.b1]) for half in (0, 1))
        hidden = F.silu(x_TD @ w_gate + b_gate) * (x_TD @ w_up + b_up)
    return hidden @ block.w2.flatten(0, 1) + block.b2


def dense_stack(model: UoEModel, ids_T: Tensor) -> Tensor:
    """The same transformer without experts, for one example."""
    x_TD = model.embed(ids_T)
    for block in model.blocks:
        x_TD = x_TD + dense_attention(block.attention, norm(block.norm_attention, x_TD), model.config.rope_theta)
        x_TD = x_TD + dense_mlp(block.mlp, norm(block.norm_mlp, x_TD))
    return norm(model.norm, x_TD)


def norm(layer: nn.RMSNorm, x_TD: Tensor) -> Tensor:
    return layer.weight * x_TD / (x_TD.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt()


def soften(model: UoEModel) -> None:
    """Weights of the size that training gives, so that 1e-5 is a fair bound for float32."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("causal", "act", "patch_len", "gate_keys"),
    list(itertools.product((False, True), ("gelu", "swiglu"), (1, 3), (False, True))),
)
@torch.no_grad()
def test_all_experts_at_gate_one_are_the_dense_transformer(causal, act, patch_len, gate_keys, dtype):
    router = EVERYBODY | {"gate": "one", "patch_len": patch_len, "admission": "position" if causal else "score"}
    build = build_lm if causal else build_encoder
    model = build(attention_router=router | {"gate_keys": gate_keys}, mlp_router=router, hidden_act=act, dtype=dtype)
    stack = model.model if causal else model
    soften(stack)
    ids = tokens(3, 17)
    out = stack.encode(input_ids=ids).last_hidden_state.view(3, 17, -1)
    expected = torch.stack([dense_stack(stack, row) for row in ids])
    torch.testing.assert_close(out, expected, rtol=0, atol=TOLERANCE[dtype])
    for block in stack.blocks:
        x = torch.randn(17, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
        layout = stack.encode(input_ids=ids[:1]).layout
        torch.testing.assert_close(block.mlp(x, layout)[0], dense_mlp(block.mlp, x), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_an_even_router_with_all_experts_is_the_dense_transformer_too(causal):
    router = EVERYBODY | {"gate": "mean_one", "gate_keys": True, "admission": "position" if causal else "score"}
    model = (build_lm if causal else build_encoder)(attention_router=router, mlp_router=router)
    stack = model.model if causal else model
    for block in stack.blocks:
        block.attention.router.weight.zero_()
        block.mlp.router.weight.zero_()
    ids = tokens(17)
    out = stack.encode(input_ids=ids[None]).last_hidden_state
    torch.testing.assert_close(out, dense_stack(stack, ids), rtol=0, atol=1e-12)


@pytest.mark.parametrize("selection", ["expert_choice", "expert"])
@torch.no_grad()
def test_the_other_selections_with_all_experts_are_the_dense_transformer_too(selection):
    router = EVERYBODY | {"gate": "one", "selection": selection, "admission": "score"}
    model = build_encoder(attention_router=router, mlp_router=router)
    ids = tokens(17)
    out = model.encode(input_ids=ids[None]).last_hidden_state
    torch.testing.assert_close(out, dense_stack(model, ids), rtol=0, atol=1e-12)


@torch.no_grad()
def test_one_expert_short_of_all_is_not_the_dense_transformer():
    router = EVERYBODY | {"gate": "one", "admission": "position", "num_experts_per_tok": 3}
    model = build_lm(attention_router=router, mlp_router=router).model
    ids = tokens(17)
    out = model.encode(input_ids=ids[None]).last_hidden_state
    assert (out - dense_stack(model, ids)).abs().max() > 0.1
