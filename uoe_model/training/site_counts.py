"""Who was asked and who was full, counted over a test set: the reference load that a checkpoint is shipped with."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uoe_model.config import BLOCKS, UoEConfig
from uoe_model.decision import RoutingDecision


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SiteCounts:
    """One site over a test set; everything is counted in patches, padding never.

    Attributes:
        requested, kept: int64 (experts,), assignments.
        dropped_units: patches with requests of which none was kept.
        unrouted_units: patches without any request (expert choice only).
        entropy: nats, mean over patches. within_cv: standard deviation over mean of the kept load of an example's
            experts, mean over examples.
    """

    site_id: int
    name: str
    patches: int
    requested: np.ndarray
    kept: np.ndarray
    dropped_units: int
    unrouted_units: int
    entropy: float
    within_cv: float

    @property
    def dropped_share(self) -> float:
        """Dropped assignments / requested assignments."""
        return 1 - float(self.kept.sum()) / max(int(self.requested.sum()), 1)

    @property
    def dropped_unit_share(self) -> float:
        """Dropped units / units."""
        return self.dropped_units / max(self.patches, 1)

    @property
    def load_cv(self) -> float:
        """Standard deviation over mean of the experts' kept load over the whole set."""
        return float(self.kept.std() / max(float(self.kept.mean()), 1e-12))


class SiteCounter:
    """Adds up the decisions of batches."""

    def __init__(self, config: UoEConfig) -> None:
        self._configs = config.site_configs()
        self._requested = [torch.zeros(c.num_experts, dtype=torch.long) for c in self._configs]
        self._kept = [torch.zeros(c.num_experts, dtype=torch.long) for c in self._configs]
        self._numbers = torch.zeros(len(self._configs), 5, dtype=torch.float64)
        self._examples = 0

    def watch(self, numbers: list[int], valid_BT: Tensor, output: Any) -> None:
        """Take in a batch, as a probe shows it."""
        self._examples += len(numbers)
        for site_id, decision in enumerate(output.decisions):
            self._add(site_id, decision, valid_BT)

    def counts(self) -> list[SiteCounts]:
        """One entry per site, in site order."""
        result: list[SiteCounts] = []
        for site_id in range(len(self._configs)):
            patches, dropped, unrouted, entropy, cv = self._numbers[site_id].tolist()
            result.append(
                SiteCounts(
                    site_id=site_id,
                    name=site_name(site_id),
                    patches=int(patches),
                    requested=self._requested[site_id].numpy().copy(),
                    kept=self._kept[site_id].numpy().copy(),
                    dropped_units=int(dropped),
                    unrouted_units=int(unrouted),
                    entropy=entropy / max(patches, 1),
                    within_cv=cv / max(self._examples, 1),
                )
            )
        return result

    def _add(self, site_id: int, decision: RoutingDecision, valid_BT: Tensor) -> None:
        num_experts = self._configs[site_id].num_experts
        position_BT = valid_BT.long().cumsum(dim=1) - 1
        counted_N = (valid_BT & (position_BT % self._configs[site_id].patch_len == 0)).flatten()
        row_N = torch.arange(len(valid_BT), device=valid_BT.device).repeat_interleave(valid_BT.shape[1])[counted_N]
        expert_NK, kept_NK = decision.expert_NK[counted_N], decision.kept_NK[counted_N]
        asked_NK = expert_NK >= 0
        self._requested[site_id] += torch.bincount(expert_NK[asked_NK], minlength=num_experts).cpu()
        self._kept[site_id] += torch.bincount(expert_NK[kept_NK], minlength=num_experts).cpu()
        cell_NK = row_N[:, None] * num_experts + expert_NK
        load_BE = torch.bincount(cell_NK[kept_NK], minlength=len(valid_BT) * num_experts).view(-1, num_experts).double()
        cv_B = load_BE.std(dim=1, correction=0) / load_BE.mean(dim=1).clamp_min(1e-12)
        log_p_NE = decision.logits_NE[counted_N].double().log_softmax(-1)
        asked_N, reached_N = asked_NK.any(dim=1), kept_NK.any(dim=1)
        sums = (
            counted_N.sum(),
            (asked_N & ~reached_N).sum(),
            (~asked_N).sum(),
            -(log_p_NE.exp() * log_p_NE).sum(),
            cv_B.sum(),
        )
        self._numbers[site_id] += torch.stack([value.double() for value in sums]).cpu()


def site_name(site_id: int) -> str:
    """`L0.attention`, `L0.mlp`, `L1.attention`, ..."""
    layer, block = divmod(site_id, len(BLOCKS))
    return f"L{layer}.{BLOCKS[block]}"


def reference_json(counts: list[SiteCounts], dataset: str) -> dict[str, Any]:
    """What routing_reference.json holds."""
    sites = [
        {
            "site_id": site.site_id,
            "name": site.name,
            "patches": site.patches,
            "requested": site.requested.tolist(),
            "kept": site.kept.tolist(),
            "dropped_units": site.dropped_units,
        }
        for site in counts
    ]
    return {"dataset": dataset, "sites": sites}
