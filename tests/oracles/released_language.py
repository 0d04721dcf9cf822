"""The released language model as loops over samples, experts and slots, from the formulas of what that code computes.

Slow, float64, and differentiable by torch, so that gradients of parameters can be compared too.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]
Take = Callable[[Tensor, int], Tensor]
"""Gates (B, S, experts) and a number of slots -> ascending positions (experts, B, slots)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """Gates (B, S, experts) and who sits in the slots (experts, B, L)."""

    gate: Tensor
    ids: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    """Output (S, B, D) of a decoder layer and its sites by name: attn, attn_mem, mlp."""

    out: Tensor
    sites: dict[str, Site]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Segment:
    """Nats (S, B), the layers, and the memory of every layer and of the end."""

    loss: Tensor
    layers: list[Layer]
    memory: list[Tensor]


def take_lowest(gate: Tensor, slots: int) -> Tensor:
    """Of equal gates the lower position."""
    size, length, experts = gate.shape
    return torch.tensor(
        [
            [sorted(sorted(range(length), key=lambda t: (-float(gate[b, t, e]), t))[:slots]) for b in range(size)]
            for e in range(experts)
        ]
    ).reshape(experts, size, slots)


def take_torch(gate: Tensor, slots: int) -> Tensor:
    """Of equal gates whichever torch's float32 top-k over [experts, B, S] takes."""
    return gate.permute(2, 0, 1).contiguous().float().topk(slots, -1).indices.sort(-1).values


@torch.no_grad()
def gates(x: Tensor, parameters: Parameters, top_k: int) -> Tensor:
    """B * p / (sum of p over the batch + 1e-8), of requested experts only; 0 elsewhere."""
    weight, bias = parameters["switch_gate.w_gate.weight"], parameters["switch_gate.w_gate.bias"]
    size, length, experts = *x.shape[:2], len(weight)
    asked = torch.zeros(size, length, experts, dtype=x.dtype)
    for b in range(size):
        for t in range(length):
            logits = [float(weight[e] @ x[b, t] + bias[e]) for e in range(experts)]
            powers = [math.exp(one - max(logits)) for one in logits]
            for e in sorted(range(experts), key=lambda e: -powers[e])[:top_k]:
                asked[b, t, e] = powers[e] / sum(powers)
    out = torch.zeros_like(asked)
    for t in range(length):
        for e in range(experts):
            total = sum(float(asked[b, t, e]) for b in range(size)) + 1e-8
            for b in range(size):
                out[b, t, e] = asked[b, t, e] / total * size
    return out


def most_wanted(gate: Tensor) -> int:
    """The largest number of units that ask one expert in one sample."""
    return max(
        sum(bool(gate[b, t, e] > 0) for t in range(gate.shape[1]))
        for b in range(gate.shape[0])
        for e in range(gate.shape[2])
    )


def turn(value: Tensor, slot: int) -> Tensor:
    """Rotate feature i with feature i + half by slot / 10000^(2i / width), in float32 as the released table."""
    width = len(value)
    frequency = 1.0 / 10000 ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angle = (torch.tensor(float(slot)) * frequency).to(torch.float32)
    cos, sin = angle.cos().to(value.dtype), angle.sin().to(value.dtype)
    a, b = value[: width // 2], value[width // 2 :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin])


def finish(x: Tensor, y: Tensor, parameters: Parameters, post_norm: bool) -> Tensor:
    """Residual and LayerNorm; neither before nor after it if the norm is said to come first."""
    total = x + y
    if not post_norm:
        return total
    centred = total - total.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * parameters["layer_norm.weight"] + parameters["layer_norm.bias"]


def attention(
    x: Tensor, memory: Tensor | None, mask: Tensor, parameters: Parameters, *, post_norm: bool, take: Take
) -> tuple[Tensor, dict[str, Site]]:
    """SMHA_v3 over x (B, S, D) and memory (B, M, D); mask (S, M + S)."""
    w_q, w_kv = parameters["W_q.weight.0"], parameters["W_kv.weight.0"]
    experts, _, width = w_q.shape
    gate = gates(x, parameters, experts // 2)
    sites = {"attn": Site(gate=gate, ids=take(gate, most_wanted(gate)))}
    if memory is not None:
        past = gates(memory, parameters, experts // 2)
        sites["attn_mem"] = Site(gate=past, ids=take(past, most_wanted(past)))
    y = [[torch.zeros_like(row) for row in sample] for sample in x]
    for e in range(experts):
        for b in range(len(x)):
            ids = sites["attn"].ids[e, b].tolist()
            old = [] if memory is None else [memory[b, j] for j in sites["attn_mem"].ids[e, b].tolist()]
            rows = [x[b, t] for t in ids]
            both = [row @ w_kv[e] + parameters["W_kv.bias.0"][e, 0] for row in old + rows]
            keys = [turn(one[:width], slot) for slot, one in enumerate(both)]
            for i, row in enumerate(rows):
                query = turn(row @ w_q[e] + parameters["W_q.bias.0"][e, 0], i)
                # Memory slot j reads column j; current slot j reads column S + j, which is right for M = S only.
                columns = list(range(len(old))) + [(len(x[b]) if old else 0) + j for j in range(len(rows))]
                seen = [slot for slot, column in enumerate(columns) if not mask[i, column]]
                scores = torch.stack([query @ keys[slot] / math.sqrt(width) for slot in seen])
                share = (scores - scores.max()).exp()
                share = share / share.sum()
                head = sum(share[n] * both[slot][width:] for n, slot in enumerate(seen))
                y[b][ids[i]] = y[b][ids[i]] + head @ parameters["ff.weight.0"][e] + parameters["ff.bias"][e]
    total = torch.stack([torch.stack(sample) for sample in y])
    return finish(x, total, parameters, post_norm), sites


def expert_mlp(row: Tensor, parameters: Parameters, e: int) -> Tensor:
    """One expert's MLP with the exact GELU."""
    inner = row @ parameters["linear1.weight.0"][e] + parameters["linear1.bias.0"][e, 0]
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    return inner @ parameters["linear2.weight.0"][e] + parameters["linear2.bias"][e]


def mlp_ds(x: Tensor, parameters: Parameters, *, post_norm: bool, take: Take) -> tuple[Tensor, Site]:
    """UoME_DS over (dimension 0, dimension 1, D): every expert takes half of dimension 1."""
    gate = gates(x, parameters, 2)
    site = Site(gate=gate, ids=take(gate, x.shape[1] // 2))
    y = [[torch.zeros_like(row) for row in sample] for sample in x]
    for e in range(len(site.ids)):
        for b in range(len(x)):
            for t in site.ids[e, b].tolist():
                y[b][t] = y[b][t] + expert_mlp(x[b, t], parameters, e)
    total = torch.stack([torch.stack(sample) for sample in y])
    return finish(x, total, parameters, post_norm), site


def mlp_es(x: Tensor, parameters: Parameters, *, post_norm: bool) -> Tensor:
    """UoME_ES in the only form that runs: all experts of every sample."""
    experts = len(parameters["switch.weight"])
    y = torch.stack(
        [torch.stack([sum(expert_mlp(row, parameters, e) for e in range(experts)) for row in one]) for one in x]
    )
    return finish(x, y, parameters, post_norm)


def under(parameters: Parameters, prefix: str) -> dict[str, Tensor]:
    """Parameters of one part."""
    return {key.removeprefix(prefix): value for key, value in parameters.items() if key.startswith(prefix)}


def decoder_layer(
    x: Tensor, memory: Tensor | None, mask: Tensor, parameters: Parameters, *, post_norm: bool, take: Take
) -> Layer:
    """Attention sample first, the MLP on the sequence-first tensor; x (S, B, D), memory (M, B, D)."""
    past = None if memory is None else memory.transpose(0, 1)
    attended, sites = attention(
        x.transpose(0, 1), past, mask, under(parameters, "dec_attn."), post_norm=post_norm, take=take
    )
    inner = under(parameters, "pos_ff.")
    if "switch.weight" in inner:
        out = mlp_es(attended.transpose(0, 1), inner, post_norm=post_norm)
    else:
        out, site = mlp_ds(attended.transpose(0, 1), inner, post_norm=post_norm, take=take)
        sites["mlp"] = site
    return Layer(out=out, sites=sites)


def segments(
    data: Tensor, parameters: Parameters, *, length: int, memory_length: int, post_norm: bool, take: Take
) -> list[Segment]:
    """Consecutive segments of token ids (time, B), each with the memory of the one before; the next id is the target.

    As in the released code, memory and inputs are added to in place: what is remembered holds its positions already.
    """
    words, table = parameters["word_emb.emb_layers.0.weight"], parameters["r_emb"].flatten(2)
    width, found, memory = words.shape[1], list[Segment](), list[Tensor]()
    for start in range(0, len(data) - 1, length):
        x = torch.stack([words[row] * math.sqrt(width) for row in data[start : start + length]])
        past = len(memory[0]) if memory else 0
        mask = torch.tensor([[int(j >= past + i + 1) for j in range(past + length)] for i in range(length)])
        inputs, layers, memory = [], [], [one.clone() for one in memory]
        for number, positions in enumerate(table):
            for j in range(past):
                memory[number][j] += positions[: len(positions) - length][len(positions) - length - past + j]
            x = torch.stack([x[t] + positions[len(positions) - length + t] for t in range(length)])
            inputs.append(x)
            remembered = memory[number] if past else None
            own = under(parameters, f"layers.{number}.")
            layers.append(decoder_layer(x, remembered, mask, own, post_norm=post_norm, take=take))
            x = layers[-1].out
        inputs.append(x)
        steps = [([*memory[n]] if past else []) + [*one] if memory_length else [] for n, one in enumerate(inputs)]
        memory = [torch.stack(one[-memory_length:]).detach() for one in steps] if memory_length else []
        loss = torch.zeros(length, data.shape[1], dtype=x.dtype)
        for t in range(length):
            for b in range(data.shape[1]):
                logits = words @ x[t, b] + parameters["crit.out_layers.0.bias"]
                loss[t, b] = logits.logsumexp(0) - logits[data[start + t + 1, b]]
        found.append(Segment(loss=loss, layers=layers, memory=memory))
    return found
