"""Recordings in the format of the released ones, made by the slow loops, of kinds that may not lie here."""

from typing import Any

import torch
from torch import Tensor

from tests.oracles import released_language as slow
from tests.uoe_model.reference.recorded import LOWEST_ENDING, Case

ENDINGS = {"": slow.take_torch, LOWEST_ENDING: slow.take_lowest}


class Draws:
    """Seeded normals in the sizes of the recordings: matrices 0.3, vectors 0.2, norms about 1."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self._generator, dtype=torch.float64)

    def ids(self, *shape: int, below: int) -> Tensor:
        return torch.randint(below, shape, generator=self._generator)

    def _norm(self, width: int) -> dict[str, Tensor]:
        return {
            "layer_norm.weight": 1 + self.normal(width, scale=0.1),
            "layer_norm.bias": self.normal(width, scale=0.2),
        }

    def attention(self, width: int = 16, experts: int = 4) -> dict[str, Tensor]:
        head = width // experts
        return {
            "switch_gate.w_gate.weight": self.normal(experts, width, scale=0.3),
            "switch_gate.w_gate.bias": self.normal(experts, scale=0.2),
            "W_q.weight.0": self.normal(experts, width, head, scale=0.3),
            "W_q.bias.0": self.normal(experts, 1, head, scale=0.2),
            "W_kv.weight.0": self.normal(experts, width, 2 * head, scale=0.3),
            "W_kv.bias.0": self.normal(experts, 1, 2 * head, scale=0.2),
            "ff.weight.0": self.normal(experts, head, width, scale=0.3),
            "ff.bias": self.normal(experts, width, scale=0.2),
        } | self._norm(width)

    def mlp(self, width: int = 16, hidden: int = 8, experts: int = 4, sample: int = 0) -> dict[str, Tensor]:
        router = {
            "switch_gate.w_gate.weight": self.normal(experts, width, scale=0.3),
            "switch_gate.w_gate.bias": self.normal(experts, scale=0.2),
        }
        if sample:
            router = {
                "switch.weight": self.normal(experts, sample * width, scale=0.3),
                "switch.bias": self.normal(experts, scale=0.2),
            }
        return (
            router
            | {
                "linear1.weight.0": self.normal(experts, width, hidden, scale=0.3),
                "linear1.bias.0": self.normal(experts, 1, hidden, scale=0.2),
                "linear2.weight.0": self.normal(experts, hidden, width, scale=0.3),
                "linear2.bias": self.normal(experts, width, scale=0.2),
                "linear3.weight": self.normal(width, width, scale=0.3),
                "linear3.bias": self.normal(width, scale=0.2),
            }
            | self._norm(width)
        )

    def layers(self, count: int, sample: int = 0) -> dict[str, Tensor]:
        return {
            f"layers.{layer}.{part}.{key}": value
            for layer in range(count)
            for part, own in (("dec_attn", self.attention()), ("pos_ff", self.mlp(sample=sample)))
            for key, value in own.items()
        }


def causal(length: int, memory: int = 0) -> Tensor:
    return torch.triu(torch.ones(length, memory + length, dtype=torch.uint8), 1 + memory)


def case_of(recorded: dict[str, Any], parameters: dict[str, Tensor]) -> Case:
    found = {key: value.detach().numpy() if isinstance(value, Tensor) else value for key, value in recorded.items()}
    return Case(found | {f"param/{key}": value.detach().numpy() for key, value in parameters.items()})


def with_gradients(
    recorded: dict[str, Any], y: Tensor, draws: Draws, leaves: dict[str, Tensor], **inputs: Tensor
) -> None:
    r = draws.normal(*y.shape)
    (y * r).sum().backward()
    recorded |= {"grad_r": r} | {f"grad_{key}": value.grad for key, value in inputs.items()}
    recorded |= {f"grad/{key}": leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}
    recorded["params_without_gradient"] = [key for key, leaf in leaves.items() if leaf.grad is None]


def leaves_of(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.clone().requires_grad_() for key, value in parameters.items()}


def attention_case(*, size: int, length: int, memory: int = 0, post_norm: bool = True, seed: int = 0) -> Case:
    draws = Draws(seed)
    leaves, x = leaves_of(draws.attention()), draws.normal(size, length, 16).requires_grad_()
    mems = draws.normal(memory, size, 16).requires_grad_() if memory else None
    recorded: dict[str, Any] = {"x": x, "mask": causal(length, memory)} | ({"mems": mems} if memory else {})
    for ending, take in ENDINGS.items():
        past = None if mems is None else mems.transpose(0, 1)
        y, sites = slow.attention(x, past, recorded["mask"], leaves, post_norm=post_norm, take=take)
        recorded |= {f"y{ending}": y, f"seq_ids{ending}": sites["attn"].ids, "gate": sites["attn"].gate}
        if memory:
            recorded |= {f"mem_seq_ids{ending}": sites["attn_mem"].ids, "mem_gate": sites["attn_mem"].gate}
    with_gradients(recorded, recorded["y"], draws, leaves, x=x, **({} if mems is None else {"mems": mems}))
    return case_of(recorded, leaves)


def data_case(*, first: int, second: int, post_norm: bool = True, seed: int = 0) -> Case:
    draws = Draws(seed)
    leaves, x = leaves_of(draws.mlp()), draws.normal(first, second, 16).requires_grad_()
    recorded: dict[str, Any] = {"x": x}
    for ending, take in ENDINGS.items():
        y, site = slow.mlp_ds(x, leaves, post_norm=post_norm, take=take)
        recorded |= {f"y{ending}": y, f"seq_ids{ending}": site.ids, "gate": site.gate}
    with_gradients(recorded, recorded["y"], draws, leaves, x=x)
    return case_of(recorded, leaves)


def stack_case(*, length: int, size: int, sample: int = 0, seed: int = 0) -> Case:
    draws = Draws(seed)
    leaves, x = leaves_of(draws.layers(2, sample)), draws.normal(length, size, 16).requires_grad_()
    recorded: dict[str, Any] = {"x": x}
    for ending, take in ENDINGS.items():
        value = x
        for layer in range(2):
            own = slow.under(leaves, f"layers.{layer}.")
            result = slow.decoder_layer(value, None, causal(length), own, post_norm=True, take=take)
            value = result.out
            for part, site in result.sites.items():
                recorded |= {f"l{layer}_{part}_seq_ids{ending}": site.ids, f"l{layer}_{part}_gate{ending}": site.gate}
            recorded[f"layer{layer}_out{ending}"] = value
        recorded[f"y{ending}"] = value
    recorded = {key: value for key, value in recorded.items() if not key.endswith(f"_gate{LOWEST_ENDING}")}
    with_gradients(recorded, recorded["y"], draws, leaves, x=x)
    return case_of(recorded, leaves)


def model_case(*, memory: int, post_norm: bool = True, length: int = 6, size: int = 3, seed: int = 0) -> Case:
    draws = Draws(seed)
    parameters = draws.layers(2) | {
        "word_emb.emb_layers.0.weight": draws.normal(20, 16, scale=0.3),
        "crit.out_layers.0.bias": draws.normal(20, scale=0.2),
        "r_emb": draws.normal(2, length + memory, 4, 4, scale=0.3),
    }
    data = draws.ids(3 * length + 1, size, below=20)
    recorded: dict[str, Any] = {"data": data}
    for ending, take in ENDINGS.items():
        with torch.no_grad():
            found = slow.segments(data, parameters, length=length, memory_length=memory, post_norm=post_norm, take=take)
        for number, segment in enumerate(found):
            at = f"seg{number}/"
            recorded[f"{at}loss{ending}"] = segment.loss
            recorded |= {f"{at}mems{n}{ending}": value for n, value in enumerate(segment.memory)}
            for n, layer in enumerate(segment.layers):
                recorded[f"{at}layer{n}_out{ending}"] = layer.out
                recorded |= {f"{at}l{n}_{part}_seq_ids{ending}": site.ids for part, site in layer.sites.items()}
                if not ending:
                    recorded |= {f"{at}l{n}_{part}_gate": site.gate for part, site in layer.sites.items()}
    return case_of(recorded, parameters)
