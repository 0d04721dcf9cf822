"""Routers that predict, for every unit, how large each expert's output is; fitted on unlabelled inputs."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from uoe_model.attention import SMHA
from uoe_model.decision import RoutingDecision
from uoe_model.kernels.backend import activate, expert_attention, expert_mlp
from uoe_model.layout import RoutingLayout
from uoe_model.mlp import UoME
from uoe_model.modeling import UoEForImageClassification, UoEModel
from uoe_model.outputs import UoEModelOutput
from uoe_model.router import Router, RoutingOverrides
from uoe_model.watch import Watch, check_cancelled

Batch = Mapping[str, Tensor]
"""Arguments of one call of the model."""

RIDGE: float = 1e-3
"""Penalty of the regression, in shares of the mean squared feature."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteInput:
    """What a site's router and block see of one batch."""

    x_ND: Tensor
    layout: RoutingLayout


def encode(model: PreTrainedModel, batch: Batch, routing: RoutingOverrides | None = None) -> UoEModelOutput:
    """Hidden states of the valid units, whatever head the model has."""
    if isinstance(model, UoEForImageClassification):
        return body_of(model).encode(inputs_embeds=model.stem(batch["pixel_values"]), routing=routing)
    return body_of(model).encode(batch["input_ids"], batch["attention_mask"], routing=routing)


def body_of(model: PreTrainedModel) -> UoEModel:
    """The model without its head."""
    body = model if isinstance(model, UoEModel) else model.model
    if not isinstance(body, UoEModel):
        raise TypeError(f"{type(model).__name__} is no Union of Experts")
    return body


def blocks_of(model: PreTrainedModel) -> list[SMHA | UoME]:
    """The routed blocks in site order."""
    blocks: list[SMHA | UoME] = []
    for layer in body_of(model).blocks:
        blocks += [layer.attention, layer.mlp]  # type: ignore[list-item]
    return blocks


def mlps_of(model: PreTrainedModel) -> list[UoME]:
    """The MLP of every layer."""
    return [block for block in blocks_of(model) if isinstance(block, UoME)]


def site_inputs(model: PreTrainedModel, batch: Batch) -> list[SiteInput]:
    """Run the model and keep what every site saw."""
    seen: dict[int, SiteInput] = {}

    def keep(site_id: int, logits_ME: Tensor, layout: RoutingLayout, x_MD: Tensor) -> Tensor:
        seen[site_id] = SiteInput(x_ND=x_MD, layout=layout)
        return logits_ME

    encode(model, batch, RoutingOverrides(replace_logits=keep))
    return [seen[site_id] for site_id in sorted(seen)]


def expert_norms(model: PreTrainedModel, site_id: int, x_ND: Tensor, layout: RoutingLayout) -> Tensor:
    """Length of every expert's output (N, E), each expert over all units."""
    block = blocks_of(model)[site_id]
    ones_N1 = torch.ones(len(x_ND), 1, dtype=x_ND.dtype, device=x_ND.device)
    alone = RoutingDecision(
        logits_NE=ones_N1,
        expert_NK=torch.zeros_like(ones_N1, dtype=torch.long),
        gate_NK=ones_N1,
        kept_NK=torch.ones_like(ones_N1, dtype=torch.bool),
        capacity_G=torch.full((layout.num_groups,), -1, device=x_ND.device),
    )
    norms = []
    if isinstance(block, UoME):
        for one in _each(block.w1.shape[0]):
            out_ND = expert_mlp(x_ND, alone, block.w1[one], block.b1[one], block.w2[one], None, block.act)
            norms.append(out_ND.norm(dim=-1))
        return torch.stack(norms, -1)
    rotation = body_of(model).rotation(layout, x_ND.dtype)
    for one in _each(block.num_experts):
        out_ND, _ = expert_attention(
            x_ND,
            alone,
            layout,
            block.w_qkv[one],
            block.b_qkv[one],
            block.w_o[one],
            None,
            block.shape,
            rotation,
            causal=block.is_causal,
            gate_keys=False,
        )
        norms.append(out_ND.norm(dim=-1))
    return torch.stack(norms, -1)


def hidden_activations(block: UoME, x_ND: Tensor) -> Tensor:
    """Activations of all hidden units (N, F), expert after expert."""
    parts = [
        activate(F.linear(x_ND, w1.t(), b1), block.act)
        for w1, b1 in zip(block.w1.unbind(), block.b1.unbind(), strict=True)
    ]
    return torch.cat(parts, -1)


class _Regression:
    """Sums of a ridge regression with an intercept, in float64."""

    def __init__(self, width: int, num_experts: int) -> None:
        self.count = 0
        self.xx = torch.zeros(width, width, dtype=torch.float64)
        self.xy = torch.zeros(width, num_experts, dtype=torch.float64)
        self.x = torch.zeros(width, dtype=torch.float64)
        self.y = torch.zeros(num_experts, dtype=torch.float64)

    def add(self, x_ND: Tensor, y_NE: Tensor) -> None:
        x_ND, y_NE = x_ND.double(), y_NE.double()
        self.count += len(x_ND)
        self.xx += x_ND.t() @ x_ND
        self.xy += x_ND.t() @ y_NE
        self.x += x_ND.sum(0)
        self.y += y_NE.sum(0)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weights (E, D) and bias (E,); predictions scaled to a standard deviation of 1 over units and experts."""
        mean_x, mean_y = self.x / self.count, self.y / self.count
        cov_xx = self.xx / self.count - torch.outer(mean_x, mean_x)
        cov_xy = self.xy / self.count - torch.outer(mean_x, mean_y)
        penalty = RIDGE * cov_xx.diagonal().mean().clamp_min(1e-12)
        weight_DE = torch.linalg.solve(cov_xx + penalty * torch.eye(len(mean_x), dtype=torch.float64), cov_xy)
        bias_E = mean_y - mean_x @ weight_DE
        variance_E = ((cov_xx @ weight_DE) * weight_DE).sum(0) + mean_y.square()
        scale = (variance_E.mean() - mean_y.mean().square()).clamp_min(1e-24).sqrt()
        return (weight_DE / scale).t(), (bias_E - mean_y.mean()) / scale


@torch.no_grad()
def calibrate_routers(model: PreTrainedModel, batches: Sequence[Batch], watch: Watch) -> int:
    """Set every router to a ridge regression of its experts' output lengths on its input.

    The k largest logits are then the experts that are predicted to contribute most. Only their order matters at gate
    `one`; the logits are predicted lengths in standard deviations around their mean.

    Args:
        model: with every expert chosen.

    Returns:
        Units it was fitted on.
    """
    routers: list[Router] = [block.router for block in blocks_of(model)]
    sums = [_Regression(router.weight.shape[1], router.weight.shape[0]) for router in routers]
    for done, batch in enumerate(batches):
        check_cancelled(watch)
        watch.report("calibrating", done, len(batches))
        for site_id, seen in enumerate(site_inputs(model, batch)):
            sums[site_id].add(seen.x_ND, expert_norms(model, site_id, seen.x_ND, seen.layout))
    watch.report("calibrating", len(batches), len(batches))
    for router, found in zip(routers, sums, strict=True):
        weight_ED, bias_E = found.solve()
        router.weight.copy_(weight_ED)
        if router.bias is not None:
            router.bias.copy_(bias_E)
    return sums[0].count


def _each(count: int) -> Iterable[slice]:
    return (slice(one, one + 1) for one in range(count))
