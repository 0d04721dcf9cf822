"""Who sits in which slot: gates, capacity, the top of every expert's column, filler."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.reference.quirks import TieRule


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Requests:
    """What a router asked for, per unit.

    Attributes:
        logits_BSE: before softmax. p_BSE: after it. gate_BSE: normalised gate, above 0 exactly where requested.
        order_BSK: int64, the requested experts, most probable first. valid_BS: bool, units that are routed.
    """

    logits_BSE: Tensor
    p_BSE: Tensor
    gate_BSE: Tensor
    order_BSK: Tensor
    valid_BS: Tensor

    @property
    def requested_BSE(self) -> Tensor:
        """bool, who asked whom."""
        return self.gate_BSE > 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slots:
    """The units of every expert's slots, ascending positions; a slot is filler where its unit's gate is 0.

    Attributes:
        ids_EBL: int64 positions. live_EBL: bool, slots that are used: all as released, else those of kept requests.
        kept_EBL: bool, slots of units that asked. weight_EBL: float, what the expert's output is multiplied by.
        capacity_B: int64, slots per expert of each sample.
    """

    ids_EBL: Tensor
    live_EBL: Tensor
    kept_EBL: Tensor
    weight_EBL: Tensor
    capacity_B: Tensor


def request(
    x_BSD: Tensor,
    weight_ED: Tensor,
    bias_E: Tensor,
    top_k: int,
    *,
    over_batch: bool,
    epsilon: float,
    valid_BS: Tensor,
    ties: TieRule,
) -> Requests:
    """Ask for each unit's top-k experts.

    Args:
        over_batch: gates are p / (sum over the batch + epsilon) * B, position by position; else p / (sum over experts
            + epsilon). The order of the operations is the released one: the last bit of a gate may decide a tie.
        valid_BS: units that may ask at all.
    """
    logits_BSE = F.linear(x_BSD, weight_ED, bias_E)
    p_BSE = logits_BSE.softmax(-1)
    if ties == "torch":
        order_BSK = p_BSE.topk(top_k, -1).indices
    else:
        order_BSK = p_BSE.sort(dim=-1, descending=True, stable=True).indices[..., :top_k]
    mask_BSE = torch.zeros_like(p_BSE).scatter(-1, order_BSK, 1.0) * valid_BS.unsqueeze(-1)
    chosen_BSE = p_BSE * mask_BSE
    if over_batch:
        gate_BSE = chosen_BSE / (chosen_BSE.sum(0, keepdim=True) + epsilon) * len(x_BSD)
    else:
        gate_BSE = chosen_BSE / (chosen_BSE.sum(-1, keepdim=True) + epsilon)
    return Requests(logits_BSE=logits_BSE, p_BSE=p_BSE, gate_BSE=gate_BSE, order_BSK=order_BSK, valid_BS=valid_BS)


def fill_slots(
    requests: Requests,
    capacity_B: Tensor | None,
    *,
    filler: bool,
    weighted: bool,
    ties: TieRule,
    forced_EBL: Tensor | None = None,
) -> Slots:
    """Take each expert's largest gates of every sample.

    Args:
        capacity_B: slots per expert of each sample; None: as many as the most wanted expert of the batch needs.
        filler: whether slots that nobody asked for are used all the same.
        weighted: whether outputs are multiplied by k * p / sum of requested p.
        forced_EBL: take these positions instead.
    """
    gate_EBS = requests.gate_BSE.permute(2, 0, 1).contiguous()
    requested_EBS = gate_EBS > 0
    if capacity_B is None:
        most = int(requested_EBS.sum(-1).max())
        capacity_B = torch.full((gate_EBS.shape[1],), most, device=gate_EBS.device)
    longest = int(capacity_B.max())
    if forced_EBL is not None:
        ids_EBL = forced_EBL
        in_time_EBL = torch.ones_like(ids_EBL, dtype=torch.bool)
    else:
        # Units that may not be routed at all come after those that merely did not ask.
        key_EBS = torch.where(requests.valid_BS, gate_EBS.detach(), gate_EBS.new_tensor(-1.0))
        if ties == "torch":
            ids_EBL = key_EBS.float().topk(longest, -1).indices
        else:
            ids_EBL = key_EBS.sort(dim=-1, descending=True, stable=True).indices[..., :longest]
        in_time_EBL = (torch.arange(longest, device=ids_EBL.device) < capacity_B.view(-1, 1)).expand_as(ids_EBL)
        ids_EBL, order_EBL = ids_EBL.sort(-1)
        in_time_EBL = in_time_EBL.gather(-1, order_EBL)
    kept_EBL = requested_EBS.gather(-1, ids_EBL) & in_time_EBL
    routable_EBL = requests.valid_BS.expand_as(requested_EBS).gather(-1, ids_EBL)
    live_EBL = in_time_EBL & routable_EBL if filler else kept_EBL
    weight_EBL = live_EBL.to(gate_EBS.dtype)
    if weighted:
        p_BSE = requests.p_BSE * requests.requested_BSE
        share_BSE = requests.order_BSK.shape[-1] * p_BSE / p_BSE.sum(-1, keepdim=True).clamp_min(1e-20)
        weight_EBL = weight_EBL * share_BSE.permute(2, 0, 1).gather(-1, ids_EBL)
    return Slots(ids_EBL=ids_EBL, live_EBL=live_EBL, kept_EBL=kept_EBL, weight_EBL=weight_EBL, capacity_B=capacity_B)


def gather_rows(x_BSD: Tensor, ids_EBL: Tensor) -> Tensor:
    """Rows of all slots (E, B, L, D)."""
    index = ids_EBL.unsqueeze(-1).expand(*ids_EBL.shape, x_BSD.shape[-1])
    return x_BSD.expand(len(ids_EBL), *x_BSD.shape).gather(2, index)


def scatter_rows(y_EBLD: Tensor, slots: Slots, length: int) -> Tensor:
    """Sum of what the experts wrote for each unit (B, S, D)."""
    y_EBLD = y_EBLD * slots.weight_EBL.unsqueeze(-1)
    out = y_EBLD.new_zeros(y_EBLD.shape[1], length, y_EBLD.shape[-1])
    for ids_BL, y_BLD in zip(slots.ids_EBL, y_EBLD, strict=True):
        out = out.scatter_add(1, ids_BL.unsqueeze(-1).expand_as(y_BLD), y_BLD)
    return out
