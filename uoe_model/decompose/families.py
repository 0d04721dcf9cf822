"""Readers of dense Hugging Face models: BERT, ViT, GPT-2, and Llama with its relatives."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from uoe_model.decompose.dense import DenseBlock, DenseModel, DenseNorm
from uoe_model.errors import CheckpointError

_ACTIVATIONS: Final = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


def read_bert(model: nn.Module, name: str) -> DenseModel:
    """A text encoder with norms after its blocks; the embedding of token type 0 joins the positions.

    The pooler over the first token, which only next-sentence prediction used, is left out.
    """
    config, state = _parts(model, name)
    _require(name, config, position_embedding_type=(None, "absolute"), is_decoder=(False, None))
    blocks = []
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        blocks.append(
            DenseBlock(
                **_attention(state, at + "attention.self.", ("query", "key", "value"), at + "attention.output.dense"),
                norm_attention=_norm(state, at + "attention.output.LayerNorm"),
                norm_mlp=_norm(state, at + "output.LayerNorm"),
                **_mlp(state, at + "intermediate.dense", at + "output.dense"),
            )
        )
    words = state["embeddings.word_embeddings.weight"]
    fields = _text_fields(config, words) | {
        "norm_type": "layer",
        "norm_position": "post",
        "embedding_norm": True,
        "final_norm": False,
        "norm_eps": config["layer_norm_eps"],
        "position_embedding": "learned",
        "is_causal": False,
        "max_position_embeddings": config["max_position_embeddings"],
        "hidden_act": _activation(name, config["hidden_act"]),
        "intermediate_size": config["intermediate_size"],
        "pooling": "mean",
    }
    rest = {
        "embed.weight": words,
        "embed_position.weight": state["embeddings.position_embeddings.weight"]
        + state["embeddings.token_type_embeddings.weight"][0],
        "norm_embedding.weight": state["embeddings.LayerNorm.weight"],
        "norm_embedding.bias": state["embeddings.LayerNorm.bias"],
    }
    return DenseModel(family="bert", name=name, kind="encoder", config=fields, blocks=tuple(blocks), rest=rest)


def read_vit(model: nn.Module, name: str) -> DenseModel:
    """An image classifier that reads the class token."""
    config, state = _parts(model, name)
    image, patch = config["image_size"], config["patch_size"]
    if type(image) is not int or type(patch) is not int or image % patch:
        raise CheckpointError(f"{name}: image_size={image} must be a whole number of patches of patch_size={patch}.")
    if "classifier.weight" not in state:
        raise CheckpointError(f"{name} has no classifier: choose a ViT that was trained to classify.")
    blocks = []
    for layer in range(config["num_hidden_layers"]):
        at = f"vit.layers.{layer}."
        blocks.append(
            DenseBlock(
                **_attention(state, at + "attention.", ("q_proj", "k_proj", "v_proj"), at + "attention.o_proj"),
                norm_attention=_norm(state, at + "layernorm_before"),
                norm_mlp=_norm(state, at + "layernorm_after"),
                **_mlp(state, at + "mlp.fc1", at + "mlp.fc2"),
            )
        )
    fields = {
        "vocab_size": 0,
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "hidden_act": _activation(name, config["hidden_act"]),
        "norm_type": "layer",
        "norm_eps": config["layer_norm_eps"],
        "position_embedding": "learned",
        "is_causal": False,
        "pooling": "cls",
        "class_token": True,
        "image_size": image,
        "grid_size": image // patch,
        "num_channels": config["num_channels"],
        "id2label": config["id2label"],
        "label2id": config["label2id"],
    }
    rest = {
        "stem.class_token": state["vit.embeddings.cls_token"].flatten(),
        "stem.position": state["vit.embeddings.position_embeddings"][0],
        "stem.project.weight": state["vit.embeddings.patch_embeddings.projection.weight"],
        "stem.project.bias": state["vit.embeddings.patch_embeddings.projection.bias"],
        "model.norm.weight": state["vit.layernorm.weight"],
        "model.norm.bias": state["vit.layernorm.bias"],
        "classifier.weight": state["classifier.weight"],
        "classifier.bias": state["classifier.bias"],
    }
    return DenseModel(family="vit", name=name, kind="image", config=fields, blocks=tuple(blocks), rest=rest)


def read_gpt2(model: nn.Module, name: str) -> DenseModel:
    """A causal language model with learned positions; its Conv1D layers store matrices input first."""
    config, state = _parts(model, name)
    _require(
        name, config, scale_attn_weights=(True,), scale_attn_by_inverse_layer_idx=(False,), add_cross_attention=(False,)
    )
    width = config["n_embd"]
    blocks = []
    for layer in range(config["n_layer"]):
        at = f"transformer.h.{layer}."
        q, k, v = torch.split(state[at + "attn.c_attn.weight"], width, 1)
        b_q, b_k, b_v = torch.split(state[at + "attn.c_attn.bias"], width)
        blocks.append(
            DenseBlock(
                norm_attention=_norm(state, at + "ln_1"),
                q=q,
                k=k,
                v=v,
                b_q=b_q,
                b_k=b_k,
                b_v=b_v,
                o=state[at + "attn.c_proj.weight"],
                b_o=state[at + "attn.c_proj.bias"],
                norm_mlp=_norm(state, at + "ln_2"),
                w_in=state[at + "mlp.c_fc.weight"],
                b_in=state[at + "mlp.c_fc.bias"],
                w_up=None,
                b_up=None,
                w_out=state[at + "mlp.c_proj.weight"],
                b_out=state[at + "mlp.c_proj.bias"],
            )
        )
    words = state["transformer.wte.weight"]
    renamed = {
        "hidden_size": width,
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
    }
    fields = _text_fields(config | renamed, words) | {
        "norm_type": "layer",
        "norm_eps": config["layer_norm_epsilon"],
        "position_embedding": "learned",
        "is_causal": True,
        "max_position_embeddings": config["n_positions"],
        "hidden_act": _activation(name, config["activation_function"]),
        "intermediate_size": config["n_inner"] or 4 * width,
    }
    rest = {
        "model.embed.weight": words,
        "model.embed_position.weight": state["transformer.wpe.weight"],
        "model.norm.weight": state["transformer.ln_f.weight"],
        "model.norm.bias": state["transformer.ln_f.bias"],
        "lm_head.weight": state["lm_head.weight"],
    }
    return DenseModel(family="gpt2", name=name, kind="causal", config=fields, blocks=tuple(blocks), rest=rest)


def read_llama(model: nn.Module, name: str) -> DenseModel:
    """A causal language model with rotary positions, RMSNorm, SwiGLU, and key/value heads that may be shared."""
    config, state = _parts(model, name)
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            f"{name} scales its rotary positions ({rope}), which a Union of Experts does not: choose a checkpoint with "
            "rope_type 'default'."
        )
    context = config["max_position_embeddings"]
    window = config.get("sliding_window")
    if config.get("use_sliding_window", True) and window is not None:
        context = min(context, window)  # within the window nothing is cut off
    _require(name, config, hidden_act=("silu",))
    blocks = []
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        blocks.append(
            DenseBlock(
                **_attention(state, at + "self_attn.", ("q_proj", "k_proj", "v_proj"), at + "self_attn.o_proj"),
                norm_attention=_norm(state, at + "input_layernorm"),
                norm_mlp=_norm(state, at + "post_attention_layernorm"),
                **_mlp(state, at + "mlp.gate_proj", at + "mlp.down_proj", at + "mlp.up_proj"),
            )
        )
    words = state["model.embed_tokens.weight"]
    fields = _text_fields(config, words) | {
        "num_key_value_heads": config["num_key_value_heads"],
        "head_dim": config.get("head_dim"),
        "norm_type": "rms",
        "norm_eps": config["rms_norm_eps"],
        "position_embedding": "rotary",
        "rope_theta": float(rope.get("rope_theta", 10_000.0)),
        "is_causal": True,
        "max_position_embeddings": context,
        "hidden_act": "swiglu",
        "intermediate_size": config["intermediate_size"],
    }
    rest = {
        "model.embed.weight": words,
        "model.norm.weight": state["model.norm.weight"],
        "lm_head.weight": state["lm_head.weight"],
    }
    family = str(config["model_type"])
    return DenseModel(family=family, name=name, kind="causal", config=fields, blocks=tuple(blocks), rest=rest)


READERS: Final[Mapping[str, tuple[str, Callable[[nn.Module, str], DenseModel]]]] = {
    "bert": ("AutoModel", read_bert),
    "gpt2": ("AutoModelForCausalLM", read_gpt2),
    "llama": ("AutoModelForCausalLM", read_llama),
    "mistral": ("AutoModelForCausalLM", read_llama),
    "qwen2": ("AutoModelForCausalLM", read_llama),
    "vit": ("AutoModelForImageClassification", read_vit),
}
"""By model type: the transformers class that loads it, and what reads its matrices."""


def _parts(model: nn.Module, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights; every layer must have nothing that a reader would overlook."""
    config: dict[str, Any] = model.config.to_dict()  # type: ignore[union-attr, operator]
    config["num_key_value_heads"] = config.get("num_key_value_heads") or config.get("num_attention_heads")
    state = {key: value.detach().float() for key, value in model.state_dict().items()}
    strange = [key for key in state if "q_norm" in key or "k_norm" in key]
    if strange:
        raise CheckpointError(f"{name} norms its queries and keys ({strange[0]}), which a Union of Experts does not.")
    return config, state


def _require(name: str, config: Mapping[str, Any], **allowed: tuple[Any, ...]) -> None:
    for field, values in allowed.items():
        if config.get(field, values[0]) not in values:
            raise CheckpointError(
                f"{name}: {field}={config[field]!r} is not supported here, only {' or '.join(map(repr, values))}."
            )


def _activation(name: str, act: str) -> str:
    if act not in _ACTIVATIONS:
        raise CheckpointError(f"{name}: the activation {act!r} is not supported, only {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[act]


def _text_fields(config: Mapping[str, Any], words: Tensor) -> dict[str, Any]:
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    special = ("bos_token_id", "eos_token_id", "pad_token_id")
    fields = {name: config[name] for name in names} | {name: config.get(name) for name in special}
    tied = bool(config.get("tie_word_embeddings", True))
    return fields | {"vocab_size": words.shape[0], "tie_word_embeddings": tied}


def _norm(state: Mapping[str, Tensor], name: str) -> DenseNorm:
    return DenseNorm(weight=state[f"{name}.weight"], bias=state.get(f"{name}.bias"))


def _linear(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Matrix (in, out) and bias, zeros if there is none."""
    weight = state[f"{name}.weight"].t()
    bias = state.get(f"{name}.bias")
    return weight, torch.zeros(weight.shape[1]) if bias is None else bias


def _attention(state: Mapping[str, Tensor], at: str, parts: tuple[str, str, str], out: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for letter, part in zip("qkv", parts, strict=True):
        found[letter], found[f"b_{letter}"] = _linear(state, at + part)
    found["o"], found["b_o"] = _linear(state, out)
    return found


def _mlp(state: Mapping[str, Tensor], first: str, last: str, up: str | None = None) -> dict[str, Any]:
    w_in, b_in = _linear(state, first)
    w_out, b_out = _linear(state, last)
    w_up, b_up = (None, None) if up is None else _linear(state, up)
    return {"w_in": w_in, "b_in": b_in, "w_up": w_up, "b_up": b_up, "w_out": w_out, "b_out": b_out}
