"""Tiny models with random weights everywhere, and the same weights as the oracle reads them."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tests.oracles import blocks
from tests.oracles.routing import Array, Route, Rule, examples_of, route_inputs
from uoe_model.attention import SMHA
from uoe_model.config import RouterConfig, UoEConfig
from uoe_model.decision import RoutingDecision
from uoe_model.mlp import UoME
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification, UoEModel

Model = TypeVar("Model", bound=torch.nn.Module)

TIGHT = {"num_experts": 4, "num_experts_per_tok": 2, "capacity_factor": 0.6}
"""Routing that drops a good part of what is requested."""


def causal_router(**changes: Any) -> dict[str, Any]:
    """Fields of a causal `RouterConfig`, tight unless changed."""
    return TIGHT | {"admission": "position"} | changes


def free_router(**changes: Any) -> dict[str, Any]:
    """Fields of a `RouterConfig` that may look ahead, tight unless changed."""
    return TIGHT | {"admission": "score"} | changes


def small_config(**changes: Any) -> UoEConfig:
    """Two layers, width 16, four heads."""
    fields: dict[str, Any] = {
        "vocab_size": 29,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    return UoEConfig(**(fields | changes))


def build_lm(*, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> UoEForCausalLM:
    """A causal language model; both routers tight unless changed."""
    fields = {"attention_router": causal_router(), "mlp_router": causal_router(), "is_causal": True} | changes
    return randomised(UoEForCausalLM(small_config(**fields)), seed, dtype)


def build_encoder(*, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> UoEModel:
    """Blocks over tokens without a causal mask; both routers tight unless changed."""
    fields = {"attention_router": free_router(), "mlp_router": free_router(), "is_causal": False} | changes
    return randomised(UoEModel(small_config(**fields)), seed, dtype)


def build_classifier(*, seed: int = 0, dtype: torch.dtype = torch.float64, **changes: Any) -> UoEForImageClassification:
    """An image classifier over 4 x 4 cells; both routers tight unless changed."""
    fields = {
        "attention_router": free_router(),
        "mlp_router": free_router(),
        "is_causal": False,
        "vocab_size": 0,
        "image_size": 8,
        "grid_size": 4,
        "num_labels": 3,
        "stem_channels": [6],
        "position_embedding": "learned",
    } | changes
    return randomised(UoEForImageClassification(small_config(**fields)), seed, dtype)


def randomised(model: Model, seed: int, dtype: torch.dtype) -> Model:
    """Every parameter random, biases and norms too, routers undecided enough to use all experts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            is_norm = "norm" in name
            std = 0.2 if is_norm else 1.0 if "embed" in name else 0.4
            parameter.copy_(noise * std + float(is_norm))
    return model.to(dtype).eval()


def tokens(*shape: int, seed: int = 0, vocab_size: int = 29) -> Tensor:
    """Random token ids, none of them special."""
    return torch.randint(2, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def pad(rows: Sequence[Tensor], side: str, *, extra: int = 0, filler: int = 1) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of rows of different lengths, padded on one side."""
    length = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), length), filler)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(length - len(row), None) if side == "left" else slice(0, len(row))
        ids[index, place], mask[index, place] = row, 1
    return ids, mask


def rule_of(config: RouterConfig, *, causal: bool) -> Rule:
    """The oracle's words for a router configuration."""
    return Rule(
        selection=config.selection,
        num_experts=config.num_experts,
        top_k=config.num_experts_per_tok,
        capacity_factor=config.capacity_factor,
        admission=config.admission,
        gate=config.gate,
        patch_len=config.patch_len,
        causal=causal,
    )


def array(tensor: Tensor) -> Array:
    """float64 on the host."""
    return tensor.detach().double().numpy()


def dense_attention(block: SMHA, rope_theta: float | None) -> blocks.DenseAttention:
    """The dense block that the experts' slices make when laid side by side."""
    shape = block.shape
    sizes = [shape.heads * shape.width, shape.kv_heads * shape.width, shape.kv_heads * shape.width]
    starts = [0, sizes[0], sizes[0] + sizes[1]]
    parts = []
    for start, size in zip(starts, sizes, strict=True):
        columns = slice(start, start + size)
        w = np.concatenate([array(expert[:, columns]) for expert in block.w_qkv], axis=1)
        parts.append((w, np.concatenate([array(expert[columns]) for expert in block.b_qkv])))
    (q, b_q), *shared = parts
    # Every query head gets its own copy of the key/value head that it shares.
    (k, b_k), (v, b_v) = ((_repeat_heads(w, block), _repeat_heads(b, block)) for w, b in shared)
    return blocks.DenseAttention(
        w_q=q,
        w_k=k,
        w_v=v,
        w_o=np.concatenate([array(expert) for expert in block.w_o]),
        b_q=b_q,
        b_k=b_k,
        b_v=b_v,
        b_o=array(block.b_o),
        num_heads=block.num_experts * block.shape.heads,
        rope_theta=rope_theta,
    )


def _repeat_heads(columns: Any, block: SMHA) -> Any:
    shape = block.shape
    heads = np.split(columns, columns.shape[-1] // shape.width, axis=-1)
    return np.concatenate([head for head in heads for _ in range(shape.heads // shape.kv_heads)], axis=-1)


def dense_mlp(block: UoME) -> blocks.DenseMLP:
    """The dense block that the experts' slices make when laid side by side."""
    hidden = block.w2.shape[1]
    is_swiglu = block.act == "swiglu"
    return blocks.DenseMLP(
        act=block.act,
        w_in=np.concatenate([array(expert[:, :hidden]) for expert in block.w1], axis=1),
        b_in=np.concatenate([array(expert[:hidden]) for expert in block.b1]),
        w_up=np.concatenate([array(expert[:, hidden:]) for expert in block.w1], axis=1) if is_swiglu else None,
        b_up=np.concatenate([array(expert[hidden:]) for expert in block.b1]) if is_swiglu else None,
        w_out=np.concatenate([array(expert) for expert in block.w2]),
        b_out=array(block.b2),
    )


def run_slowly(
    model: UoEModel, x: Array, valid: Sequence[Sequence[int]], documents: Sequence[Sequence[int]] | None = None
) -> tuple[Array, list[dict[int, Route]]]:
    """The whole stack by the oracle: final hidden states and routes per site, from embedded units x (units, D)."""
    config = model.config
    theta = config.rope_theta if config.position_embedding == "rotary" else None
    examples = examples_of(valid, documents)
    sites: list[dict[int, Route]] = []
    for layer in model.blocks:
        for part, norm in ((layer.attention, layer.norm_attention), (layer.mlp, layer.norm_mlp)):
            router = part.router.config
            normed = blocks.rms_norm(x, array(norm.weight), config.norm_eps)
            weights = array(part.router.weight)
            routes = route_inputs(normed, weights, examples, rule_of(router, causal=config.is_causal))
            sites.append(routes)
            if part is layer.attention:
                x = x + blocks.attention(
                    normed,
                    examples,
                    routes,
                    dense_attention(part, theta),
                    num_experts=router.num_experts,
                    causal=config.is_causal,
                    gate_keys=router.gate_keys,
                )
            else:
                x = x + blocks.mlp(normed, routes, dense_mlp(part), num_experts=router.num_experts)
    return blocks.rms_norm(x, array(model.norm.weight), config.norm_eps), sites


def assert_routes(decision: RoutingDecision, routes: Mapping[int, Route], num_units: int) -> None:
    """A decision over `num_units` flat units says what the oracle says, and nothing about padding."""
    rows = (decision.expert_NK, decision.gate_NK, decision.kept_NK, decision.logits_NE)
    experts, gates, kept, logits = (row.detach().tolist() for row in rows)
    assert len(experts) == num_units
    for unit in range(num_units):
        asked = [column for column, expert in enumerate(experts[unit]) if expert >= 0]
        route = routes.get(unit)
        if route is None:
            assert not asked
            assert not any(kept[unit])
            assert not any(gates[unit])
            continue
        assert [experts[unit][column] for column in asked] == route.experts, unit
        assert [kept[unit][column] for column in asked] == route.kept, unit
        np.testing.assert_allclose([gates[unit][column] for column in asked], route.gates, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(logits[unit], route.logits, rtol=1e-9, atol=1e-9)
        blank = [column for column in range(len(experts[unit])) if column not in asked]
        assert not any(kept[unit][column] or gates[unit][column] for column in blank)


def assert_same_decisions(actual: RoutingDecision, expected: RoutingDecision) -> None:
    """Same experts and slots exactly, same gates and logits to rounding."""
    assert torch.equal(actual.expert_NK, expected.expert_NK)
    assert torch.equal(actual.kept_NK, expected.kept_NK)
    torch.testing.assert_close(actual.gate_NK, expected.gate_NK, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(actual.logits_NE, expected.logits_NE, rtol=1e-9, atol=1e-9)


def units_of(decision: RoutingDecision, units: Tensor | Sequence[int]) -> RoutingDecision:
    """The decision's rows for some units; the capacity is left out of comparisons by keeping it as it is."""
    index = torch.as_tensor(units, dtype=torch.long)
    return RoutingDecision(
        logits_NE=decision.logits_NE[index],
        expert_NK=decision.expert_NK[index],
        gate_NK=decision.gate_NK[index],
        kept_NK=decision.kept_NK[index],
        capacity_G=decision.capacity_G,
    )


def dropped(decision: RoutingDecision) -> int:
    """How many requests found their expert full: tests of tight capacity check that there are some."""
    return int(((decision.expert_NK >= 0) & ~decision.kept_NK).sum())


CAUSAL_VARIANTS = [
    {"gate": gate, "gate_keys": gate_keys, "patch_len": patch_len}
    for gate, gate_keys, patch_len in itertools.product(("mean_one", "probability"), (False, True), (1, 4))
]
"""Every gate that trains, with and without key gates, for single units and for patches."""
