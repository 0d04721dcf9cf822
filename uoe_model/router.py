"""Who goes where: every unit's (or example's) choice of experts, the gates, and what happens when an expert is full."""

import dataclasses
from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uoe_model.capacity import capacity_table
from uoe_model.config import Gate, RouterConfig
from uoe_model.decision import NOBODY, RoutingDecision
from uoe_model.kernels.backend import route
from uoe_model.layout import RoutingLayout

ReplaceLogits = Callable[[int, Tensor, RoutingLayout, Tensor], Tensor]
"""(site_id, logits_ME, layout, router_input_MD) -> logits_ME."""


class Unset:
    """Type of `UNSET`: an override that leaves the trained value alone."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingOverrides:
    """Changes to the routing of one call; the model is not touched.

    Attributes:
        capacity_factor: another f (None: never full); `UNSET` keeps the model's.
        num_experts_per_tok: another k. gate: another gate.
        replace_logits: called with every site's logits, returns the ones to route by.
        sites: site ids that the overrides touch; None means all.
    """

    capacity_factor: float | Unset | None = UNSET
    num_experts_per_tok: int | None = None
    gate: Gate | None = None
    replace_logits: ReplaceLogits | None = None
    sites: frozenset[int] | None = None

    def touches(self, site_id: int) -> bool:
        """Whether these overrides apply to a site."""
        return self.sites is None or site_id in self.sites

    def apply(self, config: RouterConfig) -> RouterConfig:
        """The router configuration of this call.

        Raises:
            ConfigError: the overridden values do not fit the router.
        """
        changes: dict[str, object] = {}
        if not isinstance(self.capacity_factor, Unset):
            changes["capacity_factor"] = self.capacity_factor
        if self.num_experts_per_tok is not None:
            changes["num_experts_per_tok"] = self.num_experts_per_tok
        if self.gate is not None:
            changes["gate"] = self.gate
        return dataclasses.replace(config, **changes) if changes else config  # type: ignore[arg-type]


class Router(nn.Module):
    """One linear map from a unit to expert logits, always computed in float32 or better."""

    def __init__(self, width: int, config: RouterConfig, site_id: int, *, bias: bool = False) -> None:
        super().__init__()
        self.config = config
        self.site_id = site_id
        self.weight = nn.Parameter(torch.empty(config.num_experts, width))
        self.bias = nn.Parameter(torch.zeros(config.num_experts)) if bias else None

    def forward(
        self, x_ND: Tensor, layout: RoutingLayout, *, causal: bool, overrides: RoutingOverrides | None = None
    ) -> RoutingDecision:
        """Decide for all valid units of a batch.

        Args:
            x_ND: the normed input of the block. causal: a patch is decided by its first unit, not by their mean.
        """
        config, replace = self.config_of_call(overrides), None
        if overrides is not None and overrides.touches(self.site_id):
            replace = overrides.replace_logits
        patches = layout.whole_examples if config.selection == "expert" else layout
        logits_ME = self.logits(x_ND, patches, causal=causal)
        if replace is not None:
            router_input_MD = _patch_input(x_ND, patches, causal=causal)
            logits_ME = replace(self.site_id, logits_ME, patches, router_input_MD)
        decision = route(logits_ME, config, patches)
        return decide(logits_ME, config, patches) if decision is None else decision

    def config_of_call(self, overrides: RoutingOverrides | None) -> RouterConfig:
        """The configuration with the overrides of a call that touch this site."""
        if overrides is None or not overrides.touches(self.site_id):
            return self.config
        return overrides.apply(self.config)

    def logits(self, x_ND: Tensor, layout: RoutingLayout, *, causal: bool) -> Tensor:
        """Logits (M, E) of all patches, float32 or better."""
        with torch.autocast(x_ND.device.type, enabled=False):
            dtype = torch.promote_types(x_ND.dtype, torch.float32)
            bias = None if self.bias is None else self.bias.to(dtype)
            return F.linear(_patch_input(x_ND, layout, causal=causal).to(dtype), self.weight.to(dtype), bias)


def _patch_input(x_ND: Tensor, layout: RoutingLayout, *, causal: bool) -> Tensor:
    """What the router sees of each patch (M, D): its first unit if causal, else the mean of its units."""
    if layout.num_patches == layout.num_units:
        return x_ND
    if causal:
        return x_ND.index_select(0, layout.first_M)
    dtype = torch.promote_types(x_ND.dtype, torch.float32)
    total_MD = x_ND.new_zeros((layout.num_patches, x_ND.shape[1]), dtype=dtype)
    total_MD = total_MD.index_add(0, layout.patch_N, x_ND.to(dtype))
    return total_MD / torch.bincount(layout.patch_N, minlength=layout.num_patches).unsqueeze(1).to(dtype)


def decide(logits_ME: Tensor, config: RouterConfig, layout: RoutingLayout) -> RoutingDecision:
    """Turn the logits of all patches into requests, gates and slots of all units."""
    # Along rows: down columns it is faster on a CPU, but equal rows differ in the last bit where vectors end.
    p_ME = logits_ME.softmax(-1)
    capacity_G = capacity_table(config, layout.longest, p_ME.device).index_select(0, layout.patches_G)
    if config.selection == "expert_choice":
        picked_ME = admit(p_ME, torch.ones_like(p_ME, dtype=torch.bool), capacity_G, "score", config, layout)
        expert_MK, requested_MK = _rank_picked(p_ME, picked_ME)
        kept_MK = requested_MK
    else:
        expert_MK = _prefer(p_ME)[:, : config.num_experts_per_tok]
        requested_MK = None
        if config.capacity_factor is None:
            kept_MK = torch.ones_like(expert_MK, dtype=torch.bool)
        else:
            requested_ME = torch.zeros_like(p_ME, dtype=torch.bool).scatter(1, expert_MK, True)
            kept_ME = admit(p_ME, requested_ME, capacity_G, config.admission, config, layout)
            kept_MK = kept_ME.gather(1, expert_MK)
    chosen_MK = expert_MK if requested_MK is None else expert_MK.clamp_min(0)
    gate_MK = gates(p_ME.gather(1, chosen_MK), requested_MK, config.gate) * kept_MK
    decision = RoutingDecision(
        logits_NE=logits_ME, expert_NK=expert_MK, gate_NK=gate_MK, kept_NK=kept_MK, capacity_G=capacity_G
    )
    if layout.num_patches == layout.num_units:
        return decision
    rows = {f: getattr(decision, f).index_select(0, layout.patch_N) for f in ("logits_NE", "expert_NK", "gate_NK")}
    return dataclasses.replace(decision, **rows, kept_NK=kept_MK.index_select(0, layout.patch_N))


def _prefer(p_ME: Tensor) -> Tensor:
    """Expert ids by falling probability; the lower id first where they tie."""
    return p_ME.sort(dim=-1, descending=True, stable=True).indices


def _rank_picked(p_ME: Tensor, picked_ME: Tensor) -> tuple[Tensor, Tensor]:
    """Picked experts of each patch by falling probability, -1 after the last; K is the largest number of picks."""
    columns = max(int(picked_ME.sum(-1).max()), 1) if picked_ME.numel() else 1
    expert_MK = _prefer(p_ME.masked_fill(~picked_ME, -1.0))[:, :columns]
    picked_MK = picked_ME.gather(1, expert_MK)
    return expert_MK.masked_fill(~picked_MK, NOBODY), picked_MK


def gates(p_MK: Tensor, requested_MK: Tensor | None, gate: Gate) -> Tensor:
    """Weights of the requested experts before capacity; 0 where there is no request (None: all are requests)."""
    if gate == "one":
        return torch.ones_like(p_MK) if requested_MK is None else requested_MK.to(p_MK.dtype)
    # A request has a gate even where its probability is below what float32 can write: 0 means not kept.
    p_MK = p_MK.clamp_min(torch.finfo(torch.float32).tiny)
    if requested_MK is not None:
        p_MK = p_MK * requested_MK
    if gate == "probability":
        return p_MK
    if requested_MK is None:
        return p_MK.shape[-1] * p_MK / p_MK.sum(-1, keepdim=True)
    total_M1 = p_MK.sum(-1, keepdim=True).clamp_min(torch.finfo(p_MK.dtype).tiny)
    return requested_MK.sum(-1, keepdim=True) * p_MK / total_M1


def admit(
    p_ME: Tensor,
    requested_ME: Tensor,
    capacity_G: Tensor,
    admission: str,
    config: RouterConfig,
    layout: RoutingLayout,
) -> Tensor:
    """Decide which requests get a slot: THE place where an expert is full.

    `score`: the C most probable requests of each example, the lower position first where they tie. `position`: a
    request of patch t is kept while the expert has kept fewer than C(t) = max(4, ceil(f * k * (t + 1) / E)) earlier
    ones.

    Returns:
        bool (M, E), a subset of `requested_ME`.
    """
    if config.capacity_factor is None or not requested_ME.numel():
        return requested_ME
    if admission == "score":
        key_GEP = layout.to_grid(p_ME.detach().masked_fill(~requested_ME, -1.0), -1.0)
        order_GEP = key_GEP.sort(dim=-1, descending=True, stable=True).indices
        in_time_GEP = torch.arange(layout.longest, device=p_ME.device) < capacity_G.view(-1, 1, 1)
        kept_GEP = torch.zeros_like(key_GEP, dtype=torch.bool).scatter(2, order_GEP, in_time_GEP.expand_as(order_GEP))
        return layout.from_grid(kept_GEP) & requested_ME
    asked_GEP = layout.to_grid(requested_ME.int(), 0).cumsum(-1)
    left_GEP = capacity_table(config, layout.longest, p_ME.device)[1:] - asked_GEP
    # kept(t) = min(kept(t-1) + request(t), C(t)), unrolled: a request is dropped where what is left is a new minimum.
    least_GEP = F.pad(left_GEP.cummin(-1).values[..., :-1].clamp_max(0), (1, 0))
    return layout.from_grid(left_GEP >= least_GEP) & requested_ME
