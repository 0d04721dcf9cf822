"""What keeps routers balanced and their logits small while a model is trained."""

import torch
import torch.nn.functional as F
from torch import Tensor

from uoe_model.config import RouterConfig
from uoe_model.decision import RoutingDecision
from uoe_model.layout import RoutingLayout


def load_balancing_loss(
    decision: RoutingDecision, config: RouterConfig, layout: RoutingLayout, *, scope: str = "batch"
) -> Tensor | None:
    """E * sum_e f_e P_e, 1 when routing is even (Switch Transformer, arXiv 2101.03961, eq. 4 to 6, over all k).

    f_e is the share of requests that go to expert e (before capacity), P_e its mean probability.

    Args:
        scope: `batch` takes both over all patches, `sequence` per example, then the mean over examples.

    Returns:
        Scalar; None for `expert_choice`, which is even by construction.
    """
    if config.selection == "expert_choice":
        return None
    patches = layout.whole_examples if config.selection == "expert" else layout
    p_ME = decision.logits_NE.index_select(0, patches.first_M).softmax(-1)
    expert_MK = decision.expert_NK.index_select(0, patches.first_M)
    requested_ME = torch.zeros_like(p_ME).scatter_add_(1, expert_MK, torch.ones_like(expert_MK, dtype=p_ME.dtype))
    requested_ME /= expert_MK.shape[1]
    if scope == "batch":
        return config.num_experts * (requested_ME.mean(0) * p_ME.mean(0)).sum()
    zeros_GE = p_ME.new_zeros(patches.num_groups, config.num_experts)
    count_G1 = patches.patches_G.unsqueeze(1).to(p_ME.dtype)
    share_GE = zeros_GE.index_add(0, patches.group_M, requested_ME) / count_G1
    mean_GE = zeros_GE.index_add(0, patches.group_M, p_ME) / count_G1
    return config.num_experts * (share_GE * mean_GE).sum(-1).mean()


def router_z_loss(decision: RoutingDecision, layout: RoutingLayout) -> Tensor:
    """Mean squared log-sum-exp of the logits (ST-MoE, arXiv 2202.08906, eq. 5)."""
    return decision.logits_NE.index_select(0, layout.first_M).logsumexp(-1).square().mean()


def next_token_loss(logits_BTV: Tensor, labels_BT: Tensor, document_BT: Tensor | None = None) -> Tensor:
    """Mean cross entropy (nats) of predicting labels[t + 1] from position t; -100 and document borders are skipped."""
    target_BT = F.pad(labels_BT[:, 1:], (0, 1), value=-100)
    if document_BT is not None:
        target_BT[:, :-1].masked_fill_(document_BT[:, 1:] != document_BT[:, :-1], -100)
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), target_BT.flatten(), ignore_index=-100)
