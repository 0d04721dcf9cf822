"""The released classifier's blocks: attention v3, MLP v2 (GELU) and v3 (SwiGLU), and expert selection v1.

Parameters come as a mapping from the released names to tensors, without the block's prefix.
"""

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.reference.quirks import Quirks, TieRule
from uoe_model.reference.selection import Requests, Slots, fill_slots, gather_rows, request, scatter_rows

Parameters = Mapping[str, Tensor]

GATE_EPSILON = 1.0
"""Of the classifier's gates (L6: it changes nothing but the gates' size)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Routed:
    """A block's output (B, S, D) without the residual, and how it came about."""

    out_BSD: Tensor
    requests: Requests
    slots: Slots


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """How a call routes: quirks, ties, and per site the positions that are forced, if any."""

    quirks: Quirks = dataclasses.field(default_factory=Quirks)
    ties: TieRule = "torch"
    forced: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


def rotate_input(u_BSD: Tensor, num_experts: int) -> Tensor:
    """Rotate the second half of each expert's features by position, pairs interleaved, and put it first (L8)."""
    parts = u_BSD.view(*u_BSD.shape[:2], num_experts, -1)
    plain, turned = parts.chunk(2, -1)
    return torch.cat([_rotate_pairs(turned, 1), plain], -1).flatten(-2)


def _rotate_pairs(x: Tensor, dim: int) -> Tensor:
    """Rotate features (2i, 2i + 1) by t / 10000^(2i / width), t the index along `dim`; angles in float32."""
    width = x.shape[-1]
    frequency = 1.0 / 10000 ** (torch.arange(0, width, 2, dtype=torch.float32, device=x.device) / width)
    angle = torch.outer(torch.arange(x.shape[dim], dtype=torch.float32, device=x.device), frequency)
    shape = [1] * x.ndim
    shape[dim], shape[-1] = angle.shape
    cos, sin = angle.cos().view(shape).to(x.dtype), angle.sin().view(shape).to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def attention(
    u_BSD: Tensor, mask_BS: Tensor, parameters: Parameters, *, top_k: int, num_heads: int, how: How, site: str = ""
) -> Routed:
    """SMHA v3 over a normed input; `num_heads` only sets the divisor of the scores (L11).

    Args:
        mask_BS: 1 for real units.
    """
    quirks = how.quirks
    w_qkv, b_qkv = parameters["W_qkv.weight.0"], parameters["W_qkv.bias.0"]
    num_experts, width = w_qkv.shape[0], u_BSD.shape[-1]
    x_BSD = rotate_input(u_BSD, num_experts) if quirks.early_rotation else u_BSD
    requests = request(
        x_BSD,
        parameters["switch_gate.weight"],
        parameters["switch_gate.bias"],
        top_k,
        over_batch=False,
        epsilon=GATE_EPSILON,
        valid_BS=_routed(mask_BS, quirks),
        ties=how.ties,
    )
    slots = fill_slots(
        requests,
        None,
        filler=quirks.filler,
        weighted=not quirks.unweighted,
        ties=how.ties,
        forced_EBL=how.forced.get(site),
    )
    rows = gather_rows(x_BSD, slots.ids_EBL)
    qkv = torch.bmm(rows.flatten(1, 2), w_qkv) + b_qkv
    q, k, v = qkv.view(*rows.shape[:3], -1).chunk(3, -1)
    if not quirks.early_rotation:
        q, k = (_rotate_at(part, slots.ids_EBL, x_BSD.shape[1]) for part in (q, k))
    divisor = (width / num_heads if quirks.wide_scores else width / num_experts) ** 0.5
    scores = q @ k.transpose(-1, -2) / divisor
    key_mask = mask_BS.expand(num_experts, *mask_BS.shape).gather(-1, slots.ids_EBL).unsqueeze(2).to(scores.dtype)
    if quirks.additive_mask:
        scores = scores - 1e6 * (1 - key_mask)
    else:
        scores = scores.masked_fill(key_mask == 0, torch.finfo(scores.dtype).min)
    scores = scores.masked_fill(~slots.live_EBL.unsqueeze(2), torch.finfo(scores.dtype).min)
    heads = scores.softmax(-1) @ v
    y = torch.bmm(heads.flatten(1, 2), parameters["ff.weight.0"]) + parameters["ff.bias"].unsqueeze(1)
    out = scatter_rows(y.view(*rows.shape[:3], -1), slots, u_BSD.shape[1])
    return Routed(out_BSD=out, requests=requests, slots=slots)


def mlp_v2(
    u_BSD: Tensor,
    mask_BS: Tensor,
    parameters: Parameters,
    *,
    top_k: int,
    how: How,
    epsilon: float = GATE_EPSILON,
    site: str = "",
) -> Routed:
    """UoME v2: every expert takes int(0.5 * S) units of each sample."""
    quirks = how.quirks
    requests = request(
        u_BSD,
        parameters["switch_gate.w_gate.weight"],
        parameters["switch_gate.w_gate.bias"],
        top_k,
        over_batch=quirks.batch_gate,
        epsilon=epsilon,
        valid_BS=_routed(mask_BS, quirks),
        ties=how.ties,
    )
    slots = fill_slots(
        requests,
        _capacity(requests, top_k, quirks),
        filler=quirks.filler,
        weighted=not quirks.unweighted,
        ties=how.ties,
        forced_EBL=how.forced.get(site),
    )
    rows = gather_rows(u_BSD, slots.ids_EBL)
    hidden = F.gelu(torch.bmm(rows.flatten(1, 2), parameters["linear1.weight.0"]) + parameters["linear1.bias.0"])
    y = torch.bmm(hidden, parameters["linear2.weight.0"]) + parameters["linear2.bias"].unsqueeze(1)
    out = scatter_rows(y.view(*rows.shape[:3], -1), slots, u_BSD.shape[1])
    return Routed(out_BSD=out, requests=requests, slots=slots)


def mlp_v3(u_BSD: Tensor, parameters: Parameters, *, top_k: int, how: How, site: str = "") -> Routed:
    """UoME v3: SwiGLU, nothing dropped, the output of a unit scaled by the sum of its gates."""
    quirks = how.quirks
    everyone = torch.ones(u_BSD.shape[:2], dtype=torch.bool, device=u_BSD.device)
    requests = request(
        u_BSD,
        parameters["switch_gate.weight"],
        parameters["switch_gate.bias"],
        top_k,
        over_batch=False,
        epsilon=GATE_EPSILON,
        valid_BS=everyone,
        ties=how.ties,
    )
    slots = fill_slots(
        requests,
        None,
        filler=quirks.filler,
        weighted=not quirks.summed_gates,
        ties=how.ties,
        forced_EBL=how.forced.get(site),
    )
    rows = gather_rows(u_BSD, slots.ids_EBL)
    flat = rows.flatten(1, 2)
    gate = F.silu(torch.bmm(flat, parameters["linear1.weight.0"]) + parameters["linear1.bias.0"])
    up = torch.bmm(flat, parameters["linear2.weight.0"]) + parameters["linear2.bias.0"]
    y = torch.bmm(gate * up, parameters["linear3.weight.0"]) + parameters["linear3.bias"].unsqueeze(1)
    out = scatter_rows(y.view(*rows.shape[:3], -1), slots, u_BSD.shape[1])
    if quirks.summed_gates:
        out = out * requests.gate_BSE.sum(-1, keepdim=True)
    return Routed(out_BSD=out, requests=requests, slots=slots)


def expert_selection(x_BSD: Tensor, parameters: Parameters, *, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """MLP v1: a sample chooses its experts from all its units, and they take all of them.

    Returns:
        Output (B, S, D); router probabilities (B, E); which experts were chosen (B, E), 1 or 0.
    """
    p_BE = F.linear(x_BSD.flatten(1), parameters["switch.weight"], parameters["switch.bias"]).softmax(-1)
    chosen_BE = torch.zeros_like(p_BE).scatter(-1, p_BE.topk(top_k, -1).indices, 1.0)
    out = torch.zeros_like(x_BSD)
    for expert in range(p_BE.shape[1]):
        hidden = F.gelu(F.linear(x_BSD, parameters[f"linear1.weight.{expert}"], parameters[f"linear1.bias.{expert}"]))
        y_BSD = F.linear(hidden, parameters[f"linear2.weight.{expert}"]) + parameters["linear2.bias"]
        out = out + y_BSD * chosen_BE[:, expert].view(-1, 1, 1)
    return out, p_BE, chosen_BE


def under(parameters: Parameters, prefix: str) -> dict[str, Tensor]:
    """Those whose names start with the prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in parameters.items() if key.startswith(prefix)}


def _routed(mask_BS: Tensor, quirks: Quirks) -> Tensor:
    return torch.ones_like(mask_BS, dtype=torch.bool) if quirks.routed_padding else mask_BS != 0


def _capacity(requests: Requests, top_k: int, quirks: Quirks) -> Tensor:
    """Slots per expert of each sample: half of the sequence, or an even share of what is routed."""
    units_B = requests.valid_BS.sum(-1)
    if quirks.half_capacity:
        return torch.full_like(units_B, requests.valid_BS.shape[1] // 2)
    num_experts = requests.p_BSE.shape[-1]
    return -(-top_k * units_B // num_experts)


def _rotate_at(x_EBLd: Tensor, ids_EBL: Tensor, length: int) -> Tensor:
    """Rotate the second half of a head by the units' own positions."""
    plain, turned = x_EBLd.chunk(2, -1)
    width = turned.shape[-1]
    ones = torch.ones(1, length, width, dtype=x_EBLd.dtype, device=x_EBLd.device)
    cos_sin = _rotate_pairs(ones * torch.tensor([1.0, 0.0], dtype=x_EBLd.dtype).repeat(width // 2), 1)[0]
    cos, sin = (cos_sin[ids_EBL][..., part::2] for part in (0, 1))
    even, odd = turned[..., 0::2], turned[..., 1::2]
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    return torch.cat([plain, rotated], -1)
