"""Dense matrices to experts: head groups in attention, slices of hidden units in the MLP."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.config import UoEConfig
from uoe_model.decompose.dense import DenseBlock, DenseKind, DenseModel
from uoe_model.errors import ConfigError
from uoe_model.modeling import UoEForCausalLM, UoEForImageClassification, UoEModel

MODEL_CLASSES: Final[dict[DenseKind, type[PreTrainedModel]]] = {
    "encoder": UoEModel,
    "causal": UoEForCausalLM,
    "image": UoEForImageClassification,
}


def cut(
    dense: DenseModel,
    *,
    attention_experts: int,
    mlp_experts: int,
    attention_top_k: int,
    mlp_top_k: int,
    orders: Sequence[Tensor] | None = None,
) -> PreTrainedModel:
    """Cut a dense model into experts of equal size; with every expert chosen it computes what the dense model does.

    Gates are 1 and no expert is ever full; routers are even until they are calibrated.

    Args:
        orders: per layer int64 (F,), the hidden units in the order in which they fill the MLP experts; None: as stored.

    Raises:
        ConfigError: the numbers do not divide what is cut.
    """
    heads = dense.config.get("num_key_value_heads") or dense.config["num_attention_heads"]
    for what, size, experts in (
        ("attention heads (groups that share keys and values)", heads, attention_experts),
        ("hidden units of each MLP", dense.config["intermediate_size"], mlp_experts),
    ):
        if experts < 1 or size % experts:
            raise ConfigError(f"{dense.name} has {size} {what}: {experts} experts cannot share them equally.")
    admission = "position" if dense.config["is_causal"] else "score"
    routers: dict[str, Any] = {
        name: {"num_experts": experts, "num_experts_per_tok": top_k, "gate": "one", "admission": admission}
        for name, experts, top_k in (
            ("attention_router", attention_experts, attention_top_k),
            ("mlp_router", mlp_experts, mlp_top_k),
        )
    }
    config = UoEConfig(**dense.config, **routers, router_bias=True)
    model: PreTrainedModel = MODEL_CLASSES[dense.kind](config).eval()
    parameters: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    left = set(parameters)
    with torch.no_grad():
        for state in _states(dense, config, orders):  # one at a time: no second copy of all matrices
            for name, value in state.items():
                parameters[name].copy_(value)
            left -= set(state)
        odd = sorted(name for name in left if ".router." not in name)
        if odd:
            raise AssertionError(f"the reader of {dense.family} leaves out {odd[:4]}")
        for name in left:
            parameters[name].zero_()
    return model


def _states(dense: DenseModel, config: UoEConfig, orders: Sequence[Tensor] | None) -> Iterator[dict[str, Tensor]]:
    """Weights by name: of every layer, then of the rest."""
    prefix = "" if dense.kind == "encoder" else "model."
    for layer, block in enumerate(dense.blocks):
        state = _block_state(block, config, None if orders is None else orders[layer])
        yield {f"{prefix}blocks.{layer}.{name}": value for name, value in state.items()}
    yield dense.rest


def _block_state(block: DenseBlock, config: UoEConfig, order: Tensor | None) -> dict[str, Tensor]:
    experts = config.router_config("attention").num_experts
    columns = [torch.stack(part.chunk(experts, -1)) for part in (block.q, block.k, block.v)]
    biases = [torch.stack(part.chunk(experts)) for part in (block.b_q, block.b_k, block.b_v)]
    state = {
        "attention.w_qkv": torch.cat(columns, -1),
        "attention.b_qkv": torch.cat(biases, -1),
        "attention.w_o": torch.stack(block.o.chunk(experts)),
        "attention.b_o": block.b_o,
        "mlp.b2": block.b_out,
    }
    experts = config.router_config("mlp").num_experts
    inputs = [(block.w_in, block.b_in)]
    if block.w_up is not None and block.b_up is not None:
        inputs.append((block.w_up, block.b_up))
    if order is None:
        order = torch.arange(block.w_out.shape[0])
    state["mlp.w1"] = torch.cat([torch.stack(w[:, order].chunk(experts, 1)) for w, _ in inputs], -1)
    state["mlp.b1"] = torch.cat([torch.stack(b[order].chunk(experts)) for _, b in inputs], -1)
    state["mlp.w2"] = torch.stack(block.w_out[order].chunk(experts))
    for name, norm in (("norm_attention", block.norm_attention), ("norm_mlp", block.norm_mlp)):
        state[f"{name}.weight"] = norm.weight
        if norm.bias is not None:
            state[f"{name}.bias"] = norm.bias
    return state
