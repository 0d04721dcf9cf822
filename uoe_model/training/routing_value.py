"""How much a trained model depends on its routes: the change in test loss when they are replaced.

This is dependence, not proof that learning the routes helped: a model trained with frozen random routers loses under
most of these replacements too, since its experts adapt to any fixed rule. That question is answered by `twins.py`.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from torch import Tensor, nn

from uoe_model.config import BLOCKS, RouterConfig
from uoe_model.layout import RoutingLayout
from uoe_model.router import UNSET, RoutingOverrides
from uoe_model.training.bootstrap import Bootstrap, cluster_sums
from uoe_model.training.probes import FloatArray, Losses, Probe
from uoe_model.training.replacements import BalancedRandom, LogitTable, LookedUp, Permuted, Replacement, Untrained

TARGETS: Final = ("attention", "mlp", "both")
CAPACITIES: Final = ("as trained", "none")
REPLACEMENTS: Final = ("balanced_random", "permuted", "untrained_router", "lookup")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RoutingValue:
    """One row of the table: loss under replaced minus loss under learned routes, in nats per prediction.

    Attributes:
        replacement: one of `REPLACEMENTS`.
        block: at whose sites: attention, mlp, both.
        capacity: `as trained`, or `none`: no limit (then the learned routes have none either).
        loss_change: over all predictions; low, high: 95% percentile bootstrap over clusters (images, or documents).
        examples: number of clusters; raised_share: how many of them have a higher loss, 0..1.
    """

    replacement: str
    block: str
    capacity: str
    loss_change: float
    low: float
    high: float
    examples: int
    raised_share: float


def routing_values(
    model: nn.Module,
    configs: tuple[RouterConfig, ...],
    *,
    test: Probe,
    lookup_data: Probe,
    untrained: Mapping[int, Tensor],
    draws: int = 2,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, float], list[RoutingValue]]:
    """Measure all replacements at all targets, with and without capacity.

    Args:
        model: in evaluation mode.
        configs: its routers in site order.
        test: examples the losses are of.
        lookup_data: other examples, from which the lookup of (d) is learned.
        untrained: initial router weights (E, D) by site id.
        draws: of the random replacements, averaged; the same seeds for every model.
        seed: of these draws and of the bootstrap.
        report: gets a line per finished measurement.

    Returns:
        Loss under learned routes by capacity, and the rows.
    """
    table = LogitTable(test.num_keys)
    lookup_data.losses(model, make_routing=_Override(table, frozenset(range(len(configs))), limited=True))
    looked_up = table.means()
    base: dict[str, float] = {}
    rows: list[RoutingValue] = []
    for capacity in CAPACITIES:
        limited = capacity == "as trained"
        learned = test.losses(model, make_routing=None if limited else _unlimited)
        base[capacity] = learned.mean
        bootstrap = Bootstrap(learned, seed)
        for replacement in REPLACEMENTS:
            for block in TARGETS:
                sites = target_sites(block, configs)
                changed = [
                    test.losses(model, make_routing=_Override(routes, sites, limited=limited)).sums
                    for routes in _build(replacement, configs, untrained, looked_up, draws=draws, seed=seed)
                ]
                row = _row(replacement, block, capacity, np.mean(changed, axis=0) - learned.sums, learned, bootstrap)
                rows.append(row)
                report(
                    f"{replacement}, {block}, capacity {capacity}: "
                    f"{row.loss_change:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"
                )
    return base, rows


def _row(
    replacement: str, block: str, capacity: str, difference: FloatArray, learned: Losses, bootstrap: Bootstrap
) -> RoutingValue:
    low, high = bootstrap.interval(difference)
    by_cluster = cluster_sums(difference, learned.clusters)
    return RoutingValue(
        replacement=replacement,
        block=block,
        capacity=capacity,
        loss_change=float(difference.sum() / learned.counts.sum()),
        low=low,
        high=high,
        examples=len(by_cluster),
        raised_share=float((by_cluster > 0).mean()),
    )


def target_sites(block: str, configs: tuple[RouterConfig, ...]) -> frozenset[int]:
    """Site ids of attention, mlp or both."""
    return frozenset(site for site in range(len(configs)) if block in ("both", BLOCKS[site % len(BLOCKS)]))


def _unlimited(keys_BT: Tensor) -> RoutingOverrides:
    del keys_BT
    return RoutingOverrides(capacity_factor=None)


class _Override:
    """Overrides that replace logits at some sites, and lift the capacity at all or none."""

    def __init__(self, replacement: Replacement, sites: frozenset[int], *, limited: bool) -> None:
        self._replacement = replacement
        self._sites = sites
        self._limited = limited

    def __call__(self, keys_BT: Tensor) -> RoutingOverrides:
        self._replacement.start_batch(keys_BT)
        return RoutingOverrides(capacity_factor=UNSET if self._limited else None, replace_logits=self._replace)

    def _replace(self, site_id: int, logits_ME: Tensor, layout: RoutingLayout, router_input_MD: Tensor) -> Tensor:
        if site_id not in self._sites:
            return logits_ME
        return self._replacement(site_id, logits_ME, layout, router_input_MD)


def _build(
    replacement: str,
    configs: tuple[RouterConfig, ...],
    untrained: Mapping[int, Tensor],
    looked_up: Mapping[int, Tensor],
    *,
    draws: int,
    seed: int,
) -> Iterator[Replacement]:
    """New replacements of this kind: one per draw if they are random, else one."""
    if replacement == "untrained_router":
        yield Untrained(untrained)
    elif replacement == "lookup":
        yield LookedUp(looked_up)
    else:
        for draw in range(draws):
            number = 1000 * seed + draw
            yield BalancedRandom(configs, number) if replacement == "balanced_random" else Permuted(number)
