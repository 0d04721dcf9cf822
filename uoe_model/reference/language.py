"""The released language model: attention v3 with memory, MLP by data (DS) and by sample (ES), the whole decoder."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.errors import ConfigError
from uoe_model.reference.blocks import How, Parameters, Routed, mlp_v2, under
from uoe_model.reference.selection import fill_slots, gather_rows, request, scatter_rows

GATE_EPSILON = 1e-8
MLP_TOP_K = 2
LAYER_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Attended:
    """Output (B, S, D) with residual and norm; the routing of the units, and that of the memory if there is one."""

    out_BSD: Tensor
    routed: Routed
    memory: Routed | None


def attention(
    x_BSD: Tensor,
    forbidden: Tensor,
    parameters: Parameters,
    *,
    memory_BMD: Tensor | None = None,
    post_norm: bool = True,
    how: How,
    site: str = "",
) -> Attended:
    """SMHA v3 of the language model; half of the experts are asked (M11).

    Args:
        forbidden: (S, M + S), nonzero where a unit may not look; columns of the memory first.

    Raises:
        ConfigError: as released, the memory is shorter than the slots of an expert (M4).
    """
    quirks = how.quirks
    w_q, w_kv = parameters["W_q.weight.0"], parameters["W_kv.weight.0"]
    num_experts, width = w_q.shape[0], w_q.shape[2]
    routed = _route(x_BSD, parameters, num_experts // 2, how, site)
    rows = gather_rows(x_BSD, routed.slots.ids_EBL)
    num_slots = rows.shape[2]
    memory, context, live = None, rows, routed.slots.live_EBL
    ids = routed.slots.ids_EBL
    num_memory = 0
    if memory_BMD is not None and memory_BMD.shape[1]:
        memory = _route(memory_BMD, parameters, num_experts // 2, how, f"{site}_mem")
        remembered = gather_rows(memory_BMD, memory.slots.ids_EBL)
        context = torch.cat([remembered, rows], 2)
        live = torch.cat([memory.slots.live_EBL, live], -1)
        num_memory = remembered.shape[2]
    q = _project(rows, w_q, parameters["W_q.bias.0"])
    k, v = _project(context, w_kv, parameters["W_kv.bias.0"]).chunk(2, -1)
    length = 0 if memory_BMD is None else memory_BMD.shape[1]
    if quirks.slot_positions:
        at_q = torch.arange(num_slots, device=x_BSD.device).expand(ids.shape)
        at_k = torch.arange(num_memory + num_slots, device=x_BSD.device).expand(*ids.shape[:2], -1)
    else:
        at_q = ids + length
        at_k = at_q if memory is None else torch.cat([memory.slots.ids_EBL, at_q], -1)
    q, k = _rotate(q, at_q), _rotate(k, at_k)
    scores = q @ k.transpose(-1, -2) / width**0.5
    hidden = _hidden(forbidden, x_BSD.shape[1], length, num_slots, num_memory, ids, memory, quirks.mask_from_length)
    scores = scores.masked_fill(hidden, -torch.inf).masked_fill(~live.unsqueeze(2), torch.finfo(scores.dtype).min)
    heads = scores.softmax(-1) @ v
    y = _project(heads, parameters["ff.weight.0"], parameters["ff.bias"].unsqueeze(1))
    y_BSD = scatter_rows(y, routed.slots, x_BSD.shape[1])
    return Attended(out_BSD=_finish(x_BSD, y_BSD, parameters, post_norm), routed=routed, memory=memory)


def _hidden(
    forbidden: Tensor,
    length: int,
    memory_length: int,
    num_slots: int,
    num_memory: int,
    ids_EBL: Tensor,
    memory: Routed | None,
    from_length: bool,
) -> Tensor:
    """bool, which slots each slot may not look at.

    As released, rows and columns are cut by slot number from the mask of units, the current units' from column S on
    (M4: it should be M). Repaired, every slot is looked up by its own position.
    """
    if from_length:
        if memory is None:
            return forbidden[:num_slots, :num_slots] != 0
        current = forbidden[:num_slots, length : length + num_slots]
        if current.shape[1] < num_slots:
            raise ConfigError(
                f"{memory_length} steps of memory are fewer than the {num_slots} slots of an expert: the released mask "
                "ends before them; remember more, or switch off mask_from_length"
            )
        return torch.cat([forbidden[:num_slots, :num_memory], current], 1) != 0
    columns = ids_EBL + memory_length
    if memory is not None:
        columns = torch.cat([memory.slots.ids_EBL, columns], -1)
    return forbidden[ids_EBL.unsqueeze(-1), columns.unsqueeze(-2)] != 0


def mlp_ds(x_BSD: Tensor, parameters: Parameters, *, post_norm: bool = True, how: How, site: str = "") -> Routed:
    """UoME_DS: as MLP v2 with a small epsilon, and its own residual and norm."""
    everyone = torch.ones(x_BSD.shape[:2], dtype=torch.bool, device=x_BSD.device)
    routed = mlp_v2(x_BSD, everyone, parameters, top_k=MLP_TOP_K, how=how, epsilon=GATE_EPSILON, site=site)
    return dataclasses.replace(routed, out_BSD=_finish(x_BSD, routed.out_BSD, parameters, post_norm))


def mlp_es(x_BSD: Tensor, parameters: Parameters, *, top_k: int, post_norm: bool = True) -> tuple[Tensor, Tensor]:
    """UoME_ES, whose released form runs for k = n only (M6); output (B, S, D) and router probabilities (B, E)."""
    weight = parameters["switch.weight"]
    if weight.shape[1] != x_BSD[0].numel():
        raise ConfigError(
            f"the sample-wise router was made for {weight.shape[1]} features of a whole sample, not {x_BSD[0].numel()}"
        )
    p_BE = F.linear(x_BSD.flatten(1), weight, parameters["switch.bias"]).softmax(-1)
    chosen_BE = torch.zeros_like(p_BE).scatter(-1, p_BE.topk(top_k, -1).indices, 1.0)
    rows = x_BSD.expand(weight.shape[0], *x_BSD.shape)
    hidden = F.gelu(_project(rows, parameters["linear1.weight.0"], parameters["linear1.bias.0"]))
    y = _project(hidden, parameters["linear2.weight.0"], parameters["linear2.bias"].unsqueeze(1))
    total = (y * chosen_BE.t()[..., None, None]).sum(0)
    return _finish(x_BSD, total, parameters, post_norm), p_BE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerOutput:
    """Output (S, B, D), sequence first, and how its blocks routed (`mlp`: None for ES)."""

    out_SBD: Tensor
    attention: Attended
    mlp: Routed | None


def decoder_layer(
    x_SBD: Tensor,
    forbidden: Tensor,
    parameters: Parameters,
    *,
    memory_MBD: Tensor | None = None,
    post_norm: bool = True,
    how: How,
    site: str = "",
) -> LayerOutput:
    """One released decoder layer; its MLP gets the sequence-first tensor (M1)."""
    attended = attention(
        x_SBD.transpose(0, 1),
        forbidden,
        under(parameters, "dec_attn."),
        memory_BMD=None if memory_MBD is None else memory_MBD.transpose(0, 1),
        post_norm=post_norm,
        how=how,
        site=f"{site}_attn",
    )
    inner = under(parameters, "pos_ff.")
    across = how.quirks.across_batch
    given = attended.out_BSD.transpose(0, 1) if across else attended.out_BSD
    routed = None
    if "switch.weight" in inner:
        out, _ = mlp_es(given, inner, top_k=len(inner["switch.weight"]), post_norm=post_norm)
    else:
        routed = mlp_ds(given, inner, post_norm=post_norm, how=how, site=f"{site}_mlp")
        out = routed.out_BSD
    return LayerOutput(out_SBD=out if across else out.transpose(0, 1), attention=attended, mlp=routed)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SegmentOutput:
    """Nats per token (S, B), every layer's output, and the memory for the next segment, a tensor per layer and end."""

    loss_SB: Tensor
    layers: tuple[LayerOutput, ...]
    memory: tuple[Tensor, ...]


def run_segment(
    data_SB: Tensor,
    target_SB: Tensor,
    memory: tuple[Tensor, ...],
    parameters: Parameters,
    *,
    memory_length: int,
    post_norm: bool = True,
    how: How,
) -> SegmentOutput:
    """One segment of the whole language model, without adaptive softmax.

    Learned positions are added to every layer's input and to its memory, which already holds those of its own segment
    (M9); what is remembered is the layers' inputs with positions.

    Args:
        memory: of the segment before, one (M, B, D) per layer and one of the last output; () at the start.
    """
    words = parameters["word_emb.emb_layers.0.weight"]
    length, width = data_SB.shape[0], words.shape[1]
    table = parameters["r_emb"].flatten(2)  # (layers, S + memory, D)
    num_layers = len(table)
    x = words[data_SB] * width**0.5
    past = memory[0].shape[0] if memory else 0
    forbidden = torch.triu(torch.ones(length, past + length, device=x.device), diagonal=1 + past)
    kept, layers = [], []
    for layer in range(num_layers):
        remembered = None
        if past:
            own = table[layer][:-length]
            if len(own) < past:
                own = torch.cat([table[layer][:1].expand(past - len(own), -1), own])
            remembered = memory[layer] + own[-past:].unsqueeze(1)
        x = x + table[layer][-length:].unsqueeze(1)
        kept.append(_remember(remembered, x, memory_length))
        out = decoder_layer(
            x,
            forbidden,
            under(parameters, f"layers.{layer}."),
            memory_MBD=remembered,
            post_norm=post_norm,
            how=how,
            site=f"l{layer}",
        )
        layers.append(out)
        x = out.out_SBD
    kept.append(_remember(memory[-1] if past else None, x, memory_length))
    logits = F.linear(x, words, parameters.get("crit.out_layers.0.bias"))
    loss = F.cross_entropy(logits.flatten(0, 1), target_SB.flatten(), reduction="none").view_as(target_SB)
    return SegmentOutput(loss_SB=loss, layers=tuple(layers), memory=tuple(kept))


def _remember(before: Tensor | None, now: Tensor, memory_length: int) -> Tensor:
    everything = now if before is None else torch.cat([before, now])
    return everything[max(len(everything) - memory_length, 0) :].detach()


def _route(x_BSD: Tensor, parameters: Parameters, top_k: int, how: How, site: str) -> Routed:
    requests = request(
        x_BSD,
        parameters["switch_gate.w_gate.weight"],
        parameters["switch_gate.w_gate.bias"],
        top_k,
        over_batch=how.quirks.batch_gate,
        epsilon=GATE_EPSILON,
        valid_BS=torch.ones(x_BSD.shape[:2], dtype=torch.bool, device=x_BSD.device),
        ties=how.ties,
    )
    slots = fill_slots(
        requests,
        None,
        filler=how.quirks.filler,
        weighted=not how.quirks.unweighted,
        ties=how.ties,
        forced_EBL=how.forced.get(site),
    )
    return Routed(out_BSD=x_BSD, requests=requests, slots=slots)


def _project(rows_EBLD: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    out = torch.bmm(rows_EBLD.flatten(1, 2), weight) + bias
    return out.view(*rows_EBLD.shape[:3], -1)


def _rotate(x_EBLd: Tensor, position_EBL: Tensor) -> Tensor:
    """Rotate feature i with feature i + width / 2, base 10000."""
    width = x_EBLd.shape[-1]
    frequency = 1.0 / 10000 ** (torch.arange(0, width, 2, dtype=torch.float32, device=x_EBLd.device) / width)
    angle = position_EBL.unsqueeze(-1).float() * frequency
    cos, sin = angle.cos().to(x_EBLd.dtype), angle.sin().to(x_EBLd.dtype)
    first, second = x_EBLd.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _finish(x_BSD: Tensor, y_BSD: Tensor, parameters: Parameters, post_norm: bool) -> Tensor:
    """Residual, and the norm after it; with the norm "before" there is none at all (M8)."""
    total = x_BSD + y_BSD
    if not post_norm:
        return total
    scale, shift = parameters["layer_norm.weight"], parameters["layer_norm.bias"]
    return F.layer_norm(total, (total.shape[-1],), scale, shift, LAYER_EPSILON)
